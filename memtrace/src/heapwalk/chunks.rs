//! The walk from chunk to chunk: every chunk's size leads to the next one, and
//! the next one says whether this one is free.
use super::{
    arena::Broken,
    layout::{ALIGNMENT, SMALLEST},
    summary::{Hole, Pin, Sizes},
    window::Window,
};

/// The flags in a size field.
pub(super) const PREVIOUS_IN_USE: u64 = 1;
pub(super) const MAPPED: u64 = 2;
pub(super) const FLAGS: u64 = 7;

/// Holes that are named.
const HOLES: usize = 5;
/// The fields of a free chunk in front of what `malloc_trim` may give back
/// (`sizeof (struct malloc_chunk)`).
const FREE_HEAD: u64 = 48;
const PAGE: u64 = 4096;

/// A free chunk, and the next one in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FreeChunk {
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) next: u64,
}

/// A chunk in use that may be a thread's cache: address and first word.
pub(super) type Candidate = (u64, u64);

/// What a walk has counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// In use, as far as chunks say: blocks in fast bins and thread caches, too.
    pub(super) in_use: Sizes,
    /// Free chunks, ascending within each span.
    pub(super) free: Vec<FreeChunk>,
    /// The last chunk of the arena: address and size.
    pub(super) top: Option<(u64, u64)>,
    /// What others took from between spans and the arena counts as its own.
    pub(super) overhead: u64,
    /// The last block in use, and what is free below it.
    pub(super) pin: Option<Pin>,
    /// The largest holes, and what was in use below each.
    holes: Vec<(Hole, Below)>,
    /// Whole pages in free chunks.
    pub(super) trim_bytes: u64,
    /// Chunks of the size of a thread's cache.
    pub(super) candidates: Vec<Candidate>,
    /// What was walked: first address, and the first behind.
    pub(super) spans: Vec<(u64, u64)>,
}

/// Bytes and blocks in use below a hole.
type Below = (u64, u64);

impl Tally {
    fn block(&mut self, chunk: Chunk, below: u64, cache: u64) {
        self.in_use.add(chunk.size);
        self.pin = Some(Pin {
            address: chunk.address,
            size: chunk.size,
            free_below: below,
        });
        if below > 0 {
            let mut holes = self.holes.iter_mut().map(|(hole, _)| hole);
            let start = chunk.address.saturating_sub(below);
            if let Some(hole) = holes.find(|hole| hole.address == start) {
                hole.next = Some((chunk.address, chunk.size));
            }
        }
        if chunk.size == cache {
            self.candidates.push((chunk.address, chunk.link));
        }
    }

    fn hole(&mut self, chunk: Chunk) {
        self.free.push(FreeChunk {
            address: chunk.address,
            size: chunk.size,
            next: chunk.link,
        });
        let first = (chunk.address.saturating_add(FREE_HEAD)).next_multiple_of(PAGE);
        let end = chunk.address.saturating_add(chunk.size);
        self.trim_bytes += end.saturating_sub(first) / PAGE * PAGE;
        let least = self.holes.last().map_or(0, |(hole, _)| hole.size);
        if self.holes.len() < HOLES || chunk.size > least {
            let hole = Hole {
                address: chunk.address,
                size: chunk.size,
                ..Hole::default()
            };
            let at = self
                .holes
                .partition_point(|(other, _)| other.size >= chunk.size);
            self.holes
                .insert(at, (hole, (self.in_use.bytes, self.in_use.count)));
            self.holes.truncate(HOLES);
        }
    }

    /// Takes in what lies behind.
    pub(super) fn append(&mut self, mut behind: Self) {
        let (bytes, count) = (self.in_use.bytes, self.in_use.count);
        let moved = |(hole, (b, c))| (hole, (b + bytes, c + count));
        self.holes.extend(behind.holes.drain(..).map(moved));
        self.holes
            .sort_by_key(|(hole, _)| std::cmp::Reverse(hole.size));
        self.holes.truncate(HOLES);
        self.in_use.append(&behind.in_use);
        self.free.append(&mut behind.free);
        self.top = behind.top.or(self.top);
        self.pin = behind.pin.or(self.pin);
        self.trim_bytes += behind.trim_bytes;
        self.overhead += behind.overhead;
        self.candidates.append(&mut behind.candidates);
        self.spans.append(&mut behind.spans);
    }

    /// Bytes that belong to the arena, as far as was walked.
    pub(super) fn walked(&self) -> u64 {
        let spans = self
            .spans
            .iter()
            .map(|(start, end)| end.saturating_sub(*start));
        spans.fold(self.overhead, u64::saturating_add)
    }

    /// The largest holes, each with what is in use above it.
    pub(super) fn holes(&self) -> Vec<Hole> {
        let above = |(hole, (bytes, count)): &(Hole, Below)| Hole {
            blocks_above: self.in_use.count.saturating_sub(*count),
            bytes_above: self.in_use.bytes.saturating_sub(*bytes),
            ..*hole
        };
        self.holes.iter().map(above).collect()
    }
}

/// A chunk whose state the next one tells.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    address: u64,
    size: u64,
    link: u64,
}

/// Where to walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// The first chunk.
    pub(super) start: u64,
    /// Nothing of it lies here or beyond.
    pub(super) limit: u64,
    /// The arena's last chunk, which ends the walk.
    pub(super) top: u64,
    /// The size of chunks that may hold a thread's cache.
    pub(super) cache: u64,
}

/// What a walk ended at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The arena's last chunk; the first address behind it.
    Top(u64),
    /// The mark at the end of a span that is not the last; its address.
    Mark(u64),
}

/// Walks a span. What was counted before an error stays in `tally`.
pub(super) fn walk(window: &mut Window<'_>, span: Span, tally: &mut Tally) -> Result<End, Broken> {
    let mut before: Option<Chunk> = None;
    // What is free directly below the chunk before.
    let mut below = 0;
    let mut address = span.start;
    loop {
        let head = window.head(address)?;
        if let Some(chunk) = before {
            if head.size & PREVIOUS_IN_USE != 0 {
                tally.block(chunk, below, span.cache);
                below = 0;
            } else if head.previous == chunk.size {
                tally.hole(chunk);
                below = chunk.size;
            } else {
                return Err(Broken::Footer {
                    address,
                    size: chunk.size,
                    footer: head.previous,
                });
            }
        }
        let size = head.size & !FLAGS;
        let end = address.checked_add(size).filter(|end| *end <= span.limit);
        let broken = Broken::Chunk {
            address,
            size: head.size,
        };
        let end = end.ok_or(broken)?;
        if address == span.top {
            tally.top = Some((address, size));
            return Ok(End::Top(end));
        }
        // Two chunks of 16 bytes end a span. The second one of a thread's heap
        // has no size, and may be the only one.
        let at_end = address.saturating_add(ALIGNMENT) == span.limit;
        if head.size & MAPPED == 0 && (size == ALIGNMENT || size == 0 && at_end) {
            return Ok(End::Mark(address));
        }
        if size < SMALLEST || !size.is_multiple_of(ALIGNMENT) || head.size & MAPPED != 0 {
            return Err(broken);
        }
        before = Some(Chunk {
            address,
            size,
            link: head.link,
        });
        address = end;
    }
}
