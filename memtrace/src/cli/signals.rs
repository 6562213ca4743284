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
    hangup: Listener,
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
            hangup: signal(SignalKind::hangup())?,
        };
        // In this thread alone, which is enough: it gets what came meanwhile.
        asking().thread_unblock()?;
        Ok(signals)
    }

    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.hangup.recv() => Asked::Terminate,
        }
    }
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
