//! Outstanding allocations: a pure state machine over events. What it is told
//! (`apply`) is all it knows; it reads no clock and no file.
mod heap;
mod histogram;
mod mapping;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod timeline;

use std::collections::HashMap;

use memtrace_common::{Function, Record, event::FreeFlags};

use heap::Heap;
pub use histogram::{Ages, Class};
use mapping::Mappings;
pub use snapshot::{Filter, Outstanding, Snapshot};
use timeline::Timeline;
pub use timeline::{Moment, POINTS};

use crate::sampling::{ONE, Sampling, Weight};

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
    /// Sums stop at the largest number: a damaged capture may hold anything.
    fn add_freed(&mut self, bytes: u64, count: u64) {
        add(&mut self.freed_bytes, bytes);
        add(&mut self.freed_count, count);
    }
}

/// [`Totals`] in the making: counts are in units of [`ONE`].
#[derive(Debug, Default)]
struct Tally {
    totals: Totals,
    sampling: Sampling,
}

impl Tally {
    /// Bytes and, in units of [`ONE`], blocks that have not ended.
    fn outstanding(&self) -> (u64, u64) {
        let totals = &self.totals;
        let bytes = totals.allocated_bytes.saturating_sub(totals.freed_bytes);
        let count = totals.allocated_count.saturating_sub(totals.freed_count);
        (bytes, count)
    }

    /// A block that was taken in ended.
    fn freed_block(&mut self, size: u64) {
        let Weight { bytes, count } = self.sampling.weigh(size);
        self.totals.add_freed(bytes, count);
    }

    /// Pages were unmapped: the last of `mappings` of them.
    fn unmapped(&mut self, bytes: u64, mappings: u64) {
        self.totals.add_freed(bytes, mappings * ONE);
    }

    /// That was not so.
    fn still_mapped(&mut self, bytes: u64, mappings: u64) {
        let Totals {
            freed_bytes,
            freed_count,
            ..
        } = &mut self.totals;
        *freed_bytes = freed_bytes.saturating_sub(bytes);
        *freed_count = freed_count.saturating_sub(mappings * ONE);
    }
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

/// The nearest whole number of a sum in units of [`ONE`].
fn whole(count: u64) -> u64 {
    count.saturating_add(ONE / 2) / ONE
}

/// One outstanding allocation, as `snapshot` sees it.
#[derive(Clone, Copy)]
struct Item {
    site: SiteId,
    /// Its own size, bytes.
    size: u64,
    /// What it stands for; the count is 0 for the further pieces of a mapping
    /// with holes.
    weight: Weight,
    age_ns: u64,
}

#[derive(Debug, Default)]
struct ProcessState {
    heap: Heap,
    mappings: Mappings,
}

impl ProcessState {
    fn items(&self, now_ns: u64, sampling: &Sampling) -> impl Iterator<Item = Item> {
        self.heap
            .items(now_ns, sampling)
            .chain(self.mappings.items(now_ns))
    }
}

/// The outstanding allocations of all traced processes.
#[derive(Debug, Default)]
pub struct Live {
    sites: Vec<Site>,
    site_ids: hashbrown::HashMap<SiteKey, SiteId>,
    /// Hashes of stacks that are the same as another, and that one's.
    same_stacks: HashMap<u64, u64>,
    processes: HashMap<u32, ProcessState>,
    tally: Tally,
    timeline: Timeline,
}

impl Live {
    /// `sampling`: as the kernel side does it.
    pub fn new(sampling: Sampling) -> Self {
        Self {
            tally: Tally {
                sampling,
                ..Tally::default()
            },
            ..Self::default()
        }
    }

    /// Takes one event in. Stacks and modules are others' business.
    pub fn apply(&mut self, record: &Record<'_>) {
        self.account(record);
        let (bytes, count) = self.tally.outstanding();
        self.timeline.note(record.head().time_ns, bytes, count);
    }

