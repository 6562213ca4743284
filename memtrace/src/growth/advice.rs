//! What to do about a process that grows. Here the look inside its heap joins
//! in: whether it is a leak or a heap that cannot shrink.
use std::borrow::Cow;

use super::{Confidence, Pattern, Source, Trend, Verdict};
use crate::{
    finding::{Finding, Severity},
    unit::Bytes,
};

/// The finding about a process that grows; `None` where it does not.
/// `(now, first)`: what it holds, bytes.
pub fn advise(
    pid: u32,
    comm: &str,
    trend: &Trend,
    (now, first): (u64, u64),
    source: Option<Source>,
) -> Option<Finding> {
    if trend.verdict != Verdict::Growing {
        return None;
    }
    let (id, advice) = match source {
        Some(Source::Brk) => (
            "growth_brk",
            format!(
                "`memtrace heap -p {pid}` looks into the heap without probes: whether it is full of blocks in use (a leak; `memtrace -p {pid}` names the code) or of free ones below a block that pins its top (a heap that cannot shrink)"
            ),
        ),
        Some(Source::Mmap) => (
            "growth_mmap",
            format!(
                "the stacks below map and first touch it; `memtrace -p {pid}` tells which of its blocks and mappings are not given back"
            ),
        ),
        Some(Source::Touch) => (
            "growth_touch",
            "the stacks of page faults below touch it first; it was asked for before the look began, so watch from earlier on to see who did".to_owned(),
        ),
        Some(Source::Stack) => (
            "growth_stack",
            "a deep recursion or large local variables: the stacks of page faults below show it".to_owned(),
        ),
        Some(Source::File) => (
            "growth_file",
            "pages of files that it has mapped: the kernel takes them back when memory is short, so this is no leak unless they are locked".to_owned(),
        ),
        Some(Source::Shm) => (
            "growth_shm",
            "shared memory stays until the last who has it lets go: `memtrace meminfo` names tmpfs files, segments and who holds them".to_owned(),
        ),
        None => (
            "growth_unknown",
            format!("`memtrace growth -p {pid}` tells by which code and in which kind of memory"),
        ),
    };
    let how_sure = match trend.confidence {
        Confidence::High => "",
        Confidence::Medium => " (likely)",
        Confidence::Low => " (perhaps: too few samples to be sure)",
    };
    let lows = match trend.pattern {
        Pattern::Sawtooth => "; it goes up and down, and its low points rise",
        _ => "",
    };
    let of_what = source.map_or(String::new(), |source| format!(": {}", source.label()));
    Some(Finding {
        id: Cow::Borrowed(id),
        severity: match trend.confidence {
            Confidence::Low => Severity::Info,
            _ => Severity::Warning,
        },
        title: format!("{comm} (pid {pid}) grows{how_sure}{of_what}"),
        evidence: format!(
            "{} after {}, {}/s{lows}",
            Bytes(now),
            Bytes(first),
            signed(trend.slope)
        ),
        advice,
    })
}

/// A slope's bytes, with a sign.
pub fn signed(bytes: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded for people; casts of floats saturate"
    )]
    let whole = bytes.abs().round() as u64;
    let sign = match whole {
        0 => "",
        _ if bytes < 0.0 => "−",
        _ => "+",
    };
    format!("{sign}{}", Bytes(whole))
}
