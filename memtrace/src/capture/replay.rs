//! A capture played into the state machine that live runs use.
use std::{io::Read, path::PathBuf};

use serde::de::DeserializeOwned;

use super::{
    CaptureError,
    format::{self, Kind, Names, Progress, Start},
    reader::Blocks,
};
use crate::{
    event::Batch,
    process::{Modules, Target, modules::RecordedModule},
    report::{
        assemble::{self, Choice},
        heap::HeapReport,
    },
    symbol::{self, Symbolizer},
    trace::{Origin, Process, Trace},
};

/// All that a capture holds, at its end.
pub struct Replay {
    /// What it says of the run.
    pub start: Start,
    trace: Trace,
    processes: Vec<Process>,
    modules: Vec<RecordedModule>,
    names: Vec<Names>,
    progress: Progress,
    /// Why it has no end.
    early: Option<String>,
    symbolizer: Symbolizer,
}

impl Replay {
    /// Reads as much as is whole. `options`: where to look for names should
    /// the capture hold none.
    ///
    /// # Errors
    /// There is nothing to be read.
    pub fn read(input: impl Read, options: symbol::Options) -> Result<Self, CaptureError> {
        let mut blocks = Blocks::open(input)?;
        let first = blocks.next().map_err(CaptureError::Empty)?;
        let start = Kind::from_number(first.kind)
            .filter(|kind| *kind == Kind::Start)
            .and_then(|_| json::<Start>(&first.payload))
            .filter(|start| start.sample_bytes <= memtrace_common::sampling::LARGEST_MEAN)
            .ok_or_else(|| CaptureError::Empty("its first block is damaged".to_owned()))?;
        let mut replay = Self {
            trace: Trace {
                started_ns: start.started_ns,
                origin: origin(&start),
                ..Trace::new(start.sample_bytes)
            },
            start,
            processes: Vec::new(),
            modules: Vec::new(),
            names: Vec::new(),
            progress: Progress::default(),
            early: None,
            symbolizer: Symbolizer::new(options),
        };
        replay.early = replay.take_in(&mut blocks).err();
        if replay.early.is_some() {
            let latest = replay.trace.latest_ns.max(replay.trace.started_ns);
            let now = replay.progress.now_ns.max(latest);
            replay.progress.now_ns = replay.trace.ended_ns.unwrap_or(now);
        }
        replay.provide_names();
        Ok(replay)
    }

    /// Returns why there is no end, if there is none.
    fn take_in<R: Read>(&mut self, blocks: &mut Blocks<R>) -> Result<(), String> {
        loop {
            let at = blocks.offset();
            let block = blocks.next()?;
            let Some(kind) = Kind::from_number(block.kind) else {
                continue;
            };
            if self.take(kind, block.payload).is_none() {
                return Err(format!("the block at byte {at} makes no sense"));
            }
            if kind == Kind::End {
                return Ok(());
            }
        }
    }

    fn take(&mut self, kind: Kind, payload: Vec<u8>) -> Option<()> {
        match kind {
            Kind::Start => return None,
            Kind::Module => {
                let format::Module { id, module } = json(&payload)?;
                if self.modules.len() != id as usize {
                    return None;
                }
                self.trace.modules.add_recorded(&module);
                self.modules.push(module);
            }
            Kind::Process => self.take_process(json(&payload)?)?,
            Kind::Events => {
                let batch = Batch::from_bytes(payload.into());
                let processes = &mut self.processes;
                for (_, record) in batch.records() {
                    // What has been mapped is in the blocks that follow.
                    self.trace.apply(record, |pid| find(processes, pid));
                }
            }
            Kind::Progress | Kind::End => self.progress = json(&payload)?,
            Kind::Stop => {
                self.progress = json(&payload)?;
                self.trace.ended_ns = Some(self.progress.now_ns);
            }
            Kind::Names => self.names.push(json(&payload)?),
        }
        Some(())
    }

    fn take_process(&mut self, block: format::Process) -> Option<()> {
        let modules = Modules::from_record(&self.trace.modules, &block.mapped)?;
        let process = Process {
            target: Target {
                pid: block.pid,
                namespace_pid: block.namespace_pid,
                start_time: block.start_time,
                comm: block.comm,
                exe: PathBuf::from(block.exe),
            },
            parent: block.parent,
            exited: block.exited,
            allocators: block.allocators,
            missing: block.missing,
            remarks: block.remarks,
            modules,
        };
        if block.index == self.processes.len() {
            // Another may have had its id.
            self.trace.live.forget(block.pid);
            self.processes.push(process);
        } else {
            *self.processes.get_mut(block.index)? = process;
        }
        Some(())
    }

    /// Without an end there are not all names: the files are asked then, those
    /// that are here and still the same.
    fn provide_names(&mut self) {
        let files = assemble::files(&self.trace.modules);
        if self.early.is_none() {
            for Names {
                module,
                warnings,
                addresses,
            } in self.names.drain(..)
            {
                if let Some(file) = files.get(module as usize) {
                    self.symbolizer.provide(file, addresses, &warnings);
                }
            }
        }
        for (file, module) in files.iter().zip(&self.modules) {
            if self.early.is_none() {
                self.symbolizer.provide(file, [], &[]);
            } else if !module.is_here() {
                let missing = format!(
                    "{}: the file that was traced is not here: its code is shown as offsets",
                    module.path
                );
                self.symbolizer.provide(file, [], &[missing]);
            }
        }
    }

    /// Why the capture has no end, if it has none.
    pub fn ends_early(&self) -> Option<&str> {
        self.early.as_deref()
    }

    /// The report as of its end.
    pub fn report(&mut self, choice: &Choice) -> HeapReport {
        let processes: Vec<_> = self.processes.iter().collect();
        let Progress { now_ns, losses } = &self.progress;
        let mut facts = self.trace.facts(&processes, *now_ns, losses);
        if let Some(early) = &self.early {
            facts.complete = false;
            facts.notes.push(format!(
                "the capture ends early: {early}; what happened later is not in this report"
            ));
        }
        assemble::heap(&facts, choice, &mut self.symbolizer)
    }
}

fn origin(start: &Start) -> Origin {
    Origin {
        version: start.version.clone(),
        kernel: start.kernel.clone(),
        architecture: start.architecture.clone(),
        mechanism: start.mechanism.clone(),
        wall_clock_ns: start.wall_clock_ns,
        monotonic_ns: start.monotonic_ns,
    }
}

fn json<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}

/// The last: those before it may have had its id.
fn find(processes: &mut [Process], pid: u32) -> Option<&mut Process> {
    let mut processes = processes.iter_mut();
    processes.rfind(|process| process.target.pid == pid)
}
