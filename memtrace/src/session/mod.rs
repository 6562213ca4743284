//! One run: the stages put together, from attaching to the counts that a
//! report is made of.
mod error;
mod traced;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::SessionError;
use memtrace_common::{Counter, Record};
pub use traced::Traced;
use traced::why_no_allocator;

use crate::{
    event::{Batch, ring::Reader},
    kernel::{self, uprobe::Emulated},
    live::Live,
    probe::{
        self, Attached, Plan, Programs,
        counters::Counters,
        object::Sizes,
        unwind::{self, Tables},
    },
    process::{Modules, Target, modules::ModuleCache},
    report::assemble::Facts,
    stack::StackTable,
};

/// What to trace.
#[derive(Clone, Debug)]
pub struct Options {
    /// Root of `/proc`.
    pub proc_root: PathBuf,
    /// Also mmap, munmap and mremap.
    pub mappings: bool,
    /// Size of the ring buffer, bytes; absent: by the machine's memory.
    pub ring_bytes: Option<u32>,
    /// How much the kernel side says through aya-log; 0: nothing.
    pub log_level: u8,
}

/// How often, and how long apart, to look for the libraries of a process that
/// has no allocator: 0.2 s in all.
const START_LOOKS: u32 = 10;
const START_PAUSE: Duration = Duration::from_millis(20);

/// A run.
pub struct Session {
    options: Options,
    emulated: Emulated,
    programs: Programs,
    tables: Tables,
    /// The kernel side's counters.
    pub counters: Counters,
    /// Every file mapped as code in any traced process.
    pub modules: ModuleCache,
    /// The traced processes.
    pub traced: Vec<Traced>,
    /// What is outstanding.
    pub live: Live,
    /// Every stack seen.
    pub stacks: StackTable,
    /// `CLOCK_MONOTONIC` when the last probe was in place, nanoseconds.
    pub started_ns: u64,
    /// When the run ended, and how many events had been lost until then.
    ended: Option<(u64, u64)>,
    received: u64,
    undecodable: u64,
}

/// `CLOCK_MONOTONIC`, nanoseconds: the clock that events carry.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

impl Session {
    /// Finds the processes, loads the kernel side and makes it ready. Nothing
    /// is probed yet.
    pub fn prepare(options: Options, pids: &[u32]) -> Result<(Self, Reader), SessionError> {
        if !kernel::in_initial_pid_namespace(&options.proc_root) {
            return Err(SessionError::PidNamespace);
        }
        let mut cache = ModuleCache::default();
        let mut traced = Vec::new();
        for pid in pids {
            let target = Target::find(&options.proc_root, *pid)?;
            let modules = cache.read(&options.proc_root, *pid)?;
            traced.push(Traced {
                target,
                exited: false,
                allocators: Vec::new(),
                unseen: Vec::new(),
                modules,
                generation: 0,
                attached: Attached::default(),
                placed: HashSet::new(),
            });
        }
        let unwind_tables = unwind::build(cache.iter().map(|module| &**module));
        let ring_bytes = match options.ring_bytes {
            Some(bytes) => bytes,
            None => {
                kernel::ring_bytes(&options.proc_root).map_err(|source| SessionError::System {
                    what: "read /proc/meminfo",
                    source,
                })?
            }
        };
        let sizes = Sizes {
            ring_bytes,
            row_chunks: unwind::chunks_for(&unwind_tables),
        };
        let mut programs =
            Programs::load(sizes, options.log_level, kernel::filters_multi_by_process())?;
        programs.watch_processes()?;
        let counters = Counters::open(&mut programs)?;
        let mut tables = Tables::open(&mut programs)?;
        tables.load(&unwind_tables);
        let reader = Reader::start(programs.ring()?).map_err(|source| SessionError::System {
            what: "poll the ring buffer",
            source,
        })?;
        let session = Self {
            emulated: Emulated::for_kernel(kernel::version()),
            options,
            programs,
            tables,
            counters,
            modules: cache,
            traced,
            live: Live::default(),
            stacks: StackTable::default(),
            started_ns: monotonic_ns(),
            ended: None,
            received: 0,
            undecodable: 0,
        };
        Ok((session, reader))
    }

    /// Probes every process. One without a known allocator is an error.
    pub fn attach(&mut self) -> Result<(), SessionError> {
        for index in 0..self.traced.len() {
            self.attach_new(index)?;
        }
        // One that has just been started may not have mapped its libraries yet.
        for _ in 0..START_LOOKS {
            if self.check_allocators().is_ok() {
                break;
            }
            std::thread::sleep(START_PAUSE);
            for pid in self.pids() {
                self.refresh(pid);
            }
        }
        self.check_allocators()?;
        self.started_ns = monotonic_ns();
        Ok(())
    }

    /// Makes sure that every process has an allocator that is probed: an
    /// empty report would be taken for good news.
    pub fn check_allocators(&self) -> Result<(), SessionError> {
        match self
            .traced
            .iter()
            .find(|traced| traced.allocators.is_empty())
        {
            None => Ok(()),
            Some(Traced {
                target, modules, ..
            }) => Err(SessionError::NoAllocator {
                pid: target.pid,
                comm: target.comm.clone(),
                why: why_no_allocator(modules),
            }),
        }
    }

    fn pids(&self) -> Vec<u32> {
        let pids = self.traced.iter().map(|traced| traced.target.pid);
        pids.collect()
    }

    /// Number of probes in place.
    pub fn probes(&self) -> usize {
        self.traced
            .iter()
            .map(|traced| traced.attached.probes())
            .sum()
    }

