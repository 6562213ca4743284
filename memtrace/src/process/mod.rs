//! Processes as `/proc` shows them: who they are, whether they can be traced,
//! and which files they have mapped. The root of `/proc` is a parameter.
pub mod launch;
pub mod modules;

use std::path::{Path, PathBuf};

use procfs::{
    ProcError,
    process::{Process, StatFlags},
};
use thiserror::Error;

pub use modules::{Module, ModuleId, Modules};

/// One process. Ids are reused: a process is its id and its start time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Process id, in the namespace of `/proc`.
    pub pid: u32,
    /// Clock ticks after boot when it started.
    pub start_time: u64,
    /// The kernel's name for it.
    pub comm: String,
    /// Path of its executable, as the process sees it.
    pub exe: PathBuf,
    /// Its ids from this namespace inwards; one where it is in no other.
    pub namespace_pids: Vec<u32>,
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
    /// `/proc` could not be read.
    #[error("cannot read /proc/{pid}: {source}")]
    Proc {
        /// The process.
        pid: u32,
        /// What procfs says.
        source: ProcError,
    },
}

impl Target {
    /// Looks the process up and makes sure that it has memory to trace.
    pub fn find(proc_root: &Path, pid: u32) -> Result<Self, ProcessError> {
        let process = open(proc_root, pid)?;
        let stat = process.stat().map_err(|source| failed(pid, source))?;
        let status = process.status().map_err(|source| failed(pid, source))?;
        let comm = stat.comm.clone();
        let tgid = status.tgid.unsigned_abs();
        if tgid != pid {
            return Err(ProcessError::IsThread {
                tid: pid,
                pid: tgid,
                comm,
            });
        }
        if stat.state == 'Z' || stat.state == 'X' {
            return Err(ProcessError::Zombie { pid, comm });
        }
        if stat.flags & StatFlags::PF_KTHREAD.bits() != 0 {
            return Err(ProcessError::KernelThread { pid, comm });
        }
        let exe = process.exe().unwrap_or_else(|_| PathBuf::from(&comm));
        let namespace_pids = status
            .nspid
            .unwrap_or_else(|| vec![stat.pid])
            .iter()
            .map(|pid| pid.unsigned_abs())
            .collect();
        Ok(Self {
            pid,
            start_time: stat.starttime,
            comm,
            exe,
            namespace_pids,
        })
    }

    /// Whether it is still the same process, and runs.
    pub fn is_alive(&self, proc_root: &Path) -> bool {
        Self::find(proc_root, self.pid).is_ok_and(|now| now.start_time == self.start_time)
    }
}

fn open(proc_root: &Path, pid: u32) -> Result<Process, ProcessError> {
    Process::new_with_root(proc_root.join(pid.to_string())).map_err(|source| failed(pid, source))
}

fn failed(pid: u32, source: ProcError) -> ProcessError {
    match source {
        ProcError::NotFound(_) => ProcessError::NotFound { pid },
        ProcError::PermissionDenied(_) => ProcessError::NotPermitted { pid },
        source => ProcessError::Proc { pid, source },
    }
}
