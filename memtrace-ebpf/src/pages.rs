//! Page frames: who has each of them, in a table that user space reads whenever
//! it likes ([`maps::PAGE_FRAMES`]). Handing a page out costs the walk of the
//! kernel's stack and a store; giving it back costs a store. Nothing is sent but
//! ways of asking for pages that were not seen before.
use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_probe_read_kernel,
        generated::{bpf_get_func_arg, bpf_get_func_ret},
    },
    macros::{fexit, raw_tracepoint, tracepoint},
    programs::{FExitContext, RawTracePointContext, TracePointContext},
};
use memtrace_common::pages::{Frame, MOST_ORDER, OTHER_ORIGIN, Sum};

use crate::{
    config,
    count::add,
    frames::{frame_of, mark, pages_mark_if_new, word_of},
    maps,
    origin::{Request, Walks, origin_of},
    probe::keep_kernel_stack,
};

/// `(page, order, gfp_flags, migratetype)`; no page: the request failed.
#[raw_tracepoint(tracepoint = "mm_page_alloc")]
fn pages_alloc(ctx: RawTracePointContext) -> i32 {
    let page: u64 = ctx.arg(0);
    note_seen(ALLOC, page);
    alloc(&ctx, page);
    0
}

/// What [`pages_alloc`] has missed.
#[raw_tracepoint(tracepoint = "mm_page_alloc")]
fn pages_alloc_again(ctx: RawTracePointContext) -> i32 {
    let page: u64 = ctx.arg(0);
    if page != 0 && !was_seen(ALLOC, page) && !word_of(frame_of(page)).is_live() {
        sum(Sum::CaughtUp, 1);
        alloc(&ctx, page);
    }
    0
}

#[inline(always)]
fn alloc(ctx: &RawTracePointContext, page: u64) {
    keep_kernel_stack(ctx);
    let order: u64 = ctx.arg(1);
    let gfp: u64 = ctx.arg(2);
    let migratetype: u64 = ctx.arg(3);
    if page != 0 {
        let request = Request {
            order: order as u32,
            gfp: gfp as u32,
            migratetype: migratetype as u32,
        };
        handed_out(ctx, frame_of(page), request, Walks::Recalled);
    }
}

/// `(page, order)`.
#[raw_tracepoint(tracepoint = "mm_page_free")]
fn pages_free(ctx: RawTracePointContext) -> i32 {
    let page: u64 = ctx.arg(0);
    let order: u64 = ctx.arg(1);
    note_seen(FREE, page);
    given_back(frame_of(page), order as u32);
    0
}

/// What [`pages_free`] has missed.
#[raw_tracepoint(tracepoint = "mm_page_free")]
fn pages_free_again(ctx: RawTracePointContext) -> i32 {
    let page: u64 = ctx.arg(0);
    let order: u64 = ctx.arg(1);
    if !was_seen(FREE, page) && word_of(frame_of(page)) != Frame::FREED {
        sum(Sum::CaughtUp, 1);
        given_back(frame_of(page), order as u32);
    }
    0
}

/// Slots of [`maps::PAGE_SEEN`].
const ALLOC: u32 = 0;
const FREE: u32 = 1;

/// Notes that the program is at work on this page.
///
/// The kernel leaves a program out while it is at work already on the CPU: an
/// interrupt that takes pages while pages are taken would go unseen. So every
/// tracepoint has a second program, which the kernel calls behind the first. It does
/// nothing if the first saw this page last; and nothing either if the page's word
/// says that it was seen: an interrupt between the two changes what was last.
#[inline(always)]
fn note_seen(slot: u32, page: u64) {
    if let Some(slot) = maps::PAGE_SEEN.get_ptr_mut(slot) {
        // SAFETY: the map's memory; volatile, because interrupts read it.
        unsafe { slot.write_volatile(page) };
    }
}

/// Whether it was this page that the first program was at work on last.
#[inline(always)]
fn was_seen(slot: u32, page: u64) -> bool {
    // SAFETY: as above.
    let last = maps::PAGE_SEEN
        .get_ptr(slot)
        .map(|slot| unsafe { slot.read_volatile() });
    last == Some(page)
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
        handed_out(&ctx, pfn, request, Walks::Anew);
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
    let origin = origin_of(&ctx, request, Walks::Anew);
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

#[inline(always)]
fn handed_out(ctx: &impl EbpfContext, pfn: u64, request: Request, walks: Walks) {
    let origin = origin_of(ctx, request, walks);
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
pub fn sum(which: Sum, pages: u64) {
    if pages != 0
        && let Some(slot) = maps::PAGE_SUMS.get_ptr_mut(which as u32)
    {
        // Atomic although the array is per CPU: an interrupt may add as well.
        add(slot, pages);
    }
}
