//! What makes memory grow: the program break, mappings, and first touches of
//! pages, added up by process and stack in [`maps::GROWTH`]. Nothing is sent
//! but stacks not seen before, so the cost is that of the walks, and most
//! walks are remembered.
//!
//! Each way has several programs, of which user space loads the first that the
//! kernel takes (`memtrace/src/probe/growth.rs`).
use aya_ebpf::{
    bindings::{bpf_perf_event_data, pt_regs},
    helpers::{bpf_get_current_pid_tgid, generated},
    macros::{perf_event, raw_tracepoint, uprobe},
    programs::{PerfEventContext, ProbeContext, RawTracePointContext},
};
use memtrace_common::{
    Counter, Function,
    growth::{GrowthKey, GrowthSum, Way},
};

use crate::{
    arch::{self, PAGE, Register},
    count::{add, count, count_return},
    maps,
    probe::{keep_kernel_stack, known_cookie},
    stack,
    thread::{self, Thread},
    unwind::Registers,
};

/// Results from here on are error numbers (`MAX_ERRNO`, include/linux/err.h).
const ERRORS: u64 = (-4095_i64) as u64;

/// `MREMAP_DONTUNMAP`: the old mapping stays.
const MREMAP_DONTUNMAP: u64 = 4;

/// A fault's page was there and its protection was in the way (`X86_PF_PROT`,
/// arch/x86/include/asm/trap_pf.h): it is copied, not added.
const PAGE_PRESENT: u64 = 1;

const SYS_MMAP: u64 = arch::CALLS.mmap;
const SYS_MUNMAP: u64 = arch::CALLS.munmap;
const SYS_BRK: u64 = arch::CALLS.brk;
const SYS_MREMAP: u64 = arch::CALLS.mremap;

/// What happened.
struct Change {
    way: Way,
    grown: u64,
    returned: u64,
}

/// A system call's arguments and result.
#[derive(Clone, Copy)]
struct Call {
    second: u64,
    third: u64,
    fourth: u64,
    result: u64,
}

/// A page fault anywhere, as a perf event of the process's threads. What the
/// kernel touches for the program (`read` into new memory) has the program's
/// registers from when it entered the kernel.
///
/// Perf events of software run with preemption disabled, and not within each
/// other, so the private stack of newer kernels is safe here; and
/// [`keep_kernel_stack`]'s array is one for programs of uprobes.
#[perf_event]
fn growth_fault(ctx: PerfEventContext) -> u32 {
    if !is_traced() {
        return 0;
    }
    let (interrupted, is_user) = interrupted(ctx.ctx);
    if is_user {
        fault(interrupted);
    } else if let Some(registers) = entered_with() {
        fault(registers);
    }
    0
}

/// The same for kernels without `bpf_task_pt_regs` (before 5.15, or without
/// BTF): what the kernel touches is not seen.
#[perf_event]
fn growth_fault_user(ctx: PerfEventContext) -> u32 {
    if !is_traced() {
        return 0;
    }
    let (interrupted, is_user) = interrupted(ctx.ctx);
    if is_user {
        fault(interrupted);
    }
    0
}

/// The same as a tracepoint, which is hit by every process: `page_fault_user`
/// (address, registers, error code).
#[raw_tracepoint(tracepoint = "page_fault_user")]
fn growth_fault_trace(ctx: RawTracePointContext) -> i32 {
    let code: u64 = ctx.arg(2);
    if !is_traced() || code & PAGE_PRESENT != 0 {
        return 0;
    }
    let regs: *const pt_regs = ctx.arg(1);
    if let Some(registers) = saved(regs) {
        fault(registers);
    }
    0
}

