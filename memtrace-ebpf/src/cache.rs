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
use aya_ebpf::helpers::bpf_probe_read_user;
use memtrace_common::{
    Counter,
    limit::{STACK_COPY, STACK_WINDOW},
};

use crate::{config, count::count, maps, stack, thread::Thread};

/// The most words that a walk may read and still be remembered: 64 frames by
/// frame pointer or more by stack pointer. A power of two.
const MAX_WORDS: usize = 128;

/// Bytes from where a walk begins within which its words must be.
const FARTHEST: u64 = 8 << 16;

/// One walk in so many, plus 1, is remembered. A power of two minus 1.
const TURNS: u32 = 3;
/// The same where remembered walks hardly ever come back.
const RARE_TURNS: u32 = 31;
/// After a walk that came back: for so many.
const EAGER: u32 = 4;

const EARLY: usize = 3;

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
    /// Bytes from `base` to behind the last of them that fits into the window.
    extent: u32,
    /// Whether the frame pointer that it began with mattered: 0 or 1.
    asks_fp: u32,
    /// Counts walks.
    turn: u32,
    /// Walks that are to be remembered more often.
    eager: u32,
    reserved: u32,
    /// Hash up to the word number [`EARLY`].
    early: u64,
    /// Where they are, words from `base`.
    offsets: [u16; MAX_WORDS],
}

/// A remembered walk.
#[repr(C)]
pub struct Entry {
    /// Hash of the process, its mappings and the registers but the frame
    /// pointer.
    seed: u64,
    /// Hash up to the word number [`EARLY`]: most stacks that differ do so
    /// there.
    early: u64,
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
    path.extent = 0;
    path.asks_fp = 0;
    // Now and then a walk is remembered, which the last walk cannot help then:
    // what comes back often soon is, and what does not costs little.
    path.turn = path.turn.wrapping_add(1);
    let turns = if path.eager == 0 {
        RARE_TURNS
    } else {
        path.eager -= 1;
        TURNS
    };
    path.length = if path.turn & turns == 0 {
        0
    } else {
        MAX_WORDS as u32 + 1
    };
    let entry = maps::WALKS.get(index(seed));
    let mut extent = STACK_COPY;
    if let Some(entry) = entry
        && entry.seed == seed
        && u64::from(entry.extent) > extent
    {
        extent = u64::from(entry.extent);
    }
    // Where it fails, the walk finds out.
    let _ = stack::fill_with(thread, base, extent);
    let entry = entry?;
    let length = entry.length as usize;
    if config::REMEMBER.load() == 0 || entry.seed != seed || length > MAX_WORDS {
        return None;
    }
    let mut hash = seed;
    for word in 0..MAX_WORDS {
        if word >= length {
            break;
        }
        let offset = entry.offsets[word];
        let bytes = u64::from(offset) * 8;
        let value = if bytes < thread.window_length {
            thread.window[offset as usize & (STACK_WINDOW / 8 - 1)]
        } else {
            let address = base.wrapping_add(bytes);
            // SAFETY: the helper checks the address.
            unsafe { bpf_probe_read_user(address as *const u64) }.ok()?
        };
        hash = stack::mix(hash, placed(offset, value));
        if word == EARLY && hash != entry.early {
            return None;
        }
    }
    let stack = entry.stack;
    if seal(hash, entry.asks_fp, fp, stack) != entry.seal {
        return None;
    }
    thread.path.eager = EAGER;
    count(Counter::WalksRemembered);
    Some(stack)
}

/// Notes a word that the walk has read.
#[inline(always)]
pub fn note(thread: &mut Thread, address: u64, value: u64) {
    let path = &mut thread.path;
    let offset = address.wrapping_sub(path.base);
    let length = path.length as usize;
    if offset & 7 != 0 || offset >= FARTHEST || length >= MAX_WORDS {
        path.length = MAX_WORDS as u32 + 1;
        return;
    }
    let words = (offset / 8) as u16;
    path.offsets[length & (MAX_WORDS - 1)] = words;
    path.length = length as u32 + 1;
    path.hash = stack::mix(path.hash, placed(words, value));
    if length == EARLY {
        path.early = path.hash;
    }
    let extent = offset as u32 + 8;
    if extent > path.extent && extent <= STACK_WINDOW as u32 {
        path.extent = extent;
    }
}

/// Whether the walk is to be remembered, as far as it has come.
#[inline(always)]
pub fn is_noting(thread: &Thread) -> bool {
    thread.path.length <= MAX_WORDS as u32
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
    entry.early = path.early;
    entry.asks_fp = path.asks_fp;
    entry.seed = seed;
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
