//! Kernel stacks without a walk. The kernel's own walk costs 0.9 µs and more, and
//! most pages are asked for by stacks already seen. So where the return addresses
//! of a walk were found on the stack is remembered: the same depth of the
//! stack and the same words there mean the same stack, because each return
//! address tells the size of its function's frame, and so where the next one is.
//!
//! Remembered is only what cannot be mistaken: every return address was found in
//! its order, and none of them anywhere else.
use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use memtrace_common::pages::{DEPTH, WALKS};

use crate::{
    maps,
    origin::{Scratch, flags_and_order},
    stack::mix,
};

/// Words of stack that are looked at.
pub const WINDOW: usize = 256;
/// Stacks of kernel threads and of interrupts begin and end at multiples of this
/// (`THREAD_SIZE`); where they are larger, less is looked at.
const STACK: u64 = 16 << 10;
/// How often a stack that could not be remembered is walked before the next try.
const PATIENCE: u64 = 256;

/// A walk by where it began.
#[repr(C)]
pub struct Walk {
    /// See [`key`]; 0: none.
    key: u64,
    /// Of its return addresses.
    hash: u64,
    /// How many of [`Self::slots`] there are; 0: it could not be remembered.
    depth: u64,
    /// Until the next try, where it could not.
    patience: u64,
    /// Words from the beginning to the last of them.
    words: u64,
    /// Where in the window each return address is.
    slots: [u8; DEPTH],
}

/// Makes note of where the program's own frame is. Through memory, for what is read
/// from there is a number to the verifier and not an address in the frame.
#[inline(always)]
pub fn note_frame(scratch: &mut Scratch) {
    let frame: u64;
    // SAFETY: reads a register.
    unsafe { asm!("{frame} = r10", frame = out(reg) frame, options(nomem, nostack)) };
    let slot = &raw mut scratch.frame;
    // SAFETY: a field of memory that is borrowed.
    unsafe { slot.write_volatile(frame) };
}

/// Where a walk begins: how deep in the stack, and for which request.
#[inline(always)]
fn key(scratch: &Scratch) -> u64 {
    mix(
        mix(
            flags_and_order(&scratch.origin),
            scratch.frame & (STACK - 1),
        ),
        1,
    ) | 1
}

/// The hash of the stack of this level, if it is remembered; else 0, and the
/// window holds the stack, unless it is not worth a try to remember it.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn recall(level: u32) -> u64 {
    let Some(scratch) = maps::PAGE_SCRATCH.get_ptr_mut(level) else {
        return 0;
    };
    // SAFETY: the map's memory, which is this level's alone.
    let scratch = unsafe { &mut *scratch };
    scratch.window_words = 0;
    let key = key(scratch);
    let Some(walk) = maps::PAGE_WALKS.get_ptr_mut((key >> 32) as u32 & (WALKS - 1)) else {
        return 0;
    };
    // SAFETY: the map's memory. Who interrupts this may change it meanwhile, and
    // then the hash does not agree.
    let walk = unsafe { &mut *walk };
    let room = (STACK - (scratch.frame & (STACK - 1))) / 8;
    if walk.key == key {
        if walk.depth == 0 && walk.patience > 0 {
            walk.patience -= 1;
            return 0;
        }
        if walk.depth > 0 && fill(scratch, walk.words) {
            let hash = hash_at(scratch, walk);
            if hash == walk.hash {
                return hash;
            }
        }
    }
    let words = if room < WINDOW as u64 {
        room
    } else {
        WINDOW as u64
    };
    if fill(scratch, words) {
        scratch.window_words = words;
    }
    0
}

/// Copies so many words of the stack.
#[inline(always)]
fn fill(scratch: &mut Scratch, words: u64) -> bool {
    if words == 0 || words > WINDOW as u64 {
        return false;
    }
    // SAFETY: the window has room; the helper checks the address.
    let failed = unsafe {
        bpf_probe_read_kernel(
            (&raw mut scratch.window).cast(),
            (words * 8) as u32,
            scratch.frame as *const _,
        )
    };
    failed == 0
}

