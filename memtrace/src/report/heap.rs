//! The model of a heap report (`memtrace.heap.v1`): what every renderer draws.
use serde::{Deserialize, Serialize};

use super::{Document, Format, folded, html, pinned::PinnedHeap, pprof, svg, text};

/// Names the document's version.
pub const SCHEMA: &str = "memtrace.heap.v1";

impl Document for HeapReport {
    const FORMATS: &'static [Format<Self>] = &[
        Format::text(text::render),
        Format::JSON,
        Format::folded(|report, _, out| folded::render(report, out)),
        Format::svg(|report, _, out| svg::render(report, out)),
        Format {
            name: "html",
            extension: "html",
            render: |report, _, out| html::render(report, out),
        },
        Format {
            name: "pprof",
            extension: "pb.gz",
            render: |report, _, out| pprof::render(report, out),
        },
    ];
}

/// Outstanding allocations of one or more processes. Sizes in bytes, times in
/// nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeapReport {
    /// [`SCHEMA`].
    pub schema: String,
    /// From the first probe's attachment to this report.
    pub duration_ns: u64,
    /// Whether every allocation was seen: nothing sampled, nothing lost.
    pub exact: bool,
    /// Events that were dropped, for any reason.
    pub lost_events: u64,
    /// Mean sampling distance; 0: every allocation.
    pub sample_bytes: u64,
    /// Why `exact` is false, and what else a reader must know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The traced processes.
    pub processes: Vec<Process>,
    /// Sums over all stacks, also those that `--top` cut off.
    pub totals: Totals,
    /// Stacks there are in all; `stacks` may hold fewer.
    #[serde(default)]
    pub stacks_total: u64,
    /// Sorted as asked for, most first.
    pub stacks: Vec<Stack>,
    /// Where, when and how this was traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// How much was outstanding when, by time; also of what no filter of this
    /// report lets through. At most 256 moments.
    #[serde(default)]
    pub timeline: Vec<Moment>,
    /// What is outstanding, by age.
    #[serde(default)]
    pub ages: Vec<AgeClass>,
    /// What is outstanding, by size of the single block or mapping.
    #[serde(default)]
    pub sizes: Vec<SizeClass>,
    /// The files that frames are in.
    #[serde(default)]
    pub modules: Vec<Module>,
    /// What keeps the processes' glibc heaps from shrinking, and who allocated
    /// that (`--heap-walk`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heap_walk: Vec<PinnedHeap>,
}

/// Where, when and how was traced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of memtrace.
    pub memtrace: String,
    /// What the kernel calls itself.
    pub kernel: String,
    /// The processor, as Rust calls it.
    pub architecture: String,
    /// By which mechanism probes were placed; null where a capture does not say.
    pub mechanism: Option<String>,
    /// When tracing began, nanoseconds since 1970.
    pub began_unix_ns: u64,
}

/// What was outstanding at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Since tracing began.
    pub time_ns: u64,
    /// Outstanding then.
    pub bytes: u64,
    /// Outstanding then.
    pub count: u64,
    /// The most since the moment before.
    pub peak_bytes: u64,
}

/// Outstanding blocks and mappings of like age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeClass {
    /// Of this age at least.
    pub min_ns: u64,
    /// Of this age at most.
    pub max_ns: u64,
    /// Outstanding.
    pub bytes: u64,
    /// Outstanding.
    pub count: u64,
}

/// Outstanding blocks and mappings of like size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeClass {
    /// Of so many bytes at least.
    pub min: u64,
    /// Of so many bytes at most.
    pub max: u64,
    /// Outstanding.
    pub bytes: u64,
    /// Outstanding.
    pub count: u64,
}

/// A file with code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// As frames name it.
    pub path: String,
    /// The linker's hash of its contents, in hexadecimal digits; null where it
    /// has none.
    pub build_id: Option<String>,
    /// ELF virtual address of its code, `"0x…"`; null where that is not known.
    pub code_vaddr: Option<String>,
    /// File offset of its code.
    pub code_offset: Option<u64>,
    /// Bytes of its code.
    pub code_size: Option<u64>,
}

