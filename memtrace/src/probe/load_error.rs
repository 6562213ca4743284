//! Why the eBPF object could not be loaded, in words that say what to do.
use std::io;

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use thiserror::Error;

/// Why the object could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The kernel wants more privileges.
    #[error(
        "the kernel refuses eBPF to this user ({source}): run as root (sudo), or grant the program CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH (`sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep memtrace`; before Linux 5.8: CAP_SYS_ADMIN)"
    )]
    NotPermitted {
        /// What the kernel said.
        source: io::Error,
    },
    /// No `bpf` system call, or no ring buffers.
    #[error(
        "this kernel has no {what} ({source}): memtrace needs Linux 5.8 or newer, built with CONFIG_BPF_SYSCALL, CONFIG_UPROBE_EVENTS and CONFIG_BPF_EVENTS"
    )]
    NoSupport {
        /// What is missing.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The verifier refused a program.
    #[error(
        "the kernel's verifier refuses the program {program}: {reason}; this is a bug in memtrace, please report it with the output of `uname -r` and of -vv"
    )]
    Refused {
        /// Which.
        program: String,
        /// The end of the verifier's log.
        reason: String,
    },
    /// Anything else.
    #[error("failed to load the eBPF object: {0}")]
    Object(#[from] EbpfError),
    /// A map is not there or not of its type: the object is not this build's.
    #[error("failed to open the eBPF map {name}: {source}")]
    Map {
        /// Which.
        name: &'static str,
        /// What aya says.
        source: MapError,
    },
    /// Which page frame a page is cannot be told.
    #[error(
        "cannot tell which page frame a page is: {reason}; --tracepoints classic needs not know it"
    )]
    NoMemoryMap {
        /// Why.
        reason: String,
    },
    /// Classic tracepoints are found there.
    #[error(
        "classic tracepoints need tracefs, which is not mounted: `mount -t tracefs tracefs /sys/kernel/tracing`"
    )]
    NoTracefs,
    /// A program could not be attached to its tracepoint.
    #[error("failed to attach {program}: {source}")]
    Tracepoint {
        /// Which.
        program: String,
        /// What aya says.
        source: ProgramError,
    },
}

pub(super) fn why_not_loaded(error: EbpfError) -> LoadError {
    let explained = match &error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => explain(
            io_error,
            if name == "EVENTS" {
                "BPF ring buffer"
            } else {
                "BPF map of the needed kind"
            },
        ),
        _ => None,
    };
    explained.unwrap_or(LoadError::Object(error))
}

/// What an error of the `bpf` system call says about the kernel.
fn explain(source: &io::Error, what: &'static str) -> Option<LoadError> {
    let again = io::Error::from_raw_os_error(source.raw_os_error()?);
    match source.raw_os_error()? {
        nix::libc::EPERM | nix::libc::EACCES => Some(LoadError::NotPermitted { source: again }),
        nix::libc::ENOSYS => Some(LoadError::NoSupport {
            what: "bpf system call",
            source: again,
        }),
        nix::libc::EINVAL => Some(LoadError::NoSupport {
            what,
            source: again,
        }),
        _ => None,
    }
}

pub(super) fn refused(name: &str, error: ProgramError) -> LoadError {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return LoadError::Refused {
            program: name.to_owned(),
            reason: error.to_string(),
        };
    };
    if let Some(nix::libc::EPERM | nix::libc::ENOSYS) = io_error.raw_os_error()
        && let Some(explained) = explain(&io_error, "bpf system call")
    {
        return explained;
    }
    let log = verifier_log.to_string();
    log::debug!("verifier log of {name}:\n{log}");
    // The last line but the statistics says what is wrong.
    let reason = log
        .lines()
        .rev()
        .find(|line| {
            !line.is_empty()
                && !line.starts_with("processed ")
                && !line.starts_with("verification time")
                && !line.starts_with("stack depth")
        })
        .map_or_else(
            || io_error.to_string(),
            |line| format!("{io_error}: {line}"),
        );
    LoadError::Refused {
        program: name.to_owned(),
        reason,
    }
}
