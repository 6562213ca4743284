//! How reclaim and compaction go for a thread that has trouble with them: what
//! the kernel says each time it decides whether to go on. [`crate::oom`] sends it.
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel_str_bytes},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use memtrace_common::oom::{Retry, ZONE_NAME};

use crate::{config, maps, oom::read};

/// Whether to go on reclaiming, by one zone: `(zoneref, order, reclaimable,
/// available, minimum, rounds without progress, whether that is enough)`.
#[raw_tracepoint(tracepoint = "reclaim_retry_zone")]
fn oom_reclaim_retry(ctx: RawTracePointContext) -> i32 {
    let (zoneref, order): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let (available, no_progress): (u64, u64) = (ctx.arg(3), ctx.arg(5));
    let (order, no_progress) = (order as i32, no_progress as i32);
    let Some(retry) = retry_of_thread() else {
        return 0;
    };
    // Of the zones of one round, the one that came nearest.
    let same_round = retry.no_progress == no_progress && retry.order == order;
    // SAFETY: no arguments, no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if same_round && retry.available > available && now.wrapping_sub(retry.zone_ns) < ROUND_NS {
        return 0;
    }
    retry.zone_ns = now;
    retry.order = order;
    retry.reclaimable = ctx.arg(2);
    retry.available = available;
    retry.minimum = ctx.arg(4);
    retry.no_progress = no_progress;
    let enough: u64 = ctx.arg(6);
    retry.enough = u32::from(enough as u8 != 0);
    let layout = config::OOM.load();
    let zone = read(zoneref, layout.zoneref_zone).unwrap_or(0);
    let name: u64 = read(zone, layout.zone_name).unwrap_or(0);
    retry.zone = [0; ZONE_NAME];
    if name != 0 {
        // SAFETY: the helper refuses addresses that cannot be read.
        let _ = unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut retry.zone) };
    }
    0
}

/// Zones that are judged less far apart belong to one round.
const ROUND_NS: u64 = 1_000_000_000;

/// Whether to go on compacting: `(order, priority, result, attempts, most
/// attempts, whether it goes on)`.
#[raw_tracepoint(tracepoint = "compact_retry")]
fn oom_compact_retry(ctx: RawTracePointContext) -> i32 {
    let Some(retry) = retry_of_thread() else {
        return 0;
    };
    // SAFETY: no arguments, no preconditions.
    retry.compact_ns = unsafe { bpf_ktime_get_ns() };
    let (order, priority, result): (u64, u64, u64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let (retries, most): (u64, u64) = (ctx.arg(3), ctx.arg(4));
    retry.order = order as i32;
    retry.priority = priority as i32;
    retry.result = result as i32;
    retry.retries = retries as i32;
    retry.max_retries = most as i32;
    0
}

/// What the kernel said to this thread so far.
#[inline(always)]
fn retry_of_thread() -> Option<&'static mut Retry> {
    let thread = bpf_get_current_pid_tgid() as u32;
    if maps::OOM_RETRIES.get_ptr_mut(thread).is_none() {
        // Evicts the oldest where it is full; it fails for no other reason.
        let _ = maps::OOM_RETRIES.insert(thread, Retry::NONE, 0);
    }
    // SAFETY: the thread's own, and it does one thing at a time.
    maps::OOM_RETRIES
        .get_ptr_mut(thread)
        .map(|retry| unsafe { &mut *retry })
}
