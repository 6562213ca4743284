//! One run: the stages put together, from attaching to the counts that a
//! report is made of.
mod changes;
mod copied;
mod error;
mod growth;
mod pages;
mod recording;
mod start;
mod traced;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use error::SessionError;
pub use growth::{GrowthOptions, GrowthSession};
use memtrace_common::{Counter, unwind::Method};
pub use pages::{PageOptions, PageSession};
pub use recording::Recording;
use start::{Start, Started};
use tokio::task::JoinError;
pub use traced::Traced;
use traced::why_no_allocator;

use crate::{
    capture::format::Kind,
    event::ring::{self, Reader},
    kernel::{self, uprobe::Emulated},
    probe::{
        self, Attached, Job, Programs, Wanted,
        counters::Counters,
        object::{Admission, Unwinding},
        unwind::Tables,
    },
    report::assemble::Facts,
    stack::Copies,
    trace::{Losses, Origin, Process, Trace},
};

/// What to trace.
#[derive(Clone, Debug)]
pub struct Options {
    /// Root of `/proc`.
    pub proc_root: PathBuf,
    /// Root of `/sys`.
    pub sys_root: PathBuf,
    /// Also mmap, munmap and mremap.
    pub mappings: bool,
    /// Size of the ring buffer, bytes; absent: by the machine's memory.
    pub ring_bytes: Option<u32>,
    /// Blocks that the kernel side takes in.
    pub admission: Admission,
    /// How stacks are walked.
    pub unwind: Method,
    /// Whether walks are remembered.
    pub remember_walks: bool,
    /// The file whose allocator is traced, and no other; absent: all known.
    pub allocator: Option<PathBuf>,
    /// How much the kernel side says through aya-log; 0: nothing.
    pub log_level: u8,
}

/// How often, and how long apart, to look for the libraries of a process that
/// has no allocator: 0.2 s in all.
const START_LOOKS: u32 = 10;
const START_PAUSE: Duration = Duration::from_millis(20);

/// What that means for a report.
const SIZES_LEFT_OUT: &str = "blocks outside --min-size and --max-size are in no figure; their frees may be among the unmatched";

/// A run.
pub struct Session {
    options: Options,
    emulated: Emulated,
    programs: Programs,
    tables: Tables,
    /// The kernel side's counters.
    pub counters: Counters,
    /// The traced processes.
    pub traced: Vec<Traced>,
    /// What their events add up to.
    pub trace: Trace,
    /// How many events had been lost when the run ended.
    lost_at_end: Option<u64>,
    /// Whether processes are held whenever a program begins.
    holds: bool,
    recording: Option<Recording>,
    /// Stacks' memory, for stacks that are about to arrive.
    copies: Copies,
    /// How often in a row mappings were read for a stack, and did not help.
    fruitless: u32,
}

/// `CLOCK_MONOTONIC`, nanoseconds: the clock that events carry.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Here and now.
fn origin(mechanism: &str) -> Origin {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall_clock = now.map_or(0, |now| now.as_nanos());
    Origin {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel::release(),
        architecture: std::env::consts::ARCH.to_owned(),
        mechanism: Some(mechanism.to_owned()),
        wall_clock_ns: u64::try_from(wall_clock).unwrap_or(u64::MAX),
        monotonic_ns: monotonic_ns(),
    }
}

impl Session {
    /// Finds the processes, loads the kernel side and makes it ready. Nothing
    /// is probed yet.
    pub fn prepare(options: Options, pids: &[u32]) -> Result<(Self, Reader), SessionError> {
        let Started {
            programs,
            tables,
            counters,
            reader,
            modules,
            traced,
        } = Start {
            job: Job::Heap,
            proc_root: &options.proc_root,
            pids,
            ring_bytes: options.ring_bytes,
            tick: ring::TICK,
            admission: options.admission,
            unwinding: Unwinding::new(options.unwind, options.remember_walks, &options.sys_root),
            log_level: options.log_level,
        }
        .begin()?;
        let session = Self {
            emulated: Emulated::for_kernel(kernel::version()),
            trace: Trace {
                modules,
                started_ns: monotonic_ns(),
                origin: origin(programs.mechanism()),
                ..Trace::new(options.admission.sample_bytes)
            },
            options,
            programs,
            tables,
            counters,
            traced,
            lost_at_end: None,
            holds: false,
            recording: None,
            copies: Copies::default(),
            fruitless: 0,
        };
        Ok((session, reader))
    }

    /// Probes every process. One without a known allocator is an error.
    pub fn attach(&mut self) -> Result<(), SessionError> {
        for index in 0..self.traced.len() {
            self.attach_new(index, false)?;
        }
        // One that has just been started may not have mapped its libraries yet.
        for _ in 0..START_LOOKS {
            if self.check_allocators().is_ok() {
                break;
            }
            std::thread::sleep(START_PAUSE);
            for pid in self.pids() {
                self.refresh(pid, false);
            }
        }
        self.check_allocators()?;
        self.trace.started_ns = monotonic_ns();
        Ok(())
    }

