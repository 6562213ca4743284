//! What changes while a session runs: events arrive, processes come, map code,
//! run other programs and end.
use std::path::Path;

use super::{Session, Traced, traced::find};
use crate::{
    event::Batch,
    probe::unwind,
    process::{Modules, Target, follow},
    trace::Change,
};

impl Session {
    /// Takes a batch of events in.
    pub fn apply(&mut self, batch: &Batch) {
        let mut recorded = 0;
        for (end, record) in batch.records() {
            let traced = &mut self.traced;
            let Some(change) = self.trace.apply(record, |pid| find(traced, pid)) else {
                continue;
            };
            // Mappings belong between the events before and after.
            self.record_events(batch, recorded..end);
            recorded = end;
            match change {
                Change::Mapped(pid) => self.refresh(pid, true),
                Change::Program(pid) => {
                    if let Some(index) = self.position(pid) {
                        self.traced[index].generation += 1;
                    }
                    self.refresh(pid, !self.holds);
                }
            }
        }
        self.record_events(batch, recorded..batch.len());
    }

    /// Takes in that a process has changed, which is held meanwhile: one that is
    /// new, or has mapped code.
    pub fn follow(&mut self, change: &follow::Change) {
        let pid = change.pid;
        self.holds = true;
        if let Some(index) = self.position(pid) {
            self.refresh(pid, false);
            self.traced[index].links = change.links;
            return;
        }
        let root = &self.options.proc_root;
        // It was killed before it began.
        let Ok(target) = Target::find(root, pid) else {
            return;
        };
        self.trace.live.forget(pid);
        let mut traced = Traced::new(target, change.parent, Modules::default());
        traced.links = change.links;
        self.traced.push(traced);
        self.record_process(self.traced.len() - 1);
        self.refresh(pid, false);
    }

    /// The process with this id that runs.
    fn position(&self, pid: u32) -> Option<usize> {
        let mut traced = self.traced.iter();
        traced.rposition(|traced| traced.pid() == pid && !traced.process.exited)
    }

    /// Reads a process's mappings again, after it has loaded libraries or
    /// runs another program. `late`: it has been running meanwhile.
    pub fn refresh(&mut self, pid: u32, late: bool) {
        let Some(index) = self.position(pid) else {
            return;
        };
        let root = &self.options.proc_root;
        // Gone: its end is noticed elsewhere.
        let Ok(modules) = self.trace.modules.read(root, pid) else {
            return;
        };
        if let Ok(target) = Target::find(root, pid) {
            self.traced[index].process.target = target;
        }
        let new = modules
            .files()
            .filter(|module| !self.tables.has(module))
            .map(|module| &**module);
        let tables = unwind::build(self.options.unwind, new);
        self.tables.load(&tables);
        let traced = &mut self.traced[index];
        if traced.process.modules.update(modules) {
            traced.generation += 1;
        }
        if let Err(error) = self.attach_new(index, late) {
            log::warn!("{error}");
            let traced = &mut self.traced[index];
            traced.failed = Some(error.to_string());
            traced.note_missing();
        }
        self.record_process(index);
    }

    /// Notes which processes have ended. Returns whether any is left.
    pub fn any_alive(&mut self) -> bool {
        let root: &Path = &self.options.proc_root;
        let mut ended = Vec::new();
        for (index, traced) in self.traced.iter_mut().enumerate() {
            let process = &mut traced.process;
            if !process.exited && !process.target.is_alive(root) {
                process.exited = true;
                self.tables.remove_process(process.target.pid);
                // Their descriptors are needed for others; and it takes a while.
                let mut attached = std::mem::take(&mut traced.attached);
                std::thread::spawn(move || attached.detach());
                ended.push(index);
            }
        }
        for index in ended {
            self.record_process(index);
        }
        self.traced.iter().any(|traced| !traced.process.exited)
    }
}
