//! Loads the programs that watch page frames, and nothing else, and attaches
//! them the best way that this kernel allows.
mod frames;
mod sample;

use std::{path::Path, sync::atomic::Ordering::Relaxed};

use aya::{
    Btf, Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{Program, ProgramError},
};
use memtrace_common::{
    oom::COMM,
    pages::{Frame, PagesLayout, SECTION_ORDER, Sum, WALKS},
};

use super::{
    LoadError,
    load_error::{refused, why_not_loaded},
    maps::{self, loader_without_processes, take},
    object::OBJECT,
    pod::Wire,
};
use crate::{
    kernel::pages::{AGAIN, BULK, CATEGORY, EXITS, Seeing, WAYS, Way},
    pages::sections::Sections,
};
use frames::FrameMemory;
use sample::{SampleError, memory_map};

/// Bytes of the ring buffer: some ten thousand origins that nobody has read yet.
const RING_BYTES: u32 = 4 << 20;
/// Origins that are told apart.
const ORIGINS: u32 = 1 << 16;
/// Names of ended processes that are kept.
const EXITED: u32 = 1 << 13;

/// Where tracefs may be mounted.
const TRACEFS: &[&str] = &[
    "/sys/kernel/tracing/events",
    "/sys/kernel/debug/tracing/events",
];

/// Said where that is so.
const BULK_UNSEEN: &str = "pages that the bulk allocator hands out (vmalloc's, those of network cards' rings) are not seen until they are given back: this kernel does not let eBPF look at its functions (no fexit)";

/// The programs, attached.
pub struct PageProbes {
    ebpf: Ebpf,
    sums: PerCpuArray<MapData, u64>,
    exited: HashMap<MapData, u32, [u8; COMM]>,
    memory: FrameMemory,
    sections: Sections,
    way: &'static Way,
    /// What will not be seen, and why; sentences.
    pub missing: Vec<String>,
}

