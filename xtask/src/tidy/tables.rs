//! What the rules of `tidy` are told. Changing a row is a decision: say why in
//! its reason.

/// Not part of the repository.
pub(super) const UNTRACKED: &[&str] = &[
    ".git",
    "target",
    "memtrace-ebpf/target",
    "fuzz/target",
    "fuzz/corpus",
    "fuzz/artifacts",
];

/// The modules of memtrace in the order in which data flows. A module knows
/// those before it and none after it.
pub(super) const FLOW: &[&str] = &[
    "unit", "sampling", "finding", "kernel", "elf", "process", "meminfo", "pages", "heapwalk",
    "growth", "probe", "event", "stack", "live", "symbol", "oom", "report", "trace", "capture",
    "session", "tui", "cli",
];

/// Modules that are not in the flow.
pub(super) const OUTSIDE_FLOW: &[&str] = &["lib", "main"];

/// Files that may name a later module, which one, and why.
pub(super) const BACKWARD: &[(&str, &str, &str)] = &[];

/// Modules that do no I/O and read no clock: a capture drives them.
pub(super) const PURE: &[&str] = &["heapwalk", "live", "stack", "report", "trace"];

/// The same of places within other modules.
pub(super) const PURE_PLACES: &[&str] = &[
    "memtrace/src/tui/keys.rs",
    "memtrace/src/tui/model/",
    "memtrace/src/tui/views/",
];

/// What those must not name.
pub(super) const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::env",
    "SystemTime::now",
    "Instant::now",
    "println!",
    "print!(",
];

/// Files with `unsafe` blocks, functions or implementations, how many, and why.
/// The number must be exact, so that a table never allows more than there is.
pub(super) const UNSAFE: &[(&str, usize, &str)] = &[
    (
        "memtrace/src/probe/pod.rs",
        1,
        "aya reads types that zerocopy proved to be plain bytes",
    ),
    (
        "memtrace/src/probe/multi.rs",
        6,
        "the bpf system call for uprobe-multi, which aya 0.14 does not make",
    ),
    (
        "memtrace/src/probe/object.rs",
        1,
        "aya cannot know that a loaded program is one for uprobes",
    ),
    (
        "memtrace/src/process/follow.rs",
        1,
        "PTRACE_LISTEN, which nix does not have",
    ),
    ("memtrace-ebpf/src/admit.rs", 1, "a helper: random numbers"),
    (
        "memtrace-ebpf/src/arch.rs",
        3,
        "registers of contexts and of the kernel; a helper",
    ),
    ("memtrace-ebpf/src/probe.rs", 4, "helpers, map lookups"),
    (
        "memtrace-ebpf/src/cache.rs",
        2,
        "remembered walks live in map memory that all CPUs share; a helper",
    ),
    (
        "memtrace-ebpf/src/count.rs",
        3,
        "an atomic add on a map's memory",
    ),
    (
        "memtrace-ebpf/src/heap.rs",
        1,
        "a helper reads what posix_memalign wrote",
    ),
    (
        "memtrace/src/probe/pages/frames.rs",
        4,
        "the table of page frames, which the kernel shares as memory",
    ),
    ("memtrace-ebpf/src/frames.rs", 3, "the table's memory"),
    (
        "memtrace-ebpf/src/origin.rs",
        8,
        "helpers, map lookups, maps' memory",
    ),
    (
        "memtrace-ebpf/src/recall.rs",
        9,
        "the frame's address, a helper, maps' memory",
    ),
    ("memtrace-ebpf/src/pages.rs", 7, "helpers, maps' memory"),
    ("memtrace-ebpf/src/growth.rs", 5, "helpers, maps' memory"),
    (
        "memtrace-ebpf/src/oom.rs",
        9,
        "the record in the ring buffer; helpers that read the kernel's memory",
    ),
    (
        "memtrace-ebpf/src/retry.rs",
        4,
        "the thread's own entry of a map; helpers that read the kernel's memory",
    ),
    (
        "memtrace-ebpf/src/copy.rs",
        1,
        "a helper: sends memory of the thread's state",
    ),
    ("memtrace-ebpf/src/process.rs", 1, "a map lookup"),
    ("memtrace-ebpf/src/ring.rs", 1, "a helper: the clock"),
    (
        "memtrace-ebpf/src/hidden.rs",
        2,
        "helpers: the current task, kernel memory",
    ),
    ("memtrace-ebpf/src/stack.rs", 6, "helpers, a map lookup"),
    (
        "memtrace-ebpf/src/thread.rs",
        2,
        "a map's memory as a reference; a helper",
    ),
    (
        "memtrace-ebpf/src/unwind.rs",
        2,
        "a map lookup; a volatile read for the verifier",
    ),
];

/// Rust files that need not start with `//!`.
pub(super) const NO_PURPOSE: &[&str] = &[];

/// Lines that a file may have.
pub(super) const MAXIMUM_LINES: usize = 400;

/// Rust files that may be longer, and why.
pub(super) const LONG: &[(&str, &str)] = &[];

/// Where knowledge of kernels belongs.
pub(super) const KERNEL_PLACES: &[&str] = &[
    "memtrace/src/kernel/",
    "memtrace/src/probe/",
    "memtrace-ebpf/",
];

/// Words of such knowledge: tracepoints, and where versions come from.
pub(super) const KERNEL_WORDS: &[&str] = &[
    "\"sched_process_",
    "\"sys_enter",
    "\"mm_page_",
    "\"mm_vmscan_",
    "\"mark_victim",
    "\"signal_generate",
    "kallsyms",
    "uname(",
    "/sys/kernel/btf",
    "/sys/kernel/tracing",
    "osrelease",
];

/// What no file may hold, and why. In parts, since this file is one too.
pub(super) const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/fa", "rm/"), "a path of one machine"),
    (concat!("deb.deb", "ian.org"), "a registry's host"),
    (concat!("index.crates", ".io"), "a registry's host"),
    (concat!("static.crates", ".io"), "a registry's host"),
    (concat!("py", "pi.org"), "a registry's host"),
    (concat!("pythonhos", "ted.org"), "a registry's host"),
    (concat!("registry.npm", "js.org"), "a registry's host"),
];
