//! Follows children from their very first instruction. The processes are
//! seized by ptrace, which holds every child, and every program that a child
//! runs, until memtrace has its probes in place; and which lets all of them go
//! by itself should memtrace be killed.
//!
//! One thread does it, since ptrace binds tracees to threads. It asks for
//! probes through a channel and waits for the answer.
#![expect(unsafe_code, reason = "nix has no PTRACE_LISTEN")]
use std::{
    collections::{HashMap, HashSet},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace::{self, Event, Options},
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use procfs::process::Process;

use super::{
    ProcessError,
    launch::{instruction_pointer, returned_from_mapping_code},
    read,
};

/// Something changed in a process that is held until `done` is dropped.
#[derive(Debug)]
pub struct Change {
    /// Which.
    pub pid: u32,
    /// Its parent, where the process is new.
    pub parent: Option<u32>,
    /// Whether it is going to map a program's libraries, and be held for each.
    pub links: bool,
    /// Lets it go.
    pub done: mpsc::SyncSender<()>,
}

/// The thread that follows.
#[derive(Debug)]
pub struct Follower {
    exits: Arc<Mutex<HashMap<Pid, WaitStatus>>>,
}

/// What a thread that is traced is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing of interest.
    Running,
    /// The dynamic linker, at these addresses, maps a program's libraries.
    Linking { from: u64, to: u64 },
    /// It uses its parent's memory until it runs a program (vfork).
    Borrowing { parent: Pid },
}

/// `PTRACE_EVENT_STOP` (uapi/linux/ptrace.h): a stop that is no signal's.
const EVENT_STOP: i32 = 128;

/// Type of the auxiliary vector's entry that says where the dynamic linker is
/// (`AT_BASE`, elf.h).
const AT_BASE: u64 = 7;

/// How long the exit status of a command may be on its way between threads.
const STATUS_TIME: Duration = Duration::from_secs(2);

fn options(children: bool) -> Options {
    let itself =
        Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_TRACEEXIT | Options::PTRACE_O_TRACESYSGOOD;
    if !children {
        return itself;
    }
    itself
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
}

impl Follower {
    /// Begins to follow `pids`. `changed` must not block for long: a process
    /// is held meanwhile. `wake`: processes to be continued by `SIGCONT` once
    /// they are followed. `children`: also what they start; otherwise only they
    /// are held, when they run another program and at their end.
    ///
    /// # Errors
    /// A process is traced by another debugger, or has ended.
    pub fn start(
        proc_root: PathBuf,
        pids: &[u32],
        wake: Option<u32>,
        children: bool,
        changed: impl Fn(Change) + Send + 'static,
    ) -> Result<Self, ProcessError> {
        let exits = Arc::new(Mutex::new(HashMap::new()));
        let (seized, whether) = mpsc::sync_channel(1);
        let mut tracer = Tracer {
            proc_root,
            children,
            changed: Box::new(changed),
            exits: Arc::clone(&exits),
            asked: pids.iter().map(|pid| to_pid(*pid)).collect(),
            phases: HashMap::new(),
            unknown: HashSet::new(),
        };
        let pids = pids.to_vec();
        thread::spawn(move || {
            let result = pids.iter().try_for_each(|pid| tracer.seize(*pid));
            let ok = result.is_ok();
            // The other end waits for it.
            let _ = seized.send(result);
            if let Some(pid) = wake {
                // It has ended, then.
                let _ = nix::sys::signal::kill(to_pid(pid), Signal::SIGCONT);
            }
            if ok {
                tracer.run();
            }
        });
        whether.recv().unwrap_or(Ok(()))?;
        Ok(Self { exits })
    }

