//! Stops all threads of a process for a moment, by ptrace.
//!
//! Threads are seized, not attached to: should memtrace be killed, or panic,
//! the kernel lets them run on by itself.
use std::{
    collections::HashMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, Options},
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{ProcessError, failed, read};

/// A process none of whose threads runs until this is dropped.
#[derive(Debug)]
pub struct Stopped {
    /// The threads, each with the signal that it was about to get.
    threads: HashMap<Pid, Option<Signal>>,
}

/// Rounds of looking for threads that were started meanwhile. Each round
/// leaves fewer running, so a few are enough.
const ROUNDS: u32 = 64;

impl Stopped {
    /// Stops the process. Must be dropped by the thread that made it: ptrace
    /// binds tracees to threads.
    pub fn stop(proc_root: &Path, pid: u32) -> Result<Self, ProcessError> {
        let mut stopped = Self {
            threads: HashMap::new(),
        };
        for _ in 0..ROUNDS {
            if !stopped.seize_new(proc_root, pid)? {
                break;
            }
        }
        if stopped.threads.is_empty() {
            return Err(ProcessError::NotFound { pid });
        }
        Ok(stopped)
    }

    /// Stops the threads not stopped yet. Returns whether there were any.
    fn seize_new(&mut self, proc_root: &Path, pid: u32) -> Result<bool, ProcessError> {
        let tasks = fs::read_dir(proc_root.join(format!("{pid}/task")));
        let tasks = tasks.map_err(|source| failed(pid, source))?;
        let mut new = Vec::new();
        let mut refusal = None;
        for task in tasks.flatten() {
            let name = task.file_name();
            let thread = name.to_str().and_then(|name| name.parse().ok());
            let Some(thread) = thread.map(Pid::from_raw) else {
                continue;
            };
            if self.threads.contains_key(&thread) {
                continue;
            }
            match ptrace::seize(thread, Options::empty()) {
                Ok(()) => new.push(thread),
                // It has just ended.
                Err(Errno::ESRCH) => {}
                Err(error) => refusal = Some(refused(proc_root, pid, error)),
            }
        }
        for thread in &new {
            // All are told to stop before one is waited for: they stop at
            // nearly the same time.
            let _ = ptrace::interrupt(*thread);
        }
        let mut asleep = None;
        for thread in &new {
            match wait(*thread) {
                Outcome::Stopped(signal) => {
                    self.threads.insert(*thread, signal);
                }
                Outcome::Ended => {}
                // It is let go when memtrace ends.
                Outcome::Asleep => asleep = Some(thread.as_raw().unsigned_abs()),
            }
        }
        match asleep {
            _ if refusal.is_some() => refusal.map_or(Ok(false), Err),
            Some(thread) => Err(ProcessError::Asleep { pid, thread }),
            None => Ok(!new.is_empty()),
        }
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for (thread, signal) in &self.threads {
            // It may have been killed meanwhile.
            let _ = ptrace::detach(*thread, *signal);
        }
    }
}

/// What became of a thread that was told to stop.
enum Outcome {
    /// It has stopped, on its way to this signal.
    Stopped(Option<Signal>),
    /// It has ended.
    Ended,
    /// It sleeps where nothing wakes it: in the kernel, on a disk, or until
    /// the child of its `vfork` runs a program.
    Asleep,
}

/// How long to wait for a thread, and how long between two looks.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_micros(100);

fn wait(thread: Pid) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::StillAlive) if Instant::now() > deadline => return Outcome::Asleep,
            Ok(WaitStatus::StillAlive) => std::thread::sleep(PAUSE),
            // It gets the signal when it is let go.
            Ok(WaitStatus::Stopped(_, signal)) => return Outcome::Stopped(Some(signal)),
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_) => {
                return Outcome::Ended;
            }
            Ok(_) => return Outcome::Stopped(None),
        }
    }
}

/// Why ptrace refused.
fn refused(proc_root: &Path, pid: u32, error: Errno) -> ProcessError {
    let tracer = read::status_numbers(proc_root, pid, "TracerPid").unwrap_or_default();
    match tracer.first() {
        Some(tracer @ 1..) => ProcessError::Held {
            pid,
            tracer: *tracer,
        },
        _ => failed(pid, error.into()),
    }
}
