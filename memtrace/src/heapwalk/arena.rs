//! Arenas (`struct malloc_state`), the ring that they form, and the heaps of
//! threads' arenas.
use super::layout::{BINS, FAST_BINS, HEAP_MAX, Layout, NONCONTIGUOUS};
use crate::process::memory::{Memory, ReadError};

/// More arenas than any machine's limit (8 for each CPU).
const MOST_ARENAS: usize = 1 << 16;
/// Heaps of one arena: as many as fit into 47 bits.
const MOST_HEAPS: usize = 1 << 21;

/// Why an arena cannot be walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("the list of arenas does not lead back to its start")]
    Ring,
    #[error("the heap at {0:#x} does not belong to the arena that it is linked from")]
    Heap(u64),
    #[error("what is at {address:#x} is not a chunk's header (size field {size:#x})")]
    Chunk { address: u64, size: u64 },
    #[error(
        "the chunk before {address:#x} is free and {size} bytes large, and its size behind it is {footer}"
    )]
    Footer {
        address: u64,
        size: u64,
        footer: u64,
    },
    #[error("the list of free chunks leads to {0:#x}, where there is none")]
    List(u64),
    #[error("the chunks end at {0:#x} and not with the arena's last one")]
    End(u64),
}

/// One arena as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) address: u64,
    /// Whether a thread is changing it. Programs with one thread do not lock.
    pub(super) locked: bool,
    pub(super) contiguous: bool,
    /// First chunks of the fast bins; 0: none.
    pub(super) fast: [u64; FAST_BINS],
    pub(super) top: u64,
    /// First and last chunk of each bin.
    pub(super) bins: Vec<(u64, u64)>,
    pub(super) next: u64,
    pub(super) system: u64,
    bins_at: u64,
}

impl State {
    /// `bytes`: as many as the layout says, at least.
    pub(super) fn parse(layout: &Layout, address: u64, bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 8)?;
            bytes.try_into().ok().map(u64::from_le_bytes)
        };
        let arena = &layout.arena;
        let first = word(0)?;
        let flags = u32::try_from(first >> 32).unwrap_or_default();
        let mut fast = [0; FAST_BINS];
        if let Some(at) = arena.fast {
            for (index, head) in fast.iter_mut().enumerate() {
                *head = word(at + index * 8)?;
            }
        }
        let bin = |index: usize| {
            let at = arena.bins + index * 16;
            Some((word(at)?, word(at + 8)?))
        };
        Some(Self {
            address,
            locked: first & 0xffff_ffff != 0,
            contiguous: flags & NONCONTIGUOUS == 0,
            fast,
            top: word(arena.top())?,
            bins: (0..BINS).map(bin).collect::<Option<_>>()?,
            next: word(arena.next())?,
            system: word(arena.system())?,
            bins_at: address.wrapping_add(arena.bins as u64),
        })
    }

    pub(super) fn read(
        memory: &dyn Memory,
        layout: &Layout,
        address: u64,
    ) -> Result<Self, ReadError> {
        let mut bytes = vec![0; layout.arena.size()];
        memory.read(address, &mut bytes)?;
        Self::parse(layout, address, &bytes).ok_or(ReadError::Unmapped { address })
    }

    /// The address by which chunks link to a bin: as if it were a chunk.
    pub(super) fn bin_address(&self, index: usize) -> u64 {
        self.bins_at
            .wrapping_add(index as u64 * 16)
            .wrapping_sub(16)
    }

    /// Whether it has asked the system for memory yet.
    pub(super) fn is_used(&self) -> bool {
        self.system > 0 && self.top != self.bin_address(0)
    }

    /// Whether every bin is either empty or leads elsewhere, both ways.
    pub(super) fn is_plausible(&self) -> bool {
        let links = self.bins.iter().enumerate().all(|(index, (first, last))| {
            let itself = self.bin_address(index);
            let is_chunk = |link: u64| link != 0 && link.is_multiple_of(16);
            (*first == itself && *last == itself)
                || (*first != itself && *last != itself && is_chunk(*first) && is_chunk(*last))
        });
        links && self.top != 0 && self.top.is_multiple_of(8) && self.next != 0
    }
}

/// Addresses of all arenas, the main one first.
pub(super) fn ring(memory: &dyn Memory, layout: &Layout, main: u64) -> Result<Vec<u64>, Broken> {
    let mut arenas = vec![main];
    let mut address = main;
    loop {
        address = memory.word(address.wrapping_add(layout.arena.next() as u64))?;
        if address == main {
            return Ok(arenas);
        }
        if arenas.len() >= MOST_ARENAS || !address.is_multiple_of(8) {
            return Err(Broken::Ring);
        }
        arenas.push(address);
    }
}

/// One heap of a thread's arena: from its `heap_info` to what is in use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ThreadHeap {
    pub(super) start: u64,
    pub(super) size: u64,
}

/// The heaps of a thread's arena, the first one first. `huge_page`: the size
/// that `glibc.malloc.hugetlb` chose, which makes heaps smaller; 0: none.
pub(super) fn heaps(
    memory: &dyn Memory,
    state: &State,
    huge_page: u64,
) -> Result<Vec<ThreadHeap>, Broken> {
    let sizes = [HEAP_MAX, huge_page.saturating_mul(4)];
    let start = sizes
        .iter()
        .filter(|size| size.is_power_of_two())
        .map(|size| state.top & !(size - 1))
        .find(|start| memory.word(*start) == Ok(state.address));
    let mut heaps = Vec::new();
    let mut next = start.ok_or(Broken::Heap(state.top & !(HEAP_MAX - 1)))?;
    while next != 0 {
        let mut words = [0; 24];
        memory.read(next, &mut words)?;
        let word = |index: usize| {
            let bytes = words.get(index * 8..index * 8 + 8);
            bytes
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u64::from_le_bytes)
        };
        let (owner, previous, size) = (word(0), word(1), word(2));
        if owner != state.address || size > HEAP_MAX || heaps.len() >= MOST_HEAPS {
            return Err(Broken::Heap(next));
        }
        heaps.push(ThreadHeap { start: next, size });
        next = previous;
    }
    heaps.reverse();
    Ok(heaps)
}
