//! Return addresses that pending return probes hide: while a function runs that
//! anybody has a return probe on, the kernel's trampoline stands in their place.
//! Kernels before 6.11 do not undo that in stacks, and none does in a copy.
use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel};
use memtrace_common::Counter;

use crate::{config, count::count};

/// The kernel places no more in one another (`MAX_URETPROBE_DEPTH`,
/// include/linux/uprobes.h).
const MOST_PENDING: u32 = 64;

/// Whether an address may be the trampoline's: the first byte of a page
/// (`uprobe_get_trampoline_vaddr`). One in 4,096 true return addresses is such
/// an address, too.
#[inline(always)]
pub fn may_be_trampoline(address: u64) -> bool {
    address != 0 && address & 0xfff == 0
}

/// Whether a return probe waits for the function to return whose stack pointer
/// was `slot` at its entry. Where the kernel does not tell, it is taken to.
#[inline(always)]
pub fn is_pending(slot: u64) -> bool {
    config::HIDDEN_RETURNS.load().known == 0 || hidden_return(slot) != 0
}

/// The return address that belongs at `slot` where `found` is, and whether it
/// is another one.
#[inline(always)]
pub fn true_return(slot: u64, found: u64) -> (u64, bool) {
    if may_be_trampoline(found) {
        let hidden = hidden_return(slot);
        if hidden != 0 {
            count(Counter::ReturnsRecovered);
            return (hidden, true);
        }
    }
    (found, false)
}

/// The return address that a return probe took from `slot`; 0: none did. `slot`
/// is what the kernel has noted: the stack pointer at the function's entry.
///
/// Of global linkage and with a scalar argument: the verifier checks it once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn hidden_return(slot: u64) -> u64 {
    let at = config::HIDDEN_RETURNS.load();
    if at.known == 0 {
        return 0;
    }
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let utask = kernel_word(task, at.utask);
    if utask == 0 {
        return 0;
    }
    let mut instance = kernel_word(utask, at.return_instances);
    for _ in 0..MOST_PENDING {
        if instance == 0 {
            break;
        }
        if kernel_word(instance, at.stack) == slot {
            return kernel_word(instance, at.original);
        }
        instance = kernel_word(instance, at.next);
    }
    0
}

/// A word of kernel memory; 0 where it cannot be read.
#[inline(always)]
fn kernel_word(base: u64, offset: u32) -> u64 {
    let address = base.wrapping_add(u64::from(offset));
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const u64) }.unwrap_or(0)
}
