//! Which blocks are taken in: all, those of some sizes, or a sample.
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_prandom_u32};
use memtrace_common::{Counter, cookie::ProcessAddress, sampling};

use crate::{config, count::count, maps};

/// Whether only a sample is taken in.
#[inline(always)]
pub fn samples() -> bool {
    config::SAMPLE_BYTES.load() != 0
}

/// Decides on a new block and remembers it where that is needed.
#[inline(always)]
pub fn admit(address: u64, size: u64) -> bool {
    let wanted = size >= config::MIN_SIZE.load() && size <= config::MAX_SIZE.load();
    if !wanted || !picked(size) {
        count(Counter::LeftOut);
        return false;
    }
    !samples() || remember(address)
}

/// Draws.
#[inline(always)]
fn picked(size: u64) -> bool {
    if !samples() {
        return true;
    }
    let Some((step, rest)) = sampling::split(size, config::SAMPLE_BYTES.load()) else {
        return true;
    };
    let missed = maps::MISSED.get(step as u32).copied().unwrap_or(0);
    // SAFETY: no arguments, no preconditions.
    let draw = unsafe { bpf_get_prandom_u32() };
    u64::from(draw) < sampling::odds(missed, rest)
}

#[inline(always)]
fn key(address: u64) -> ProcessAddress {
    ProcessAddress {
        address,
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        reserved: 0,
    }
}

/// Notes a sampled block.
#[inline(always)]
pub fn remember(address: u64) -> bool {
    let noted = maps::SAMPLED.insert(key(address), 1, 0).is_ok();
    if !noted {
        count(Counter::SampledFull);
    }
    noted
}

/// Whether the block that ends was taken in, as far as that is known.
#[inline(always)]
pub fn forget(address: u64) -> bool {
    !samples() || maps::SAMPLED.remove(key(address)).is_ok()
}
