//! One step up the stack by unwind tables, or by the frame pointer where
//! there is no rule.
use memtrace_common::unwind::{
    CfaRule, Mapping, Method, ProcessMappings, ROWS_PER_CHUNK, RowChunk, STRAY, UnwindRow,
};

use crate::{arch, cache, config, copy, hidden, maps, stack::word, thread::Thread, trail};

/// The registers of a frame, as far as walking needs them. `ip` is the
/// address behind the call instruction.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Registers {
    pub ip: u64,
    pub sp: u64,
    pub fp: u64,
}

/// How a step ended.
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Step {
    /// The registers are the caller's now.
    Next,
    /// There is no caller.
    End,
    /// Stack memory could not be read.
    Unreadable,
    /// Neither a rule nor a plausible frame pointer.
    NoRule,
}

/// No code is mapped below the lowest page (`vm.mmap_min_addr`).
const LOWEST_CODE: u64 = 4096;

/// Halvings that find one of 65,536 mappings.
const MAPPING_STEPS: u32 = 17;
/// Halvings that find one of 65,536 chunks, of 32 million rows.
const CHUNK_STEPS: u32 = 17;
/// Halvings that find a row in a chunk.
const ROW_STEPS: u32 = 9;

/// The process's part of the mapping table.
#[inline(always)]
pub fn mappings(pid: u32) -> ProcessMappings {
    // SAFETY: user space replaces the value as a whole.
    match unsafe { maps::PROCESSES.get(pid) } {
        Some(mappings) => *mappings,
        None => ProcessMappings {
            first: 0,
            count: 0,
            generation: 0,
            reserved: 0,
        },
    }
}

/// Goes to the caller: from `thread.frame` to there.
///
/// All rules come down to at most three reads, in three places: the verifier
/// follows each place anew for each frame.
#[inline(always)]
pub fn step(thread: &mut Thread) -> Step {
    let Registers { ip, sp, fp } = current(thread);
    let depth = thread.depth as usize;
    // The instruction before the return address is the call: at the return
    // address itself another rule may already hold.
    let ProcessMappings { first, count, .. } = thread.mappings;
    let packed = unwind_rule(first, count, ip.wrapping_sub(1));
    let mapped = packed != NO_CODE;
    let row: UnwindRow = zerocopy::transmute!(if mapped { packed } else { UNKNOWN });
    thread.mapped = u32::from(mapped);
    if !mapped {
        copy::note(thread);
    }
    let rule = row.rule();
    if !mapped || rule == CfaRule::Stray as u8 {
        thread.guessed = 1;
    }
    let offset = (row.cfa_words() * 8) as u64;
    let mut saved_fp = (i64::from(row.fp_words_below_cfa) * 8) as u64;

    let unknown = rule == CfaRule::Unknown as u8 || rule == CfaRule::Stray as u8;
    let deref = rule == CfaRule::DerefFramePointer as u8;
    // Other processors' rules are none here, and no code for them.
    let by_fp = arch::LINKS && rule == CfaRule::FrameRecord as u8;
    let by_sp = arch::LINKS && rule == CfaRule::StackRecord as u8;
    let asks_fp = unknown || deref || by_fp || rule == CfaRule::FramePointer as u8;
    if asks_fp {
        cache::note_frame_pointer(thread, fp);
    }
    let signal = rule == CfaRule::Signal as u8;
    trail::note_step(thread, asks_fp, signal || deref || !mapped);
    let mut indirect = signal;
    // The canonical frame address, or, when `indirect`, where to read it (in
    // signal frames: the interrupted stack pointer).
    let mut cfa = if rule == CfaRule::StackPointer as u8 || by_sp {
        sp.wrapping_add(offset)
    } else if rule == CfaRule::FramePointer as u8 || by_fp {
        fp.wrapping_add(offset)
    } else if deref {
        indirect = true;
        fp.wrapping_add(offset)
    } else if signal {
        sp.wrapping_add(arch::SIGNAL_FRAME.sp)
    } else if rule == CfaRule::Plt as u8 {
        sp.wrapping_add(if ip & 15 >= offset / 8 { 16 } else { 8 })
    } else if rule == CfaRule::End as u8 {
        return Step::End;
    } else if rule == CfaRule::Inexpressible as u8 || config::unwinds_by(Method::Tables) {
        return Step::NoRule;
    } else if fp == 0 {
        // In a register it may be any value that happens to be 0; on the stack
        // it is how the outermost function ends the chain.
        return if config::unwinds_by(Method::FramePointers) && depth > 1 {
            Step::End
        } else {
            Step::NoRule
        };
    } else {
        saved_fp = 16;
        fp.wrapping_add(16)
    };
    if indirect {
        match word(thread, cfa) {
            Some(value) => {
                cache::note(thread, cfa, value);
                cfa = value;
            }
            None => return Step::Unreadable,
        }
    }
    let arch::Saved {
        fp: mut fp_at,
        ip: mut ip_at,
    } = arch::saved(cfa, saved_fp);
    if by_fp || by_sp {
        fp_at = if by_fp { fp } else { sp };
        ip_at = fp_at.wrapping_add(8);
    }
    // Functions that realign their stack save the caller's frame pointer
    // where theirs points to.
    if deref {
        fp_at = fp;
    }
    if signal {
        fp_at = sp.wrapping_add(arch::SIGNAL_FRAME.fp);
        ip_at = sp.wrapping_add(arch::SIGNAL_FRAME.ip);
    } else if arch::LINKS && ip_at == 0 {
        return leave_leaf(thread, cfa);
    } else if cfa <= sp {
        return Step::NoRule;
    }
    if arch::LINKS {
        thread.link = 0;
        if signal {
            // What was interrupted may not have saved its return address.
            let link_at = sp.wrapping_add(arch::SIGNAL_FRAME.link);
            let Some(link) = word(thread, link_at) else {
                return Step::Unreadable;
            };
            cache::note(thread, link_at, link);
            thread.link = link;
        }
    }
    // Ascending addresses, so that the window moves at most once.
    let mut caller_fp = fp;
    if fp_at != cfa {
        match word(thread, fp_at) {
            Some(value) => {
                caller_fp = value;
                thread.fp_slot = if signal { trail::ELSEWHERE } else { fp_at };
            }
            None => return Step::Unreadable,
        }
    }
    let Some(mut caller) = word(thread, ip_at) else {
        return Step::Unreadable;
    };
    cache::note(thread, ip_at, caller);
    if arch::LINKS {
        if ip_at != cfa.wrapping_sub(8) || caller != arch::code(caller) {
            trail::note_step(thread, false, true);
        }
        caller = arch::code(caller);
    }
    if caller < LOWEST_CODE {
        trail::note_step(thread, false, true);
        // Zero ends the stacks of threads.
        return if caller == 0 { Step::End } else { Step::NoRule };
    }
    // By the stack pointer at the function's entry; signal frames have none.
    let entry = if signal {
        ip_at
    } else {
        cfa.wrapping_sub(arch::PUSHED)
    };
    let (returns_to, hidden) = hidden::true_return(entry, caller);
    if hidden {
        // The word on the stack does not say where to.
        cache::forget(thread);
        trail::note_step(thread, false, true);
        caller = returns_to;
    }
    // Where a signal struck, the instruction was not a call; one is added so
    // that whoever subtracts one finds it.
    caller = caller.wrapping_add(u64::from(signal));
    thread.frame = Registers {
        ip: caller,
        sp: cfa,
        fp: caller_fp,
    };
    Step::Next
}

