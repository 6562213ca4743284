//! Outstanding allocations: a pure state machine over events. What it is told
//! (`apply`) is all it knows; it reads no clock and no file.
mod heap;
mod mapping;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use memtrace_common::{Function, Record};

use heap::Heap;
use mapping::Mappings;

/// Index of a [`Site`].
pub type SiteId = u32;

/// An allocation site: one function called from one stack of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SiteKey {
    /// Process id.
    pub pid: u32,
    /// The [`Function`]'s number.
    pub function: u16,
    /// The stack's hash.
    pub stack: u64,
}

/// What was ever allocated at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Which.
    pub key: SiteKey,
    /// Bytes.
    pub allocated_bytes: u64,
    /// Calls.
    pub allocated_count: u64,
}

/// Sums over everything applied so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes ever allocated.
    pub allocated_bytes: u64,
    /// Blocks and mappings ever allocated.
    pub allocated_count: u64,
    /// Bytes freed, of those that were seen being allocated.
    pub freed_bytes: u64,
    /// Blocks and mappings freed, of those that were seen being allocated.
    pub freed_count: u64,
    /// Frees of blocks that were not seen being allocated.
    pub unmatched_frees: u64,
    /// Blocks whose address was handed out again although their free was not
    /// seen: it was lost, or made in a way that is not probed.
    pub reused_addresses: u64,
}

impl Totals {
    fn freed(&mut self, bytes: u64, count: u64) {
        self.freed_bytes += bytes;
        self.freed_count += count;
    }
}

/// Which outstanding allocations a snapshot counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// At least this many bytes each.
    pub min_size: u64,
    /// At most this many bytes each.
    pub max_size: u64,
    /// At least this many nanoseconds old.
    pub older_than_ns: u64,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            min_size: 0,
            max_size: u64::MAX,
            older_than_ns: 0,
        }
    }
}

/// What is outstanding at one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outstanding {
    /// The site, with what was ever allocated there.
    pub site: Site,
    /// Bytes outstanding.
    pub bytes: u64,
    /// Blocks or mappings outstanding.
    pub count: u64,
    /// Of `bytes`, those allocated before an event was lost last: their free
    /// may have been that event.
    pub doubtful_bytes: u64,
    /// The same of `count`.
    pub doubtful_count: u64,
    /// Nanoseconds since the oldest of them was allocated.
    pub oldest_ns: u64,
    /// Nanoseconds since the youngest of them was allocated.
    pub newest_ns: u64,
}

/// One outstanding allocation, as `snapshot` sees it.
#[derive(Clone, Copy)]
struct Item {
    site: SiteId,
    bytes: u64,
    /// 1, or 0 for the further pieces of a mapping with holes.
    count: u64,
    age_ns: u64,
}

#[derive(Debug, Default)]
struct ProcessState {
    heap: Heap,
    mappings: Mappings,
}

impl ProcessState {
    fn items(&self, now_ns: u64) -> impl Iterator<Item = Item> {
        self.heap.items(now_ns).chain(self.mappings.items(now_ns))
    }
}

/// The outstanding allocations of all traced processes.
#[derive(Debug, Default)]
pub struct Live {
    sites: Vec<Site>,
    site_ids: hashbrown::HashMap<SiteKey, SiteId>,
    processes: HashMap<u32, ProcessState>,
    totals: Totals,
}