    /// Probes whatever one process has mapped and that is not probed yet.
    fn attach_new(&mut self, index: usize) -> Result<(), SessionError> {
        let traced = &mut self.traced[index];
        let pid = traced.target.pid;
        self.tables
            .set_process(pid, traced.generation, &traced.modules)
            .map_err(|source| SessionError::Map { pid, source })?;
        let Plan {
            mut attachments,
            allocators,
            unseen,
        } = probe::plan::plan(&traced.modules, self.options.mappings, self.emulated);
        attachments.retain(|new| {
            traced
                .placed
                .insert((new.module.id, new.file_offset, new.program))
        });
        traced.allocators = allocators;
        traced.unseen = unseen;
        let plan = Plan {
            attachments,
            ..Plan::default()
        };
        traced.attached.attach(&mut self.programs, &plan, pid)?;
        Ok(())
    }

    /// Reads a process's mappings again, after it has loaded libraries or
    /// runs another program.
    pub fn refresh(&mut self, pid: u32) {
        let Some(index) = self
            .traced
            .iter()
            .position(|traced| traced.target.pid == pid)
        else {
            return;
        };
        let root = &self.options.proc_root;
        // Gone: its end is noticed elsewhere.
        let Ok(modules) = self.modules.read(root, pid) else {
            return;
        };
        if let Ok(target) = Target::find(root, pid) {
            self.traced[index].target = target;
        }
        let new = modules
            .files()
            .filter(|module| !self.tables.has(module.id))
            .map(|module| &**module);
        let tables = unwind::build(new);
        self.tables.load(&tables);
        let traced = &mut self.traced[index];
        if traced.modules.update(modules) {
            traced.generation += 1;
        }
        if let Err(error) = self.attach_new(index) {
            log::warn!("{error}");
        }
    }

    /// The process runs another program: nothing of the last one is mapped.
    fn forget_modules(&mut self, pid: u32) {
        let traced = self
            .traced
            .iter_mut()
            .find(|traced| traced.target.pid == pid);
        if let Some(traced) = traced {
            traced.modules = Modules::default();
            traced.generation += 1;
        }
    }

    /// Notes which processes have ended. Returns whether any is left.
    pub fn any_alive(&mut self) -> bool {
        let root: &Path = &self.options.proc_root;
        for traced in &mut self.traced {
            if !traced.exited && !traced.target.is_alive(root) {
                traced.exited = true;
                self.tables.remove_process(traced.target.pid);
            }
        }
        self.traced.iter().any(|traced| !traced.exited)
    }

    /// Takes a batch of events in.
    pub fn apply(&mut self, batch: &Batch) {
        for record in batch.records() {
            self.received += 1;
            match record {
                Ok(Record::Stack(stack)) => self.note_stack(&stack),
                Ok(record)
                    if self
                        .ended
                        .is_some_and(|(end, _)| record.head().time_ns > end) => {}
                Ok(record @ (Record::Modules(_) | Record::Exec(_))) => {
                    self.live.apply(&record);
                    let pid = record.head().pid;
                    if matches!(record, Record::Exec(_)) {
                        self.forget_modules(pid);
                    }
                    self.refresh(pid);
                }
                Ok(Record::Map(map))
                    if self.stacks.get(map.stack).is_some_and(|s| s.by_allocator) => {}
                Ok(record) => self.live.apply(&record),
                Err(error) => {
                    self.undecodable += 1;
                    log::debug!("undecodable record: {error:?}");
                }
            }
        }
    }

    fn note_stack(&mut self, stack: &memtrace_common::event::Stack<'_>) {
        let Some(traced) = self
            .traced
            .iter()
            .find(|traced| traced.target.pid == stack.head.pid)
        else {
            return;
        };
        let addresses = stack.frames.iter().map(|frame| frame.get());
        self.stacks
            .insert(stack.hash, stack.truncated(), addresses, &traced.modules);
    }

    /// The kernel side's diagnostics, through aya-log.
    pub fn logger(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>, aya_log::Error> {
        self.programs.logger()
    }

    /// Ends the run now: what happens from here on is not taken in. Returns
    /// the time and the probes, to be taken out.
    pub fn end(&mut self) -> (u64, Attached) {
        let now = monotonic_ns();
        self.ended = Some((now, self.counters.lost()));
        let mut all = Attached::default();
        for traced in &mut self.traced {
            all.append(&mut traced.attached);
        }
        (now, all)
    }

    /// What a report about the time `now_ns` is made of.
    pub fn facts(&self, now_ns: u64) -> Facts<'_> {
        let kernel_lost = self
            .ended
            .map_or_else(|| self.counters.lost(), |(_, lost)| lost);
        let mut notes: Vec<String> = self.traced.iter().flat_map(Traced::missing).collect();
        let complete = notes.is_empty();
        if kernel_lost > 0 {
            let losses = self.counters.losses();
            notes.extend(losses.map(|(counter, count)| format!("{}: {count}", counter.label())));
        }
        Facts {
            live: &self.live,
            stacks: &self.stacks,
            modules: &self.modules,
            processes: self.traced.iter().map(Traced::describe).collect(),
            started_ns: self.started_ns,
            now_ns,
            lost_events: kernel_lost + self.undecodable,
            last_loss_ns: if kernel_lost == 0 {
                0
            } else {
                self.counters.last_loss_ns()
            },
            complete,
            notes,
        }
    }

    /// What was counted on the way, for people who doubt a number.
    pub fn statistics(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for counter in Counter::ALL {
            lines.push(format!(
                "{}: {}",
                counter.label(),
                self.counters.get(*counter)
            ));
        }
        lines.push(format!("records received: {}", self.received));
        lines.push(format!("records undecodable: {}", self.undecodable));
        lines.push(format!("stacks known: {}", self.stacks.len()));
        for (function, enters, returns) in self.counters.calls() {
            lines.push(format!(
                "{}: {enters} enters, {returns} returns",
                function.symbol()
            ));
        }
        lines
    }
}
