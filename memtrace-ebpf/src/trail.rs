//! The last walk of each thread. Most of a stack is still there at the next
//! allocation: only its inner frames are new. Where a walk comes to a frame of
//! the last one (same address, same stack pointer), it goes on along that one,
//! as long as every word that led outwards is still what it was.
use core::hint::black_box;

use memtrace_common::{Counter, limit::MAX_FRAMES};

use crate::{
    cache, config,
    count::count_by,
    stack::{mix, word},
    thread::{self, Thread},
    unwind::{self, Registers},
};

/// One frame of a walk, and what the step to its caller rests on: the rule for
/// its address, its stack pointer, the return address right below the
/// caller's stack pointer, and, for some rules, the frame pointer.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Frame {
    ip: u64,
    sp: u64,
    fp: u64,
    /// Where its frame pointer was read (0: it was in the register from the
    /// start; [`ELSEWHERE`]), with [`ASKS_FP`] and [`OTHER`].
    from: u64,
}

/// In [`Frame::from`]: where a signal put it. That lies on another part of the
/// stack, or on another stack, and so tells nothing once the signal is over.
pub const ELSEWHERE: u64 = 8;

impl Frame {
    /// Whether its frame pointer was read by a step between the frame whose stack
    /// pointer is `base` and this one: those read between both. What was read
    /// further in lies below, or on another stack.
    #[inline(always)]
    fn was_loaded_since(&self, base: u64) -> bool {
        // One comparison instead of two: stack pointers only go up outwards.
        let slot = self.from & !FLAGS;
        slot.wrapping_sub(base) < self.sp.wrapping_sub(base)
    }
}

/// The step outwards asks for the frame pointer.
const ASKS_FP: u64 = 1;
/// The step outwards rests on more than a return address below the caller's
/// stack pointer.
const OTHER: u64 = 2;
const FLAGS: u64 = 7;

/// The frames of the last walk.
#[repr(C)]
pub struct Trail {
    /// Which mappings they were walked by; 0: none. See [`unwind::mappings`].
    mappings: u64,
    /// Number of frames.
    length: u32,
    /// The innermost that the walk has not come past yet, counted from the
    /// outermost, plus 1.
    near: u32,
    /// From the outermost.
    frames: [Frame; MAX_FRAMES],
    /// Frames of the walk that goes on, from the innermost.
    fresh: [Frame; MAX_FRAMES],
    /// Number of frames of the last walk that this one ends with, unchanged; 0 as
    /// long as it has not come to their end.
    shared: u32,
    /// Number of frames that were followed.
    followed: u32,
}

/// An index that the verifier sees to be within the frames. The compiler, which
/// may know that it is, must not take the mask away.
#[inline(always)]
fn place(index: usize) -> usize {
    black_box(index) & (MAX_FRAMES - 1)
}

/// Begins a walk by `mappings`.
#[inline(always)]
pub fn begin(thread: &mut Thread, mappings: u64) {
    let trail = &mut thread.trail;
    if trail.mappings != mappings {
        trail.mappings = mappings;
        trail.length = 0;
    }
    trail.near = trail.length;
    trail.shared = 0;
    trail.followed = 0;
}

/// Notes the frame that the walk has reached.
#[inline(always)]
pub fn note(thread: &mut Thread) {
    let Registers { ip, sp, fp } = unwind::current(thread);
    thread.trail.fresh[place(thread.depth as usize)] = Frame {
        ip,
        sp,
        fp,
        from: thread.fp_slot,
    };
}

/// Notes what the step from the frame noted last rests on.
#[inline(always)]
pub fn note_step(thread: &mut Thread, asks_fp: bool, other: bool) {
    let flags = if asks_fp { ASKS_FP } else { 0 } | if other { OTHER } else { 0 };
    thread.trail.fresh[place(thread.depth.wrapping_sub(1) as usize)].from |= flags;
}

/// Whether the last walk came through the frame that this one has reached.
#[inline(always)]
pub fn is_known(thread: &mut Thread) -> bool {
    if config::REMEMBER.load() == 0 || cache::is_noting(thread) {
        return false;
    }
    let Registers { ip, sp, .. } = unwind::current(thread);
    let trail = &mut thread.trail;
    let mut near = trail.near;
    // Frames that have ended. So many a step keep up with most walks; where they
    // do not, a later frame is found.
    for _ in 0..6 {
        if near == 0 || trail.frames[place((near - 1) as usize)].sp >= sp {
            break;
        }
        near -= 1;
    }
    trail.near = near;
    if near == 0 {
        return false;
    }
    let frame = &trail.frames[place((near - 1) as usize)];
    frame.sp == sp && frame.ip == ip
}

