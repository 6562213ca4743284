//! The eBPF object: loading it, and sizing its maps.
#![expect(unsafe_code, reason = "aya cannot know that a program's kind is right")]
use std::{borrow::Cow, io, path::Path};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
    programs::{ProbeKind, Program, ProgramError, UProbe},
};
use memtrace_common::{
    cookie::ProcessAddress,
    unwind::{HiddenReturns, Method},
};

use crate::{
    kernel::{self, layout::hidden_returns},
    sampling,
};

use super::{
    LoadError,
    job::{Job, LAID_OUT, MAPS},
    laid_out::laid_out,
    load_error::{refused, why_not_loaded},
    maps::take,
    multi::MultiPrograms,
    plan::RETURN_PROGRAM,
    pod::Wire,
};

/// The object, as the build script made or found it.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/memtrace.bpf.o"));

/// The reader is woken when so much waits for it, or a quarter of the buffer.
const WAKE_BYTES: u64 = 64 * 1024;

/// Sizes that depend on the machine and on the targets.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of the ring buffer, bytes; a power of two.
    pub ring_bytes: u32,
    /// Chunks of unwind rows.
    pub row_chunks: u32,
}

/// Which blocks the kernel side takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// At least this many bytes.
    pub min_size: u64,
    /// At most this many bytes.
    pub max_size: u64,
    /// Mean bytes between samples; 0: all.
    pub sample_bytes: u64,
}

/// How stacks are walked.
#[derive(Clone, Copy, Debug)]
pub struct Unwinding {
    /// By what.
    pub method: Method,
    /// Whether walks are remembered.
    pub remember: bool,
    /// Where return addresses are that return probes hide.
    pub hidden: HiddenReturns,
}

impl Unwinding {
    /// By `method`, on the kernel whose `/sys` has this root.
    pub fn new(method: Method, remember: bool, sys_root: &Path) -> Self {
        Self {
            method,
            remember,
            hidden: hidden_returns(sys_root),
        }
    }
}

impl Admission {
    /// Whether blocks are left out for their size.
    pub fn leaves_sizes_out(&self) -> bool {
        let Self {
            min_size, max_size, ..
        } = Self::default();
        self.sample_bytes == 0 && (self.min_size > min_size || self.max_size < max_size)
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            min_size: 0,
            max_size: u64::MAX,
            sample_bytes: 0,
        }
    }
}

/// Cookies by address, where probes cannot have them.
pub(super) type CookieTable = HashMap<MapData, Wire<ProcessAddress>, u64>;

/// The loaded programs and maps.
pub struct Programs {
    pub(super) ebpf: Ebpf,
    /// The uprobe programs where the kernel has uprobe-multi; otherwise aya
    /// loads them for perf events.
    pub(super) multi: Option<MultiPrograms>,
    /// For perf events: the return program as one for instructions.
    result: Option<UProbe>,
    /// Where cookies go if probes cannot have them.
    pub(super) cookies: Option<CookieTable>,
}

