//! What changes while a session runs: events arrive, processes come, map code,
//! run other programs and end.
use super::{
    Session, SessionError, Traced,
    copied::is_of_copy,
    start::{note_ends, position, reread},
    traced::find,
};
use crate::{
    event::Batch,
    process::{Modules, Target, follow},
    trace::Change,
};

impl Session {
    /// Takes a batch of events in.
    pub fn apply(&mut self, batch: &Batch) {
        let (mut recorded, mut behind) = (0, 0);
        for (end, record) in batch.records() {
            let begin = std::mem::replace(&mut behind, end);
            if let Ok(record) = record
                && is_of_copy(&record)
            {
                // Captures get the stack that comes of it instead.
                self.record_events(batch, recorded..begin);
                recorded = end;
                self.apply_copied(&record);
                continue;
            }
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
        position(&self.traced, pid)
    }

    /// Reads a process's mappings again, after it has loaded libraries or
    /// runs another program. `late`: it has been running meanwhile.
    pub fn refresh(&mut self, pid: u32, late: bool) {
        let Some(index) = self.position(pid) else {
            return;
        };
        let (traced, cache) = (&mut self.traced[index], &mut self.trace.modules);
        if !reread(traced, cache, &mut self.tables, &self.options.proc_root) {
            return;
        }
        if let Err(error) = self.attach_new(index, late) {
            let traced = &mut self.traced[index];
            if matches!(error, SessionError::NotMapped { .. }) {
                // It may be mapped later, or by the next program.
                traced.awaited = Some(error.to_string());
            } else {
                log::warn!("{error}");
                traced.failed = Some(error.to_string());
            }
            traced.note_missing();
        }
        self.record_process(index);
    }

    /// Notes which processes have ended. Returns whether any is left.
    pub fn any_alive(&mut self) -> bool {
        let ended = note_ends(&mut self.traced, &mut self.tables, &self.options.proc_root);
        for index in ended {
            self.record_process(index);
        }
        self.traced.iter().any(|traced| !traced.process.exited)
    }
}
