//! What keeps glibc heaps from shrinking, and who allocated it: looks into
//! heaps joined with the outstanding blocks of a trace.
use std::cmp::Reverse;
use std::io;

use serde::{Deserialize, Serialize};

use super::{
    assemble::{self, Facts},
    heap::Stack,
    heapwalk::{Arena, HeapWalk, Kind},
    lines::Lines,
    style::Paint,
    text::{Text, whose},
};
use crate::{
    symbol::{ModuleFile, Symbolizer},
    unit::Elapsed,
};

/// Arenas of a process that the text shows: those with most to gain.
const ARENAS: usize = 4;
/// Holes that the text shows beside the one below the last block.
const HOLES: usize = 2;
/// Less cannot return to the system.
const PAGE: u64 = 4096;

/// A look into the heap of one process.
#[derive(Debug)]
pub struct Look {
    /// Whose.
    pub pid: u32,
    /// What was found, or why not.
    pub heap: Result<HeapWalk, String>,
}

/// A process's heap, as far as it cannot shrink. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedHeap {
    /// Whose.
    pub pid: u32,
    /// Whether all figures belong to one moment, and agree with each other.
    pub consistent: bool,
    /// Why there are no figures; null where there are.
    pub problem: Option<String>,
    /// The arenas that something pins, those with most to gain first.
    pub arenas: Vec<PinnedArena>,
}

/// An arena that ends with a block in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedArena {
    /// Main or thread.
    pub kind: Kind,
    /// Of its `malloc_state`, `"0x…"`.
    pub address: Option<String>,
    /// Taken from the system.
    pub system_bytes: u64,
    /// Not freed by the program.
    pub in_use_bytes: u64,
    /// Freed and kept, below the last chunk.
    pub free_bytes: u64,
    /// What it cannot shrink below while the pin is in use.
    pub least_bytes: u64,
    /// What could return if the pin were freed.
    pub releasable_below: u64,
    /// The last block in use.
    pub pinned_by: PinningBlock,
    /// The blocks directly above the largest holes, largest first; also the
    /// one above, if it is among them.
    pub holes: Vec<PinnedHole>,
}

/// A hole, and what lies directly above it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedHole {
    /// Free bytes.
    pub size: u64,
    /// The block above.
    pub below: PinningBlock,
}

/// A block that is in the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinningBlock {
    /// What the program holds, `"0x…"`.
    pub address: String,
    /// Of its chunk.
    pub size: u64,
    /// Whether the program has freed it and a thread's cache or a fast bin
    /// keeps it: known of the last block alone.
    pub cached: bool,
    /// The block's own size and age, and who allocated it; null where that was
    /// not seen.
    pub allocated_by: Option<Stack>,
}

/// Finds out who allocated what pins the heaps.
pub fn join(facts: &Facts<'_>, looks: &[Look], symbolizer: &mut Symbolizer) -> Vec<PinnedHeap> {
    let files = assemble::files(facts.modules);
    let mut join = Join {
        facts,
        files,
        symbolizer,
    };
    looks.iter().map(|look| join.heap(look)).collect()
}

struct Join<'a> {
    facts: &'a Facts<'a>,
    files: Vec<ModuleFile>,
    symbolizer: &'a mut Symbolizer,
}

