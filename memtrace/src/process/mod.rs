//! Processes as `/proc` shows them: who they are, whether they can be traced,
//! and which files they have mapped. The root of `/proc` is a parameter.
pub mod follow;
pub mod launch;
pub mod memory;
pub mod modules;
mod read;
pub mod stop;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

pub use modules::{Module, ModuleId, Modules};
pub use read::Map;
#[cfg(fuzzing)]
pub use read::fuzzing;

/// `PF_KTHREAD` (include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

/// One process. Ids are reused: a process is its id and its start time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Process id, in the namespace of `/proc`.
    pub pid: u32,
    /// Its id in its own namespace (a container), where that is another.
    pub namespace_pid: Option<u32>,
    /// Clock ticks after boot when it started.
    pub start_time: u64,
    /// The kernel's name for it.
    pub comm: String,
    /// Path of its executable, as the process sees it.
    pub exe: PathBuf,
}

/// Why a process cannot be traced.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// There is none.
    #[error(
        "no process with pid {pid}: it has ended or never was (`ps -p {pid}` shows it if it is there)"
    )]
    NotFound {
        /// The id asked for.
        pid: u32,
    },
    /// It has ended and waits for its parent.
    #[error(
        "process {pid} ({comm}) has already ended and waits for its parent (a zombie): its memory is gone"
    )]
    Zombie {
        /// The id asked for.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// It has no user memory.
    #[error("process {pid} ({comm}) is a kernel thread: it has no heap of its own to trace")]
    KernelThread {
        /// The id asked for.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// The id is a thread's.
    #[error("{tid} is a thread of process {pid} ({comm}): trace the process, with `-p {pid}`")]
    IsThread {
        /// The id asked for.
        tid: u32,
        /// The process it belongs to.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// It belongs to somebody else.
    #[error(
        "not permitted to look into process {pid}: run as root (sudo), or grant the program CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH (`sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep memtrace`)"
    )]
    NotPermitted {
        /// The process.
        pid: u32,
    },
    /// A debugger holds it.
    #[error(
        "cannot follow the children of process {pid}: process {tracer} traces it already (a debugger or strace); end that, or leave --children out"
    )]
    Traced {
        /// The process.
        pid: u32,
        /// Who traces it.
        tracer: u32,
    },
    /// A debugger holds it.
    #[error(
        "cannot stop process {pid}: process {tracer} traces it already (a debugger or strace); end that, or leave --stop out"
    )]
    Held {
        /// The process.
        pid: u32,
        /// Who traces it.
        tracer: u32,
    },
    /// A thread does not stop when it is told to.
    #[error(
        "cannot stop process {pid}: its thread {thread} sleeps in the kernel where nothing wakes it (state D in `ps -L -p {pid}`); try again, or leave --stop out"
    )]
    Asleep {
        /// The process.
        pid: u32,
        /// The thread.
        thread: u32,
    },
    /// `/proc` could not be read.
    #[error("cannot read /proc/{pid}: {source}")]
    Proc {
        /// The process.
        pid: u32,
        /// Why not.
        source: io::Error,
    },
}

impl Target {
    /// Looks the process up and makes sure that it has memory to trace.
    pub fn find(proc_root: &Path, pid: u32) -> Result<Self, ProcessError> {
        let failed = |source| failed(pid, source);
        let stat = read::stat(proc_root, pid).map_err(failed)?;
        let comm = stat.comm.clone();
        let tgid = read::status_numbers(proc_root, pid, "Tgid").map_err(failed)?;
        if let Some(tgid) = tgid.first().filter(|tgid| **tgid != pid) {
            return Err(ProcessError::IsThread {
                tid: pid,
                pid: *tgid,
                comm,
            });
        }
        if stat.is_dead() {
            return Err(ProcessError::Zombie { pid, comm });
        }
        if stat.flags & PF_KTHREAD != 0 {
            return Err(ProcessError::KernelThread { pid, comm });
        }
        let link = proc_root.join(format!("{pid}/exe"));
        let exe = fs::read_link(link).unwrap_or_else(|_| PathBuf::from(&comm));
        let start_time = stat.start_time;
        // From the outermost namespace to the innermost.
        let ids = read::status_numbers(proc_root, pid, "NSpid").unwrap_or_default();
        Ok(Self {
            pid,
            namespace_pid: ids.last().copied().filter(|inner| *inner != pid),
            start_time,
            comm,
            exe,
        })
    }

    /// Whether it is still the same process, and runs.
    pub fn is_alive(&self, proc_root: &Path) -> bool {
        read::stat(proc_root, self.pid)
            .is_ok_and(|now| now.start_time == self.start_time && !now.is_dead())
    }
}

/// What a process has mapped, by address.
///
/// # Errors
/// The process is gone or somebody else's, or `/proc` cannot be read.
pub fn maps(proc_root: &Path, pid: u32) -> Result<Vec<Map>, ProcessError> {
    read::maps(proc_root, pid).map_err(|source| failed(pid, source))
}

/// The end of the page that a process's program break is in; 0 where that is
/// not known.
pub fn program_break(proc_root: &Path, pid: u32) -> u64 {
    let maps = read::maps(proc_root, pid).unwrap_or_default();
    let heaps = maps.iter().filter(|map| map.is_heap());
    heaps.map(|map| map.end).max().unwrap_or_else(|| {
        // There is no heap yet.
        let start = read::stat(proc_root, pid).map_or(0, |stat| stat.heap_start);
        start.next_multiple_of(4096)
    })
}

/// Reads the lines of a `maps` file.
///
/// # Errors
/// A line is none.
pub fn parse_maps(bytes: &[u8]) -> io::Result<Vec<Map>> {
    read::parse_maps(bytes)
}

/// A process at a glance: what one small file says, readable by anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Process id.
    pub pid: u32,
    /// Clock ticks after boot when it started: together with the id, who it is.
    pub start_time: u64,
    /// The kernel's name for it.
    pub comm: String,
    /// Resident pages.
    pub resident: u64,
}

/// All processes that have memory of their own, one file each.
///
/// # Errors
/// `/proc` itself cannot be read.
pub fn glance_at_all(proc_root: &Path) -> io::Result<Vec<Glance>> {
    let names = fs::read_dir(proc_root)?
        .flatten()
        .map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse().ok());
    // What has ended meanwhile is left out, like threads of the kernel.
    Ok(pids
        .filter_map(|pid| {
            let stat = read::stat(proc_root, pid).ok()?;
            let has_memory = !stat.is_dead() && stat.flags & PF_KTHREAD == 0;
            has_memory.then_some(Glance {
                pid,
                start_time: stat.start_time,
                comm: stat.comm,
                resident: stat.resident,
            })
        })
        .collect())
}

/// The ids of a process's threads.
///
/// # Errors
/// The process is gone, or `/proc` cannot be read.
pub fn threads(proc_root: &Path, pid: u32) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(proc_root.join(format!("{pid}/task")))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect())
}

impl read::Stat {
    /// Whether all of it has ended. A process whose first thread has ended
    /// looks like a zombie, but has other threads.
    fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }
}

fn failed(pid: u32, source: io::Error) -> ProcessError {
    match source.kind() {
        io::ErrorKind::NotFound => ProcessError::NotFound { pid },
        // The system call's answer for a process that ended while it was read.
        _ if source.raw_os_error() == Some(nix::libc::ESRCH) => ProcessError::NotFound { pid },
        io::ErrorKind::PermissionDenied => ProcessError::NotPermitted { pid },
        _ => ProcessError::Proc { pid, source },
    }
}