impl Programs {
    /// By which mechanism probes are placed, for people.
    pub fn mechanism(&self) -> &'static str {
        if self.multi.is_some() {
            "uprobe-multi links"
        } else {
            "uprobes of perf events"
        }
    }

    /// Loads the object and the programs that the job needs. `log_level`: how
    /// much the kernel side says through aya-log, 0 nothing. `multi`: use uprobe-multi
    /// if the kernel lets us.
    pub fn load(
        job: Job,
        sizes: Sizes,
        admission: Admission,
        unwinding: Unwinding,
        log_level: u8,
        multi: bool,
    ) -> Result<Self, LoadError> {
        let has_cookies = aya::features().bpf_cookie();
        let shed_bytes = u64::from(sizes.ring_bytes / 4) * 3;
        let wake_bytes = u64::from(sizes.ring_bytes / 4).min(WAKE_BYTES);
        let mut loader = EbpfLoader::new();
        for (whose, map, entries) in MAPS {
            loader.map_max_entries(map, if *whose == job { *entries } else { 1 });
        }
        let mut object = Cow::Borrowed(OBJECT);
        for (_, map, entries) in LAID_OUT
            .iter()
            .filter(|(whose, ..)| *whose == job && !kernel::perf_events_take_any_map())
        {
            loader.map_max_entries(map, *entries);
            object = laid_out(&object, map).map_or(object, Cow::Owned);
        }
        let hidden = Wire(unwinding.hidden);
        let (method, remember) = (unwinding.method as u8, u8::from(unwinding.remember));
        let cookies = u8::from(has_cookies);
        let copies = u8::from(job == Job::Heap);
        loader
            .map_max_entries("EVENTS", sizes.ring_bytes)
            .map_max_entries("ROWS", sizes.row_chunks)
            .override_global("WAKE_BYTES", &wake_bytes, true)
            .override_global("SHED_BYTES", &shed_bytes, true)
            .override_global("HAS_COOKIES", &cookies, true)
            .override_global("MIN_SIZE", &admission.min_size, true)
            .override_global("MAX_SIZE", &admission.max_size, true)
            .override_global("SAMPLE_BYTES", &admission.sample_bytes, true)
            .override_global("UNWIND", &method, true)
            .override_global("REMEMBER", &remember, true)
            .override_global("COPIES", &copies, true)
            .override_global("HIDDEN_RETURNS", &hidden, true)
            .override_global(aya_log::LEVEL, &log_level, false);
        let mut load = || loader.load(&object).map_err(why_not_loaded);
        let mut ebpf = load()?;
        let tried = multi;
        let multi = if tried {
            MultiPrograms::load(&object, &ebpf, |name| job.needs(name))
        } else {
            Err(io::ErrorKind::Unsupported.into())
        };
        if let Err(reason) = &multi {
            log::debug!(
                "no uprobe-multi ({reason}): using perf events, which take longer to detach"
            );
            if tried {
                // A program array is for the kind of program that used it first.
                ebpf = load()?;
            }
        }
        let mut programs = Self {
            ebpf,
            multi: multi.ok(),
            result: None,
            cookies: None,
        };
        programs.load_all(job)?;
        if job == Job::Heap && programs.multi.is_none() {
            programs.result = Some(programs.at_instructions(RETURN_PROGRAM)?);
        }
        if !has_cookies {
            programs.cookies = Some(programs.hash("COOKIES")?);
        }
        if admission.sample_bytes != 0 {
            programs.fill_odds()?;
        }
        Ok(programs)
    }

    fn load_all(&mut self, job: Job) -> Result<(), LoadError> {
        let programs = self.ebpf.programs_mut();
        for (name, program) in programs.filter(|(name, _)| job.needs(name)) {
            let loaded = match program {
                Program::UProbe(_) if self.multi.is_some() => continue,
                Program::UProbe(program) => program.load(),
                Program::RawTracePoint(program) => program.load(),
                _ => continue,
            };
            loaded.map_err(|error| refused(name, error))?;
        }
        Ok(())
    }

    /// The program with this name once more, to be attached at instructions: aya
    /// knows it as one for returns alone.
    fn at_instructions(&mut self, name: &'static str) -> Result<UProbe, LoadError> {
        let again = || {
            let Some(Program::UProbe(program)) = self.ebpf.program(name) else {
                return Err(ProgramError::NotLoaded);
            };
            // SAFETY: a program of the kernel's type for kprobes and uprobes,
            // loaded by this process as the latter.
            unsafe { UProbe::from_program_info(program.info()?, name.into(), ProbeKind::Entry) }
        };
        again().map_err(|error| refused(name, error))
    }

    /// A loaded uprobe program, to be attached at instructions or at returns.
    pub(super) fn uprobe(&mut self, name: &str, at_return: bool) -> Option<&mut UProbe> {
        if name == RETURN_PROGRAM && !at_return {
            return self.result.as_mut();
        }
        match self.ebpf.program_mut(name) {
            Some(Program::UProbe(program)) => Some(program),
            _ => None,
        }
    }

    fn fill_odds(&mut self) -> Result<(), LoadError> {
        let mut odds = self.array("MISSED")?;
        for (index, missed) in (0..).zip(sampling::missed()) {
            odds.set(index, missed, 0)
                .map_err(|source| LoadError::Map {
                    name: "MISSED",
                    source,
                })?;
        }
        Ok(())
    }

    /// Attaches the programs that watch processes: for each the tracepoint.
    pub fn watch_processes(&mut self) -> Result<(), LoadError> {
        for (name, tracepoint) in crate::kernel::PROCESS_TRACEPOINTS {
            if let Some(Program::RawTracePoint(program)) = self.ebpf.program_mut(name) {
                program
                    .attach(tracepoint)
                    .map_err(|source| LoadError::Tracepoint {
                        program: (*name).to_owned(),
                        source,
                    })?;
            }
        }
        Ok(())
    }

    /// The ring buffer; once.
    pub fn ring(&mut self) -> Result<RingBuf<MapData>, LoadError> {
        take(&mut self.ebpf, "EVENTS")
    }

    pub(super) fn array<T: Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<Array<MapData, T>, LoadError> {
        take(&mut self.ebpf, name)
    }

    pub(super) fn hash<K: Pod, V: Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<HashMap<MapData, K, V>, LoadError> {
        take(&mut self.ebpf, name)
    }

    pub(super) fn per_cpu(
        &mut self,
        name: &'static str,
    ) -> Result<PerCpuArray<MapData, u64>, LoadError> {
        take(&mut self.ebpf, name)
    }

    /// The aya-log reader of the kernel side's diagnostics.
    pub fn logger(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>, aya_log::Error> {
        aya_log::EbpfLogger::init(&mut self.ebpf)
    }
}