/// What a stack's hash begins with.
const SEED: u64 = 1;

#[inline(always)]
fn hash_at(scratch: &Scratch, walk: &Walk) -> u64 {
    let mut hash = SEED;
    for index in 0..DEPTH {
        if index as u64 >= walk.depth {
            break;
        }
        hash = mix(
            hash,
            scratch.window[walk.slots[index] as usize & (WINDOW - 1)],
        );
    }
    hash
}

/// The hash of the stack that was walked. Its innermost address is that in the
/// program itself, and is left out: no word of the stack holds it.
#[inline(always)]
pub fn hash_of(scratch: &Scratch) -> u64 {
    let mut hash = SEED;
    for index in 1..DEPTH {
        if index >= scratch.origin.depth as usize {
            break;
        }
        hash = mix(hash, scratch.origin.stack[index]);
    }
    hash
}

/// Remembers the stack that was walked, if it can be done safely.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn remember(level: u32, hash: u64) -> u64 {
    let Some(scratch) = maps::PAGE_SCRATCH.get_ptr_mut(level) else {
        return 0;
    };
    // SAFETY: the map's memory, which is this level's alone.
    let scratch = unsafe { &mut *scratch };
    if scratch.window_words == 0 {
        return 0;
    }
    let key = key(scratch);
    let Some(walk) = maps::PAGE_WALKS.get_ptr_mut((key >> 32) as u32 & (WALKS - 1)) else {
        return 0;
    };
    // SAFETY: as in `recall`.
    let walk = unsafe { &mut *walk };
    let depth = u64::from(scratch.origin.depth);
    walk.depth = 0;
    walk.key = key;
    walk.patience = PATIENCE;
    scratch.search = Search {
        next: 1,
        found: 0,
        words: 0,
        slots: [0; DEPTH],
    };
    for index in 0..WINDOW as u64 {
        if index >= scratch.window_words {
            break;
        }
        search_word(level, index);
    }
    let search = &scratch.search;
    if depth > 1 && search.next == depth && search.found == depth - 1 {
        walk.hash = hash;
        walk.words = search.words;
        walk.slots = search.slots;
        walk.depth = depth - 1;
    }
    walk.depth
}

/// How far the search for return addresses is.
#[repr(C)]
pub struct Search {
    /// The one that is looked for.
    next: u64,
    /// Words that are any of them.
    found: u64,
    /// Words up to the last one.
    words: u64,
    slots: [u8; DEPTH],
}

/// Looks at one word. What is known so far is in memory, so that to the verifier all
/// ways to here look the same.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn search_word(level: u32, index: u64) -> u64 {
    let Some(scratch) = maps::PAGE_SCRATCH.get_ptr_mut(level) else {
        return 0;
    };
    // SAFETY: the map's memory, which is this level's alone.
    let scratch = unsafe { &mut *scratch };
    let word = scratch.window[index as usize & (WINDOW - 1)];
    // Code of the kernel and of its modules lies within 2 GiB.
    if (word ^ scratch.origin.stack[1]) >> 31 != 0 {
        return 0;
    }
    let search = &mut scratch.search;
    search.found += is_return_address(level, word);
    let next = search.next;
    let depth = u64::from(scratch.origin.depth);
    if next < depth && word == scratch.origin.stack[next as usize & (DEPTH - 1)] {
        search.slots[next.wrapping_sub(1) as usize & (DEPTH - 1)] = index as u8;
        search.next = next + 1;
        search.words = index + 1;
    }
    1
}

/// 1 if the stack that was walked holds this address.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn is_return_address(level: u32, word: u64) -> u64 {
    let Some(scratch) = maps::PAGE_SCRATCH.get_ptr(level) else {
        return 0;
    };
    // SAFETY: the map's memory, which is this level's alone.
    let scratch = unsafe { &*scratch };
    for index in 1..DEPTH {
        if index >= scratch.origin.depth as usize {
            break;
        }
        if scratch.origin.stack[index] == word {
            return 1;
        }
    }
    0
}
