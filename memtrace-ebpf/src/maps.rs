//! Every map, with who writes it, who reads it, and what full means.
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};
use memtrace_common::{
    cookie::ProcessAddress,
    counter::COUNTERS as COUNTER_SLOTS,
    growth::{GrowthKey, GrowthSum},
    oom::{COMM, Request, Retry},
    pages::{CHUNK, SUMS, Samples},
    sampling::STEPS,
    unwind::{Mapping, ProcessMappings, RowChunk},
};

use crate::{
    cache::{Entry, INDEX_BITS},
    origin::{LEVELS, Scratch},
    recall::Walk,
    thread::Thread,
};

/// Kernel → user: all records, in one total order. Full: `RingFull`. User
/// space sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Kernel → user: [`memtrace_common::Counter`].
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_SLOTS, 0);

/// Kernel → user: when an event was lost last, on the events' clock; 0: never.
#[map]
pub static LAST_LOSS: Array<u64> = Array::with_max_entries(1, 0);

/// Kernel → user: enters (even) and returns (odd) of each
/// [`memtrace_common::Function`], at twice its number.
#[map]
pub static CALLS: PerCpuArray<u64> = PerCpuArray::with_max_entries(256, 0);

/// Kernel only: the state of each thread that called a traced function,
/// removed when it ends. Full: `ThreadsFull`.
#[map]
pub static THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// Never written: see [`crate::probe::keep_kernel_stack`].
#[map]
pub static NO_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Never written: what a new element of [`THREADS`] starts as.
#[map]
pub static NEW_THREAD: Array<Thread> = Array::with_max_entries(1, 0);

/// Kernel only: hashes of the stacks already sent. Evicts the stack that was
/// not used for longest, which is then sent once more.
#[map]
pub static STACKS_SEEN: LruHashMap<u64, u8> = LruHashMap::with_max_entries(1 << 17, 0);

/// Kernel only: recent walks by a hash of where they began; see
/// [`crate::cache`].
#[map]
pub static WALKS: Array<Entry> = Array::with_max_entries(1 << INDEX_BITS, 0);

/// User → kernel: traced processes, and where their mappings are.
#[map]
pub static PROCESSES: HashMap<u32, ProcessMappings> = HashMap::with_max_entries(4096, 0);

/// User → kernel: the executable mappings of all processes.
#[map]
pub static MAPPINGS: Array<Mapping> = Array::with_max_entries(1 << 16, 0);

/// User → kernel: the unwind rows of all modules. User space sets the size.
#[map]
pub static ROWS: Array<RowChunk> = Array::with_max_entries(1, 0);

/// User → kernel: the cookie of each probed address, before Linux 5.15.
#[map]
pub static COOKIES: HashMap<ProcessAddress, u64> =
    HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// User → kernel: e^(−i / 16) of [`memtrace_common::sampling::CERTAIN`].
#[map]
pub static MISSED: Array<u64> = Array::with_max_entries(STEPS as u32, 0);

/// Kernel only: the sampled blocks that are outstanding, so that the others'
/// frees cost no event. Full: `SampledFull`.
#[map]
pub static SAMPLED: HashMap<ProcessAddress, u8> =
    HashMap::with_max_entries(1 << 21, BPF_F_NO_PREALLOC);

/// Kernel only: the last request of each thread that had to reclaim memory, or
/// that is about to kill. Evicts the oldest.
#[map]
pub static OOM_REQUESTS: LruHashMap<u32, Request> = LruHashMap::with_max_entries(4096, 0);

/// Kernel only: how reclaim goes for each thread that has trouble with it.
/// Evicts the oldest.
#[map]
pub static OOM_RETRIES: LruHashMap<u32, Retry> = LruHashMap::with_max_entries(1024, 0);

/// Kernel → user: what grew, by process, way and stack. Full: `SumsFull`. User
/// space sets the size. With its memory laid out in advance: before Linux 6.1
/// programs of perf events take no other.
#[map]
pub static GROWTH: HashMap<GrowthKey, GrowthSum> = HashMap::with_max_entries(1, 0);

/// User → kernel → kernel: where each traced process's program break is, at
/// the end of its page.
#[map]
pub static BREAKS: HashMap<u32, u64> = HashMap::with_max_entries(4096, 0);

/// Kernel → user: a word for each page frame of the sections that have a place.
/// User space sets the size, and reads it as memory.
#[map]
pub static PAGE_FRAMES: Array<[u64; CHUNK]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// User → kernel: for each section of page frames one more than its place in
/// [`PAGE_FRAMES`]; 0: it has none. User space sets the size.
#[map]
pub static PAGE_SECTIONS: Array<u32> = Array::with_max_entries(1, 0);

/// Kernel only: the hash of each origin by its id. User space sets the size.
/// Full: `NoOrigin`. With its memory laid out in advance: programs that watch
/// the page allocator must not call it.
#[map]
pub static PAGE_ORIGINS: HashMap<u32, u64> = HashMap::with_max_entries(1, 0);

/// Kernel only: where an origin is put together, one for each level of interrupts.
#[map]
pub static PAGE_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(LEVELS, 0);

/// Kernel only: recent walks of kernel stacks, by where they began; see
/// [`crate::recall`]. User space sets the size.
#[map]
pub static PAGE_WALKS: PerCpuArray<Walk> = PerCpuArray::with_max_entries(1, 0);

/// Kernel only: how many programs are at work on [`PAGE_SCRATCH`].
#[map]
pub static PAGE_LEVEL: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Kernel only: the pages that the first programs saw last; see [`crate::pages`].
#[map]
pub static PAGE_SEEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

/// Kernel → user: [`memtrace_common::pages::Sum`].
#[map]
pub static PAGE_SUMS: PerCpuArray<u64> = PerCpuArray::with_max_entries(SUMS, 0);

/// Kernel → user: names of processes that have ended. Evicts the oldest. User
/// space sets the size.
#[map]
pub static PAGE_EXITED: LruHashMap<u32, [u8; COMM]> = LruHashMap::with_max_entries(1, 0);

/// Kernel → user: see [`crate::pages`], `pages_sample`.
#[map]
pub static PAGE_SAMPLES: Array<Samples> = Array::with_max_entries(1, 0);
