//! What a capture file is made of.
//!
//! All numbers are little-endian. The header, 16 bytes: [`MAGIC`], [`MAJOR`]
//! and [`MINOR`] (16 bits each), and 32 bits of zeros. Then blocks, one behind
//! the other: kind, length of the payload, and CRC-32 (IEEE 802.3) of kind,
//! length and payload, 32 bits each; and the payload. [`Kind::Events`] holds
//! records as the kernel side wrote them, each behind its length (32 bits);
//! all others hold JSON.
//!
//! A reader skips kinds that it does not know, and keys: what changes the
//! meaning of others goes with a new [`MAJOR`], what only adds with a new
//! [`MINOR`].
use serde::{Deserialize, Serialize};

use crate::{
    live::Filter,
    process::modules::RecordedModule,
    report::assemble::{Choice, Order},
    symbol::Symbol,
    trace::Losses,
};

// Records are in the machine's own order.
const _: () = assert!(cfg!(target_endian = "little"));

/// How a capture begins. Not text in any encoding, and damaged by whatever
/// changes the ends of lines.
pub const MAGIC: [u8; 8] = *b"\x8bmemtrc\n";

/// Version of the format.
pub const MAJOR: u16 = 1;

/// Additions to it. 1: where a module's code lies, and by which mechanism probes
/// were placed.
pub const MINOR: u16 = 1;

/// Bytes before the first block.
pub const HEADER: usize = 16;

/// Bytes before a block's payload.
pub const BLOCK_HEAD: usize = 12;

/// The longest payload. Events come in batches of 256 KiB, names in blocks of
/// about 1 MiB.
pub const LARGEST_BLOCK: usize = 64 << 20;

/// What a block holds. The numbers are the format: never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// [`Start`]: first, and once.
    Start = 1,
    /// [`Module`]: a file that a process has mapped; before its number is used.
    Module = 2,
    /// [`Process`]: a process as it is from here on.
    Process = 3,
    /// Records.
    Events = 4,
    /// [`Progress`]: now and then.
    Progress = 5,
    /// [`Progress`]: the run ends; what happened later does not count.
    Stop = 6,
    /// [`Names`] of code in one module.
    Names = 7,
    /// [`Progress`]: last, and the sign that nothing is missing.
    End = 8,
}

impl Kind {
    /// The kind with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        let all = [
            Self::Start,
            Self::Module,
            Self::Process,
            Self::Events,
            Self::Progress,
            Self::Stop,
            Self::Names,
            Self::End,
        ];
        all.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// The checksum of a block.
pub fn checksum(kind: u32, payload: &[u8]) -> u32 {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&kind.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// The header of a file.
pub fn header() -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let (magic, versions) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    versions[..2].copy_from_slice(&MAJOR.to_le_bytes());
    versions[2..4].copy_from_slice(&MINOR.to_le_bytes());
    header
}

/// What comes before a payload.
pub fn block_head(kind: Kind, payload: &[u8]) -> [u8; BLOCK_HEAD] {
    let kind = kind as u32;
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut head = [0; BLOCK_HEAD];
    for (part, number) in head
        .chunks_exact_mut(4)
        .zip([kind, length, checksum(kind, payload)])
    {
        part.copy_from_slice(&number.to_le_bytes());
    }
    head
}

/// The run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// memtrace's version.
    pub version: String,
    /// What the kernel calls itself.
    pub kernel: String,
    /// The processor, as Rust calls it.
    pub architecture: String,
    /// By which mechanism probes were placed; absent before format 1.1.
    #[serde(default)]
    pub mechanism: Option<String>,
    /// Nanoseconds since 1970.
    pub wall_clock_ns: u64,
    /// The same moment on the events' clock.
    pub monotonic_ns: u64,
    /// When the last probe was in place, on the events' clock.
    pub started_ns: u64,
    /// Mean bytes between samples; 0: everything was taken in.
    pub sample_bytes: u64,
    /// Whether mmap and its like are traced.
    pub mappings: bool,
    /// The one allocator that is traced; absent: all known.
    #[serde(default)]
    pub allocator: Option<String>,
    /// What the run's own report shows.
    #[serde(default)]
    pub shown: Shown,
}

/// What of a run a report shows, as asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Which allocations count.
    pub filter: Filter,
    /// Order of the stacks.
    pub order: Order,
    /// How many stacks; 0: all; absent: it depends on the format.
    pub top: Option<usize>,
}

impl Shown {
    /// The choice, where `usual` is how many stacks the format shows.
    pub fn choice(&self, usual: usize) -> Choice {
        Choice {
            filter: self.filter,
            order: self.order,
            top: match self.top {
                None => usual,
                Some(0) => usize::MAX,
                Some(top) => top,
            },
            ended: false,
        }
    }
}

/// A mapped file. They are numbered from 0 as they come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its number.
    pub id: u32,
    /// What is known of it.
    #[serde(flatten)]
    pub module: RecordedModule,
}

/// A process. They are numbered from 0 as they come; ids may be reused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub index: usize,
    /// Process id.
    pub pid: u32,
    /// Its id in its own namespace, where that is another.
    #[serde(default)]
    pub namespace_pid: Option<u32>,
    /// The traced process that it is a child of, if it was followed.
    pub parent: Option<u32>,
    /// Clock ticks after boot when it started.
    pub start_time: u64,
    /// The kernel's name for it.
    pub comm: String,
    /// Path of its executable.
    pub exe: String,
    /// Whether it has ended.
    pub exited: bool,
    /// For each file with allocation functions: its name and theirs.
    pub allocators: Vec<(String, Vec<String>)>,
    /// What of its allocations is not seen, in sentences.
    pub missing: Vec<String>,
    /// What else a reader should know, in sentences.
    pub remarks: Vec<String>,
    /// Mappings of code: start, end, address in memory less ELF virtual
    /// address, number of the module.
    pub mapped: Vec<(u64, u64, u64, u32)>,
}

/// How far it has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The moment, on the events' clock.
    pub now_ns: u64,
    /// What the kernel side lost until then.
    pub losses: Losses,
}

/// What code in one module is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The module's number.
    pub module: u32,
    /// What could not be read of it.
    pub warnings: Vec<String>,
    /// By return address (ELF virtual): the innermost inlined function first.
    pub addresses: Vec<(u64, Vec<Symbol>)>,
}
