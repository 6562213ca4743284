//! A run of `memtrace growth`: sums by stack in the kernel, and what is needed
//! to name the stacks.
use std::{path::PathBuf, time::Duration};

use memtrace_common::{
    Counter,
    growth::{GrowthKey, GrowthSum, Way},
    unwind::Method,
};

use super::{
    SessionError, Traced, monotonic_ns,
    start::{Start, Started, note_ends, position, reread},
    traced::find,
};
use crate::{
    event::{Batch, ring::Reader},
    kernel::{self, uprobe::Emulated},
    probe::{
        Attached, Job, LoadError, Programs,
        counters::Counters,
        growth::{self as hooks, CALLS, Candidate, Choice, FAULTS, Sums},
        object::{Admission, Unwinding},
        unwind::Tables,
    },
    process,
    trace::{Change, Trace},
};

/// What to trace, and how.
#[derive(Clone, Debug)]
pub struct GrowthOptions {
    /// Root of `/proc`.
    pub proc_root: PathBuf,
    /// Root of `/sys`.
    pub sys_root: PathBuf,
    /// How to look at page faults.
    pub faults: Choice,
    /// How to look at `brk`, `mmap`, `munmap` and `mremap`.
    pub calls: Choice,
    /// How much the kernel side says through aya-log; 0: nothing.
    pub log_level: u8,
}

/// Only new stacks come through the ring buffer.
const RING_BYTES: u32 = 4 << 20;

/// How long they may wait there.
const TICK: Duration = Duration::from_millis(200);

/// A run.
pub struct GrowthSession {
    options: GrowthOptions,
    emulated: Emulated,
    programs: Programs,
    tables: Tables,
    /// The kernel side's counters.
    pub counters: Counters,
    sums: Sums,
    faults: Option<&'static Candidate>,
    calls: Option<&'static Candidate>,
    /// The traced processes.
    pub traced: Vec<Traced>,
    /// Their stacks and modules.
    pub trace: Trace,
    /// What could not be hooked, in sentences.
    pub missing: Vec<String>,
}

impl GrowthSession {
    /// Finds the processes, loads the kernel side and arms its hooks. Nothing is
    /// attached to the processes yet.
    ///
    /// # Errors
    /// Nothing can be hooked, or not what was asked for by name.
    pub fn prepare(options: GrowthOptions, pids: &[u32]) -> Result<(Self, Reader), SessionError> {
        let Started {
            mut programs,
            tables,
            counters,
            reader,
            modules,
            traced,
        } = Start {
            job: Job::Growth,
            proc_root: &options.proc_root,
            pids,
            ring_bytes: Some(RING_BYTES),
            tick: TICK,
            admission: Admission::default(),
            unwinding: Unwinding::new(Method::Auto, true, &options.sys_root),
            log_level: options.log_level,
        }
        .begin()?;
        let mut missing = Vec::new();
        let mut arm = |table, choice, what| match (hooks::arm(&mut programs, table, choice), choice)
        {
            (Ok(candidate), _) => Ok(candidate),
            (Err(error), Choice::Auto) => {
                missing.push(format!("{what} cannot be looked at: {error}"));
                Ok(None)
            }
            (Err(LoadError::Refused { reason, .. }), Choice::Forced(Candidate { name, .. })) => {
                Err(SessionError::Mechanism { what, name, reason })
            }
            (Err(error), _) => Err(error.into()),
        };
        let faults = arm(FAULTS, options.faults, "page faults")?;
        let calls = arm(CALLS, options.calls, "brk and mmap")?;
        let session = Self {
            emulated: Emulated::for_kernel(kernel::version()),
            sums: Sums::open(&mut programs)?,
            programs,
            tables,
            counters,
            faults,
            calls,
            traced,
            trace: Trace {
                modules,
                started_ns: monotonic_ns(),
                ..Trace::new(0)
            },
            missing,
            options,
        };
        Ok((session, reader))
    }

