//! The blocks of one process's allocators, by address.
use hashbrown::HashMap;

use super::{
    Item, SiteId, Tally,
    table::{Block, Table},
};
use crate::sampling::Sampling;

/// Time in units of 2²⁰ ns, about a millisecond. Wraps after 52 days: only
/// differences mean anything.
#[expect(clippy::cast_possible_truncation, reason = "wraps as documented")]
fn ticks(time_ns: u64) -> u32 {
    (time_ns >> TICK_SHIFT) as u32
}

const TICK_SHIFT: u32 = 20;

/// Nanoseconds. An age of 0 would say that there is no such block.
fn age(now: u32, block: Block) -> u64 {
    (u64::from(now.wrapping_sub(block.born)) << TICK_SHIFT).max(1)
}

/// One block, and how old it is.
pub(super) struct Held {
    pub(super) site: SiteId,
    pub(super) size: u64,
    pub(super) age_ns: u64,
}

/// A process's blocks.
#[derive(Debug, Default)]
pub(super) struct Heap {
    blocks: Table,
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
        tally: &mut Tally,
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
            tally.totals.reused_addresses += 1;
            tally.freed_block(lost.size);
        }
    }

    /// `again`: the thread's last free was of the same address. Where nothing is
    /// there any more, one function that frees has called another.
    pub(super) fn free(&mut self, address: u64, again: bool, tally: &mut Tally) {
        match self.blocks.remove(address) {
            Some(block) => tally.freed_block(block.size),
            None if again => {}
            None => tally.totals.unmatched_frees += 1,
        }
    }

    /// Takes the block out, since its address may be handed out again before
    /// the call returns, and keeps it in case the call fails.
    pub(super) fn begin_realloc(&mut self, tid: u32, old: u64, tally: &mut Tally) {
        let block = self.blocks.remove(old);
        let before = self.reallocating.insert(tid, (old, block));
        // A thread makes one call at a time: how the one before ended was
        // lost. Most succeed.
        if let Some((_, Some(lost))) = before {
            tally.freed_block(lost.size);
        }
    }

    /// The call failed: the old block is still there.
    pub(super) fn cancel_realloc(&mut self, tid: u32, tally: &mut Tally) {
        let Some((address, Some(block))) = self.reallocating.remove(&tid) else {
            return;
        };
        if self.blocks.contains(address) {
            // Somebody else's by now: events were lost in between.
            tally.freed_block(block.size);
        } else {
            self.blocks.insert(address, block);
        }
    }

    /// The call succeeded: the old block, if there was one, is gone.
    pub(super) fn end_realloc(&mut self, tid: u32, old: u64, tally: &mut Tally) {
        match self.reallocating.remove(&tid) {
            Some((_, Some(block))) => tally.freed_block(block.size),
            _ if old != 0 => tally.totals.unmatched_frees += 1,
            _ => {}
        }
    }

    /// All that is outstanding, also what is being reallocated right now.
    pub(super) fn items(&self, now_ns: u64, sampling: &Sampling) -> impl Iterator<Item = Item> {
        let now = ticks(now_ns);
        let held = self.reallocating.values().filter_map(|(_, block)| *block);
        self.blocks.blocks().chain(held).map(move |block| Item {
            site: block.site,
            size: block.size,
            weight: sampling.weigh(block.size),
            age_ns: age(now, block),
        })
    }

    /// The block that begins at `address`, also if it is being reallocated
    /// right now.
    pub(super) fn at(&self, address: u64, now_ns: u64) -> Option<Held> {
        let held = || {
            let mut held = self.reallocating.values();
            let found = held.find(|(old, _)| *old == address);
            found.and_then(|(_, block)| *block)
        };
        let block = self.blocks.get(address).or_else(held)?;
        Some(Held {
            site: block.site,
            size: block.size,
            age_ns: age(ticks(now_ns), block),
        })
    }
}
