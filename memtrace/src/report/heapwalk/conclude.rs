//! What the figures of a heap mean.
use std::borrow::Cow;

use super::{Arena, Kind, Totals};
use crate::{
    finding::{Finding, Severity},
    report::words::{number, percent},
    unit::Bytes,
};

/// Below this nobody looks for memory.
const WORTH_IT: u64 = 8 << 20;
/// Free parts of a heap, in percent, from which they are worth a word, and
/// worth a warning.
const NOTICEABLE: u64 = 25;
const BAD: u64 = 50;
/// Threads' arenas from which their number is the cause.
const MANY_ARENAS: usize = 8;
/// So few blocks above a hole could be moved by whoever wrote the program.
const FEW_BLOCKS: u64 = 100;

/// All conclusions.
pub(super) fn findings(totals: &Totals, arenas: &[Arena]) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(holes(totals));
    found.extend(arenas.iter().filter_map(pinned));
    found.extend(many_arenas(arenas));
    found
}

fn finding(id: &'static str, bad: bool, title: String, evidence: String, advice: &str) -> Finding {
    Finding {
        id: Cow::Borrowed(id),
        severity: if bad {
            Severity::Warning
        } else {
            Severity::Info
        },
        title,
        evidence,
        advice: advice.to_owned(),
    }
}

fn is_part(part: u64, whole: u64, percent: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}

/// Much of the heap is free and stays with the process.
fn holes(totals: &Totals) -> Option<Finding> {
    let kept = totals.free_bytes;
    let noticeable = kept >= WORTH_IT && is_part(kept, totals.system_bytes, NOTICEABLE);
    noticeable.then(|| {
        finding(
            "heap_holes",
            is_part(kept, totals.system_bytes, BAD),
            format!(
                "{} of the heap are free and kept by the process: that is no leak",
                percent(kept, totals.system_bytes)
            ),
            format!(
                "{} free in {}, {} in use, {} from the system; {} are whole pages",
                Bytes(kept),
                number(totals.free_count, "block", "blocks"),
                Bytes(totals.in_use_bytes),
                Bytes(totals.system_bytes),
                Bytes(totals.trim_bytes),
            ),
            "malloc_trim(0), called in the program after a peak, gives the whole pages back (it locks each arena meanwhile); allocators such as jemalloc do so by themselves",
        )
    })
}

/// A hole that few blocks keep from returning.
fn pinned(arena: &Arena) -> Option<Finding> {
    let hole = arena.holes.first()?;
    let worth_it = hole.size >= WORTH_IT
        && hole.blocks_above <= FEW_BLOCKS
        && is_part(hole.size, arena.system_bytes, NOTICEABLE);
    let pin = arena.pinned_by.as_ref().filter(|_| worth_it)?;
    Some(finding(
        "heap_pinned",
        is_part(hole.size, arena.system_bytes, BAD),
        format!(
            "{} cannot return to the system because of {} above",
            Bytes(hole.size),
            number(hole.blocks_above, "block in use", "blocks in use"),
        ),
        format!(
            "the hole is at {}, {} in use lie between it and the end of the arena; the last is at {} ({} bytes)",
            hole.address,
            Bytes(hole.bytes_above),
            pin.address,
            pin.size,
        ),
        "allocate what lives long before what lives short, or call malloc_trim(0) after the peak; `memtrace -p PID` shows who allocates what stays",
    ))
}

fn many_arenas(arenas: &[Arena]) -> Option<Finding> {
    let threads: Vec<_> = arenas
        .iter()
        .filter(|arena| arena.kind == Kind::Thread)
        .collect();
    let sum = |of: fn(&Arena) -> u64| threads.iter().map(|arena| of(arena)).sum::<u64>();
    let system = sum(|arena| arena.system_bytes);
    let unused = sum(|arena| arena.free_bytes + arena.top_bytes);
    let noticeable =
        threads.len() >= MANY_ARENAS && unused >= WORTH_IT && is_part(unused, system, NOTICEABLE);
    noticeable.then(|| {
        finding(
            "heap_many_arenas",
            is_part(unused, system, BAD),
            format!(
                "{} threads' arenas hold {} that nobody uses",
                threads.len(),
                Bytes(unused)
            ),
            format!(
                "{} from the system, {} in use",
                Bytes(system),
                Bytes(sum(|arena| arena.in_use_bytes))
            ),
            "MALLOC_ARENA_MAX=2 in the environment (or mallopt M_ARENA_MAX) lets threads share arenas; the price is that they wait for each other in malloc",
        )
    })
}
