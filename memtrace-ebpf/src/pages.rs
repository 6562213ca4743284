//! Page frames: who has each of them, in a table that user space reads whenever
//! it likes ([`maps::PAGE_FRAMES`]). Handing a page out costs the walk of the
//! kernel's stack and a store; giving it back costs a store. Nothing is sent but
//! ways of asking for pages that were not seen before.
use core::{hint::black_box, mem::offset_of};

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel,
        generated::{bpf_get_func_arg, bpf_get_func_ret, bpf_get_stack, bpf_ringbuf_output},
    },
    macros::{fexit, raw_tracepoint, tracepoint},
    programs::{FExitContext, RawTracePointContext, TracePointContext},
};
use memtrace_common::{
    Head,
    pages::{
        CHUNK, CHUNK_ORDER, DEPTH, Frame, MOST_ORDER, ORIGIN, ORIGIN_HEAD, OTHER_ORIGIN, Origin,
        SECTION_CHUNKS, SECTION_ORDER, Sum,
    },
};

use crate::{config, count::add, maps, ring::wake_up, stack::mix};

/// A request for pages.
#[derive(Clone, Copy)]
struct Request {
    order: u32,
    gfp: u32,
    migratetype: u32,
}

/// `(page, order, gfp_flags, migratetype)`; no page: the request failed.
#[raw_tracepoint(tracepoint = "mm_page_alloc")]
fn pages_alloc(ctx: RawTracePointContext) -> i32 {
    let page: u64 = ctx.arg(0);
    let order: u64 = ctx.arg(1);
    let gfp: u64 = ctx.arg(2);
    let migratetype: u64 = ctx.arg(3);
    if page != 0 {
        let request = Request {
            order: order as u32,
            gfp: gfp as u32,
            migratetype: migratetype as u32,
        };
        handed_out(&ctx, frame_of(page), request);
    }
    0
}

/// `(page, order)`.
#[raw_tracepoint(tracepoint = "mm_page_free")]
fn pages_free(ctx: RawTracePointContext) -> i32 {
    let page: u64 = ctx.arg(0);
    let order: u64 = ctx.arg(1);
    given_back(frame_of(page), order as u32);
    0
}

/// The same from the record of the classic tracepoint, which has the number of
/// the frame. A failed request has the frame -1.
#[tracepoint]
fn pages_alloc_record(ctx: TracePointContext) -> u32 {
    let [pfn, order, gfp, migratetype] = config::PAGES.load().alloc;
    let pfn: u64 = field(&ctx, pfn);
    if pfn != u64::MAX {
        let request = Request {
            order: field(&ctx, order),
            gfp: field(&ctx, gfp),
            migratetype: field(&ctx, migratetype),
        };
        handed_out(&ctx, pfn, request);
    }
    0
}

/// See [`pages_alloc_record`].
#[tracepoint]
fn pages_free_record(ctx: TracePointContext) -> u32 {
    let [pfn, order] = config::PAGES.load().free;
    given_back(field(&ctx, pfn), field(&ctx, order));
    0
}

/// Where a record cannot be read there is none.
#[inline(always)]
fn field<T: Default>(ctx: &TracePointContext, offset: u32) -> T {
    // SAFETY: the helper checks the address.
    unsafe { ctx.read_at(offset as usize) }.unwrap_or_default()
}

/// Most pages of one call of the bulk allocator that are taken in.
const MOST_BULK: u64 = 512;

/// The end of the bulk allocator, whose pages no tracepoint shows. It returns
/// how many of its array's entries are pages; those that were there before it
/// was called keep their origin.
#[fexit(function = "alloc_pages_bulk_noprof")]
fn pages_bulk(ctx: FExitContext) -> i32 {
    // By helpers, because the verifier lets no program load a pointer to
    // pointers from its context before 7.0.
    let (gfp, array) = (
        argument(&ctx, 0),
        argument(&ctx, config::PAGES.load().bulk_array),
    );
    let mut count = 0;
    // SAFETY: the context of a function's end, and a number of its own.
    let failed = unsafe { bpf_get_func_ret(ctx.as_ptr(), &raw mut count) };
    if failed != 0 || array == 0 || count == 0 {
        return 0;
    }
    let request = Request {
        order: 0,
        gfp: gfp as u32,
        migratetype: migratetype_of(gfp),
    };
    let origin = origin_of(&ctx, request);
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let marked = pages_mark_array(array, count, Frame::held(origin, pid).0);
    sum(Sum::Allocated, marked);
    if origin == OTHER_ORIGIN {
        sum(Sum::NoOrigin, marked);
    }
    0
}

