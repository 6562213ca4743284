//! mmap, munmap and mremap, as the program itself calls them. What an
//! allocator maps inside its own functions is nested and not seen here.
//!
//! They are probed behind their system call instruction, where arguments and
//! result are in their registers: no call in flight has to be remembered, and
//! no return address to be replaced, which could kill a program whose signal
//! handler runs on a stack above the interrupted one.
use aya_ebpf::{bindings::pt_regs, macros::uprobe, programs::ProbeContext};
use memtrace_common::{
    Cookie, Counter, EventKind, Function,
    event::{Map, RemapBegin, RemapEnd, UnmapBegin, UnmapFailed},
};

use crate::{
    arch,
    count::{count, count_enter, count_return},
    probe::{Registers, keep_kernel_stack, known_cookie},
    ring::{head, send},
    stack,
    thread::{self, Thread},
};

/// `MAP_STACK`, x86-64 and aarch64: threads' stacks belong to their threads
/// and are no leak.
const MAP_STACK: u64 = 0x20000;

/// `MREMAP_DONTUNMAP`: the old mapping stays, emptied.
const MREMAP_DONTUNMAP: u64 = 4;

/// Results from here on are error numbers (`MAX_ERRNO`, include/linux/err.h).
const ERRORS: u64 = (-4095_i64) as u64;

/// What a system call's registers hold.
struct Call {
    first: u64,
    second: u64,
    third: u64,
    fourth: u64,
}

impl Call {
    #[inline(always)]
    fn read(regs: *mut pt_regs) -> Self {
        let [first, second, third, fourth] = arch::CALL_ARGUMENTS;
        Self {
            first: first.read(regs),
            second: second.read(regs),
            third: third.read(regs),
            fourth: fourth.read(regs),
        }
    }
}

/// Before the pages go: from inside the call on they can be mapped by others.
#[uprobe]
fn unmap_enter(ctx: ProbeContext) -> u32 {
    keep_kernel_stack(&ctx);
    let registers = Registers::read(&ctx);
    let Some(cookie) = known_cookie(&ctx) else {
        return 0;
    };
    let function = cookie.function();
    count_enter(function);
    let thread = thread::find();
    if thread.is_some_and(|thread| thread.is_inside(stack::pointer(ctx.regs))) {
        return 0;
    }
    let (address, length) = (registers.argument(0, 0), registers.argument(1, 0));
    if row(cookie) == Function::Munmap as u16 {
        send(UnmapBegin {
            head: head(EventKind::UnmapBegin, function),
            address,
            length,
        });
    } else {
        send(RemapBegin {
            head: head(EventKind::RemapBegin, function),
            old: address,
            old_length: length,
        });
    }
    0
}

/// The function, whichever of its names was probed.
#[inline(always)]
fn row(cookie: Cookie) -> u16 {
    cookie.function() & 0xff
}

/// The address that a system call mapped something at, 0 if nothing that
/// counts; `None`: not of interest. Makes the thread's frame the caller's.
#[inline(always)]
pub fn result(regs: *mut pt_regs, thread: &mut Thread, probe: Cookie, result: u64) -> Option<u64> {
    count_return(probe.function());
    if thread.is_inside(stack::pointer(regs)) {
        return None;
    }
    let call = Call::read(regs);
    let function = row(probe);
    if function == Function::Munmap as u16 {
        return if result == 0 { None } else { Some(0) };
    }
    let uncounted = function == Function::Mmap as u16 && call.fourth & MAP_STACK != 0;
    if uncounted {
        return None;
    }
    if result >= ERRORS {
        return Some(0);
    }
    if !stack::behind_system_call(regs, thread, probe) {
        count(Counter::ResultUnreadable);
        return None;
    }
    Some(result)
}

/// One of them returned: `address` as [`result`] gave it.
#[inline(always)]
pub fn returned(regs: *mut pt_regs, probe: Cookie, address: u64, stack: u64) {
    let call = Call::read(regs);
    let function = probe.function();
    if row(probe) == Function::Munmap as u16 {
        send(UnmapFailed {
            head: head(EventKind::UnmapFailed, function),
            address: call.first,
            length: call.second,
        });
    } else if row(probe) == Function::Mremap as u16 {
        send(RemapEnd {
            head: head(EventKind::RemapEnd, function),
            old: call.first,
            old_length: call.second,
            address,
            length: call.third,
            stack,
            keeps_old: u64::from(call.fourth & MREMAP_DONTUNMAP != 0),
        });
    } else if address != 0 {
        send(Map {
            head: head(EventKind::Map, function),
            address,
            length: call.second,
            stack,
        });
    }
}
