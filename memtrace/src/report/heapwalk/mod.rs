//! The model of a look into a heap (`memtrace.heapwalk.v1`).
mod conclude;
#[cfg(test)]
mod tests;
mod text;

use serde::{Deserialize, Serialize};

use super::{Document, Format};
use crate::{finding::Finding, heapwalk as walk};

/// Names the document's version.
pub const SCHEMA: &str = "memtrace.heapwalk.v1";

impl Document for HeapWalk {
    const FORMATS: &'static [Format<Self>] = &[Format::text(text::render), Format::JSON];
}

/// What one look into a heap found. Sizes in bytes: of chunks, that is, with
/// their headers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeapWalk {
    /// [`SCHEMA`].
    pub schema: String,
    /// Whose heap.
    pub process: Process,
    /// glibc's version; null where a static program does not tell.
    pub glibc: Option<String>,
    /// Whether all figures belong to one moment, and agree with each other.
    pub consistent: bool,
    /// How long the process was stopped; null where it was not.
    pub stopped_ns: Option<u64>,
    /// Why `consistent` is false, and what else a reader must know.
    pub notes: Vec<String>,
    /// Sums over all arenas.
    pub totals: Totals,
    /// Caches of threads that were found: of those that hold something.
    pub thread_caches: u64,
    /// What the process would get from `mallinfo2`.
    pub mallinfo: Mallinfo,
    /// The main arena, those of threads, and last all blocks with mappings of
    /// their own.
    pub arenas: Vec<Arena>,
    /// Conclusions.
    pub findings: Vec<Finding>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The kernel's name for it, 15 bytes at most.
    pub comm: String,
    /// Path of its executable.
    pub exe: String,
}

/// Sums. `system_bytes` = `in_use_bytes` + `free_bytes` + `top_bytes` +
/// `overhead_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Taken from the system, `mapped_bytes` included.
    pub system_bytes: u64,
    /// Not freed by the program.
    pub in_use_bytes: u64,
    /// Blocks.
    pub in_use_count: u64,
    /// Freed and kept, below the arenas' last chunks.
    pub free_bytes: u64,
    /// Blocks.
    pub free_count: u64,
    /// The arenas' last chunks.
    pub top_bytes: u64,
    /// Management, and what others took from the program break.
    pub overhead_bytes: u64,
    /// Blocks with mappings of their own.
    pub mapped_bytes: u64,
    /// Such blocks.
    pub mapped_count: u64,
    /// Of `free_bytes`: whole pages, which `malloc_trim` gives back.
    pub trim_bytes: u64,
}

/// `struct mallinfo2`, summed over all arenas as glibc does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "mallinfo(3) explains each")]
pub struct Mallinfo {
    pub arena: u64,
    pub ordblks: u64,
    pub smblks: u64,
    pub hblks: u64,
    pub hblkhd: u64,
    pub fsmblks: u64,
    pub uordblks: u64,
    pub fordblks: u64,
    pub keepcost: u64,
}

/// What an arena is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It grows by the program break.
    Main,
    /// It has mappings of its own, and some threads use it.
    Thread,
    /// Blocks so large that each has a mapping of its own.
    Mmapped,
}

/// One arena.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arena {
    /// Which kind.
    pub kind: Kind,
    /// Of its `malloc_state`, `"0x…"`; null for blocks with own mappings.
    pub address: Option<String>,
    /// Taken from the system.
    pub system_bytes: u64,
    /// Not freed by the program.
    pub in_use_bytes: u64,
    /// Blocks.
    pub in_use_count: u64,
    /// Freed and kept, below the last chunk.
    pub free_bytes: u64,
    /// Blocks.
    pub free_count: u64,
    /// The last chunk, free, which grows and shrinks with the arena.
    pub top_bytes: u64,
    /// Management, and what others took from the program break.
    pub overhead_bytes: u64,
    /// The largest of the free blocks.
    pub largest_free: u64,
    /// Free blocks by where they wait and by size.
    pub free_by_size: Vec<FreeSizes>,
    /// Blocks in use by size.
    pub in_use_by_size: Vec<Sizes>,
    /// The free part of what lies below the last chunk: 0 is none.
    pub fragmentation: f64,
    /// Of `free_bytes`: whole pages, which `malloc_trim` gives back.
    pub trim_bytes: u64,
    /// The last block in use, below which nothing returns to the system.
    pub pinned_by: Option<Pin>,
    /// The largest free blocks.
    pub holes: Vec<Hole>,
    /// Whether it held still while it was read, and all of it was found.
    pub consistent: bool,
    /// Why not.
    pub problem: Option<String>,
}

/// Blocks of sizes between two powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// The smallest.
    pub min: u64,
    /// The largest.
    pub max: u64,
    /// Blocks.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Free blocks of sizes between two powers of two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeSizes {
    /// Where they wait: `tcache`, `fast`, `unsorted`, `small`, `large`.
    pub class: String,
    /// How many, of what sizes.
    #[serde(flatten)]
    pub sizes: Sizes,
}

/// The last block in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// What the program holds: the block's address, `"0x…"`.
    pub address: String,
    /// Of its chunk.
    pub size: u64,
    /// What would become part of the last chunk, and so could be returned, if
    /// it were freed: the block, and what is free directly below it.
    pub releasable_below: u64,
    /// Whether the program has freed it: a thread's cache or a fast bin keeps it.
    pub cached: bool,
}