    fn account(&mut self, record: &Record<'_>) {
        let head = *record.head();
        let (pid, tid, now) = (head.pid, head.tid, head.time_ns);
        match record {
            Record::Alloc(event) => {
                let weight = self.tally.sampling.weigh(event.size);
                let site = self.allocated(pid, head.function, event.stack, weight);
                let process = self.processes.entry(pid).or_default();
                process
                    .heap
                    .insert(event.address, event.size, site, now, &mut self.tally);
            }
            Record::Free(event) => {
                let process = self.processes.entry(pid).or_default();
                let again = head.flags & FreeFlags::SAME_ADDRESS != 0;
                process.heap.free(event.address, again, &mut self.tally);
            }
            Record::ReallocBegin(event) => {
                let process = self.processes.entry(pid).or_default();
                process.heap.begin_realloc(tid, event.old, &mut self.tally);
            }
            Record::ReallocEnd(event) => {
                let heap = &mut self.processes.entry(pid).or_default().heap;
                if event.address == 0 && event.size != 0 {
                    heap.cancel_realloc(tid, &mut self.tally);
                    return;
                }
                heap.end_realloc(tid, event.old, &mut self.tally);
                if event.address != 0 {
                    let weight = self.tally.sampling.weigh(event.size);
                    let site = self.allocated(pid, head.function, event.stack, weight);
                    let process = self.processes.entry(pid).or_default();
                    process
                        .heap
                        .insert(event.address, event.size, site, now, &mut self.tally);
                }
            }
            Record::Map(event) => {
                let length = mapping::whole_pages(event.length);
                let site = self.allocated(pid, head.function, event.stack, mapped(length));
                let mappings = &mut self.processes.entry(pid).or_default().mappings;
                mappings.insert(event.address, length, site, now, &mut self.tally);
            }
            Record::UnmapBegin(event) => {
                let mappings = &mut self.processes.entry(pid).or_default().mappings;
                mappings.begin_unmap(tid, event.address, event.length, &mut self.tally);
            }
            Record::UnmapFailed(_) => {
                let mappings = &mut self.processes.entry(pid).or_default().mappings;
                mappings.cancel_unmap(tid, &mut self.tally);
            }
            Record::RemapBegin(event) => {
                let mappings = &mut self.processes.entry(pid).or_default().mappings;
                mappings.begin_unmap(tid, event.old, event.old_length, &mut self.tally);
            }
            Record::RemapEnd(event) => {
                if event.address == 0 || event.keeps_old != 0 {
                    let mappings = &mut self.processes.entry(pid).or_default().mappings;
                    mappings.cancel_unmap(tid, &mut self.tally);
                }
                if event.address != 0 {
                    let length = mapping::whole_pages(event.length);
                    let site = self.allocated(pid, head.function, event.stack, mapped(length));
                    let mappings = &mut self.processes.entry(pid).or_default().mappings;
                    mappings.insert(event.address, length, site, now, &mut self.tally);
                }
            }
            Record::Exec(_) => self.forget(pid),
            Record::Modules(_) | Record::Stack(_) | Record::StackCopy(_) => {}
        }
    }

    /// Ends everything that a process holds: it runs another program now, or
    /// another has its id.
    pub fn forget(&mut self, pid: u32) {
        if let Some(process) = self.processes.remove(&pid) {
            for Item { weight, .. } in process.items(0, &self.tally.sampling) {
                let totals = &mut self.tally.totals;
                totals.add_freed(weight.bytes, weight.count);
            }
            let (bytes, count) = self.tally.outstanding();
            self.timeline.note_again(bytes, count);
        }
    }

    fn allocated(&mut self, pid: u32, function: u16, stack: u64, weight: Weight) -> SiteId {
        let key = SiteKey {
            pid,
            function,
            stack,
        };
        let id = match self.site_ids.get(&key) {
            Some(id) => *id,
            None => self.new_id(key),
        };
        let site = &mut self.sites[id as usize];
        add(&mut site.allocated_bytes, weight.bytes);
        add(&mut site.allocated_count, weight.count);
        add(&mut self.tally.totals.allocated_bytes, weight.bytes);
        add(&mut self.tally.totals.allocated_count, weight.count);
        id
    }

    /// The site of a key that was not met before. Stacks that are the same but for
    /// their hash share one.
    fn new_id(&mut self, key: SiteKey) -> SiteId {
        let stack = self.same_stacks.get(&key.stack).copied();
        let first = SiteKey {
            stack: stack.unwrap_or(key.stack),
            ..key
        };
        let sites = &mut self.sites;
        let id = *self.site_ids.entry(first).or_insert_with(|| {
            sites.push(Site {
                key: first,
                allocated_bytes: 0,
                allocated_count: 0,
            });
            // 2³² sites would take 100 GB; the process is gone before.
            SiteId::try_from(sites.len() - 1).unwrap_or(SiteId::MAX)
        });
        self.site_ids.insert(key, id);
        id
    }

    /// What comes with the stack `hash` from here on belongs to the sites of the
    /// stack `first`.
    pub fn same_stack(&mut self, hash: u64, first: u64) {
        self.same_stacks.insert(hash, first);
    }

    /// Sums so far.
    pub fn totals(&self) -> Totals {
        let totals = self.tally.totals;
        Totals {
            allocated_count: whole(totals.allocated_count),
            freed_count: whole(totals.freed_count),
            ..totals
        }
    }

    /// Mean bytes between samples; 0: everything was taken in.
    pub fn sample_bytes(&self) -> u64 {
        self.tally.sampling.mean()
    }
}

/// What a mapping stands for: they are not sampled.
fn mapped(bytes: u64) -> Weight {
    Weight { bytes, count: ONE }
}

/// What a function's allocations are, for people and for filters.
pub fn is_mapping(function: u16) -> bool {
    Function::from_id(function).is_some_and(|function| function.role().is_mapping())
}