/// The walk has come no further.
pub const NOWHERE: u64 = 0;
/// The walk has come further, and must go on from there.
pub const FURTHER: u64 = 1;
/// The walk is complete.
pub const COMPLETE: u64 = 2;

/// Frames that [`trail_follow`] takes in at the most: the verifier follows so
/// many. Whoever calls it again goes on from there.
const PART: usize = 32;

/// Goes on along the last walk, from the frame that this one has reached, if it
/// [`is_known`]. Takes in all frames behind it that are still there.
///
/// Of global linkage: the verifier checks it once, and not for each frame.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn trail_follow() -> u64 {
    let Some(thread) = thread::find() else {
        return NOWHERE;
    };
    if !is_known(thread) {
        return NOWHERE;
    }
    let Registers { sp: base, fp, .. } = unwind::current(thread);
    let begun = thread.depth;
    // What changes on the way is kept in memory, where all values look the same
    // to the verifier.
    thread.trail.shared = thread.trail.near;
    let mut frame = thread.trail.frames[place(thread.trail.near.wrapping_sub(1) as usize)];
    thread.trail.fresh[place(begun.wrapping_sub(1) as usize)].from |= frame.from & FLAGS;
    for _ in 0..PART {
        // Frames behind this one.
        let left = thread.trail.near.wrapping_sub(1);
        if !frame.was_loaded_since(base) {
            // It has the frame pointer of the first one, whose origin is new.
            thread.trail.shared = left;
        }
        if frame.from & OTHER != 0 {
            break;
        }
        if frame.from & ASKS_FP != 0 && frame_pointer(thread, &frame, base, fp) != Some(frame.fp) {
            break;
        }
        if left == 0 {
            return COMPLETE;
        }
        let caller = thread.trail.frames[place(left.wrapping_sub(1) as usize)];
        let depth = thread.depth as usize;
        if depth >= MAX_FRAMES || word(thread, caller.sp.wrapping_sub(8)) != Some(caller.ip) {
            break;
        }
        let mut copy = caller;
        if !caller.was_loaded_since(base) {
            copy.from = thread.fp_slot | caller.from & FLAGS;
        }
        thread.trail.fresh[place(depth)] = copy;
        thread.stack.frames[place(depth)] = caller.ip;
        thread.hash = mix(thread.hash, caller.ip);
        thread.depth = depth as u32 + 1;
        thread.trail.followed += 1;
        thread.trail.near = left;
        frame = caller;
    }
    // What is outside may be another stack: if the walk does not come to the last
    // one again, none of that one's frames may be kept.
    thread.trail.shared = 0;
    if thread.depth == begun {
        return NOWHERE;
    }
    let now = frame_pointer(thread, &frame, base, fp).unwrap_or(0);
    if frame.was_loaded_since(base) {
        thread.fp_slot = frame.from & !FLAGS;
    }
    // The step from there may ask for it.
    thread.trail.fresh[place(thread.depth.wrapping_sub(1) as usize)].fp = now;
    thread.frame = Registers {
        ip: frame.ip,
        sp: frame.sp,
        fp: now,
    };
    thread.link = 0;
    FURTHER
}

/// The frame pointer of `frame` now, where `base` is the first frame's stack
/// pointer and `fp` its frame pointer.
#[inline(always)]
fn frame_pointer(thread: &mut Thread, frame: &Frame, base: u64, fp: u64) -> Option<u64> {
    if frame.was_loaded_since(base) {
        word(thread, frame.from & !FLAGS)
    } else {
        Some(fp)
    }
}

/// Keeps the walk that has just ended, if it was `whole`.
///
/// Of global linkage, as above.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn trail_keep(whole: u32) -> u64 {
    let Some(thread) = thread::find() else {
        return 0;
    };
    let depth = thread.depth as usize;
    count_by(Counter::FramesWalked, u64::from(thread.depth));
    count_by(Counter::FramesFollowed, u64::from(thread.trail.followed));
    if whole == 0 || depth > MAX_FRAMES {
        thread.trail.length = 0;
        return 0;
    }
    let shared = thread.trail.shared as usize;
    for new in 0..MAX_FRAMES {
        // From the outermost frame that is new.
        let index = new + shared;
        if index >= depth {
            break;
        }
        let frame = thread.trail.fresh[place(depth - 1 - index)];
        thread.trail.frames[place(index)] = frame;
    }
    thread.trail.length = depth as u32;
    0
}