impl HeapReport {
    /// The name of a process of this report.
    pub(super) fn comm(&self, pid: u32) -> &str {
        let mut processes = self.processes.iter();
        let process = processes.find(|process| process.pid == pid);
        process.map_or("?", |process| &process.comm)
    }
}

/// A traced process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// In the namespace of memtrace.
    pub pid: u32,
    /// Its id in its own namespace (a container); null where that is the same.
    #[serde(default)]
    pub namespace_pid: Option<u32>,
    /// The traced process that it is a child of; null where it was asked for
    /// itself.
    #[serde(default)]
    pub parent: Option<u32>,
    /// The kernel's name for it, 15 bytes at most.
    pub comm: String,
    /// Path of its executable.
    pub exe: String,
    /// Whether it has ended.
    pub exited: bool,
    /// The allocators found: for each file the functions probed in it.
    #[serde(default)]
    pub allocators: Vec<String>,
}

/// Sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Allocated since the start and not freed.
    pub outstanding_bytes: u64,
    /// Blocks and mappings.
    pub outstanding_count: u64,
    /// Of `outstanding_bytes`, mapped by `mmap` and `mremap`.
    #[serde(default)]
    pub outstanding_mapping_bytes: u64,
    /// Ever allocated.
    pub allocated_bytes: u64,
    /// Ever allocated.
    pub allocated_count: u64,
    /// Freed, of those that were seen being allocated.
    pub freed_bytes: u64,
    /// Freed, of those that were seen being allocated.
    pub freed_count: u64,
    /// Frees of blocks from before the trace.
    pub unmatched_frees: u64,
    /// Of `outstanding_bytes`, allocated before an event was lost last: the
    /// free may have been that event.
    #[serde(default)]
    pub doubtful_bytes: u64,
    /// The same of `outstanding_count`.
    #[serde(default)]
    pub doubtful_count: u64,
}

/// What an allocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A block of an allocator.
    Heap,
    /// Pages mapped by the program itself.
    Mapping,
}

/// One allocation site: all allocations of one process by one function from
/// one call stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    /// Whose.
    pub pid: u32,
    /// Block or mapping.
    pub kind: Kind,
    /// The allocation function called.
    pub function: String,
    /// Outstanding.
    pub bytes: u64,
    /// Outstanding.
    pub count: u64,
    /// Ever.
    pub allocated_bytes: u64,
    /// Ever.
    pub allocated_count: u64,
    /// Of `bytes`, allocated before an event was lost last.
    #[serde(default)]
    pub doubtful_bytes: u64,
    /// Of `count`, allocated before an event was lost last.
    #[serde(default)]
    pub doubtful_count: u64,
    /// Age of the oldest outstanding allocation, to about a millisecond, at
    /// least 1; 0 where there is none.
    pub oldest_ns: u64,
    /// Age of the youngest outstanding allocation; 0 where there is none.
    pub newest_ns: u64,
    /// What is outstanding, by age.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ages: Vec<AgeClass>,
    /// Whether the stack was cut before its outermost frame.
    pub truncated: bool,
    /// Innermost first; the first is the caller of `function`. A call site
    /// with inlined functions has a frame for each, marked `inlined`.
    pub frames: Vec<Frame>,
}

/// One frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The return address, `"0x…"`.
    pub ip: String,
    /// Demangled name; null where none is known.
    pub symbol: Option<String>,
    /// Path of the file that is mapped there.
    pub module: Option<String>,
    /// ELF virtual address in `module` of the return address, `"0x…"`.
    pub offset: Option<String>,
    /// Source file, where there is debug information.
    pub file: Option<String>,
    /// Source line.
    pub line: Option<u32>,
    /// Whether this function was inlined into the next frame's.
    pub inlined: bool,
}
