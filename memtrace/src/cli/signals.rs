//! Ctrl-C, termination, and the ends of processes, as futures.
use std::{io, os::fd::OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::{
    io::unix::AsyncFd,
    signal::unix::{Signal as Listener, SignalKind, signal},
};

use crate::event::poll::readable;

/// What asks memtrace to end.
pub(super) struct Signals {
    interrupt: Listener,
    terminate: Listener,
    /// Absent where whoever started memtrace ignores it, as nohup does.
    hangup: Option<Listener>,
}

/// Which of them came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Ctrl-C: the terminal sends it to the traced command as well.
    Interrupt,
    /// Only memtrace got it.
    Terminate,
}

/// Holds back what asks memtrace to end, until [`Signals::listen`]: one that
/// came while tokio's handlers are only half in place would be lost. To be
/// called before there are other threads, which inherit it.
pub(super) fn hold() -> io::Result<()> {
    Ok(asking().thread_block()?)
}

fn asking() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        let signals = Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if hangup_is_ignored() {
                None
            } else {
                Some(signal(SignalKind::hangup())?)
            },
        };
        // In this thread alone, which is enough: it gets what came meanwhile.
        asking().thread_unblock()?;
        Ok(signals)
    }

    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
            _ = received(self.hangup.as_mut()) => Asked::Terminate,
        }
    }
}

async fn received(listener: Option<&mut Listener>) -> Option<()> {
    match listener {
        Some(listener) => listener.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP (1) is in this process's set of ignored signals.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|set| u64::from_str_radix(set.trim(), 16).is_ok_and(|set| set & 1 != 0))
}

/// The end of one process.
pub(super) struct Exit {
    pidfd: AsyncFd<OwnedFd>,
}

impl Exit {
    /// # Errors
    /// There is no such process (any more), or too many open files.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self {
            pidfd: readable(pidfd)?,
        })
    }

    /// Completes when the process has ended.
    pub(super) async fn wait(&self) {
        // A pidfd is readable from then on; an error here means the runtime
        // ends, and then so does everything.
        let _ = self.pidfd.readable().await;
    }
}
