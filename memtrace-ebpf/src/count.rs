//! Counting: see [`memtrace_common::Counter`].
use core::arch::asm;

use aya_ebpf::{helpers::bpf_ktime_get_ns, maps::PerCpuArray};
use memtrace_common::Counter;

use crate::maps;

/// Counts one occurrence.
#[inline(always)]
pub fn count(counter: Counter) {
    add_to(&maps::COUNTERS, counter as u32, 1);
    if counter.is_loss()
        && let Some(last) = maps::LAST_LOSS.get_ptr_mut(0)
    {
        // SAFETY: no arguments, no preconditions.
        let now = unsafe { bpf_ktime_get_ns() };
        // SAFETY: the map's own memory; of two CPUs that write at once either
        // time is late enough.
        unsafe { *last = now };
    }
}

/// Counts many at once, of what is no loss.
#[inline(always)]
pub fn count_by(counter: Counter, number: u64) {
    add_to(&maps::COUNTERS, counter as u32, number);
}

/// Counts a call of the function with this number, under whichever name.
#[inline(always)]
pub fn count_enter(function: u16) {
    add_to(&maps::CALLS, u32::from(function & 0x7f) * 2, 1);
}

/// Counts a return of the function with this number, under whichever name.
#[inline(always)]
pub fn count_return(function: u16) {
    add_to(&maps::CALLS, u32::from(function & 0x7f) * 2 + 1, 1);
}

#[inline(always)]
fn add_to(array: &PerCpuArray<u64>, index: u32, number: u64) {
    if let Some(slot) = array.get_ptr_mut(index) {
        // Atomic although the array is per CPU: since 5.15 or so uprobe
        // programs can be preempted by others on the same CPU.
        add(slot, number);
    }
}

/// Adds to a number in a map's memory, whoever else does at the same time. In
/// assembly, because core has no atomic addition for this target.
#[inline(always)]
pub fn add(slot: *mut u64, amount: u64) {
    // SAFETY: a map's own memory, aligned to 8, never freed while the program
    // runs, as the verifier checks; no register is changed.
    unsafe {
        asm!("lock *(u64 *)({slot} + 0) += {amount}", slot = in(reg) slot, amount = in(reg) amount, options(nostack));
    }
}