/// Behind the system call of `brk`, `mmap`, `munmap` or `mremap`.
#[uprobe]
fn growth_call(ctx: ProbeContext) -> u32 {
    keep_kernel_stack(&ctx);
    let Some(cookie) = known_cookie(&ctx) else {
        return 0;
    };
    count_return(cookie.function());
    let [_, second, third, fourth] = arch::CALL_ARGUMENTS;
    let call = Call {
        second: second.read(ctx.regs),
        third: third.read(ctx.regs),
        fourth: fourth.read(ctx.regs),
        result: arch::CALL_RESULT.read(ctx.regs),
    };
    // The function, whichever of its names was probed.
    let row = cookie.function() & 0xff;
    let number = if row == Function::Brk as u16 {
        SYS_BRK
    } else if row == Function::Munmap as u16 {
        SYS_MUNMAP
    } else if row == Function::Mremap as u16 {
        SYS_MREMAP
    } else {
        SYS_MMAP
    };
    let Some(change) = outcome(number, call) else {
        return 0;
    };
    let Some(thread) = thread::find_or_create() else {
        return 0;
    };
    if !stack::behind_system_call(ctx.regs, thread, cookie) {
        count(Counter::ResultUnreadable);
        return 0;
    }
    note(thread, change);
    0
}

/// The end of every system call of every process: `sys_exit` (registers,
/// result). For programs that make the calls without a C library.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn growth_call_trace(ctx: RawTracePointContext) -> i32 {
    if !is_traced() {
        return 0;
    }
    let regs: *const pt_regs = ctx.arg(0);
    let result: u64 = ctx.arg(1);
    let read = |register: Register| register.read_saved(regs).unwrap_or(0);
    let number = read(arch::CALL_NUMBER);
    if !matches!(number, SYS_MMAP | SYS_MUNMAP | SYS_BRK | SYS_MREMAP) {
        return 0;
    }
    let [_, second, third, fourth] = arch::CALL_ARGUMENTS;
    let call = Call {
        second: read(second),
        third: read(third),
        fourth: read(fourth),
        result,
    };
    let Some(change) = outcome(number, call) else {
        return 0;
    };
    let Some(thread) = thread::find_or_create() else {
        return 0;
    };
    // Behind the instruction, as a return address is.
    thread.frame = Registers {
        ip: read(arch::IP),
        sp: read(arch::SP),
        fp: read(arch::FP),
    };
    thread.link = if arch::LINKS { read(arch::LINK) } else { 0 };
    note(thread, change);
    0
}

#[inline(always)]
fn pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
fn is_traced() -> bool {
    // SAFETY: the value is not read.
    unsafe { maps::PROCESSES.get(pid()) }.is_some()
}

/// Registers from which a walk begins that follows no return.
#[derive(Clone, Copy)]
struct Interrupted {
    registers: Registers,
    /// See [`Thread::link`].
    link: u64,
}

/// The registers that a perf event found, and whether they are a program's.
#[inline(always)]
fn interrupted(ctx: *mut bpf_perf_event_data) -> (Interrupted, bool) {
    // They are what the context begins with.
    let regs: *const pt_regs = ctx.cast();
    let registers = Registers {
        ip: arch::IP.read(regs),
        sp: arch::SP.read(regs),
        fp: arch::FP.read(regs),
    };
    let link = if arch::LINKS {
        arch::LINK.read(regs)
    } else {
        0
    };
    let is_user = arch::is_user(arch::MODE.read(regs));
    (Interrupted { registers, link }, is_user)
}

/// The registers with which the current thread entered the kernel.
#[inline(always)]
fn entered_with() -> Option<Interrupted> {
    // SAFETY: no arguments, no preconditions.
    let task = unsafe { generated::bpf_get_current_task_btf() };
    // SAFETY: the current task, as the verifier knows.
    let regs = unsafe { generated::bpf_task_pt_regs(task) };
    saved(regs as *const pt_regs)
}

/// Registers that the kernel has saved.
#[inline(always)]
fn saved(regs: *const pt_regs) -> Option<Interrupted> {
    // A kernel thread that uses a process's memory has none.
    if !arch::is_user(arch::MODE.read_saved(regs)?) {
        return None;
    }
    let registers = Registers {
        ip: arch::IP.read_saved(regs)?,
        sp: arch::SP.read_saved(regs)?,
        fp: arch::FP.read_saved(regs)?,
    };
    let link = if arch::LINKS {
        arch::LINK.read_saved(regs)?
    } else {
        0
    };
    Some(Interrupted { registers, link })
}