    /// How a child of memtrace itself ended, if the thread took the news.
    pub fn exit_status(&self, pid: Pid) -> Option<WaitStatus> {
        let start = Instant::now();
        while start.elapsed() < STATUS_TIME {
            let exits = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = exits.get(&pid) {
                return Some(*status);
            }
            drop(exits);
            thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

fn to_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

fn number(pid: Pid) -> u32 {
    pid.as_raw().unsigned_abs()
}

/// Leaves a stopped process stopped, and wakes up when it is continued.
fn listen(pid: Pid) {
    // SAFETY: no memory is involved.
    unsafe { libc::ptrace(libc::PTRACE_LISTEN, pid.as_raw(), 0, 0) };
}

struct Tracer {
    proc_root: PathBuf,
    children: bool,
    changed: Box<dyn Fn(Change) + Send>,
    exits: Arc<Mutex<HashMap<Pid, WaitStatus>>>,
    /// The processes that were asked for, and may be memtrace's own children.
    asked: HashSet<Pid>,
    /// Every thread that is traced.
    phases: HashMap<Pid, Phase>,
    /// Threads that have stopped before their parent's stop has told what they
    /// are.
    unknown: HashSet<Pid>,
}

impl Tracer {
    /// Seizes all threads of a process.
    fn seize(&mut self, pid: u32) -> Result<(), ProcessError> {
        let failed = |source| super::failed(pid, source);
        loop {
            let mut new = 0;
            let tasks = fs::read_dir(self.proc_root.join(format!("{pid}/task"))).map_err(failed)?;
            let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
            for tid in ids.map(Pid::from_raw) {
                if self.phases.contains_key(&tid) {
                    continue;
                }
                match ptrace::seize(tid, options(self.children)) {
                    Ok(()) => new += 1,
                    // It has just ended, or is one that a seized thread made.
                    Err(Errno::ESRCH) => continue,
                    Err(Errno::EPERM) if self.is_ours(tid) => {}
                    Err(Errno::EPERM) => return Err(self.why_not(pid)),
                    Err(error) => return Err(failed(error.into())),
                }
                self.phases.insert(tid, Phase::Running);
            }
            if new == 0 {
                return Ok(());
            }
        }
    }

    fn tracer_of(&self, pid: u32) -> u32 {
        let numbers = read::status_numbers(&self.proc_root, pid, "TracerPid");
        numbers
            .ok()
            .and_then(|numbers| numbers.first().copied())
            .unwrap_or(0)
    }

    fn is_ours(&self, tid: Pid) -> bool {
        // TracerPid is a thread's id.
        let tracer = self.tracer_of(number(tid));
        tracer != 0 && tracer == number(nix::unistd::gettid())
    }

    fn why_not(&self, pid: u32) -> ProcessError {
        match self.tracer_of(pid) {
            0 => ProcessError::NotPermitted { pid },
            tracer => ProcessError::Traced { pid, tracer },
        }
    }

    /// Works until nothing is traced any more.
    fn run(&mut self) {
        let any = || waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD));
        loop {
            match any() {
                Ok(status) => self.stopped(status),
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    fn stopped(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::PtraceEvent(pid, signal, event) => self.event(pid, signal, event),
            WaitStatus::PtraceSyscall(pid) => self.system_call(pid),
            WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                self.phases.remove(&pid);
                self.unknown.remove(&pid);
                if self.asked.contains(&pid) {
                    let mut exits = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
                    exits.insert(pid, status);
                }
            }
            _ => {}
        }
    }

    /// An error means that the thread was killed meanwhile.
    fn resume(&self, pid: Pid, signal: Option<Signal>) {
        let _ = match self.phases.get(&pid) {
            Some(Phase::Linking { .. }) => ptrace::syscall(pid, signal),
            _ => ptrace::cont(pid, signal),
        };
    }

    fn event(&mut self, pid: Pid, signal: Signal, event: i32) {
        if event == EVENT_STOP {
            let stops = [
                Signal::SIGSTOP,
                Signal::SIGTSTP,
                Signal::SIGTTIN,
                Signal::SIGTTOU,
            ];
            if !self.phases.contains_key(&pid) {
                // Born, and its parent has not said so yet.
                self.unknown.insert(pid);
            } else if stops.contains(&signal) {
                listen(pid);
            } else {
                self.resume(pid, None);
            }
            return;
        }
        let message = ptrace::getevent(pid).unwrap_or(0);
        let born = i32::try_from(message).map(Pid::from_raw);
        if let (Ok(child), true) = (born, is_birth(event)) {
            self.born(child, pid, event);
        } else if event == Event::PTRACE_EVENT_EXEC as i32 {
            self.runs_program(pid);
        } else if event == Event::PTRACE_EVENT_EXIT as i32 && self.asks_at_exit(pid) {
            // While it can still be read what it has mapped.
            self.tell(pid, None);
        }
        self.resume(pid, None);
    }

    /// `parent`, which is held, has made `child`, which is held or will be.
    fn born(&mut self, child: Pid, parent: Pid, event: i32) {
        let group = read::status_numbers(&self.proc_root, number(child), "Tgid");
        let is_process = group.is_ok_and(|group| group.first() == Some(&number(child)));
        let phase = match self.phases.get(&parent) {
            _ if is_process && event != Event::PTRACE_EVENT_FORK as i32 => {
                Phase::Borrowing { parent }
            }
            Some(Phase::Borrowing { parent }) => Phase::Borrowing { parent: *parent },
            _ => Phase::Running,
        };
        let new = is_process && phase == Phase::Running;
        self.phases.insert(child, phase);
        if new {
            // Before it runs; it need not have stopped yet for that.
            self.tell(child, Some(parent));
        }
        if self.unknown.remove(&child) {
            self.resume(child, None);
        }
    }

    /// Whether `pid`, which ends, is a process and not one of its threads, or one
    /// that still has its parent's memory.
    fn asks_at_exit(&self, pid: Pid) -> bool {
        let borrows = matches!(self.phases.get(&pid), Some(Phase::Borrowing { .. }));
        let group = read::status_numbers(&self.proc_root, number(pid), "Tgid");
        !borrows && group.is_ok_and(|group| group.first() == Some(&number(pid)))
    }

    /// `pid` is held at the first instruction of a program.
    fn runs_program(&mut self, pid: Pid) {
        let parent = match self.phases.get(&pid) {
            Some(Phase::Borrowing { parent }) => Some(*parent),
            _ => None,
        };
        let phase = match self.linker(pid) {
            Some((from, to)) => Phase::Linking { from, to },
            None => Phase::Running,
        };
        self.phases.insert(pid, phase);
        self.tell(pid, parent);
    }

    /// Where the dynamic linker is, if the program has one.
    fn linker(&self, pid: Pid) -> Option<(u64, u64)> {
        let process = Process::new(pid.as_raw()).ok()?;
        let base = process.auxv().ok()?.get(&AT_BASE).copied()?;
        let maps = read::maps(&self.proc_root, number(pid)).ok()?;
        let linker = maps.iter().find(|map| map.start == base)?;
        let mut parts = maps.iter().filter(|map| map.file == linker.file);
        let first = parts.next()?;
        let last = parts.next_back().unwrap_or(first);
        Some((first.start, last.end))
    }

    /// `pid` is held at the start or the end of a system call.
    fn system_call(&mut self, pid: Pid) {
        if let Some(Phase::Linking { from, to }) = self.phases.get(&pid).cloned() {
            let ip = instruction_pointer(pid).unwrap_or(0);
            let links = (from..to).contains(&ip);
            if !links {
                self.phases.insert(pid, Phase::Running);
            }
            if !links || returned_from_mapping_code(pid) {
                self.tell(pid, None);
            }
        }
        self.resume(pid, None);
    }

    /// Asks for probes and waits until they are there.
    fn tell(&self, pid: Pid, parent: Option<Pid>) {
        let (done, waits) = mpsc::sync_channel(0);
        let group = |pid: Pid| {
            let group = read::status_numbers(&self.proc_root, number(pid), "Tgid");
            let first = group.ok().and_then(|group| group.first().copied());
            first.unwrap_or(number(pid))
        };
        (self.changed)(Change {
            pid: number(pid),
            parent: parent.map(group),
            links: matches!(self.phases.get(&pid), Some(Phase::Linking { .. })),
            done,
        });
        // Only ever an error: the other end was dropped, which is the answer.
        let _ = waits.recv();
    }
}

fn is_birth(event: i32) -> bool {
    [
        Event::PTRACE_EVENT_FORK,
        Event::PTRACE_EVENT_VFORK,
        Event::PTRACE_EVENT_CLONE,
    ]
    .iter()
    .any(|birth| *birth as i32 == event)
}