impl PageProbes {
    /// Loads and attaches; also returns the ring buffer. `bulk`: the kernel's bulk allocator, if it has one;
    /// `forced`: no other way will do; `recall`: whether walks are remembered.
    ///
    /// # Errors
    /// There is no eBPF for this user, or no way to see pages.
    pub fn start(
        proc_root: &Path,
        layout: PagesLayout,
        sections: &Sections,
        bulk: Option<&str>,
        forced: Option<&'static Way>,
        recall: bool,
    ) -> Result<(Self, RingBuf<MapData>), LoadError> {
        let ways = WAYS.iter();
        let ways = ways.filter(|way| forced.is_none_or(|forced| *way == forced));
        let mut last = None;
        for way in ways {
            match Self::by(way, proc_root, layout, sections, bulk, recall) {
                Ok(started) => {
                    log::info!("watching pages by {}", way.label);
                    return Ok(started);
                }
                Err(error @ LoadError::NotPermitted { .. }) => return Err(error),
                Err(error) => {
                    log::info!("{} are not possible here: {error}", way.label);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or(LoadError::Tracepoint {
            program: EXITS.0.to_owned(),
            source: ProgramError::NotLoaded,
        }))
    }

    fn by(
        way: &'static Way,
        proc_root: &Path,
        mut layout: PagesLayout,
        sections: &Sections,
        bulk: Option<&str>,
        recall: bool,
    ) -> Result<(Self, RingBuf<MapData>), LoadError> {
        let found = memory_map(proc_root, layout.page_size);
        let mut missing = Vec::new();
        match found {
            Ok(start) => layout.memory_map = start,
            Err(SampleError::Load(error)) if way.seeing == Seeing::Pages => return Err(error),
            Err(error) if way.seeing == Seeing::Pages => {
                return Err(LoadError::NoMemoryMap {
                    reason: error.to_string(),
                });
            }
            Err(error) => log::info!("no memory map: {error}"),
        }
        let mut ebpf = load(&layout, sections, recall)?;
        let memory = map_frames(&mut ebpf, sections)?;
        fill_sections(&mut ebpf, sections)?;
        // All are loaded before any is attached: what happens in between is seen by
        // some alone.
        let programs = || way.programs.iter().chain([&EXITS]);
        for (name, _) in programs() {
            load_program(&mut ebpf, name)?;
        }
        let watched = match bulk {
            Some(_) if layout.memory_map == 0 => Err(ProgramError::NotLoaded),
            Some(function) => attach_bulk(&mut ebpf, function),
            None => Ok(()),
        };
        if let Err(error) = watched {
            log::info!("the bulk allocator cannot be watched: {error}");
            missing.push(BULK_UNSEEN.to_owned());
        }
        for (name, tracepoint) in programs() {
            attach(&mut ebpf, name, tracepoint)?;
        }
        let ring = take(&mut ebpf, "EVENTS")?;
        let probes = Self {
            sums: take(&mut ebpf, "PAGE_SUMS")?,
            exited: take(&mut ebpf, "PAGE_EXITED")?,
            ebpf,
            memory,
            sections: sections.clone(),
            way,
            missing,
        };
        Ok((probes, ring))
    }

    /// How pages are seen.
    pub fn way(&self) -> &'static Way {
        self.way
    }

    /// One of the sums, over all CPUs.
    pub fn sum(&self, which: Sum) -> u64 {
        let values = self.sums.get(&(which as u32), 0);
        values.map_or(0, |values| values.iter().sum())
    }

    /// The name of a process that has ended.
    pub fn exited(&self, pid: u32) -> Option<[u8; COMM]> {
        self.exited.get(&pid, 0).ok()
    }

    /// Which frames have a word.
    pub fn sections(&self) -> &Sections {
        &self.sections
    }

    /// The word of a page frame now; that of an unseen one where the table has
    /// no room for it.
    pub fn frame(&self, pfn: u64) -> Frame {
        let Some(place) = self.sections.place(pfn >> SECTION_ORDER) else {
            return Frame::default();
        };
        let within = pfn & ((1 << SECTION_ORDER) - 1);
        let words = self.memory.section(place);
        let word = usize::try_from(within).ok().and_then(|at| words.get(at));
        Frame(word.map_or(0, |word| word.load(Relaxed)))
    }

    /// Hands on all frames that somebody has, in order.
    pub fn live(&self, mut each: impl FnMut(u64, Frame)) {
        for (section, place) in self.sections.all() {
            let words = self.memory.section(place);
            for (pfn, word) in (section << SECTION_ORDER..).zip(words) {
                let frame = Frame(word.load(Relaxed));
                if frame.is_live() {
                    each(pfn, frame);
                }
            }
        }
    }

    /// How often pages went unseen because a program, or with classic tracepoints
    /// another one, was at work on the same CPU. 0 before Linux 5.12, which does
    /// not count it.
    pub fn misses(&self) -> u64 {
        let programs = self.way.programs.iter().map(|(name, _)| *name);
        let first = programs.filter(|name| !name.ends_with(AGAIN));
        let misses = first.chain([BULK]).filter_map(|name| {
            let program = self.ebpf.program(name)?;
            let info = super::misses::of(program.fd().ok()?);
            info.ok()
        });
        let missed: u64 = misses.sum();
        missed.saturating_sub(self.sum(Sum::CaughtUp))
    }
}

/// Loads the object for these sections.
fn load(layout: &PagesLayout, sections: &Sections, recall: bool) -> Result<Ebpf, LoadError> {
    let layout = Wire(*layout);
    let recall = u8::from(recall);
    let mut loader = loader_without_processes();
    loader
        .map_max_entries("EVENTS", RING_BYTES)
        .map_max_entries("PAGE_FRAMES", sections.chunks())
        .map_max_entries("PAGE_SECTIONS", sections.last().saturating_add(1))
        .map_max_entries("PAGE_ORIGINS", ORIGINS)
        .map_max_entries("PAGE_WALKS", WALKS)
        .map_max_entries("PAGE_EXITED", EXITED)
        .override_global("RECALL", &recall, true)
        .override_global("PAGES", &layout, true);
    loader.load(OBJECT).map_err(why_not_loaded)
}

fn map_frames(ebpf: &mut Ebpf, sections: &Sections) -> Result<FrameMemory, LoadError> {
    let name = "PAGE_FRAMES";
    let failed = |source| LoadError::Map { name, source };
    let Some(Map::Array(map)) = ebpf.map(name) else {
        return Err(failed(maps::missing(name)));
    };
    FrameMemory::map(map.fd(), sections.len()).map_err(|source| failed(MapError::IoError(source)))
}

fn fill_sections(ebpf: &mut Ebpf, sections: &Sections) -> Result<(), LoadError> {
    let name = "PAGE_SECTIONS";
    // Borrowed: the programs that use it are loaded later.
    let map = ebpf.map_mut(name).ok_or_else(|| maps::missing(name));
    let places = map.and_then(Array::<&mut MapData, u32>::try_from);
    let mut places = places.map_err(|source| LoadError::Map { name, source })?;
    for (section, place) in sections.all() {
        let (Ok(section), Ok(place)) = (u32::try_from(section), u32::try_from(place)) else {
            continue;
        };
        places
            .set(section, place.saturating_add(1), 0)
            .map_err(|source| LoadError::Map { name, source })?;
    }
    Ok(())
}

fn load_program(ebpf: &mut Ebpf, name: &str) -> Result<(), LoadError> {
    let loaded = match ebpf.program_mut(name) {
        Some(Program::RawTracePoint(program)) => program.load(),
        Some(Program::TracePoint(program)) => program.load(),
        _ => Err(ProgramError::NotLoaded),
    };
    loaded.map_err(|error| refused(name, error))
}

fn attach(ebpf: &mut Ebpf, name: &str, tracepoint: &str) -> Result<(), LoadError> {
    let tracefs = || TRACEFS.iter().any(|place| Path::new(place).exists());
    let attached = match ebpf.program_mut(name) {
        Some(Program::RawTracePoint(program)) => program.attach(tracepoint).map(drop),
        Some(Program::TracePoint(_)) if !tracefs() => return Err(LoadError::NoTracefs),
        Some(Program::TracePoint(program)) => program.attach(CATEGORY, tracepoint).map(drop),
        _ => Err(ProgramError::NotLoaded),
    };
    attached.map_err(|source| LoadError::Tracepoint {
        program: name.to_owned(),
        source,
    })
}

/// Attaches to the end of the bulk allocator.
fn attach_bulk(ebpf: &mut Ebpf, function: &str) -> Result<(), ProgramError> {
    let types = Btf::from_sys_fs().map_err(ProgramError::Btf)?;
    let Some(Program::FExit(program)) = ebpf.program_mut(BULK) else {
        return Err(ProgramError::NotLoaded);
    };
    program.load(function, &types)?;
    program.attach().map(drop)
}