/// 0 where there is no such argument.
#[inline(always)]
fn argument(ctx: &FExitContext, number: u32) -> u64 {
    let mut value = 0;
    // SAFETY: the context of a function, and a number of its own.
    unsafe { bpf_get_func_arg(ctx.as_ptr(), number, &raw mut value) };
    value
}

/// `gfp_migratetype`: `__GFP_MOVABLE` and `__GFP_RECLAIMABLE` shifted to the
/// bottom (`GFP_MOVABLE_SHIFT`, include/linux/gfp.h).
#[inline(always)]
fn migratetype_of(gfp: u64) -> u32 {
    ((gfp as u32) >> 3) & 3
}

/// Marks the pages of an array that nobody has yet; how many these were.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn pages_mark_array(array: u64, count: u64, word: u64) -> u64 {
    let mut marked = 0;
    for index in 0..MOST_BULK {
        if index >= count {
            break;
        }
        let entry = array.wrapping_add(index * 8) as *const u64;
        // SAFETY: the helper checks the address.
        let page = unsafe { bpf_probe_read_kernel(entry) }.unwrap_or(0);
        if page != 0 {
            marked += pages_mark_if_new(frame_of(page), word);
        }
    }
    marked
}

/// Marks one frame unless somebody has it; whether it was marked.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn pages_mark_if_new(pfn: u64, word: u64) -> u64 {
    let Some(chunk) = chunk(pfn) else {
        return 0;
    };
    let index = black_box(pfn) as usize & (CHUNK - 1);
    // SAFETY: the map's memory; the index is below its length.
    let slot = unsafe { &mut (*chunk)[index] };
    if Frame(*slot).is_live() {
        return 0;
    }
    *slot = word;
    1
}

/// A process ends: its name is kept for the pages that outlive it.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn pages_exit(_ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let pid = (pid_tgid >> 32) as u32;
    if pid == pid_tgid as u32
        && let Ok(comm) = bpf_get_current_comm()
    {
        // Evicts the oldest where it is full; it fails for no other reason.
        let _ = maps::PAGE_EXITED.insert(pid, comm, 0);
    }
    0
}

/// Notes what the thread [`config::SAMPLED_THREAD`] is given.
#[raw_tracepoint(tracepoint = "mm_page_alloc")]
fn pages_sample(ctx: RawTracePointContext) -> i32 {
    let page: u64 = ctx.arg(0);
    if page == 0 || bpf_get_current_pid_tgid() as u32 != config::SAMPLED_THREAD.load() {
        return 0;
    }
    if let Some(samples) = maps::PAGE_SAMPLES.get_ptr_mut(0) {
        // SAFETY: the map's memory, which one thread alone writes.
        let samples = unsafe { &mut *samples };
        samples.pages[samples.count as usize & 7] = page;
        samples.count += 1;
    }
    0
}

/// The number of a page's frame.
#[inline(always)]
fn frame_of(page: u64) -> u64 {
    let layout = config::PAGES.load();
    let distance = page.wrapping_sub(layout.memory_map);
    distance.checked_div(layout.page_size).unwrap_or(u64::MAX)
}

#[inline(always)]
fn handed_out(ctx: &impl EbpfContext, pfn: u64, request: Request) {
    let origin = origin_of(ctx, request);
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let before = mark(pfn, request.order, Frame::held(origin, pid));
    let pages = 1 << request.order.min(MOST_ORDER);
    sum(Sum::Allocated, pages);
    sum(Sum::AllocatedTwice, before.live);
    sum(Sum::Outside, before.outside);
    if origin == OTHER_ORIGIN {
        sum(Sum::NoOrigin, pages);
    }
}

#[inline(always)]
fn given_back(pfn: u64, order: u32) {
    let before = mark(pfn, order, Frame::FREED);
    let pages = 1 << order.min(MOST_ORDER);
    sum(Sum::Freed, pages);
    sum(Sum::FreedTwice, before.freed);
    sum(Sum::Outside, before.outside);
    sum(Sum::FreedUnseen, pages - before.live - before.outside);
}

/// Adds to a sum, if there is anything to add.
#[inline(always)]
fn sum(which: Sum, pages: u64) {
    if pages != 0
        && let Some(slot) = maps::PAGE_SUMS.get_ptr_mut(which as u32)
    {
        // Atomic although the array is per CPU: an interrupt may add as well.
        add(slot, pages);
    }
}

