//! By which way pages are asked for: stack, flags, order and migratetype. Each way
//! has an id, which follows from its hash, and is sent once.
use core::mem::offset_of;

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns,
        generated::{bpf_get_stack, bpf_ringbuf_output},
    },
};
use memtrace_common::{
    Head,
    pages::{DEPTH, ORIGIN, ORIGIN_HEAD, OTHER_ORIGIN, Origin, Sum},
};

use crate::{
    config, maps,
    pages::sum,
    recall::{Search, WINDOW, hash_of, note_frame, recall, remember},
    ring::wake_up,
    stack::mix,
};

/// A request for pages.
#[derive(Clone, Copy)]
pub struct Request {
    pub order: u32,
    pub gfp: u32,
    pub migratetype: u32,
}

/// Programs of one kind that may interrupt each other on a CPU: of a task, a
/// software interrupt, a hardware interrupt, and one to spare.
pub const LEVELS: u32 = 4;

/// What a program works with.
#[repr(C)]
pub struct Scratch {
    /// Where its frame on the kernel's stack is.
    pub frame: u64,
    /// How much of [`Self::window`] holds the stack from there on.
    pub window_words: u64,
    pub window: [u64; WINDOW],
    pub search: Search,
    pub origin: Origin,
}

/// Whether to look for the stack among those that are remembered: only where the
/// program's frame is on the kernel's stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Walks {
    Recalled,
    Anew,
}

/// The id of the way by which these pages are asked for; sends it if it is new.
#[inline(always)]
pub fn origin_of(ctx: &impl EbpfContext, request: Request, walks: Walks) -> u32 {
    let Some(level) = maps::PAGE_LEVEL.get_ptr_mut(0) else {
        return OTHER_ORIGIN;
    };
    // SAFETY: the map's memory. Whoever interrupts this puts back what it found.
    let level = unsafe { &mut *level };
    let mine = *level;
    *level = mine.wrapping_add(1);
    let id = match maps::PAGE_SCRATCH.get_ptr_mut(mine as u32 & (LEVELS - 1)) {
        Some(scratch) => {
            // SAFETY: the map's memory, which is this level's alone.
            let scratch = unsafe { &mut *scratch };
            scratch.origin.gfp = request.gfp;
            scratch.origin.order = request.order;
            scratch.origin.migratetype = request.migratetype;
            identify(ctx, scratch, mine as u32 & (LEVELS - 1), walks)
        }
        None => OTHER_ORIGIN,
    };
    *level = mine;
    id
}

#[inline(always)]
fn identify(ctx: &impl EbpfContext, scratch: &mut Scratch, level: u32, walks: Walks) -> u32 {
    if walks == Walks::Recalled && config::RECALL.load() != 0 {
        note_frame(scratch);
        let hash = recall(level);
        if hash != 0 {
            let id = pages_identify(level, hash, 0);
            if id != 0 {
                return id;
            }
        }
    } else {
        scratch.window_words = 0;
    }
    // SAFETY: the scratch's own memory, and its length.
    let bytes = unsafe {
        bpf_get_stack(
            ctx.as_ptr(),
            scratch.origin.stack.as_mut_ptr().cast(),
            (DEPTH * 8) as u32,
            0,
        )
    };
    scratch.origin.depth = if bytes > 0 { bytes as u32 / 8 } else { 0 };
    let hash = hash_of(scratch);
    remember(level, hash);
    pages_identify(level, hash, 1)
}

/// What of the request decides which way the kernel takes.
#[inline(always)]
pub fn flags_and_order(origin: &Origin) -> u64 {
    u64::from(origin.gfp) | (u64::from(origin.order) << 32)
}

/// How often to look for a free id.
const TRIES: u32 = 8;

/// The id of what is in the scratch memory of this level, with a stack of this
/// hash. `walked`: the stack itself is there, too, and can be sent; 0 is returned
/// where it would have to be and is not.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn pages_identify(level: u32, stack: u64, walked: u32) -> u32 {
    let Some(scratch) = maps::PAGE_SCRATCH.get_ptr_mut(level) else {
        return OTHER_ORIGIN;
    };
    // SAFETY: the map's memory, which is this level's alone.
    let origin = unsafe { &mut (*scratch).origin };
    let hash = mix(
        mix(stack, flags_and_order(origin)),
        u64::from(origin.migratetype),
    );
    for attempt in 0..TRIES {
        // Not OTHER_ORIGIN, nor 0.
        let id = ((hash >> 32) as u32).wrapping_add(attempt) | 2;
        // SAFETY: the value is copied.
        let known = unsafe { maps::PAGE_ORIGINS.get(id) }.copied();
        match known {
            Some(other) if other == hash => return id,
            Some(_) => continue,
            None => {}
        }
        if walked == 0 {
            return 0;
        }
        if maps::PAGE_ORIGINS.insert(id, hash, NO_REPLACE).is_err() {
            // Another CPU was faster with this one, or there is no room.
            // SAFETY: the value is copied.
            let known = unsafe { maps::PAGE_ORIGINS.get(id) }.copied();
            match known {
                Some(other) if other == hash => return id,
                Some(_) => continue,
                None => return OTHER_ORIGIN,
            }
        }
        origin.id = id;
        if !send(origin) {
            sum(Sum::Delayed, 1);
            // Whoever comes next sends it.
            let _ = maps::PAGE_ORIGINS.remove(id);
        }
        return id;
    }
    OTHER_ORIGIN
}

/// `BPF_NOEXIST`.
const NO_REPLACE: u64 = 1;

#[inline(always)]
fn send(origin: &mut Origin) -> bool {
    let depth = (origin.depth as usize).min(DEPTH);
    let pid_tgid = bpf_get_current_pid_tgid();
    origin.head = Head {
        kind: ORIGIN,
        function: 0,
        pid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        flags: 0,
        // SAFETY: no arguments, no preconditions.
        time_ns: unsafe { bpf_ktime_get_ns() },
    };
    origin.comm = bpf_get_current_comm().unwrap_or_default();
    let length = ORIGIN_HEAD + depth * 8;
    // SAFETY: `length` bytes of the record, which is map memory and therefore
    // initialized.
    let failed = unsafe {
        bpf_ringbuf_output(
            (&raw const maps::EVENTS).cast_mut().cast(),
            (&raw mut *origin).cast(),
            length as u64,
            wake_up(),
        )
    };
    failed == 0
}

const _: () = assert!(offset_of!(Origin, stack) == ORIGIN_HEAD);
