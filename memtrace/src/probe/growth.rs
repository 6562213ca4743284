//! What `memtrace growth` hooks: for each hook the mechanisms in the order in
//! which they are tried, with what each of them loses.
use std::path::Path;

use aya::{
    maps::{HashMap, MapData, MapError},
    programs::{
        Program, ProgramError,
        perf_event::{PerfEventConfig, PerfEventLink, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
};
use memtrace_common::growth::{GrowthKey, GrowthSum};

use super::{
    Attachment, LoadError, Plan, Programs,
    load_error::refused,
    plan::{Planner, Wanted, is_bootstrap_linker, linker_breakpoint},
    pod::Wire,
};
use crate::{
    kernel::uprobe::Emulated,
    process::{self, Modules},
};

/// The program behind the system calls of C libraries.
pub(super) const CALL_PROGRAM: &str = "growth_call";

/// How a program is brought to its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mechanism {
    /// Perf events of the process's threads, one for each page fault.
    PerfEvents,
    /// A raw tracepoint, which all processes hit.
    Tracepoint(&'static str),
    /// Uprobes behind the system calls in the files that a process maps.
    Uprobes,
}

/// One way to serve a hook.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidate {
    /// As options call it.
    pub name: &'static str,
    /// What it is, for people.
    pub label: &'static str,
    /// What it does not see, and what it costs others; empty: nothing.
    pub loses: &'static str,
    /// Whether it may be taken where nobody asks for it.
    automatic: bool,
    program: &'static str,
    mechanism: Mechanism,
}

/// Page faults: which code touches new memory first.
pub const FAULTS: &[Candidate] = &[
    Candidate {
        name: "perf",
        label: "a perf event of the process's threads for each page fault",
        loses: "",
        automatic: true,
        program: "growth_fault",
        mechanism: Mechanism::PerfEvents,
    },
    Candidate {
        name: "perf-user",
        label: "a perf event of the process's threads for each page fault in user mode",
        loses: "memory that the kernel touches first (read into a new buffer)",
        automatic: true,
        program: "growth_fault_user",
        mechanism: Mechanism::PerfEvents,
    },
    Candidate {
        name: "tracepoint",
        label: "the tracepoint exceptions:page_fault_user",
        loses: "memory that the kernel touches first (read into a new buffer); every page fault of every process takes a little longer",
        automatic: true,
        program: "growth_fault_trace",
        mechanism: Mechanism::Tracepoint("page_fault_user"),
    },
];

/// `brk`, `mmap`, `munmap` and `mremap`.
pub const CALLS: &[Candidate] = &[
    Candidate {
        name: "uprobe",
        label: "uprobes behind the system calls of the C library",
        loses: "calls that are made without the C library (Go, musl's own brk, stripped static programs)",
        automatic: true,
        program: CALL_PROGRAM,
        mechanism: Mechanism::Uprobes,
    },
    Candidate {
        name: "tracepoint",
        label: "the tracepoint raw_syscalls:sys_exit",
        loses: "nothing, but every system call of every process takes longer",
        automatic: false,
        program: "growth_call_trace",
        mechanism: Mechanism::Tracepoint("sys_exit"),
    },
];

/// Whether a program is the one behind system calls.
pub fn is_call(program: &str) -> bool {
    program == CALL_PROGRAM
}

/// What the user wants of a hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first candidate that works.
    #[default]
    Auto,
    /// This one.
    Forced(&'static Candidate),
    /// None.
    Off,
}

impl Choice {
    /// The candidates to try, in this order.
    pub fn candidates(self, table: &'static [Candidate]) -> Vec<&'static Candidate> {
        match self {
            Self::Auto => table.iter().filter(|one| one.automatic).collect(),
            Self::Forced(one) => vec![one],
            Self::Off => Vec::new(),
        }
    }
}

/// Loads the first candidate that the kernel takes, and attaches it where that
/// needs no process. `Ok(None)`: the hook is off.
///
/// # Errors
/// What the kernel said to the last candidate.
pub fn arm(
    programs: &mut Programs,
    table: &'static [Candidate],
    choice: Choice,
) -> Result<Option<&'static Candidate>, LoadError> {
    first_that_works(choice.candidates(table), |candidate| {
        load(programs, candidate)
    })
}

/// The first candidate that can be taken; `Ok(None)`: there is none to try.
fn first_that_works<E: std::fmt::Display>(
    candidates: Vec<&'static Candidate>,
    mut take: impl FnMut(&Candidate) -> Result<(), E>,
) -> Result<Option<&'static Candidate>, E> {
    let mut last = None;
    for candidate in candidates {
        match take(candidate) {
            Ok(()) => {
                log::info!("{}", candidate.describe());
                return Ok(Some(candidate));
            }
            Err(error) => {
                log::info!("{} is not possible here: {error}", candidate.label);
                last = Some(error);
            }
        }
    }
    last.map_or(Ok(None), Err)
}

fn load(programs: &mut Programs, candidate: &Candidate) -> Result<(), LoadError> {
    let name = candidate.program;
    let failed = |error| refused(name, error);
    match (programs.ebpf.program_mut(name), candidate.mechanism) {
        (Some(Program::PerfEvent(program)), _) => program.load().map_err(failed),
        (Some(Program::RawTracePoint(program)), Mechanism::Tracepoint(tracepoint)) => {
            program.load().map_err(failed)?;
            let attached = program.attach(tracepoint);
            attached.map(drop).map_err(|source| LoadError::Tracepoint {
                program: name.to_owned(),
                source,
            })
        }
        // Loaded with the object.
        (Some(Program::UProbe(_)), _) => Ok(()),
        _ => Err(failed(ProgramError::NotLoaded)),
    }
}