impl Join<'_> {
    fn heap(&mut self, look: &Look) -> PinnedHeap {
        let (consistent, problem, arenas) = match &look.heap {
            Ok(heap) => (heap.consistent, None, heap.arenas.as_slice()),
            Err(problem) => (false, Some(problem.clone()), [].as_slice()),
        };
        let arenas = arenas.iter();
        let mut arenas: Vec<_> = arenas
            .filter_map(|arena| self.arena(look.pid, arena))
            .collect();
        arenas.sort_by_key(|arena| Reverse(arena.releasable_below));
        PinnedHeap {
            pid: look.pid,
            consistent,
            problem,
            arenas,
        }
    }

    fn arena(&mut self, pid: u32, arena: &Arena) -> Option<PinnedArena> {
        let pin = arena.pinned_by.as_ref()?;
        let holes = arena.holes.iter().filter_map(|hole| {
            let next = hole.next.as_ref()?;
            let cached = pin.cached && next.address == pin.address;
            let below = self.block(pid, &next.address, next.size, cached);
            Some(PinnedHole {
                size: hole.size,
                below,
            })
        });
        Some(PinnedArena {
            kind: arena.kind,
            address: arena.address.clone(),
            system_bytes: arena.system_bytes,
            in_use_bytes: arena.in_use_bytes,
            free_bytes: arena.free_bytes,
            least_bytes: arena.system_bytes.saturating_sub(arena.top_bytes),
            releasable_below: pin.releasable_below,
            holes: holes.collect(),
            pinned_by: self.block(pid, &pin.address, pin.size, pin.cached),
        })
    }

    fn block(&mut self, pid: u32, address: &str, size: u64, cached: bool) -> PinningBlock {
        let facts = self.facts;
        let number = u64::from_str_radix(address.trim_start_matches("0x"), 16);
        let block = number
            .ok()
            .and_then(|number| facts.live.block_at(pid, number, facts.now_ns));
        PinningBlock {
            address: address.to_owned(),
            size,
            cached,
            allocated_by: block
                .map(|block| assemble::stack(&block, facts, &self.files, self.symbolizer)),
        }
    }
}

impl Text<'_> {
    /// The heaps that were looked into.
    pub(super) fn heaps(&mut self) -> io::Result<()> {
        let report = self.report;
        for heap in &report.heap_walk {
            let whose = whose(report, heap.pid);
            if let Some(problem) = &heap.problem {
                self.line("")?;
                let text = format!("The heap of {whose} was not looked into: {problem}");
                self.sentence(2, None, &text)?;
            }
            for arena in heap.arenas.iter().take(ARENAS) {
                self.line("")?;
                self.pinned_arena(arena, &whose, heap.consistent)?;
            }
        }
        Ok(())
    }

    fn pinned_arena(
        &mut self,
        arena: &PinnedArena,
        whose: &str,
        consistent: bool,
    ) -> io::Result<()> {
        let style = self.style;
        let which = match arena.kind {
            Kind::Thread => format!("A thread's arena in the heap of {whose}"),
            Kind::Main | Kind::Mmapped => format!("The heap of {whose}"),
        };
        let head = format!(
            "{which} cannot shrink below {}: pinned by a block of {} at {}",
            style.bytes(arena.least_bytes),
            style.bytes(arena.pinned_by.size),
            arena.pinned_by.address,
        );
        self.sentence(2, Some(Paint::Strong), &head)?;
        let figures = format!(
            "  {} in use, {} free; without that block {} could return to the system",
            style.bytes(arena.in_use_bytes),
            style.bytes(arena.free_bytes),
            style.bytes(arena.releasable_below),
        );
        self.sentence(4, None, &figures)?;
        if !consistent {
            let text = "  it changed while it was read: figures may be of different moments";
            self.sentence(4, Some(Paint::Alarm), text)?;
        }
        self.allocated_by(&arena.pinned_by)?;
        let others = arena
            .holes
            .iter()
            .filter(|hole| hole.size >= PAGE && hole.below.address != arena.pinned_by.address);
        for hole in others.take(HOLES) {
            let text = format!(
                "  a hole of {} below the block of {} at {}",
                style.bytes(hole.size),
                style.bytes(hole.below.size),
                hole.below.address,
            );
            self.sentence(4, None, &text)?;
            self.allocated_by(&hole.below)?;
        }
        Ok(())
    }

    fn allocated_by(&mut self, block: &PinningBlock) -> io::Result<()> {
        let Some(stack) = &block.allocated_by else {
            let text = format!("  {}", self.why_unknown(block));
            return self.sentence(4, None, &text);
        };
        let text = format!(
            "  allocated {} ago by {}:",
            Elapsed(stack.oldest_ns),
            super::name::printable(&stack.function)
        );
        self.sentence(4, None, &text)?;
        self.frames(stack)
    }

    /// Why nobody knows who allocated a block.
    fn why_unknown(&self, block: &PinningBlock) -> &'static str {
        if block.cached {
            "the program has freed it, and a thread's cache or a fast bin keeps it"
        } else if self.report.sample_bytes > 0 {
            "not among the sampled allocations: without --sample-bytes it would be known"
        } else {
            "allocated before the trace began, or not taken in: who did is not known"
        }
    }
}
