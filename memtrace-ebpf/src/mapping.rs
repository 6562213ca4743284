//! mmap, munmap and mremap, as the program itself calls them. What an
//! allocator maps inside its own functions is nested and not seen here.
use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use memtrace_common::{
    EventKind, Function,
    event::{Map, RemapBegin, RemapEnd, UnmapBegin, UnmapFailed},
};

use crate::{
    heap::{arg, enter},
    ring::{head, send},
    thread::Thread,
};

/// `MAP_STACK`, x86-64 and aarch64: threads' stacks belong to their threads
/// and are no leak.
const MAP_STACK: u64 = 0x20000;

/// `MREMAP_DONTUNMAP`: the old mapping stays, emptied.
const MREMAP_DONTUNMAP: u64 = 4;

/// `MAP_FAILED`.
const MAP_FAILED: u64 = u64::MAX;

#[uprobe]
fn mmap_enter(ctx: ProbeContext) -> u32 {
    let stack = arg!(ctx, 3) & MAP_STACK != 0;
    let length = if stack { 0 } else { arg!(ctx, 1) };
    let _ = enter(&ctx, Function::Mmap as u32, [length, 0, 0, 0]);
    0
}

#[uprobe]
fn munmap_enter(ctx: ProbeContext) -> u32 {
    let (address, length) = (arg!(ctx, 0), arg!(ctx, 1));
    let function = Function::Munmap as u32;
    if enter(&ctx, function, [address, length, 0, 0]).is_some() {
        send(UnmapBegin {
            head: head(EventKind::UnmapBegin, function),
            address,
            length,
        });
    }
    0
}

#[uprobe]
fn mremap_enter(ctx: ProbeContext) -> u32 {
    let (old, old_length, length) = (arg!(ctx, 0), arg!(ctx, 1), arg!(ctx, 2));
    let function = Function::Mremap as u32;
    if enter(&ctx, function, [old, old_length, length, arg!(ctx, 3)]).is_some() {
        send(RemapBegin {
            head: head(EventKind::RemapBegin, function),
            old,
            old_length,
        });
    }
    0
}

/// The address that the call in flight mapped something at, or 0.
#[inline(always)]
pub fn result(thread: &Thread, result: u64) -> u64 {
    let unmaps = thread.function == Function::Munmap as u32;
    let uncounted = thread.function == Function::Mmap as u32 && thread.arguments[0] == 0;
    if unmaps {
        return 0;
    }
    if uncounted || result == MAP_FAILED {
        0
    } else {
        result
    }
}

/// One of them returned: `address` as `result` gave it.
#[inline(always)]
pub fn returned(thread: &Thread, status: u64, address: u64, stack: u64) {
    let [first, second, length, flags] = thread.arguments;
    let function = thread.function;
    if function == Function::Munmap as u32 {
        if status as u32 != 0 {
            let head = head(EventKind::UnmapFailed, function);
            send(UnmapFailed {
                head,
                address: first,
                length: second,
            });
        }
    } else if function == Function::Mremap as u32 {
        send(RemapEnd {
            head: head(EventKind::RemapEnd, function),
            old: first,
            old_length: second,
            address,
            length,
            stack,
            keeps_old: u64::from(flags & MREMAP_DONTUNMAP != 0),
        });
    } else if address != 0 {
        send(Map {
            head: head(EventKind::Map, function),
            address,
            length: first,
            stack,
        });
    }
}
