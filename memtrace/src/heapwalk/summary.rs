//! What a walk of a heap finds, in bytes and blocks.
use std::collections::BTreeMap;

/// Bytes and blocks by size: one row for each power of two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// All bytes.
    pub bytes: u64,
    /// All blocks.
    pub count: u64,
    rows: [Range; 64],
}

/// The blocks of sizes between two powers of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The smallest there is; 0: none.
    pub min: u64,
    /// The largest there is.
    pub max: u64,
    /// Blocks.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            bytes: 0,
            count: 0,
            rows: [Range::default(); 64],
        }
    }
}

impl Sizes {
    pub(super) fn add(&mut self, size: u64) {
        self.bytes = self.bytes.saturating_add(size);
        self.count += 1;
        // Below 64 rows, whatever the size.
        let row = &mut self.rows[size.max(1).ilog2() as usize];
        row.min = if row.count == 0 {
            size
        } else {
            row.min.min(size)
        };
        row.max = row.max.max(size);
        row.count += 1;
        row.bytes = row.bytes.saturating_add(size);
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.count += other.count;
        for (row, new) in self.rows.iter_mut().zip(&other.rows) {
            if new.count > 0 {
                row.min = if row.count == 0 {
                    new.min
                } else {
                    row.min.min(new.min)
                };
                row.max = row.max.max(new.max);
                row.count += new.count;
                row.bytes = row.bytes.saturating_add(new.bytes);
            }
        }
    }

    /// Takes out what turned out to be no part of it. Returns whether it was
    /// there: a list that changed while it was read may name what the walk
    /// never met.
    pub(super) fn remove(&mut self, size: u64) -> bool {
        let row = &mut self.rows[size.max(1).ilog2() as usize];
        if row.count == 0 || row.bytes < size {
            return false;
        }
        row.count -= 1;
        row.bytes -= size;
        self.bytes = self.bytes.saturating_sub(size);
        self.count -= 1;
        true
    }

    /// Rows that hold something, small sizes first.
    pub fn rows(&self) -> impl Iterator<Item = &Range> {
        self.rows.iter().filter(|row| row.count > 0)
    }

    /// The largest block.
    pub fn largest(&self) -> u64 {
        self.rows().last().map_or(0, |row| row.max)
    }
}

/// Where a free block waits to be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// In the cache of one thread, for that thread.
    ThreadCache,
    /// In a fast bin: not merged with its neighbours.
    Fast,
    /// Freed lately and not sorted into a bin.
    Unsorted,
    /// In a bin for one size, below 1024 bytes.
    Small,
    /// In a bin for a range of sizes.
    Large,
}

impl Class {
    /// As JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ThreadCache => "tcache",
            Self::Fast => "fast",
            Self::Unsorted => "unsorted",
            Self::Small => "small",
            Self::Large => "large",
        }
    }
}

/// Whose memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The arena that grows by the program break.
    Main,
    /// An arena of its own mappings, for one thread or a few.
    Thread,
    /// Blocks so large that each has a mapping of its own.
    Mapped,
}

/// The last block in use: what lies below cannot be given back to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Of the chunk; what the program holds is 16 bytes further on.
    pub address: u64,
    /// Of the chunk.
    pub size: u64,
    /// Free bytes directly below it.
    pub free_below: u64,
}

/// One of the largest free chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hole {
    /// Of the chunk.
    pub address: u64,
    /// Of the chunk.
    pub size: u64,
    /// Blocks in use between it and the end of the arena.
    pub blocks_above: u64,
    /// Their bytes.
    pub bytes_above: u64,
    /// The block directly above it: address and size of the chunk.
    pub next: Option<(u64, u64)>,
}

