//! The allocators' functions: one program for the entries of each role, and
//! one for all returns. The probe's cookie says which function it is and where
//! its arguments are.
use aya_ebpf::{
    helpers::bpf_probe_read_user,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use memtrace_common::{
    Cookie, Counter, EventKind,
    event::{Alloc, Free, FreeFlags, ReallocBegin, ReallocEnd},
    unwind::Method,
};

use crate::{
    admit, arch, config,
    count::{count, count_enter, count_return},
    mapping,
    probe::{Registers, cookie, keep_kernel_stack, known_cookie},
    ring::{head, send},
    stack,
    thread::{self, Arguments, Thread},
};

/// Begins a call unless it is nested in another.
#[inline(always)]
fn enter(
    ctx: &ProbeContext,
    cookie: Cookie,
    registers: &Registers,
    old: u64,
) -> Option<&'static mut Thread> {
    count_enter(cookie.function());
    let thread = thread::find_or_create()?;
    let count = registers.argument(cookie.count(), 1);
    let size = registers.argument(cookie.size(), 0);
    let arguments = Arguments {
        // A product that overflows makes the call fail, and then it only
        // matters that it is not 0, which would say: a reallocation to nothing.
        size: match count.wrapping_mul(size) {
            0 if count != 0 && size != 0 => u64::MAX,
            product => product,
        },
        old,
        out: registers.argument(cookie.out(), 0),
    };
    if thread.begin(ctx.regs, cookie, arguments) {
        Some(thread)
    } else {
        None
    }
}

#[uprobe]
fn allocate_enter(ctx: ProbeContext) -> u32 {
    keep_kernel_stack(&ctx);
    if config::unwinds_by(Method::Floor) {
        return 0;
    }
    let registers = Registers::read(&ctx);
    if let Some(cookie) = known_cookie(&ctx) {
        let _ = enter(&ctx, cookie, &registers, 0);
    }
    0
}

/// The old block ends here, not at the return: from inside the call on its
/// address can be handed out to another thread.
#[uprobe]
fn reallocate_enter(ctx: ProbeContext) -> u32 {
    keep_kernel_stack(&ctx);
    if config::unwinds_by(Method::Floor) {
        return 0;
    }
    let registers = Registers::read(&ctx);
    let Some(cookie) = known_cookie(&ctx) else {
        return 0;
    };
    let old = registers.argument(cookie.old(), 0);
    if let Some(thread) = enter(&ctx, cookie, &registers, old)
        && old != 0
    {
        if admit::forget(old) {
            send(ReallocBegin {
                head: head(EventKind::ReallocBegin, cookie.function()),
                old,
            });
        } else {
            // As if there were none.
            thread.call.arguments.old = 0;
        }
    }
    0
}

#[uprobe]
fn free_enter(ctx: ProbeContext) -> u32 {
    keep_kernel_stack(&ctx);
    if config::unwinds_by(Method::Floor) {
        return 0;
    }
    let registers = Registers::read(&ctx);
    let Some(cookie) = known_cookie(&ctx) else {
        return 0;
    };
    let address = registers.argument(cookie.old(), 0);
    if address == 0 {
        return 0;
    }
    count_enter(cookie.function());
    let mut head = head(EventKind::Free, cookie.function());
    if let Some(thread) = thread::find() {
        if thread.is_nested(stack::pointer(ctx.regs)) {
            return 0;
        }
        if thread.frees_again(address) {
            head.flags = FreeFlags::SAME_ADDRESS;
        }
    }
    if admit::forget(address) {
        send(Free { head, address });
    }
    0
}

/// All that has a result: at a return probe or a `ret` instruction of an
/// allocator's function, or behind a system call of one that maps.
#[uretprobe]
fn call_return(ctx: RetProbeContext) -> u32 {
    keep_kernel_stack(&ctx);
    if config::unwinds_by(Method::Floor) {
        return 0;
    }
    let regs = ctx.regs;
    let probe = cookie(&ProbeContext { regs });
    let result: u64 = ctx.ret();
    let behind = probe.is_behind_system_call();
    let thread = if behind {
        thread::find_or_create()
    } else {
        thread::find()
    };
    let Some(thread) = thread else {
        if !behind {
            count(Counter::UnpairedReturns);
        }
        return 0;
    };
    let address = if behind {
        match mapping::result(regs, thread, probe, result) {
            Some(address) => address,
            None => return 0,
        }
    } else {
        let sp = stack::pointer(regs);
        // A return probe's return has popped the address, if there was one.
        let slot = if probe.is_return() {
            sp
        } else {
            sp.wrapping_sub(arch::PUSHED)
        };
        if !thread.end(slot, probe.is_return()) {
            return 0;
        }
        count_return(thread.call.cookie.function());
        let address = result_of(thread, result);
        if address != 0 && thread.is_told(address) {
            return 0;
        }
        if address != 0 && !admit::admit(address, thread.call.arguments.size) {
            left_out(thread);
            return 0;
        }
        if address != 0 && !stack::at_return(regs, thread, probe.is_return()) {
            count(Counter::ResultUnreadable);
            return 0;
        }
        address
    };
    // Only where a block came of it. In one place, because the verifier
    // follows the walk anew from every place.
    let stack = if address == 0 || config::unwinds_by(Method::Nothing) {
        0
    } else if config::unwinds_by(Method::Kernel) {
        stack::by_kernel(&ctx, thread)
    } else {
        stack::capture(thread)
    };
    if behind {
        mapping::returned(regs, probe, address, stack);
    } else {
        returned(thread, address, stack);
    }
    0
}

/// The block that the call in flight returned, 0 where it failed.
#[inline(always)]
fn result_of(thread: &Thread, result: u64) -> u64 {
    if thread.call.arguments.out == 0 {
        return result;
    }
    if result as u32 != 0 {
        return 0;
    }
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(thread.call.arguments.out as *const u64) } {
        Ok(address) => address,
        Err(_) => {
            count(Counter::ResultUnreadable);
            0
        }
    }
}

/// The new block is none that is taken in: the old one has still ended.
#[inline(always)]
fn left_out(thread: &Thread) {
    let old = thread.call.arguments.old;
    if old != 0 {
        send(ReallocEnd {
            head: head(EventKind::ReallocEnd, thread.call.cookie.function()),
            old,
            address: 0,
            size: 0,
            stack: 0,
        });
    }
}

#[inline(always)]
fn returned(thread: &Thread, address: u64, stack: u64) {
    let Arguments { size, old, .. } = thread.call.arguments;
    let function = thread.call.cookie.function();
    if old != 0 {
        if address == 0 && size != 0 && admit::samples() {
            // It stays.
            admit::remember(old);
        }
        send(ReallocEnd {
            head: head(EventKind::ReallocEnd, function),
            old,
            address,
            size,
            stack,
        });
    } else if address != 0 {
        send(Alloc {
            head: head(EventKind::Alloc, function),
            address,
            size,
            stack,
        });
    }
}
