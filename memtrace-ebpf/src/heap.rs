//! The allocation functions: an entry program for each, one program for all
//! returns. Programs carry their function in their code and not in a cookie,
//! which kernels before 5.15 do not have.
use aya_ebpf::{
    helpers::bpf_probe_read_user,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use memtrace_common::{
    Counter, EventKind, Function,
    event::{Alloc, Free, ReallocBegin, ReallocEnd},
};

use crate::{
    count::{count, count_enter, count_return},
    mapping,
    ring::{head, send},
    stack,
    thread::{self, Thread},
};

/// Reads argument `$n` as an integer.
macro_rules! arg {
    ($ctx:ident, $n:literal) => {
        $ctx.arg::<u64>($n).unwrap_or(0)
    };
}
pub(crate) use arg;

/// Declares the entry program of a function that returns a block, with what
/// its return needs: count or size, size or 1, out-pointer or 0.
macro_rules! allocates {
    ($program:ident, $function:ident, $ctx:ident => [$($argument:expr),*]) => {
        #[uprobe]
        fn $program($ctx: ProbeContext) -> u32 {
            let _ = enter(&$ctx, Function::$function as u32, [$($argument,)* 0]);
            0
        }
    };
}

/// Begins a call unless it is nested in another; the stack pointer is at the
/// return address, since the site is chosen so.
#[inline(always)]
pub fn enter(
    ctx: &ProbeContext,
    function: u32,
    arguments: [u64; 4],
) -> Option<&'static mut Thread> {
    count_enter(function);
    let slot = stack::pointer(ctx.regs);
    let thread = thread::find_or_create()?;
    let begun = if function >= Function::Mmap as u32 {
        thread.begin_mapping(slot, function, arguments)
    } else {
        thread.begin(slot, function, arguments)
    };
    if begun { Some(thread) } else { None }
}

allocates!(malloc_enter, Malloc, c => [arg!(c, 0), 1, 0]);
allocates!(calloc_enter, Calloc, c => [arg!(c, 0), arg!(c, 1), 0]);
allocates!(posix_memalign_enter, PosixMemalign, c => [arg!(c, 2), 1, arg!(c, 0)]);
allocates!(aligned_alloc_enter, AlignedAlloc, c => [arg!(c, 1), 1, 0]);
allocates!(memalign_enter, Memalign, c => [arg!(c, 1), 1, 0]);
allocates!(valloc_enter, Valloc, c => [arg!(c, 0), 1, 0]);
allocates!(pvalloc_enter, Pvalloc, c => [arg!(c, 0), 1, 0]);

#[uprobe]
fn realloc_enter(ctx: ProbeContext) -> u32 {
    reallocate(&ctx, Function::Realloc as u32, arg!(ctx, 1), 1)
}

#[uprobe]
fn reallocarray_enter(ctx: ProbeContext) -> u32 {
    reallocate(
        &ctx,
        Function::Reallocarray as u32,
        arg!(ctx, 1),
        arg!(ctx, 2),
    )
}

/// The old block ends here, not at the return: from inside the call on its
/// address can be handed out to another thread.
#[inline(always)]
fn reallocate(ctx: &ProbeContext, function: u32, count: u64, size: u64) -> u32 {
    let old = arg!(ctx, 0);
    if enter(ctx, function, [count, size, old, 0]).is_some() && old != 0 {
        send(ReallocBegin {
            head: head(EventKind::ReallocBegin, function),
            old,
        });
    }
    0
}

#[uprobe]
fn free_enter(ctx: ProbeContext) -> u32 {
    let address = arg!(ctx, 0);
    if address == 0 {
        return 0;
    }
    let function = Function::Free as u32;
    count_enter(function);
    let thread = thread::find();
    if thread.is_some_and(|thread| thread.is_nested(stack::pointer(ctx.regs))) {
        return 0;
    }
    send(Free {
        head: head(EventKind::Free, function),
        address,
    });
    0
}

#[uretprobe]
fn call_return(ctx: RetProbeContext) -> u32 {
    let Some(thread) = thread::find() else {
        count(Counter::UnpairedReturns);
        return 0;
    };
    // The return popped the address.
    let slot = stack::pointer(ctx.regs).wrapping_sub(8);
    if !thread.end(slot) {
        return 0;
    }
    let function = thread.function;
    count_return(function);
    let mapping = function >= Function::Mmap as u32;
    let result: u64 = ctx.ret();
    let address = if mapping {
        mapping::result(thread, result)
    } else {
        result_of(thread, result)
    };
    // Only where a block came of it. In one place, because the verifier
    // follows the walk anew from every place.
    let stack = if address == 0 {
        0
    } else {
        stack::capture(ctx.regs, thread)
    };
    if mapping {
        mapping::returned(thread, result, address, stack);
    } else {
        returned(thread, address, stack);
    }
    0
}

/// The block that the call in flight returned, 0 where it failed.
#[inline(always)]
fn result_of(thread: &Thread, result: u64) -> u64 {
    if thread.function != Function::PosixMemalign as u32 {
        return result;
    }
    if result as u32 != 0 {
        return 0;
    }
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(thread.arguments[2] as *const u64) } {
        Ok(address) => address,
        Err(_) => {
            count(Counter::ResultUnreadable);
            0
        }
    }
}

#[inline(always)]
fn returned(thread: &Thread, address: u64, stack: u64) {
    let [count, size, old, _] = thread.arguments;
    let function = thread.function;
    // A product that overflows makes the call fail, and then it only matters
    // that it is not 0, which would say: a reallocation to nothing.
    let product = count.wrapping_mul(size);
    let size = if product == 0 && count != 0 && size != 0 {
        u64::MAX
    } else {
        product
    };
    if function == Function::Realloc as u32 || function == Function::Reallocarray as u32 {
        if address != 0 || old != 0 {
            let head = head(EventKind::ReallocEnd, function);
            send(ReallocEnd {
                head,
                old,
                address,
                size,
                stack,
            });
        }
    } else if address != 0 {
        send(Alloc {
            head: head(EventKind::Alloc, function),
            address,
            size,
            stack,
        });
    }
}
