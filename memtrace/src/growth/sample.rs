//! One look at a process's memory, and how its files in `/proc` are read.
use serde::{Deserialize, Serialize};

use crate::process::Map;

/// What a mapping is for. The order is that of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Below the program break.
    Heap,
    /// Anonymous memory: what allocators and programs map.
    Anonymous,
    /// Anonymous address space that may not be touched: allocators reserve it
    /// and make it accessible piece by piece.
    Reserved,
    /// The stack of the first thread. Other threads' stacks are anonymous.
    Stack,
    /// Files.
    File,
    /// Shared memory: tmpfs, memfd, System V segments, shared anonymous.
    Shared,
    /// What the kernel puts there.
    Special,
}

impl Kind {
    /// All of them, in this order.
    pub const ALL: [Self; 7] = [
        Self::Heap,
        Self::Anonymous,
        Self::Reserved,
        Self::Stack,
        Self::File,
        Self::Shared,
        Self::Special,
    ];

    /// What people read.
    pub fn label(self) -> &'static str {
        match self {
            Self::Heap => "heap (brk)",
            Self::Anonymous => "anonymous",
            Self::Reserved => "reserved",
            Self::Stack => "stack",
            Self::File => "files",
            Self::Shared => "shared memory",
            Self::Special => "special",
        }
    }

    /// What a mapping is for, by its path and permissions.
    pub fn of(map: &Map) -> Self {
        let path = map.path.to_string_lossy();
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
        if map.is_heap() {
            Self::Heap
        } else if starts(&["[stack"]) {
            Self::Stack
        } else if path.is_empty() || starts(&["[heap]", "[anon:", "[anon_shmem:"]) {
            match (map.is_accessible(), map.shared) {
                (_, true) => Self::Shared,
                (true, _) => Self::Anonymous,
                (false, _) => Self::Reserved,
            }
        } else if starts(&["["]) {
            Self::Special
        // Private mappings of /dev/zero are anonymous memory by another name.
        } else if starts(&["/dev/zero"]) && !map.shared {
            Self::Anonymous
        } else if starts(&["/dev/shm/", "/memfd:", "/SYSV", "/dev/zero"]) {
            Self::Shared
        } else {
            Self::File
        }
    }
}

/// How much there is of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Address space.
    pub bytes: u64,
    /// Lines of `maps`.
    pub mappings: u64,
}

/// Sums of a process's mappings, in the order of [`Kind::ALL`].
pub(super) fn sizes(maps: &[Map]) -> [Size; Kind::ALL.len()] {
    let mut sizes = [Size::default(); Kind::ALL.len()];
    for map in maps {
        let size = &mut sizes[Kind::of(map) as usize];
        size.bytes = size.bytes.saturating_add(map.end.saturating_sub(map.start));
        size.mappings += 1;
    }
    sizes
}

/// What the kernel says of the pages of a process, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Resident.
    pub rss: u64,
    /// Of these, anonymous.
    pub anonymous: u64,
    /// Pages of files.
    pub file: u64,
    /// Pages of shared memory.
    pub shared: u64,
    /// Swapped out.
    pub swap: u64,
}

/// One look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When, nanoseconds on the monotonic clock.
    pub time_ns: u64,
    /// Its pages.
    pub reading: Reading,
    /// Its mappings, where they may be read and were.
    pub sizes: Option<[Size; Kind::ALL.len()]>,
}

impl Sample {
    /// How much of a kind is mapped.
    pub fn size(&self, kind: Kind) -> Option<Size> {
        self.sizes.map(|sizes| sizes[kind as usize])
    }

    /// What it holds: resident or swapped out. Swapping is no shrinking.
    pub fn held(&self) -> u64 {
        self.reading.rss.saturating_add(self.reading.swap)
    }
}

/// The value behind a key of `status` or `smaps_rollup`, which is in KiB, in
/// bytes.
pub(super) fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

/// Reads `status`; `None`: the process has no memory (any more).
pub(super) fn status(text: &str) -> Option<Reading> {
    let of = |key| kib(text, key).unwrap_or(0);
    Some(Reading {
        rss: kib(text, "VmRSS")?,
        anonymous: of("RssAnon"),
        file: of("RssFile"),
        shared: of("RssShmem"),
        swap: of("VmSwap"),
    })
}