/// What frames were before they were marked; pages.
struct Before {
    live: u64,
    freed: u64,
    outside: u64,
}

/// Marks the frames of a block.
#[inline(always)]
fn mark(pfn: u64, order: u32, word: Frame) -> Before {
    let mut before = Before {
        live: 0,
        freed: 0,
        outside: 0,
    };
    let (chunks, pages) = if order > CHUNK_ORDER {
        (
            1_u64 << (order - CHUNK_ORDER).min(MOST_ORDER - CHUNK_ORDER),
            CHUNK as u64,
        )
    } else {
        (1, 1 << order)
    };
    for index in 0..1_u64 << (MOST_ORDER - CHUNK_ORDER) {
        if index >= chunks {
            break;
        }
        let found = pages_mark(pfn.wrapping_add(index << CHUNK_ORDER), pages, word.0);
        if found == OUTSIDE {
            before.outside += pages;
        } else {
            before.live += found & 0xffff_ffff;
            before.freed += found >> 32;
        }
    }
    before
}

/// What [`pages_mark`] says of frames that the table has no room for.
const OUTSIDE: u64 = u64::MAX;

/// Marks frames of one chunk. Returns how many somebody had in the low half,
/// and how many were given back in the high half.
///
/// Of global linkage and with scalar arguments, so that the verifier checks it
/// once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn pages_mark(pfn: u64, pages: u64, word: u64) -> u64 {
    let Some(chunk) = chunk(pfn) else {
        return OUTSIDE;
    };
    let mut found = 0;
    for index in 0..CHUNK as u64 {
        if index >= pages {
            break;
        }
        let at = black_box(pfn.wrapping_add(index)) as usize & (CHUNK - 1);
        // SAFETY: the map's memory; the index is below its length.
        let slot = unsafe { &mut (*chunk)[at] };
        let before = Frame(*slot);
        *slot = word;
        found += before.live() + (before.freed() << 32);
    }
    found
}

/// The part of the table in which a frame is.
#[inline(always)]
fn chunk(pfn: u64) -> Option<*mut [u64; CHUNK]> {
    let section = pfn >> SECTION_ORDER;
    if section > u64::from(u32::MAX) {
        return None;
    }
    let place = *maps::PAGE_SECTIONS.get(section as u32)?;
    let first = place.checked_sub(1)?;
    let within = (pfn >> CHUNK_ORDER) as u32 & (SECTION_CHUNKS - 1);
    maps::PAGE_FRAMES.get_ptr_mut(first.wrapping_mul(SECTION_CHUNKS).wrapping_add(within))
}

/// Programs of one kind that may interrupt each other on a CPU: of a task, a
/// software interrupt, a hardware interrupt, and one to spare.
pub const LEVELS: u32 = 4;

/// The id of the way by which these pages are asked for; sends it if it is new.
#[inline(always)]
fn origin_of(ctx: &impl EbpfContext, request: Request) -> u32 {
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
            // SAFETY: the scratch's own memory, and its length.
            let bytes = unsafe {
                bpf_get_stack(
                    ctx.as_ptr(),
                    scratch.stack.as_mut_ptr().cast(),
                    (DEPTH * 8) as u32,
                    0,
                )
            };
            scratch.depth = if bytes > 0 { bytes as u32 / 8 } else { 0 };
            scratch.gfp = request.gfp;
            scratch.order = request.order;
            scratch.migratetype = request.migratetype;
            pages_identify(mine as u32 & (LEVELS - 1))
        }
        None => OTHER_ORIGIN,
    };
    *level = mine;
    id
}

/// How often to look for a free id.
const TRIES: u32 = 8;

/// The id of what is in the scratch memory of this level.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn pages_identify(level: u32) -> u32 {
    let Some(scratch) = maps::PAGE_SCRATCH.get_ptr_mut(level) else {
        return OTHER_ORIGIN;
    };
    // SAFETY: the map's memory, which is this level's alone.
    let scratch = unsafe { &mut *scratch };
    let request = u64::from(scratch.gfp) | (u64::from(scratch.order) << 32);
    let mut hash = mix(request, u64::from(scratch.migratetype));
    for index in 0..DEPTH {
        if index >= scratch.depth as usize {
            break;
        }
        hash = mix(hash, scratch.stack[index]);
    }
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
        scratch.id = id;
        if !send(scratch) {
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