impl Candidate {
    /// What it is and what it loses.
    pub fn describe(&self) -> String {
        if self.loses.is_empty() {
            self.label.to_owned()
        } else {
            format!("{}; not seen: {}", self.label, self.loses)
        }
    }

    /// Whether it is the best that there is for its hook.
    pub fn is_first(&self) -> bool {
        [FAULTS, CALLS]
            .iter()
            .any(|table| table.first() == Some(self))
    }

    /// Whether each file of a process has to be probed.
    pub fn is_by_file(&self) -> bool {
        self.mechanism == Mechanism::Uprobes
    }
}

/// Attaches the program to all threads of a process; threads that they start
/// inherit it. Empty where the mechanism needs no process.
///
/// # Errors
/// The kernel refuses; not for threads that have ended meanwhile.
pub fn attach_faults(
    programs: &mut Programs,
    candidate: &Candidate,
    proc_root: &Path,
    pid: u32,
) -> Result<Vec<PerfEventLink>, ProgramError> {
    let Some(Program::PerfEvent(program)) = programs.ebpf.program_mut(candidate.program) else {
        return Ok(Vec::new());
    };
    let mut links = Vec::new();
    let mut failed = None;
    // Gone: its end is noticed elsewhere.
    for tid in process::threads(proc_root, pid).unwrap_or_default() {
        let link = program
            .attach(
                PerfEventConfig::Software(SoftwareEvent::PageFaults),
                PerfEventScope::OneProcess {
                    pid: tid,
                    cpu: None,
                },
                SamplePolicy::Period(1),
                true,
            )
            .and_then(|id| program.take_link(id));
        match link {
            Ok(link) => links.push(link),
            Err(error) if super::attach::os_error(&error) == Some(nix::libc::ESRCH) => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(links), Err)
}

/// The probes behind the system calls that change a process's address space.
/// None where its files hold no such functions.
pub fn plan(modules: &Modules, emulated: Emulated) -> Plan {
    let wanted = Wanted {
        mappings: true,
        allocator: None,
        emulated,
    };
    let mut plan = Plan::default();
    for module in modules.files() {
        let Ok(image) = &module.image else { continue };
        plan.attachments.extend(linker_breakpoint(module, image));
        if is_bootstrap_linker(module) {
            continue;
        }
        let planner = Planner::new(module, image, wanted);
        let functions = planner
            .functions()
            .filter(|f| f.function.role().is_mapping());
        let probes: Vec<Attachment> = functions
            .filter_map(|defined| planner.behind_system_calls(defined, CALL_PROGRAM))
            .flatten()
            .collect();
        for probe in probes {
            let place = |one: &Attachment| (one.module.id, one.file_offset);
            if !plan
                .attachments
                .iter()
                .any(|one| place(one) == place(&probe))
            {
                plan.attachments.push(probe);
            }
        }
    }
    plan
}

/// What the kernel side has added up.
pub struct Sums {
    sums: HashMap<MapData, Wire<GrowthKey>, Wire<GrowthSum>>,
    breaks: HashMap<MapData, u32, u64>,
}

impl Sums {
    /// Opens the maps; once.
    pub fn open(programs: &mut Programs) -> Result<Self, LoadError> {
        Ok(Self {
            sums: programs.hash("GROWTH")?,
            breaks: programs.hash("BREAKS")?,
        })
    }

    /// Every sum so far.
    pub fn all(&self) -> Vec<(GrowthKey, GrowthSum)> {
        // One that cannot be read was never written.
        let sums = self.sums.iter().filter_map(Result::ok);
        sums.map(|(Wire(key), Wire(sum))| (key, sum)).collect()
    }

    /// Tells where a process's program break is, at the end of its page: what
    /// it moves by counts from there.
    pub fn set_break(&mut self, pid: u32, end: u64) -> Result<(), MapError> {
        self.breaks.insert(pid, end, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(choice: Choice, works: &[&str]) -> Result<Option<&'static str>, String> {
        let candidates = choice.candidates(FAULTS);
        let taken = first_that_works(candidates, |candidate| {
            if works.contains(&candidate.name) {
                Ok(())
            } else {
                Err(format!("no {}", candidate.name))
            }
        });
        Ok(taken?.map(|candidate| candidate.name))
    }

    #[test]
    fn a_kernel_gets_the_first_that_it_takes() {
        let all = ["tracepoint", "perf-user", "perf"];
        assert_eq!(taken(Choice::Auto, &all), Ok(Some("perf")));
        assert_eq!(taken(Choice::Auto, &all[..2]), Ok(Some("perf-user")));
        assert_eq!(taken(Choice::Auto, &all[..1]), Ok(Some("tracepoint")));
        assert_eq!(taken(Choice::Auto, &[]), Err("no tracepoint".to_owned()));
        assert_eq!(taken(Choice::Off, &all), Ok(None));
    }

    #[test]
    fn what_is_forced_has_no_substitute() {
        let forced = Choice::Forced(&FAULTS[0]);
        assert_eq!(taken(forced, &["perf"]), Ok(Some("perf")));
        assert_eq!(taken(forced, &["tracepoint"]), Err("no perf".to_owned()));
    }

    /// Nobody's system calls become slower unasked.
    #[test]
    fn what_slows_others_down_is_never_taken_unasked() {
        let names: Vec<&str> = Choice::Auto
            .candidates(CALLS)
            .iter()
            .map(|one| one.name)
            .collect();
        assert_eq!(names, ["uprobe"]);
        assert!(FAULTS[0].is_first() && !FAULTS[1].is_first());
    }
}
