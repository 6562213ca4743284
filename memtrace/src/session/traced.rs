//! One traced process, as a session keeps it.
use std::collections::HashSet;

use crate::{
    probe::Attached,
    process::{ModuleId, Modules, Target},
    report::heap::Process,
};

/// One traced process.
pub struct Traced {
    /// Who.
    pub target: Target,
    /// Whether it has ended.
    pub exited: bool,
    /// For each file with allocation functions: its name and theirs.
    pub allocators: Vec<(String, Vec<&'static str>)>,
    /// What allocates past every probe, in sentences.
    pub unseen: Vec<String>,
    pub(super) modules: Modules,
    /// Goes up when other code than before lies at some address.
    pub(super) generation: u32,
    pub(super) attached: Attached,
    pub(super) placed: HashSet<(ModuleId, u64, &'static str)>,
}

impl Traced {
    /// What of its allocations is not in the report, in sentences.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = self.unseen.clone();
        if self.allocators.is_empty() {
            let Target { pid, comm, .. } = &self.target;
            let why = why_no_allocator(&self.modules);
            missing.push(format!(
                "process {pid} ({comm}) now runs a program without an allocator that memtrace knows: {why}"
            ));
        }
        missing
    }

    pub(super) fn describe(&self) -> Process {
        let Target { pid, comm, exe, .. } = &self.target;
        Process {
            pid: *pid,
            comm: comm.clone(),
            exe: exe.display().to_string(),
            exited: self.exited,
            allocators: self
                .allocators
                .iter()
                .map(|(file, names)| format!("{file}: {}", names.join(" ")))
                .collect(),
        }
    }
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
