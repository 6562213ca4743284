//! Sends the stack itself where a walk has come to code that nobody has told the
//! kernel side of yet: a library that has just been loaded runs before its table
//! is here. By the time that user space reads the copy it has the table, since it
//! has read the event before that said what was mapped, and walks on.
use core::mem::size_of;

use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use memtrace_common::{
    Counter, EventKind,
    event::StackCopyHead,
    limit::{STACK_COPY_PARTS, STACK_WINDOW},
    unwind::Method,
};

use crate::{
    config,
    count::count,
    maps,
    ring::{self, head, wake_up},
    stack::{self, mix},
    thread::{self, Thread},
    unwind::{self, Registers},
};

/// Copies for each thread and list of mappings. Whoever calls from code that
/// user space does not find either shall not send copies forever.
const MOST_COPIES: u32 = 16_384;

/// Notes that the walk has come to unknown code, where it is the first.
#[inline(always)]
pub fn note(thread: &mut Thread) {
    if thread.lost_depth == 0 {
        thread.lost = unwind::current(thread);
        thread.lost_depth = thread.depth;
    }
}

/// Whether the stack of the walk that has just ended is to be copied.
#[inline(always)]
pub fn is_wanted(thread: &mut Thread, process: u64) -> bool {
    if config::COPIES.load() == 0
        || config::unwinds_by(Method::FramePointers)
        || thread.lost_depth == 0
    {
        return false;
    }
    if thread.copies_of != process {
        thread.copies_of = process;
        thread.copies = 0;
    }
    thread.copies += 1;
    thread.copies <= MOST_COPIES
}

/// Sends a copy of the stack from where the walk came to unknown code. Returns
/// the hash that the stack goes by, which no other has; 0: nothing was sent.
///
/// Of global linkage and without arguments: the verifier checks it once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn stack_copy() -> u64 {
    let Some(thread) = thread::find() else {
        return 0;
    };
    if ring::waiting() > config::SHED_BYTES.load() {
        count(Counter::StacksShed);
        return 0;
    }
    let Registers { ip, sp, fp } = thread.lost;
    let head = head(EventKind::StackCopy, 0);
    let hash = mix(mix(thread.hash, head.time_ns), u64::from(head.tid));
    let mut address = sp;
    for _ in 0..STACK_COPY_PARTS {
        if !stack::fill_with(thread, address, STACK_WINDOW as u64) {
            break;
        }
        thread.copy = StackCopyHead {
            head,
            hash,
            ip,
            sp,
            fp,
            address,
            depth: thread.lost_depth,
            words: (thread.window_length / 8) as u32,
        };
        let mut length = thread.window_length;
        if length > STACK_WINDOW as u64 {
            length = STACK_WINDOW as u64;
        }
        // SAFETY: `copy` and `window` are neighbours in memory that is
        // initialized.
        let failed = unsafe {
            bpf_ringbuf_output(
                (&raw const maps::EVENTS).cast_mut().cast(),
                (&raw mut thread.copy).cast(),
                size_of::<StackCopyHead>() as u64 + length,
                wake_up(),
            )
        };
        if failed != 0 {
            count(Counter::StackRingFull);
            return 0;
        }
        address = address.wrapping_add(length);
    }
    if address == sp {
        return 0;
    }
    count(Counter::StacksCopied);
    hash
}
