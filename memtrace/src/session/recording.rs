//! What a session writes into a capture.
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{Session, monotonic_ns};
use crate::{
    capture::{
        RecordError, Recorder, Shown,
        format::{Kind, Module, Names, Process, Progress, Start},
    },
    event::Batch,
    report::assemble,
    symbol::{Symbol, Symbolizer},
};

/// How often to note what has been lost, in case there is no end.
const PROGRESS_NS: u64 = 1_000_000_000;

/// Bytes of names that go into one block.
const NAMES_BYTES: usize = 1 << 20;

/// A capture of this session.
pub struct Recording {
    recorder: Recorder,
    /// Modules that are in it.
    modules: usize,
    progress_ns: u64,
}

impl Session {
    /// Writes all that happens from here on into a capture, after what there
    /// is. To be called before any event is taken in. `shown`: what the run's
    /// own report shows.
    pub fn record(&mut self, mut recorder: Recorder, shown: Shown) {
        let origin = self.trace.origin.clone();
        let options = &self.options;
        let allocator = options.allocator.as_ref();
        let start = Start {
            version: origin.version,
            kernel: origin.kernel,
            architecture: origin.architecture,
            mechanism: origin.mechanism,
            wall_clock_ns: origin.wall_clock_ns,
            monotonic_ns: origin.monotonic_ns,
            started_ns: self.trace.started_ns,
            sample_bytes: options.admission.sample_bytes,
            mappings: options.mappings,
            allocator: allocator.map(|path| path.display().to_string()),
            shown,
        };
        recorder.put_json(Kind::Start, &start);
        self.recording = Some(Recording {
            recorder,
            modules: 0,
            progress_ns: monotonic_ns(),
        });
        for index in 0..self.traced.len() {
            self.record_process(index);
        }
    }

    /// A process as it is now, and the modules that are new.
    pub(super) fn record_process(&mut self, index: usize) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let Recording {
            recorder, modules, ..
        } = recording;
        for module in self.trace.modules.iter().skip(*modules) {
            let block = Module {
                id: module.id.0,
                module: module.to_record(),
            };
            recorder.put_json(Kind::Module, &block);
            *modules += 1;
        }
        let process = &self.traced[index].process;
        let target = &process.target;
        let block = Process {
            index,
            pid: target.pid,
            namespace_pid: target.namespace_pid,
            parent: process.parent,
            start_time: target.start_time,
            comm: target.comm.clone(),
            exe: target.exe.display().to_string(),
            exited: process.exited,
            allocators: process.allocators.clone(),
            missing: process.missing.clone(),
            remarks: process.remarks.clone(),
            mapped: process.modules.to_record(),
        };
        recorder.put_json(Kind::Process, &block);
    }

    /// Records that have been taken in.
    pub(super) fn record_events(&mut self, batch: &Batch, range: Range<usize>) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        if !range.is_empty() {
            recording.recorder.put(Kind::Events, batch.bytes(range));
        }
        let now = monotonic_ns();
        if now.saturating_sub(recording.progress_ns) >= PROGRESS_NS {
            recording.progress_ns = now;
            self.record_progress(Kind::Progress, now);
        }
    }

    /// How far it has got.
    pub(super) fn record_progress(&mut self, kind: Kind, now_ns: u64) {
        if self.recording.is_none() {
            return;
        }
        let losses = self.losses();
        if let Some(recording) = &mut self.recording {
            let progress = Progress { now_ns, losses };
            recording.recorder.put_json(kind, &progress);
        }
    }

    /// Adds what the code on all stacks is called, and the end.
    ///
    /// # Errors
    /// Not all of the capture could be written, now or earlier.
    pub fn finish_recording(
        &mut self,
        end_ns: u64,
        symbolizer: &mut Symbolizer,
    ) -> Result<(), RecordError> {
        if let Some(recording) = &mut self.recording {
            let mut addresses = BTreeMap::<u32, BTreeSet<u64>>::new();
            let stacks = self.trace.stacks.iter();
            let frames = stacks.flat_map(|stack| &stack.frames);
            for (module, vaddr) in frames.filter_map(|frame| frame.module) {
                addresses.entry(module.0).or_default().insert(vaddr);
            }
            let files = assemble::files(&self.trace.modules);
            for (module, addresses) in addresses {
                let Some(file) = files.get(module as usize) else {
                    continue;
                };
                let mut names = Names {
                    module,
                    ..Names::default()
                };
                let mut bytes = 0;
                for vaddr in addresses {
                    let symbols = symbolizer.resolve(file, vaddr).to_vec();
                    bytes += symbols.iter().map(Symbol::bytes).sum::<usize>();
                    names.addresses.push((vaddr, symbols));
                    if bytes >= NAMES_BYTES {
                        recording.recorder.put_json(Kind::Names, &names);
                        names.addresses.clear();
                        bytes = 0;
                    }
                }
                names.warnings = symbolizer.warnings_of(file).to_vec();
                recording.recorder.put_json(Kind::Names, &names);
            }
        }
        self.record_progress(Kind::End, end_ns);
        match self.recording.take() {
            Some(recording) => recording.recorder.close(),
            None => Ok(()),
        }
    }
}