/// A large free block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// Of the chunk, `"0x…"`.
    pub address: String,
    /// Of the chunk.
    pub size: u64,
    /// Blocks in use above it, all of which must go before it returns by itself.
    pub blocks_above: u64,
    /// Their bytes.
    pub bytes_above: u64,
    /// The block directly above it, which keeps it from growing; null where a
    /// span of the arena ends there.
    #[serde(default)]
    pub next: Option<Block>,
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// What the program holds, `"0x…"`.
    pub address: String,
    /// Of its chunk.
    pub size: u64,
}

/// A chunk's header: what the program holds lies behind it.
const HEADER: u64 = 16;

impl HeapWalk {
    /// Describes a heap.
    pub fn of(process: Process, heap: &walk::Heap, stopped_ns: Option<u64>) -> Self {
        let arenas: Vec<Arena> = heap.arenas.iter().map(Arena::of).collect();
        let mut notes = heap.notes.clone();
        if !heap.consistent && stopped_ns.is_none() {
            notes.push(
                "the figures may be of different moments: --stop holds the process for the time of the walk"
                    .to_owned(),
            );
        }
        let totals = Totals::of(&arenas);
        Self {
            schema: SCHEMA.to_owned(),
            process,
            glibc: heap.version.clone(),
            consistent: heap.consistent,
            stopped_ns,
            notes,
            totals,
            thread_caches: heap.thread_caches,
            mallinfo: heap.mallinfo().into(),
            findings: conclude::findings(&totals, &arenas),
            arenas,
        }
    }
}

impl Totals {
    fn of(arenas: &[Arena]) -> Self {
        let mut totals = Self::default();
        for arena in arenas {
            totals.system_bytes += arena.system_bytes;
            totals.in_use_bytes += arena.in_use_bytes;
            totals.in_use_count += arena.in_use_count;
            totals.free_bytes += arena.free_bytes;
            totals.free_count += arena.free_count;
            totals.top_bytes += arena.top_bytes;
            totals.overhead_bytes += arena.overhead_bytes;
            totals.trim_bytes += arena.trim_bytes;
            if arena.kind == Kind::Mmapped {
                totals.mapped_bytes = arena.in_use_bytes;
                totals.mapped_count = arena.in_use_count;
            }
        }
        totals
    }
}

impl Arena {
    fn of(arena: &walk::Arena) -> Self {
        let (free_bytes, free_count) = arena.free_sum();
        let by_size = arena.free.iter().flat_map(|(class, sizes)| {
            let row = |range: &walk::Range| FreeSizes {
                class: class.name().to_owned(),
                sizes: range.into(),
            };
            sizes.rows().map(row).collect::<Vec<_>>()
        });
        Self {
            kind: match arena.kind {
                walk::Kind::Main => Kind::Main,
                walk::Kind::Thread => Kind::Thread,
                walk::Kind::Mapped => Kind::Mmapped,
            },
            address: (arena.kind != walk::Kind::Mapped).then(|| hex(arena.address)),
            system_bytes: arena.system_bytes,
            in_use_bytes: arena.in_use.bytes,
            in_use_count: arena.in_use.count,
            free_bytes,
            free_count,
            top_bytes: arena.top_bytes,
            overhead_bytes: arena.overhead_bytes,
            largest_free: arena.largest_free(),
            free_by_size: by_size.collect(),
            in_use_by_size: arena.in_use.rows().map(Sizes::from).collect(),
            fragmentation: arena.fragmentation(),
            trim_bytes: arena.trim_bytes,
            pinned_by: arena.pinned_by.map(|pin| Pin {
                address: hex(pin.address.saturating_add(HEADER)),
                size: pin.size,
                releasable_below: pin.size.saturating_add(pin.free_below),
                cached: arena.pin_is_cached,
            }),
            holes: arena.holes.iter().map(Hole::from).collect(),
            consistent: arena.consistent,
            problem: arena.problem.clone(),
        }
    }
}

fn hex(address: u64) -> String {
    format!("{address:#x}")
}

impl From<&walk::Range> for Sizes {
    fn from(range: &walk::Range) -> Self {
        Self {
            min: range.min,
            max: range.max,
            count: range.count,
            bytes: range.bytes,
        }
    }
}

impl From<&walk::Hole> for Hole {
    fn from(hole: &walk::Hole) -> Self {
        Self {
            address: hex(hole.address),
            size: hole.size,
            blocks_above: hole.blocks_above,
            bytes_above: hole.bytes_above,
            next: hole.next.map(|(address, size)| Block {
                address: hex(address.saturating_add(HEADER)),
                size,
            }),
        }
    }
}

impl From<walk::Mallinfo> for Mallinfo {
    fn from(info: walk::Mallinfo) -> Self {
        Self {
            arena: info.arena,
            ordblks: info.ordblks,
            smblks: info.smblks,
            hblks: info.hblks,
            hblkhd: info.hblkhd,
            fsmblks: info.fsmblks,
            uordblks: info.uordblks,
            fordblks: info.fordblks,
            keepcost: info.keepcost,
        }
    }
}
