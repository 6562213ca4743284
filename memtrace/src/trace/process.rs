//! One traced process, as reports see it.
use crate::{
    process::{Modules, Target},
    report::heap,
};

/// One traced process.
#[derive(Debug)]
pub struct Process {
    /// Who.
    pub target: Target,
    /// The traced process that it is a child of, if it was followed.
    pub parent: Option<u32>,
    /// Whether it has ended.
    pub exited: bool,
    /// For each file with allocation functions: its name and theirs.
    pub allocators: Vec<(String, Vec<String>)>,
    /// What of its allocations is not in the report, in sentences.
    pub missing: Vec<String>,
    /// What else a reader should know, in sentences.
    pub remarks: Vec<String>,
    /// What it has mapped as code.
    pub modules: Modules,
}

impl Process {
    /// Nothing is known of its allocators yet.
    pub fn new(target: Target, parent: Option<u32>, modules: Modules) -> Self {
        Self {
            target,
            parent,
            exited: false,
            allocators: Vec::new(),
            missing: Vec::new(),
            remarks: Vec::new(),
            modules,
        }
    }

    pub(super) fn describe(&self) -> heap::Process {
        let Target {
            pid,
            namespace_pid,
            comm,
            exe,
            ..
        } = &self.target;
        heap::Process {
            pid: *pid,
            namespace_pid: *namespace_pid,
            parent: self.parent,
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
