//! What is outstanding, looked at.
use serde::{Deserialize, Serialize};

use super::{Ages, Class, Live, Moment, Site, add, histogram::Sizes, whole};

/// Which outstanding allocations a snapshot counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Both, by age.
    pub ages: Ages,
}

/// What is outstanding at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By site, in no particular order.
    pub sites: Vec<Outstanding>,
    /// Sites with nothing outstanding, or nothing that the filter lets through.
    pub ended: Vec<Outstanding>,
    /// By age, in nanoseconds.
    pub ages: Vec<Class>,
    /// By size.
    pub sizes: Vec<Class>,
}

impl Live {
    /// Who allocated the block that begins at `address` in a process: its site,
    /// with the block's own size and age. `None`: it was not seen being
    /// allocated, or has been freed.
    pub fn block_at(&self, pid: u32, address: u64, now_ns: u64) -> Option<Outstanding> {
        let held = self.processes.get(&pid)?.heap.at(address, now_ns)?;
        Some(Outstanding {
            site: *self.sites.get(held.site as usize)?,
            bytes: held.size,
            count: 1,
            doubtful_bytes: 0,
            doubtful_count: 0,
            oldest_ns: held.age_ns,
            newest_ns: held.age_ns,
            ages: Ages::default(),
        })
    }

    /// What is outstanding at `now_ns` (on the events' clock), for each site
    /// that has any, in no particular order.
    /// Allocations from before `last_loss_ns` are doubtful; 0: none are.
    pub fn snapshot(&self, now_ns: u64, last_loss_ns: u64, filter: &Filter) -> Snapshot {
        let mut sizes = Sizes::default();
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
                ages: Ages::default(),
            })
            .collect();
        let items = self
            .processes
            .values()
            .flat_map(|process| process.items(now_ns, &self.tally.sampling));
        for item in items {
            let counts = (filter.min_size..=filter.max_size).contains(&item.size)
                && item.age_ns >= filter.older_than_ns;
            if counts {
                sizes.add(&item);
                let sum = &mut sums[item.site as usize];
                add(&mut sum.bytes, item.weight.bytes);
                add(&mut sum.count, item.weight.count);
                if last_loss_ns > 0 && item.age_ns >= lost_ago {
                    add(&mut sum.doubtful_bytes, item.weight.bytes);
                    add(&mut sum.doubtful_count, item.weight.count);
                }
                sum.oldest_ns = sum.oldest_ns.max(item.age_ns);
                sum.newest_ns = sum.newest_ns.min(item.age_ns);
                sum.ages.add(&item);
            }
        }
        let mut ages = Ages::default();
        for sum in &sums {
            ages.add_all(&sum.ages);
        }
        let (mut sites, mut ended): (Vec<_>, Vec<_>) = sums
            .into_iter()
            .partition(|sum| sum.bytes > 0 || sum.count > 0);
        for sum in sites.iter_mut().chain(&mut ended) {
            // 0 where there is none.
            sum.newest_ns = sum.newest_ns.min(sum.oldest_ns);
            sum.count = whole(sum.count);
            sum.doubtful_count = whole(sum.doubtful_count);
            sum.site.allocated_count = whole(sum.site.allocated_count);
        }
        Snapshot {
            sites,
            ended,
            ages: ages.classes(),
            sizes: sizes.classes(),
        }
    }

    /// How much was outstanding when, of all that was taken in.
    pub fn timeline(&self) -> impl Iterator<Item = Moment> {
        let points = self.timeline.points().iter();
        points.map(|point| Moment {
            count: whole(point.count),
            ..*point
        })
    }
}
