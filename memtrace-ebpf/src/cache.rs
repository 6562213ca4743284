//! Recent walks, so that most stacks need none: most allocations come from
//! stacks already seen.
//!
//! A walk is a function of the registers it starts with and of the words of
//! stack that it reads. An entry says which words those were; if the same
//! registers and the same words are there now, the stack is the same. So a
//! hit is no guess. What code without frame pointers keeps in the register and
//! saves of it is data, and changes all the time: it counts only where a rule
//! asks for it. Entries are overwritten by other CPUs while they are read here;
//! the seal, a hash over registers, words and result, holds only for a whole and
//! matching entry.
use memtrace_common::{Counter, limit::STACK_WINDOW};

use crate::{config, count::count, maps, stack, thread::Thread};

/// The most words that a walk may read and still be remembered: 64 frames by
/// frame pointer or more by stack pointer. A power of two.
const MAX_WORDS: usize = 128;

/// What an array of entries is indexed by: this many bits of a hash.
pub const INDEX_BITS: u32 = 13;

/// The words that a walk has read so far.
#[repr(C)]
pub struct Path {
    /// Where the walk began.
    base: u64,
    /// Hash of the registers it began with and of the words.
    hash: u64,
    /// Words; more than [`MAX_WORDS`]: it cannot be remembered.
    length: u32,
    /// Bytes from `base` to behind the last of them.
    extent: u32,
    /// Whether the frame pointer that it began with mattered: 0 or 1.
    asks_fp: u32,
    reserved: u32,
    /// Where they are, bytes from `base`.
    offsets: [u16; MAX_WORDS],
}

/// A remembered walk.
#[repr(C)]
pub struct Entry {
    seal: u64,
    stack: u64,
    length: u32,
    extent: u32,
    asks_fp: u32,
    reserved: u32,
    offsets: [u16; MAX_WORDS],
}

/// Looks for the walk that begins at `base`, where `seed` is a hash of the
/// process, its mappings, and the registers but the frame pointer, `fp`. Returns
/// the stack's hash, or makes the thread ready to remember the walk.
#[inline(always)]
pub fn begin(thread: &mut Thread, base: u64, seed: u64, fp: u64) -> Option<u64> {
    let path = &mut thread.path;
    path.base = base;
    path.hash = seed;
    path.length = 0;
    path.extent = 0;
    path.asks_fp = 0;
    if config::REMEMBER.load() == 0 {
        return None;
    }
    let entry = maps::WALKS.get(index(seed))?;
    let length = entry.length as usize;
    if length == 0 || length > MAX_WORDS {
        return None;
    }
    if !stack::copy(thread, base, u64::from(entry.extent)) {
        return None;
    }
    let mut hash = seed;
    for word in 0..MAX_WORDS {
        if word >= length {
            break;
        }
        let offset = entry.offsets[word];
        if u32::from(offset) + 8 > entry.extent {
            return None;
        }
        let at = (offset as usize / 8) & (STACK_WINDOW / 8 - 1);
        hash = stack::mix(hash, placed(offset, thread.window[at]));
    }
    let stack = entry.stack;
    if seal(hash, entry.asks_fp, fp, stack) != entry.seal {
        return None;
    }
    count(Counter::WalksRemembered);
    Some(stack)
}

/// Notes a word that the walk has read.
#[inline(always)]
pub fn note(thread: &mut Thread, address: u64, value: u64) {
    let path = &mut thread.path;
    let offset = address.wrapping_sub(path.base);
    let length = path.length as usize;
    if offset >= STACK_WINDOW as u64 || length >= MAX_WORDS {
        path.length = MAX_WORDS as u32 + 1;
        return;
    }
    path.offsets[length & (MAX_WORDS - 1)] = offset as u16;
    path.length = length as u32 + 1;
    path.hash = stack::mix(path.hash, placed(offset as u16, value));
    let extent = offset as u32 + 8;
    if extent > path.extent {
        path.extent = extent;
    }
}

/// Notes that the walk asks for the frame pointer, which is `fp`.
#[inline(always)]
pub fn note_frame_pointer(thread: &mut Thread, fp: u64) {
    match thread.fp_slot {
        0 => thread.path.asks_fp = 1,
        slot => note(thread, slot, fp),
    }
}

/// The walk rests on more than the words of the stack, and cannot be remembered.
#[inline(always)]
pub fn forget(thread: &mut Thread) {
    thread.path.length = MAX_WORDS as u32 + 1;
}

/// Remembers the walk that has just ended with `stack`, if it can be.
#[inline(always)]
pub fn remember(thread: &Thread, seed: u64, fp: u64, stack: u64) {
    let path = &thread.path;
    if config::REMEMBER.load() == 0 || path.length == 0 || path.length > MAX_WORDS as u32 {
        return;
    }
    let Some(entry) = maps::WALKS.get_ptr_mut(index(seed)) else {
        return;
    };
    // SAFETY: the map's memory; others may write at the same time, which the
    // seal reveals.
    let entry = unsafe { &mut *entry };
    entry.seal = seal(path.hash, path.asks_fp, fp, stack);
    entry.asks_fp = path.asks_fp;
    entry.stack = stack;
    entry.length = path.length;
    entry.extent = path.extent;
    entry.offsets = path.offsets;
}

/// What holds an entry together.
#[inline(always)]
fn seal(words: u64, asks_fp: u32, fp: u64, stack: u64) -> u64 {
    let fp = if asks_fp == 0 { 0 } else { fp };
    stack::mix(stack::mix(words, fp ^ u64::from(asks_fp)), stack)
}

/// A word with its place, so that the seal holds for both.
#[inline(always)]
fn placed(offset: u16, value: u64) -> u64 {
    value ^ (u64::from(offset) << 48)
}

#[inline(always)]
fn index(seed: u64) -> u32 {
    (seed >> (64 - INDEX_BITS)) as u32
}
