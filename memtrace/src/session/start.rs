//! What every session does alike: how it begins, and how it keeps up with what
//! its processes map and with their ends.
use std::{path::Path, time::Duration};

use super::{SessionError, Traced};
use crate::{
    event::ring::Reader,
    kernel,
    probe::{
        Job, Programs,
        counters::Counters,
        object::{Admission, Sizes, Unwinding},
        unwind::{self, Tables},
    },
    process::{Target, modules::ModuleCache},
};

/// What to begin with.
pub(super) struct Start<'a> {
    pub(super) job: Job,
    pub(super) proc_root: &'a Path,
    pub(super) pids: &'a [u32],
    /// Absent: by the machine's memory.
    pub(super) ring_bytes: Option<u32>,
    /// How long a record may wait to be read.
    pub(super) tick: Duration,
    pub(super) admission: Admission,
    pub(super) unwinding: Unwinding,
    pub(super) log_level: u8,
}

/// A kernel side that is loaded and knows the processes' code; nothing is
/// probed yet.
pub(super) struct Started {
    pub(super) programs: Programs,
    pub(super) tables: Tables,
    pub(super) counters: Counters,
    pub(super) reader: Reader,
    pub(super) modules: ModuleCache,
    pub(super) traced: Vec<Traced>,
}

impl Start<'_> {
    /// Finds the processes, loads the kernel side and makes it ready.
    pub(super) fn begin(self) -> Result<Started, SessionError> {
        let root = self.proc_root;
        if !kernel::in_initial_pid_namespace(root) {
            return Err(SessionError::PidNamespace);
        }
        let mut modules = ModuleCache::default();
        let mut traced = Vec::new();
        for pid in self.pids {
            let target = Target::find(root, *pid)?;
            let mapped = modules.read(root, *pid)?;
            traced.push(Traced::new(target, None, mapped));
        }
        let unwind_tables = unwind::build(
            self.unwinding.method,
            modules.iter().map(|module| &**module),
        );
        let ring_bytes = match self.ring_bytes {
            Some(bytes) => bytes,
            None => kernel::ring_bytes(root).map_err(|source| SessionError::System {
                what: "read /proc/meminfo",
                source,
            })?,
        };
        let sizes = Sizes {
            ring_bytes,
            row_chunks: unwind_tables.chunks(),
        };
        let mut programs = Programs::load(
            self.job,
            sizes,
            self.admission,
            self.unwinding,
            self.log_level,
            kernel::filters_multi_by_process(),
        )?;
        programs.watch_processes()?;
        let counters = Counters::open(&mut programs)?;
        let mut tables = Tables::open(&mut programs, self.unwinding.method)?;
        tables.load(&unwind_tables);
        let reader =
            Reader::start(programs.ring()?, self.tick).map_err(|source| SessionError::System {
                what: "poll the ring buffer",
                source,
            })?;
        Ok(Started {
            programs,
            tables,
            counters,
            reader,
            modules,
            traced,
        })
    }
}

/// Reads a process's mappings again. Returns false where it is gone; its end is
/// noticed elsewhere.
pub(super) fn reread(
    traced: &mut Traced,
    cache: &mut ModuleCache,
    tables: &mut Tables,
    proc_root: &Path,
) -> bool {
    let pid = traced.pid();
    let Ok(modules) = cache.read(proc_root, pid) else {
        return false;
    };
    if let Ok(target) = Target::find(proc_root, pid) {
        traced.process.target = target;
    }
    let new = modules
        .files()
        .filter(|module| !tables.has(module))
        .map(|module| &**module);
    let new = unwind::build(tables.method(), new);
    tables.load(&new);
    if traced.process.modules.update(modules) {
        traced.generation += 1;
    }
    true
}

/// Notes which processes have ended, and takes their probes out. Returns their
/// indices.
pub(super) fn note_ends(
    traced: &mut [Traced],
    tables: &mut Tables,
    proc_root: &Path,
) -> Vec<usize> {
    let mut ended = Vec::new();
    for (index, traced) in traced.iter_mut().enumerate() {
        let process = &mut traced.process;
        if !process.exited && !process.target.is_alive(proc_root) {
            process.exited = true;
            tables.remove_process(process.target.pid);
            // Their descriptors are needed for others; and it takes a while.
            let mut attached = std::mem::take(&mut traced.attached);
            std::thread::spawn(move || attached.detach());
            ended.push(index);
        }
    }
    ended
}

/// The process with this id that runs.
pub(super) fn position(traced: &[Traced], pid: u32) -> Option<usize> {
    let mut traced = traced.iter();
    traced.rposition(|traced| traced.pid() == pid && !traced.process.exited)
}
