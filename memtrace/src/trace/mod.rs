//! What a run's events add up to, wherever they come from: a session feeds it
//! from the kernel, a capture from a file, and both get the same report. It
//! does no I/O and reads no clock; what processes have mapped it is told.
mod process;

use memtrace_common::{DecodeError, Record};
pub use process::Process;
use serde::{Deserialize, Serialize};

use crate::{
    live::Live,
    process::{Modules, modules::ModuleCache},
    report::{assemble::Facts, heap::Environment},
    sampling::Sampling,
    stack::StackTable,
};

/// The state of a run.
#[derive(Debug, Default)]
pub struct Trace {
    /// What is outstanding.
    pub live: Live,
    /// Every stack seen.
    pub stacks: StackTable,
    /// Every file mapped as code in any traced process.
    pub modules: ModuleCache,
    /// When the last probe was in place, on the events' clock.
    pub started_ns: u64,
    /// Where and how it is traced.
    pub origin: Origin,
    /// When the run ended: what happened later is not taken in.
    pub ended_ns: Option<u64>,
    /// The latest event's time.
    pub latest_ns: u64,
    /// Records that arrived.
    pub received: u64,
    /// Of these, what could not be decoded.
    pub undecodable: u64,
}

/// Where and how a run is traced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// memtrace's version.
    pub version: String,
    /// What the kernel calls itself.
    pub kernel: String,
    /// The processor, as Rust calls it.
    pub architecture: String,
    /// By which mechanism probes are placed.
    pub mechanism: Option<String>,
    /// Some moment, nanoseconds since 1970.
    pub wall_clock_ns: u64,
    /// The same moment on the events' clock.
    pub monotonic_ns: u64,
}

impl Origin {
    fn describe(&self, started_ns: u64) -> Environment {
        let began = self.wall_clock_ns.saturating_add(started_ns);
        Environment {
            memtrace: self.version.clone(),
            kernel: self.kernel.clone(),
            architecture: self.architecture.clone(),
            mechanism: self.mechanism.clone(),
            began_unix_ns: began.saturating_sub(self.monotonic_ns),
        }
    }
}

/// What others have to look at after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The process with this id has mapped or unmapped code.
    Mapped(u32),
    /// The process with this id runs another program.
    Program(u32),
}

/// What the kernel side lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Events, for any reason.
    pub lost: u64,
    /// When the last of them was, on the events' clock; 0: none was.
    pub last_ns: u64,
    /// The reasons and how often, as people read them.
    pub reasons: Vec<(String, u64)>,
}

impl Trace {
    /// Nothing has happened yet. `sample_bytes`: mean bytes between samples;
    /// 0: everything is taken in.
    pub fn new(sample_bytes: u64) -> Self {
        Self {
            live: Live::new(Sampling::every(sample_bytes)),
            ..Self::default()
        }
    }

    /// Takes one record in; `process` finds a traced process by its id. Where
    /// the record says that its mappings are others from here on, it is for the
    /// caller to find out which.
    pub fn apply<'p>(
        &mut self,
        record: Result<Record<'_>, DecodeError>,
        process: impl FnOnce(u32) -> Option<&'p mut Process>,
    ) -> Option<Change> {
        self.received += 1;
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                self.undecodable += 1;
                log::debug!("undecodable record: {error:?}");
                return None;
            }
        };
        let head = *record.head();
        self.latest_ns = self.latest_ns.max(head.time_ns);
        let late = self.ended_ns.is_some_and(|end| head.time_ns > end);
        match &record {
            Record::Stack(stack) => {
                if let Some(process) = process(head.pid) {
                    let addresses = stack.frames.iter().map(|frame| frame.get());
                    let (hash, cut) = (stack.hash, stack.truncated());
                    let modules = &process.modules;
                    let first = self.stacks.insert(hash, cut, addresses, modules);
                    if let Some(first) = first {
                        self.live.same_stack(hash, first);
                    }
                }
            }
            // A session completes the stack, see there.
            Record::StackCopy(_) => {}
            _ if late => {}
            Record::Modules(_) => return Some(Change::Mapped(head.pid)),
            Record::Exec(_) => {
                self.live.apply(&record);
                // Nothing of the last program is mapped.
                if let Some(process) = process(head.pid) {
                    process.modules = Modules::default();
                }
                return Some(Change::Program(head.pid));
            }
            Record::Map(map) if self.stacks.get(map.stack).is_some_and(|s| s.by_allocator) => {}
            record => self.live.apply(record),
        }
        None
    }

    /// What a report about the time `now_ns` is made of.
    pub fn facts(&self, processes: &[&Process], now_ns: u64, losses: &Losses) -> Facts<'_> {
        let missing = processes.iter().flat_map(|process| &process.missing);
        let mut notes: Vec<String> = missing.cloned().collect();
        let complete = notes.is_empty();
        let remarks = processes.iter().flat_map(|process| &process.remarks);
        notes.extend(remarks.cloned());
        if losses.lost > 0 {
            let reasons = losses.reasons.iter();
            notes.extend(reasons.map(|(label, count)| format!("{label}: {count}")));
        }
        Facts {
            live: &self.live,
            stacks: &self.stacks,
            modules: &self.modules,
            processes: processes.iter().map(|process| process.describe()).collect(),
            started_ns: self.started_ns,
            now_ns,
            lost_events: losses.lost.saturating_add(self.undecodable),
            last_loss_ns: if losses.lost == 0 { 0 } else { losses.last_ns },
            complete,
            notes,
            environment: Some(self.origin.describe(self.started_ns)),
        }
    }
}