impl Live {
    /// Takes one event in. Stacks and modules are others' business.
    pub fn apply(&mut self, record: &Record<'_>) {
        let head = *record.head();
        let (pid, tid, now) = (head.pid, head.tid, head.time_ns);
        match record {
            Record::Alloc(event) => {
                let site = self.allocated(pid, head.function, event.stack, event.size);
                let process = self.processes.entry(pid).or_default();
                process
                    .heap
                    .insert(event.address, event.size, site, now, &mut self.totals);
            }
            Record::Free(event) => {
                let process = self.processes.entry(pid).or_default();
                process.heap.free(event.address, &mut self.totals);
            }
            Record::ReallocBegin(event) => {
                let process = self.processes.entry(pid).or_default();
                process.heap.begin_realloc(tid, event.old, &mut self.totals);
            }
            Record::ReallocEnd(event) => {
                let heap = &mut self.processes.entry(pid).or_default().heap;
                if event.address == 0 && event.size != 0 {
                    heap.cancel_realloc(tid, &mut self.totals);
                    return;
                }
                heap.end_realloc(tid, event.old, &mut self.totals);
                if event.address != 0 {
                    let site = self.allocated(pid, head.function, event.stack, event.size);
                    let process = self.processes.entry(pid).or_default();
                    process
                        .heap
                        .insert(event.address, event.size, site, now, &mut self.totals);
                }
            }
            Record::Map(event) => {
                let length = mapping::whole_pages(event.length);
                let site = self.allocated(pid, head.function, event.stack, length);
                let mappings = &mut self.processes.entry(pid).or_default().mappings;
                mappings.insert(event.address, length, site, now, &mut self.totals);
            }
            Record::UnmapBegin(event) => {
                let mappings = &mut self.processes.entry(pid).or_default().mappings;
                mappings.begin_unmap(tid, event.address, event.length, &mut self.totals);
            }
            Record::UnmapFailed(_) => {
                let mappings = &mut self.processes.entry(pid).or_default().mappings;
                mappings.cancel_unmap(tid, &mut self.totals);
            }
            Record::RemapBegin(event) => {
                let mappings = &mut self.processes.entry(pid).or_default().mappings;
                mappings.begin_unmap(tid, event.old, event.old_length, &mut self.totals);
            }
            Record::RemapEnd(event) => {
                if event.address == 0 || event.keeps_old != 0 {
                    let mappings = &mut self.processes.entry(pid).or_default().mappings;
                    mappings.cancel_unmap(tid, &mut self.totals);
                }
                if event.address != 0 {
                    let length = mapping::whole_pages(event.length);
                    let site = self.allocated(pid, head.function, event.stack, length);
                    let mappings = &mut self.processes.entry(pid).or_default().mappings;
                    mappings.insert(event.address, length, site, now, &mut self.totals);
                }
            }
            Record::Exec(_) => self.forget(pid),
            Record::Modules(_) | Record::Stack(_) => {}
        }
    }

    /// Ends everything that a process holds: it runs another program now.
    fn forget(&mut self, pid: u32) {
        if let Some(process) = self.processes.remove(&pid) {
            process.items(0).for_each(|item| {
                self.totals.freed(item.bytes, item.count);
            });
        }
    }

    fn allocated(&mut self, pid: u32, function: u16, stack: u64, bytes: u64) -> SiteId {
        let key = SiteKey {
            pid,
            function,
            stack,
        };
        let sites = &mut self.sites;
        let id = *self.site_ids.entry(key).or_insert_with(|| {
            sites.push(Site {
                key,
                allocated_bytes: 0,
                allocated_count: 0,
            });
            // 2³² sites would take 100 GB; the process is gone before.
            SiteId::try_from(sites.len() - 1).unwrap_or(SiteId::MAX)
        });
        let site = &mut sites[id as usize];
        site.allocated_bytes += bytes;
        site.allocated_count += 1;
        self.totals.allocated_bytes += bytes;
        self.totals.allocated_count += 1;
        id
    }

    /// Sums so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What is outstanding at `now_ns` (on the events' clock), for each site
    /// that has any, in no particular order.
    /// Allocations from before `last_loss_ns` are doubtful; 0: none are.
    pub fn snapshot(&self, now_ns: u64, last_loss_ns: u64, filter: &Filter) -> Vec<Outstanding> {
        let lost_ago = now_ns.saturating_sub(last_loss_ns);
        let mut sums: Vec<Outstanding> = self
            .sites
            .iter()
            .map(|site| Outstanding {
                site: *site,
                bytes: 0,
                count: 0,
                doubtful_bytes: 0,
                doubtful_count: 0,
                oldest_ns: 0,
                newest_ns: u64::MAX,
            })
            .collect();
        let items = self
            .processes
            .values()
            .flat_map(|process| process.items(now_ns));
        for item in items {
            let counts = (filter.min_size..=filter.max_size).contains(&item.bytes)
                && item.age_ns >= filter.older_than_ns;
            if counts {
                let sum = &mut sums[item.site as usize];
                sum.bytes += item.bytes;
                sum.count += item.count;
                if last_loss_ns > 0 && item.age_ns >= lost_ago {
                    sum.doubtful_bytes += item.bytes;
                    sum.doubtful_count += item.count;
                }
                sum.oldest_ns = sum.oldest_ns.max(item.age_ns);
                sum.newest_ns = sum.newest_ns.min(item.age_ns);
            }
        }
        sums.retain(|sum| sum.bytes > 0 || sum.count > 0);
        sums
    }
}

/// What a function's allocations are, for people and for filters.
pub fn is_mapping(function: u16) -> bool {
    function >= Function::Mmap as u16
}