/// One page was touched at these registers.
#[inline(always)]
fn fault(interrupted: Interrupted) {
    let Some(thread) = thread::find_or_create() else {
        return;
    };
    // The instruction faulted and is no call; one is added so that whoever
    // subtracts one finds it, as at signal frames.
    thread.frame = Registers {
        ip: interrupted.registers.ip.wrapping_add(1),
        ..interrupted.registers
    };
    thread.link = interrupted.link;
    note(
        thread,
        Change {
            way: Way::Fault,
            grown: PAGE,
            returned: 0,
        },
    );
}

/// What a system call changed; `None`: nothing.
#[inline(always)]
fn outcome(number: u64, call: Call) -> Option<Change> {
    let change = if number == SYS_BRK {
        moved_break(call.result)?
    } else if call.result >= ERRORS {
        return None;
    } else if number == SYS_MUNMAP {
        Change {
            way: Way::Map,
            grown: 0,
            returned: pages(call.second),
        }
    } else if number == SYS_MREMAP {
        let keeps_old = call.fourth & MREMAP_DONTUNMAP != 0;
        let old = if keeps_old { 0 } else { pages(call.second) };
        let new = pages(call.third);
        Change {
            way: Way::Map,
            grown: new.saturating_sub(old),
            returned: old.saturating_sub(new),
        }
    } else {
        Change {
            way: Way::Map,
            grown: pages(call.second),
            returned: 0,
        }
    };
    if change.grown == 0 && change.returned == 0 {
        return None;
    }
    Some(change)
}

/// The program break is at `now`, whether it was moved or only asked for.
#[inline(always)]
fn moved_break(now: u64) -> Option<Change> {
    let now = pages(now);
    let last = maps::BREAKS.get_ptr_mut(pid())?;
    // SAFETY: the map's memory. Two threads that move the break at once, which
    // the C library forbids, would at worst share out the sum in another way.
    let before = unsafe { core::ptr::replace(last, now) };
    if before == 0 {
        // Where it was is not known.
        return None;
    }
    Some(Change {
        way: Way::Break,
        grown: now.saturating_sub(before),
        returned: before.saturating_sub(now),
    })
}

/// Whole pages.
#[inline(always)]
fn pages(bytes: u64) -> u64 {
    bytes.wrapping_add(PAGE - 1) & !(PAGE - 1)
}

/// Adds to the sum of the stack that begins at the thread's frame.
#[inline(always)]
fn note(thread: &mut Thread, change: Change) {
    let key = GrowthKey {
        stack: stack::capture(thread),
        pid: pid(),
        way: change.way as u32,
    };
    if let Some(sum) = maps::GROWTH.get_ptr_mut(key) {
        return add_up(sum, &change);
    }
    // It may have come into being meanwhile; then, and where there is room,
    // it is there now.
    let _ = maps::GROWTH.insert(key, GrowthSum::default(), NO_REPLACE);
    match maps::GROWTH.get_ptr_mut(key) {
        Some(sum) => add_up(sum, &change),
        None => count(Counter::SumsFull),
    }
}

/// `BPF_NOEXIST`.
const NO_REPLACE: u64 = 1;

#[inline(always)]
fn add_up(sum: *mut GrowthSum, change: &Change) {
    // SAFETY: the map's memory, of which only addresses are taken here.
    let sum = unsafe { &mut *sum };
    let (bytes, counter) = if change.grown > 0 {
        (&raw mut sum.grown_bytes, &raw mut sum.grown_count)
    } else {
        (&raw mut sum.returned_bytes, &raw mut sum.returned_count)
    };
    add(bytes, change.grown.saturating_add(change.returned));
    add(counter, 1);
}