    /// Makes sure that every process has an allocator that is probed: an
    /// empty report would be taken for good news.
    pub fn check_allocators(&self) -> Result<(), SessionError> {
        match self
            .traced
            .iter()
            .filter(|traced| traced.awaited.is_none())
            .map(|traced| &traced.process)
            .find(|process| process.allocators.is_empty())
        {
            None => Ok(()),
            Some(Process {
                target, modules, ..
            }) => Err(SessionError::NoAllocator {
                pid: target.pid,
                comm: target.comm.clone(),
                why: why_no_allocator(modules),
            }),
        }
    }

    fn pids(&self) -> Vec<u32> {
        self.traced.iter().map(Traced::pid).collect()
    }

    /// Number of probes in place.
    pub fn probes(&self) -> usize {
        self.traced
            .iter()
            .map(|traced| traced.attached.probes())
            .sum()
    }

    /// Probes whatever one process has mapped and that is not probed yet.
    ///
    /// `late`: the process has been running meanwhile.
    fn attach_new(&mut self, index: usize, late: bool) -> Result<(), SessionError> {
        let traced = &mut self.traced[index];
        let pid = traced.pid();
        let process = &mut traced.process;
        self.tables
            .set_process(pid, traced.generation, &process.modules)
            .map_err(|source| SessionError::Map { pid, source })?;
        let allocator = match &self.options.allocator {
            None => None,
            Some(path) => Some(
                process
                    .modules
                    .files()
                    .find(|module| module.is_file(path))
                    .ok_or_else(|| SessionError::NotMapped {
                        pid,
                        comm: process.target.comm.clone(),
                        path: path.clone(),
                    })?,
            ),
        };
        let wanted = Wanted {
            mappings: self.options.mappings,
            allocator: allocator.map(|module| &**module),
            emulated: self.emulated,
        };
        let mut plan = probe::plan::plan(&process.modules, wanted);
        plan.attachments.retain(|new| {
            let place = (new.module.id, new.file_offset, new.program, new.at_return);
            traced.placed.insert(place)
        });
        traced
            .attached
            .attach(&mut self.programs, &plan, pid, &process.modules)?;
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        let allocators = plan.allocators.into_iter();
        process.allocators = allocators
            .map(|(file, names)| (file, owned(names)))
            .collect();
        process.remarks = plan.remarks;
        if self.options.admission.leaves_sizes_out() {
            process.remarks.push(SIZES_LEFT_OUT.to_owned());
        }
        traced.unseen = plan.unseen;
        traced.awaited = None;
        if late && !traced.links {
            traced.note_late(&plan.attachments);
        }
        traced.note_missing();
        Ok(())
    }

    /// The kernel side's diagnostics, through aya-log.
    pub fn logger(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>, aya_log::Error> {
        self.programs.logger()
    }

    /// Ends the run now and takes the probes out. All that happened until then is
    /// taken in. Returns the time at which it ended.
    ///
    /// # Errors
    /// The thread that takes the probes out has panicked.
    pub async fn finish(&mut self, reader: &mut Reader) -> Result<u64, JoinError> {
        let (end, mut probes) = self.end();
        let mut detaching = tokio::task::spawn_blocking(move || probes.detach());
        loop {
            tokio::select! {
                detached = &mut detaching => break detached?,
                Some(batch) = reader.next() => self.apply(&batch),
            }
        }
        // Only now is everything in the ring buffer that will ever be.
        reader.stop();
        while let Some(batch) = reader.next().await {
            self.apply(&batch);
        }
        self.any_alive();
        Ok(end)
    }

    /// Ends the run now: what happens from here on is not taken in. Returns
    /// the time and the probes, to be taken out.
    pub fn end(&mut self) -> (u64, Attached) {
        let now = monotonic_ns();
        self.trace.ended_ns = Some(now);
        self.lost_at_end = Some(self.counters.lost());
        self.record_progress(Kind::Stop, now);
        // One that some process has mapped was found; the others' notes say so.
        let awaited = self.traced.iter().map(|traced| traced.awaited.as_ref());
        if let Some(Some(never)) = awaited.reduce(Option::and) {
            log::warn!("{never}");
        }
        let mut all = Attached::default();
        for traced in &mut self.traced {
            all.append(&mut traced.attached);
        }
        (now, all)
    }

    /// What a report about the time `now_ns` is made of.
    pub fn facts(&self, now_ns: u64) -> Facts<'_> {
        let processes: Vec<_> = self.traced.iter().map(|traced| &traced.process).collect();
        self.trace.facts(&processes, now_ns, &self.losses())
    }

    /// What was lost so far, or until the run ended.
    fn losses(&self) -> Losses {
        let reasons = self.counters.losses();
        Losses {
            lost: self.lost_at_end.unwrap_or_else(|| self.counters.lost()),
            last_ns: self.counters.last_loss_ns(),
            reasons: reasons
                .map(|(counter, count)| (counter.label().to_owned(), count))
                .collect(),
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
        lines.push(format!("records received: {}", self.trace.received));
        lines.push(format!("records undecodable: {}", self.trace.undecodable));
        lines.push(format!("stacks known: {}", self.trace.stacks.len()));
        for (function, enters, returns) in self.counters.calls() {
            lines.push(format!(
                "{}: {enters} enters, {returns} returns",
                function.names()[0]
            ));
        }
        lines
    }
}
