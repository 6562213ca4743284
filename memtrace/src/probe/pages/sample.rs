//! Where the kernel's memory map is: it tells nobody, but a page that this thread
//! is given has a `struct page` that the kernel side sees, and a frame number
//! that `/proc/self/pagemap` tells.
use std::{collections::BTreeSet, fs::File, io, os::unix::fs::FileExt as _, path::Path};

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{Program, ProgramError},
};
use memtrace_common::pages::Samples;
use nix::sys::prctl;

use crate::{
    kernel::pages::SAMPLER,
    probe::{
        LoadError,
        load_error::why_not_loaded,
        maps::{loader_without_processes, take},
        object::OBJECT,
        pod::Wire,
    },
};

/// How many pages to touch, and how many of them must have been seen.
const TOUCHES: usize = 64;
const ENOUGH: usize = 8;

/// So much memory comes from the kernel and not from what was freed: glibc keeps
/// up to 32 MiB (`DEFAULT_MMAP_THRESHOLD_MAX`). Only what is touched costs.
const FRESH: usize = 64 << 20;

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum SampleError {
    /// The program could not be loaded or attached.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Frame numbers are hidden: `/proc/self/pagemap` has zeros for whoever is
    /// not privileged.
    #[error("/proc/self/pagemap does not tell page frame numbers: {0}")]
    Pagemap(io::Error),
    /// What was seen has no explanation: memory models other than one map.
    #[error("this kernel's struct pages do not lie in one row")]
    NoRow,
}

/// The address of frame 0's `struct page`.
///
/// # Errors
/// There is no way to see it.
pub(super) fn memory_map(proc_root: &Path, page_size: u64) -> Result<u64, SampleError> {
    let (_programs, samples) = attach()?;
    let pagemap = File::open(proc_root.join("self/pagemap")).map_err(SampleError::Pagemap)?;
    // One huge page would serve all touches.
    let huge = prctl::get_thp_disable().unwrap_or(false);
    let _ = prctl::set_thp_disable(true);
    let touches = touch(&samples, &pagemap).map_err(SampleError::Pagemap);
    let _ = prctl::set_thp_disable(huge);
    let touches = touches?;
    explain(&touches, page_size).ok_or(SampleError::NoRow)
}

/// Loads and attaches the program that sees this thread's pages.
fn attach() -> Result<(Ebpf, Array<MapData, Wire<Samples>>), LoadError> {
    let thread = rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .cast_unsigned();
    let mut loader = loader_without_processes();
    loader.override_global("SAMPLED_THREAD", &thread, true);
    loader.map_max_entries("EVENTS", 4096);
    let mut ebpf = loader.load(OBJECT).map_err(why_not_loaded)?;
    let (name, tracepoint) = SAMPLER;
    let attached = match ebpf.program_mut(name) {
        Some(Program::RawTracePoint(program)) => program
            .load()
            .and_then(|()| program.attach(tracepoint).map(drop)),
        _ => Err(ProgramError::NotLoaded),
    };
    attached.map_err(|source| LoadError::Tracepoint {
        program: name.to_owned(),
        source,
    })?;
    let samples = take(&mut ebpf, "PAGE_SAMPLES")?;
    Ok((ebpf, samples))
}

/// What happened when one page was touched: the `struct page`s that this thread
/// was given, and the frame that is there now.
#[derive(Debug)]
struct Touch {
    pages: Vec<u64>,
    frame: u64,
}

fn touch(samples: &Array<MapData, Wire<Samples>>, pagemap: &File) -> io::Result<Vec<Touch>> {
    let page = usize::try_from(procfs::page_size()).unwrap_or(4096);
    let content = vec![1_u8; page];
    let mut memory: Vec<u8> = Vec::new();
    memory.try_reserve_exact(FRESH).map_err(io::Error::other)?;
    let read = || {
        let Wire(samples) = samples.get(&0, 0).map_err(io::Error::other)?;
        io::Result::Ok(samples)
    };
    let mut touches = Vec::new();
    for _ in 0..TOUCHES {
        let before = read()?.count;
        memory.extend_from_slice(&content);
        let after = read()?;
        let count = after.count.saturating_sub(before);
        if count == 0 || count > after.pages.len() as u64 {
            continue;
        }
        let pages = (before..after.count).map(|number| after.pages[(number % 8) as usize]);
        // The page that the end of the memory lies in was touched first just now.
        let last = memory.as_ptr() as usize + memory.len() - 1;
        let mut entry = [0; 8];
        pagemap.read_exact_at(&mut entry, (last / page * 8) as u64)?;
        // Bits 0 to 54 of a page that is present (bit 63).
        let entry = u64::from_ne_bytes(entry);
        let frame = entry & ((1 << 55) - 1);
        if entry >> 63 == 0 {
            continue;
        }
        if frame == 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        touches.push(Touch {
            pages: pages.collect(),
            frame,
        });
    }
    Ok(touches)
}

/// The one place of frame 0 that agrees with every touch.
fn explain(touches: &[Touch], page_size: u64) -> Option<u64> {
    if touches.len() < ENOUGH {
        return None;
    }
    let places = touches.iter().map(|touch| {
        let pages = touch.pages.iter();
        let place = |page: &u64| page.wrapping_sub(touch.frame.wrapping_mul(page_size));
        pages.map(place).collect::<BTreeSet<u64>>()
    });
    let common = places.reduce(|one, other| &one & &other)?;
    match common.len() {
        1 => common.first().copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: u64 = 0xffff_ea00_0000_0000;

    fn touches(frames: &[u64], beside: &[u64]) -> Vec<Touch> {
        let page = |frame: &u64| MAP + frame * 64;
        frames
            .iter()
            .map(|frame| Touch {
                pages: beside.iter().chain([frame]).map(page).collect(),
                frame: *frame,
            })
            .collect()
    }

    #[test]
    fn frames_in_a_row_and_apart() {
        let row: Vec<u64> = (1000..1020).collect();
        assert_eq!(explain(&touches(&row, &[]), 64), Some(MAP));
        let apart: Vec<u64> = (0..20).map(|n| 5000 + n * n).collect();
        assert_eq!(explain(&touches(&apart, &[7, 9]), 64), Some(MAP));
    }

    #[test]
    fn what_does_not_fit_is_not_believed() {
        let row: Vec<u64> = (1000..1020).collect();
        assert_eq!(explain(&touches(&row[..4], &[]), 64), None, "too few");
        assert_eq!(explain(&touches(&row, &[]), 56), None, "another size");
        let mut two_rows = touches(&row, &[]);
        two_rows[5].pages[0] += 64 * 100;
        assert_eq!(explain(&two_rows, 64), None);
    }
}
