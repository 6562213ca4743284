//! Loads the programs that watch out-of-memory kills, and nothing else, and
//! attaches each by the first mechanism that this kernel allows.
use aya::{
    Btf, Ebpf,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::{Program, ProgramError},
};
use memtrace_common::{Counter, oom::OomLayout};

use super::{
    LoadError,
    load_error::why_not_loaded,
    maps::{loader_without_processes, take},
    object::OBJECT,
    pod::Wire,
};
use crate::kernel::oom::{Candidate, HOOKS, Mechanism};

/// Bytes of the ring buffer: about 3,800 kills that nobody has read yet.
const RING_BYTES: u32 = 4 << 20;

/// The programs, attached.
pub struct OomProbes {
    /// Takes the programs out when it is dropped.
    #[expect(dead_code, reason = "held for its programs")]
    ebpf: Ebpf,
    ring: Option<RingBuf<MapData>>,
    counters: PerCpuArray<MapData, u64>,
    /// What is in use for each hook; what a kernel does not have is in
    /// [`Self::missing`].
    pub used: Vec<(&'static str, &'static Candidate)>,
    /// What will not be known, and why.
    pub missing: Vec<(&'static str, String)>,
}

impl OomProbes {
    /// Loads and attaches. `forced`: names of candidates that have no substitute.
    ///
    /// # Errors
    /// There is no eBPF for this user, no way to see kills, or what is forced is
    /// not possible here.
    pub fn start(layout: &OomLayout, forced: &[String]) -> Result<Self, LoadError> {
        let layout = Wire(*layout);
        let mut loader = loader_without_processes();
        loader
            .map_max_entries("EVENTS", RING_BYTES)
            .override_global("OOM", &layout, true);
        let mut ebpf = loader.load(OBJECT).map_err(why_not_loaded)?;
        let types = Btf::from_sys_fs().ok();
        let (mut used, mut missing) = (Vec::new(), Vec::new());
        for hook in HOOKS {
            let candidates = hook.candidates(forced);
            let is_forced = candidates
                .iter()
                .any(|one| forced.iter().any(|name| name == one.name));
            match attach(&mut ebpf, &candidates, types.as_ref()) {
                Ok(candidate) => used.push((hook.tells, candidate)),
                Err(error) if hook.needed || is_forced => return Err(error),
                Err(error) => missing.push((hook.tells, error.to_string())),
            }
        }
        let ring = take(&mut ebpf, "EVENTS")?;
        let counters = take(&mut ebpf, "COUNTERS")?;
        Ok(Self {
            ring: Some(ring),
            counters,
            ebpf,
            used,
            missing,
        })
    }

    /// The ring buffer; once.
    pub fn ring(&mut self) -> Option<RingBuf<MapData>> {
        self.ring.take()
    }

    /// Kills that found no room in it.
    pub fn lost(&self) -> u64 {
        let values = self.counters.get(&(Counter::RingFull as u32), 0);
        values.map_or(0, |values| values.iter().sum())
    }
}

/// Tries the candidates in order; the last one's error stands for all.
fn attach(
    ebpf: &mut Ebpf,
    candidates: &[&'static Candidate],
    types: Option<&Btf>,
) -> Result<&'static Candidate, LoadError> {
    let mut last = ("", ProgramError::NotLoaded);
    for candidate in candidates {
        let Candidate {
            program, mechanism, ..
        } = candidate;
        match attach_one(ebpf, program, *mechanism, types) {
            Ok(()) => return Ok(candidate),
            Err(source) => {
                log::debug!("{program} by {mechanism:?}: {source}");
                last = (program, source);
            }
        }
    }
    let (program, source) = last;
    Err(LoadError::Tracepoint {
        program: program.to_owned(),
        source,
    })
}

fn attach_one(
    ebpf: &mut Ebpf,
    name: &str,
    mechanism: Mechanism,
    types: Option<&Btf>,
) -> Result<(), ProgramError> {
    match (ebpf.program_mut(name), mechanism) {
        (Some(Program::RawTracePoint(program)), Mechanism::Tracepoint(tracepoint)) => {
            program.load()?;
            program.attach(tracepoint).map(drop)
        }
        (Some(Program::TracePoint(program)), Mechanism::Classic(category, tracepoint)) => {
            program.load()?;
            program.attach(category, tracepoint).map(drop)
        }
        (Some(Program::KProbe(program)), Mechanism::Kprobe(function)) => {
            program.load()?;
            program.attach(function, 0).map(drop)
        }
        (Some(Program::FEntry(program)), Mechanism::Fentry(function)) => {
            let types = types.ok_or(ProgramError::NotLoaded)?;
            program.load(function, types)?;
            program.attach().map(drop)
        }
        _ => Err(ProgramError::NotLoaded),
    }
}