/// The step from a function that has its return address in the register still:
/// the innermost, or one that a signal interrupted.
#[inline(always)]
fn leave_leaf(thread: &mut Thread, cfa: u64) -> Step {
    let Registers { sp, fp, .. } = current(thread);
    let link = arch::code(thread.link);
    thread.link = 0;
    if link < LOWEST_CODE || cfa < sp {
        return Step::NoRule;
    }
    trail::note_step(thread, false, true);
    let (ip, hidden) = hidden::true_return(cfa, link);
    if hidden {
        cache::forget(thread);
    }
    thread.frame = Registers { ip, sp: cfa, fp };
    Step::Next
}

/// The frame that the walk has reached. Read from memory, although it was
/// just written: all the ways to have come here look the same to the verifier
/// then, and it follows one of them instead of their product.
#[inline(always)]
pub fn current(thread: &Thread) -> Registers {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::read_volatile(&raw const thread.frame) }
}

/// A packed row that says [`CfaRule::Unknown`].
const UNKNOWN: u64 = 0;

/// A packed row that says [`CfaRule::Stray`].
const STRAY_ROW: u64 = (CfaRule::Stray as u64) << 56;

/// No row: nothing executable is mapped at the address.
const NO_CODE: u64 = u64::MAX;

/// The rule for the instruction at `address`, as the bits of an
/// [`UnwindRow`], of a process whose mappings are `count` from `first` on.
///
/// A function of its own with global linkage and scalar arguments: the
/// verifier then checks it once and not anew for each frame of the walk,
/// which would exceed its limits.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn unwind_rule(first: u32, count: u32, address: u64) -> u64 {
    let Some(mapping) = mapping(first, count, address) else {
        return NO_CODE;
    };
    if mapping.chunks == 0 {
        return UNKNOWN;
    }
    if mapping.chunks == STRAY {
        return STRAY_ROW;
    }
    let pc = address.wrapping_sub(mapping.bias) as u32;
    let Some(chunk) = chunk(mapping.first_chunk, mapping.chunks, pc) else {
        return UNKNOWN;
    };
    let mut low = 0;
    let mut step = ROWS_PER_CHUNK as u64 / 2;
    for _ in 0..ROW_STEPS {
        let middle = (low + step) as usize & (ROWS_PER_CHUNK - 1);
        // All ones where the row begins at or before `pc`: the processor
        // cannot foresee these branches, so there are none.
        let take = (i64::from(chunk.rows[middle].pc) - i64::from(pc) - 1) >> 63;
        low += step & take as u64;
        step /= 2;
    }
    zerocopy::transmute!(chunk.rows[low as usize & (ROWS_PER_CHUNK - 1)])
}

/// The mapping that holds `address`.
#[inline(always)]
fn mapping(first: u32, count: u32, address: u64) -> Option<&'static Mapping> {
    let mut low = first;
    let mut high = first.wrapping_add(count);
    for _ in 0..MAPPING_STEPS {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        let candidate = maps::MAPPINGS.get(middle)?;
        if address < candidate.start {
            high = middle;
        } else if address >= candidate.end {
            low = middle + 1;
        } else {
            return Some(candidate);
        }
    }
    None
}

/// The last chunk that begins at or before `pc`.
#[inline(always)]
fn chunk(first: u32, chunks: u32, pc: u32) -> Option<&'static RowChunk> {
    let mut low = first;
    let mut high = first.wrapping_add(chunks);
    for _ in 0..CHUNK_STEPS {
        if high.wrapping_sub(low) <= 1 {
            break;
        }
        let middle = low + (high - low) / 2;
        if maps::ROWS.get(middle)?.rows[0].pc <= pc {
            low = middle;
        } else {
            high = middle;
        }
    }
    let chunk = maps::ROWS.get(low)?;
    if chunk.rows[0].pc <= pc {
        Some(chunk)
    } else {
        None
    }
}
