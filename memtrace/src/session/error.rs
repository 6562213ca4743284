//! Why a run can fail.
use std::io;

use aya::{maps::MapError, programs::ProgramError};
use thiserror::Error;

use crate::{
    meminfo::ReadError,
    probe::{AttachError, LoadError},
    process::ProcessError,
};

/// Why a run could not begin.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The process cannot be traced.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The kernel side could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A probe could not be placed.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Process ids here are not those that the kernel side sees.
    #[error(
        "memtrace runs in a process namespace of its own (a container), where pids are not the kernel's: run it in the host's, for example with `docker run --pid=host` or outside the container"
    )]
    PidNamespace,
    /// No function to probe.
    #[error("process {pid} ({comm}) has no allocator that memtrace knows: {why}")]
    NoAllocator {
        /// Whose.
        pid: u32,
        /// Its name.
        comm: String,
        /// What was found instead, and what to do.
        why: String,
    },
    /// The file given by `--allocator` is not there.
    #[error(
        "process {pid} ({comm}) has not mapped {path} as code: `grep r-xp /proc/{pid}/maps` shows what it has"
    )]
    NotMapped {
        /// Whose.
        pid: u32,
        /// Its name.
        comm: String,
        /// The file.
        path: std::path::PathBuf,
    },
    /// The maps could not be filled.
    #[error("failed to tell the kernel side about process {pid}: {source}")]
    Map {
        /// Which.
        pid: u32,
        /// What aya says.
        source: MapError,
    },
    /// Page faults of a process could not be watched.
    #[error(
        "cannot watch the page faults of process {pid}: {source}; try `--faults tracepoint`, or `--faults off`"
    )]
    Faults {
        /// Whose.
        pid: u32,
        /// What aya says.
        source: ProgramError,
    },
    /// What was asked for by name does not work on this kernel.
    #[error(
        "this kernel cannot show {what} by `{name}`: {reason}; leave the option out, and the best way that there is here is taken"
    )]
    Mechanism {
        /// Of which events.
        what: &'static str,
        /// As the option takes it.
        name: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// The machine's memory size or the ring buffer could not be read.
    #[error("failed to {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The machine's memory could not be read.
    #[error(transparent)]
    Machine(ReadError),
}