    /// Attaches to every process.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&mut self) -> Result<(), SessionError> {
        for index in 0..self.traced.len() {
            self.note_break(index)?;
            self.attach_new(index)?;
            self.attach_faults(index)?;
        }
        self.trace.started_ns = monotonic_ns();
        Ok(())
    }

    /// The mechanism of each hook, in words: page faults, calls.
    pub fn mechanisms(&self) -> [(&'static str, Option<&'static Candidate>); 2] {
        [("page faults", self.faults), ("brk and mmap", self.calls)]
    }

    /// Number of probes in place.
    pub fn probes(&self) -> usize {
        let attached = self.traced.iter().map(|traced| traced.attached.probes());
        attached.sum()
    }

    /// Tells the kernel side where a process's program break is.
    fn note_break(&mut self, index: usize) -> Result<(), SessionError> {
        let pid = self.traced[index].pid();
        let end = process::program_break(&self.options.proc_root, pid);
        let noted = self.sums.set_break(pid, end);
        noted.map_err(|source| SessionError::Map { pid, source })
    }

    /// Tells the kernel side what a process has mapped, and probes what is not
    /// probed yet.
    fn attach_new(&mut self, index: usize) -> Result<(), SessionError> {
        let traced = &mut self.traced[index];
        let pid = traced.pid();
        self.tables
            .set_process(pid, traced.generation, &traced.process.modules)
            .map_err(|source| SessionError::Map { pid, source })?;
        let mut plan = hooks::plan(&traced.process.modules, self.emulated);
        let by_file = self.calls.is_some_and(Candidate::is_by_file);
        plan.attachments.retain(|new| {
            let place = (new.module.id, new.file_offset, new.program, new.at_return);
            (by_file || !new.is_counted()) && traced.placed.insert(place)
        });
        let placed = &traced.placed;
        if by_file
            && !placed
                .iter()
                .any(|(_, _, program, _)| hooks::is_call(program))
        {
            let comm = &traced.process.target.comm;
            let text = format!(
                "process {pid} ({comm}) makes brk and mmap calls in code of its own, without a C library that can be probed: their stacks are missing here, those of page faults are not; --calls tracepoint sees them, at a price for every system call of the machine"
            );
            if !self.missing.contains(&text) {
                self.missing.push(text);
            }
        }
        let modules = &traced.process.modules;
        traced
            .attached
            .attach(&mut self.programs, &plan, pid, modules)?;
        Ok(())
    }

    fn attach_faults(&mut self, index: usize) -> Result<(), SessionError> {
        let Some(candidate) = self.faults else {
            return Ok(());
        };
        let traced = &mut self.traced[index];
        let pid = traced.pid();
        let root = &self.options.proc_root;
        let events = hooks::attach_faults(&mut self.programs, candidate, root, pid)
            .map_err(|source| SessionError::Faults { pid, source })?;
        traced.attached.hold(events);
        Ok(())
    }

    /// Takes a batch of records in.
    pub fn apply(&mut self, batch: &Batch) {
        for (_, record) in batch.records() {
            let traced = &mut self.traced;
            match self.trace.apply(record, |pid| find(traced, pid)) {
                None => {}
                Some(Change::Mapped(pid)) => self.refresh(pid),
                Some(Change::Program(pid)) => {
                    if let Some(index) = position(&self.traced, pid) {
                        self.traced[index].generation += 1;
                        // Gone again: then there is nothing to count.
                        let _ = self.note_break(index);
                    }
                    self.refresh(pid);
                }
            }
        }
    }

    fn refresh(&mut self, pid: u32) {
        let Some(index) = position(&self.traced, pid) else {
            return;
        };
        let (traced, cache) = (&mut self.traced[index], &mut self.trace.modules);
        if !reread(traced, cache, &mut self.tables, &self.options.proc_root) {
            return;
        }
        if let Err(error) = self.attach_new(index) {
            log::warn!("{error}");
            self.missing.push(error.to_string());
        }
    }

    /// Notes which processes have ended. Returns whether any is left.
    pub fn any_alive(&mut self) -> bool {
        let root = &self.options.proc_root;
        note_ends(&mut self.traced, &mut self.tables, root);
        self.traced.iter().any(|traced| !traced.process.exited)
    }

    /// Ends the run now. Returns the sums, and what is attached, to be taken
    /// out.
    pub fn end(&mut self) -> (Vec<(Way, GrowthKey, GrowthSum)>, Attached) {
        self.trace.ended_ns = Some(monotonic_ns());
        let sums = self.sums.all().into_iter();
        let sums = sums.filter_map(|(key, sum)| Some((Way::from_id(key.way)?, key, sum)));
        let mut all = Attached::default();
        for traced in &mut self.traced {
            all.append(&mut traced.attached);
        }
        (sums.collect(), all)
    }

    /// What was counted on the way, for people who doubt a number.
    pub fn statistics(&self) -> Vec<String> {
        let mut lines: Vec<String> = Counter::ALL
            .iter()
            .map(|counter| format!("{}: {}", counter.label(), self.counters.get(*counter)))
            .collect();
        lines.push(format!("stacks known: {}", self.trace.stacks.len()));
        for (function, _, returns) in self.counters.calls() {
            lines.push(format!("{}: {returns} calls", function.names()[0]));
        }
        lines
    }
}
