//! One traced process, as a session keeps it.
use std::collections::HashSet;

use crate::{
    probe::{Attached, Attachment},
    process::{ModuleId, Modules, Target},
    trace::Process,
};

/// One traced process.
pub struct Traced {
    /// What reports say of it.
    pub process: Process,
    /// What allocates past every probe, in sentences.
    pub(super) unseen: Vec<String>,
    /// Whether it is held whenever it maps code.
    pub(super) links: bool,
    /// Files whose functions were probed a little late.
    pub(super) late: Vec<String>,
    /// Why probes could not be placed later on.
    pub(super) failed: Option<String>,
    /// The allocator that was asked for is not mapped yet: the sentence that says so.
    pub(super) awaited: Option<String>,
    /// Goes up when other code than before lies at some address.
    pub(super) generation: u32,
    pub(super) attached: Attached,
    pub(super) placed: HashSet<(ModuleId, u64, &'static str, bool)>,
}

impl Traced {
    pub(super) fn new(target: Target, parent: Option<u32>, modules: Modules) -> Self {
        Self {
            process: Process::new(target, parent, modules),
            unseen: Vec::new(),
            links: false,
            late: Vec::new(),
            failed: None,
            awaited: None,
            generation: 0,
            attached: Attached::default(),
            placed: HashSet::new(),
        }
    }

    /// Why it is not traced yet: the allocator that was asked for is not there.
    pub fn awaits(&self) -> Option<&str> {
        self.awaited.as_deref()
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.target.pid
    }

    /// Notes that probes were placed only after the code could have run.
    pub(super) fn note_late(&mut self, attachments: &[Attachment]) {
        for attachment in attachments.iter().filter(|new| new.is_counted()) {
            let file = attachment.module.name();
            if !self.late.contains(&file) {
                self.late.push(file);
            }
        }
    }

    /// Tells reports what of its allocations is not in them.
    pub(super) fn note_missing(&mut self) {
        let Target { pid, comm, .. } = &self.process.target;
        let mut missing = self.unseen.clone();
        missing.extend(self.failed.clone());
        missing.extend(self.awaited.clone());
        missing.extend(self.late.iter().map(|file| {
            format!(
                "{file} was loaded by process {pid} during the trace: what it allocated and freed in the milliseconds until the probes were in place is missing here"
            )
        }));
        if self.process.allocators.is_empty() && self.awaited.is_none() {
            let why = why_no_allocator(&self.process.modules);
            missing.push(format!(
                "process {pid} ({comm}) now runs a program without an allocator that memtrace knows: {why}"
            ));
        }
        self.process.missing = missing;
    }
}

/// The process among `traced` with this id: the last, since those before may
/// have had it.
pub(super) fn find(traced: &mut [Traced], pid: u32) -> Option<&mut Process> {
    let found = traced.iter_mut().rfind(|traced| traced.pid() == pid);
    found.map(|traced| &mut traced.process)
}

/// What a process without known allocation functions has instead.
pub(super) fn why_no_allocator(modules: &Modules) -> String {
    let Some(executable) = modules.files().next() else {
        return "none of its mapped files could be read".to_owned();
    };
    let path = executable.path.display();
    match &executable.image {
        Err(error) => format!("{path}: {error}"),
        Ok(image) if image.is_go() => format!(
            "{path} is a Go program, whose runtime allocates without malloc; Go's own heap profile (runtime/pprof) tells more"
        ),
        Ok(image) if !image.has_interpreter() && !image.has_symtab() => format!(
            "{path} is linked statically and stripped, so malloc cannot be found in it; trace a build that keeps its symbol table (no `-s`, no `strip`)"
        ),
        Ok(_) => format!(
            "neither {path} nor a library that it has mapped defines malloc under a name that memtrace knows"
        ),
    }
}
