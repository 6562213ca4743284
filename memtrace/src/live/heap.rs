//! The blocks of one process's allocators, by address.
use hashbrown::{HashMap, hash_map::Entry};

use super::{Item, SiteId, Totals};

/// An outstanding block: 16 bytes, 24 with its key, because there may be tens
/// of millions.
#[derive(Clone, Copy, Debug)]
struct Block {
    size: u64,
    site: SiteId,
    /// When it was allocated, in [`ticks`].
    born: u32,
}

/// Time in units of 2²⁰ ns, about a millisecond. Wraps after 52 days: only
/// differences mean anything.
#[expect(clippy::cast_possible_truncation, reason = "wraps as documented")]
fn ticks(time_ns: u64) -> u32 {
    (time_ns >> TICK_SHIFT) as u32
}

const TICK_SHIFT: u32 = 20;

/// A process's blocks.
#[derive(Debug, Default)]
pub(super) struct Heap {
    blocks: HashMap<u64, Block>,
    /// Blocks whose reallocation has begun, by thread: they may end or stay.
    reallocating: HashMap<u32, (u64, Option<Block>)>,
}

impl Heap {
    pub(super) fn insert(
        &mut self,
        address: u64,
        size: u64,
        site: SiteId,
        now_ns: u64,
        totals: &mut Totals,
    ) {
        let before = self.blocks.insert(
            address,
            Block {
                size,
                site,
                born: ticks(now_ns),
            },
        );
        // No allocator hands out a block twice: the first one's free was not
        // seen.
        if let Some(lost) = before {
            totals.reused_addresses += 1;
            totals.freed(lost.size, 1);
        }
    }

    pub(super) fn free(&mut self, address: u64, totals: &mut Totals) {
        match self.blocks.remove(&address) {
            Some(block) => totals.freed(block.size, 1),
            None => totals.unmatched_frees += 1,
        }
    }

    /// Takes the block out, since its address may be handed out again before
    /// the call returns, and keeps it in case the call fails.
    pub(super) fn begin_realloc(&mut self, tid: u32, old: u64, totals: &mut Totals) {
        let block = self.blocks.remove(&old);
        let before = self.reallocating.insert(tid, (old, block));
        // A thread makes one call at a time: how the one before ended was
        // lost. Most succeed.
        if let Some((_, Some(lost))) = before {
            totals.freed(lost.size, 1);
        }
    }

    /// The call failed: the old block is still there.
    pub(super) fn cancel_realloc(&mut self, tid: u32, totals: &mut Totals) {
        let Some((address, Some(block))) = self.reallocating.remove(&tid) else {
            return;
        };
        match self.blocks.entry(address) {
            Entry::Vacant(place) => {
                place.insert(block);
            }
            // Somebody else's by now: events were lost in between.
            Entry::Occupied(_) => totals.freed(block.size, 1),
        }
    }

    /// The call succeeded: the old block, if there was one, is gone.
    pub(super) fn end_realloc(&mut self, tid: u32, old: u64, totals: &mut Totals) {
        match self.reallocating.remove(&tid) {
            Some((_, Some(block))) => totals.freed(block.size, 1),
            _ if old != 0 => totals.unmatched_frees += 1,
            _ => {}
        }
    }

    /// All that is outstanding, also what is being reallocated right now.
    pub(super) fn items(&self, now_ns: u64) -> impl Iterator<Item = Item> {
        let now = ticks(now_ns);
        let held = self
            .reallocating
            .values()
            .filter_map(|(_, block)| block.as_ref());
        self.blocks.values().chain(held).map(move |block| Item {
            site: block.site,
            bytes: block.size,
            count: 1,
            // An age of 0 would say that there is no such block.
            age_ns: (u64::from(now.wrapping_sub(block.born)) << TICK_SHIFT).max(1),
        })
    }
}
