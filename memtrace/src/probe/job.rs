//! The jobs that the eBPF object does, and what of it each needs.
use super::{
    growth::CALL_PROGRAM,
    plan::{MODULES_PROGRAM, RETURN_PROGRAM},
};

/// A job that the object does, with programs and maps of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Outstanding allocations.
    Heap,
    /// What grows; the programs at its hooks are loaded one by one, as
    /// candidates.
    Growth,
}

/// The programs that each job needs.
const PROGRAMS: &[(Job, &[&str])] = &[
    (
        Job::Heap,
        &[
            "allocate_enter",
            "reallocate_enter",
            "free_enter",
            "unmap_enter",
            RETURN_PROGRAM,
            MODULES_PROGRAM,
            "thread_exit",
            "process_exec",
        ],
    ),
    (
        Job::Growth,
        &[CALL_PROGRAM, MODULES_PROGRAM, "thread_exit", "process_exec"],
    ),
];

/// Elements of maps that only one job needs room in, and how many.
pub(super) const MAPS: &[(Job, &str, u32)] = &[
    (Job::Heap, "SAMPLED", 1 << 21),
    (Job::Growth, "GROWTH", 1 << 16),
];

/// Maps that a job's programs of perf events use, where those take none but with
/// all elements laid out in advance; and how many elements then. A thread's state has
/// 18 KB: 37 MB in all.
pub(super) const LAID_OUT: &[(Job, &str, u32)] = &[(Job::Growth, "THREADS", 1 << 11)];

impl Job {
    /// Whether a program is loaded with the object for it.
    pub(super) fn needs(self, program: &str) -> bool {
        PROGRAMS
            .iter()
            .any(|(job, names)| *job == self && names.contains(&program))
    }
}