/// One arena, or all blocks with mappings of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arena {
    /// Which kind.
    pub kind: Kind,
    /// Of its `malloc_state`; 0 for mapped blocks.
    pub address: u64,
    /// Taken from the system.
    pub system_bytes: u64,
    /// What the program has not freed, in chunks: with their headers.
    pub in_use: Sizes,
    /// What it has freed and the arena keeps, below its last chunk.
    pub free: BTreeMap<Class, Sizes>,
    /// The last chunk, which grows and shrinks with the arena.
    pub top_bytes: u64,
    /// Neither in use nor free: management, and what others took in between.
    pub overhead_bytes: u64,
    /// The last block in use.
    pub pinned_by: Option<Pin>,
    /// Where that is itself free, and kept for a thread or in a fast bin.
    pub pin_is_cached: bool,
    /// The largest holes, largest first.
    pub holes: Vec<Hole>,
    /// Whole pages in holes: `malloc_trim` gives them back, if it has not.
    pub trim_bytes: u64,
    /// Whether nothing changed while it was walked, and all of it was.
    pub consistent: bool,
    /// Why not.
    pub problem: Option<String>,
}

impl Arena {
    pub(super) fn new(kind: Kind, address: u64) -> Self {
        Self {
            kind,
            address,
            system_bytes: 0,
            in_use: Sizes::default(),
            free: BTreeMap::new(),
            top_bytes: 0,
            overhead_bytes: 0,
            pinned_by: None,
            pin_is_cached: false,
            holes: Vec::new(),
            trim_bytes: 0,
            consistent: true,
            problem: None,
        }
    }

    /// Bytes and blocks of a class.
    pub fn class(&self, class: Class) -> (u64, u64) {
        self.free
            .get(&class)
            .map_or((0, 0), |sizes| (sizes.bytes, sizes.count))
    }

    /// Free bytes and blocks, without the last chunk.
    pub fn free_sum(&self) -> (u64, u64) {
        self.free.values().fold((0, 0), |(bytes, count), sizes| {
            (bytes + sizes.bytes, count + sizes.count)
        })
    }

    /// The largest block that can be handed out without asking the system, but
    /// for the last chunk.
    pub fn largest_free(&self) -> u64 {
        self.free.values().map(Sizes::largest).max().unwrap_or(0)
    }

    /// The part that is free of what lies below the last chunk; 0: no holes.
    pub fn fragmentation(&self) -> f64 {
        let (free, _) = self.free_sum();
        let all = free.saturating_add(self.in_use.bytes);
        if all == 0 {
            return 0.0;
        }
        free as f64 / all as f64
    }
}

/// What the process itself would get from `mallinfo2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mallinfo {
    /// From the system, but for mappings of single blocks.
    pub arena: u64,
    /// Free chunks, the last ones included.
    pub ordblks: u64,
    /// Chunks in fast bins.
    pub smblks: u64,
    /// Mappings of single blocks.
    pub hblks: u64,
    /// Their bytes.
    pub hblkhd: u64,
    /// Bytes in fast bins.
    pub fsmblks: u64,
    /// In use; blocks in thread caches count as such.
    pub uordblks: u64,
    /// Free.
    pub fordblks: u64,
    /// The last chunk of the main arena.
    pub keepcost: u64,
}

/// A whole heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heap {
    /// glibc's version, where it says so.
    pub version: Option<String>,
    /// The main arena first; mapped blocks last, where there are any.
    pub arenas: Vec<Arena>,
    /// Caches of threads that were found.
    pub thread_caches: u64,
    /// Whether all figures belong together.
    pub consistent: bool,
    /// What else a reader must know.
    pub notes: Vec<String>,
}

impl Heap {
    /// What `mallinfo2` would say of it.
    pub fn mallinfo(&self) -> Mallinfo {
        let mut info = Mallinfo::default();
        for arena in &self.arenas {
            if arena.kind == Kind::Mapped {
                info.hblks = arena.in_use.count;
                info.hblkhd = arena.system_bytes;
                continue;
            }
            let (free, count) = arena.free_sum();
            let (cached, cached_count) = arena.class(Class::ThreadCache);
            let (fast, fast_count) = arena.class(Class::Fast);
            let available = (free - cached) + arena.top_bytes;
            info.arena += arena.system_bytes;
            // The last chunk counts.
            info.ordblks += count - cached_count - fast_count + 1;
            info.smblks += fast_count;
            info.fsmblks += fast;
            info.fordblks += available;
            info.uordblks += arena.system_bytes.saturating_sub(available);
            if arena.kind == Kind::Main {
                info.keepcost = arena.top_bytes;
            }
        }
        info
    }
}
