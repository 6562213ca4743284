//! How reclaim and compaction failed, from what the kernel last said of them.
use memtrace_common::oom::{KILL, OomKill, Retry};

use crate::{
    kernel::{oom::COMPACT_RESULTS, text},
    oom::{Cause, Compaction, Constraint, Kill, Reclaim},
};

/// What was said longer before the kill was of another request.
const RECENT_NS: u64 = 10_000_000_000;

/// Fills in what belongs to this kill: a limit of a cgroup is no matter of zones.
pub(super) fn fill(kill: &mut Kill, event: &OomKill, page_kb: u64) {
    let is_of_machine = event.head.kind == KILL
        && kill.cause == Cause::Allocation
        && kill.constraint != Constraint::Memcg;
    if !is_of_machine {
        return;
    }
    let now = event.head.time_ns;
    let is_recent = |at_ns: u64| at_ns != 0 && now.saturating_sub(at_ns) < RECENT_NS;
    let retry = &event.retry;
    if is_recent(retry.zone_ns) {
        kill.reclaim = Some(reclaim(retry, page_kb));
    }
    if is_recent(retry.compact_ns) {
        kill.compaction = Some(compaction(retry));
    }
}

fn reclaim(retry: &Retry, page_kb: u64) -> Reclaim {
    let kb = |pages: u64| pages.saturating_mul(page_kb);
    Reclaim {
        zone: Some(text(&retry.zone)).filter(|name| !name.is_empty()),
        rounds_without_progress: number(retry.no_progress),
        reclaimable_kb: kb(retry.reclaimable),
        available_kb: kb(retry.available),
        minimum_kb: kb(retry.minimum),
        enough: retry.enough != 0,
    }
}

fn compaction(retry: &Retry) -> Compaction {
    let result = usize::try_from(retry.result)
        .ok()
        .and_then(|result| COMPACT_RESULTS.get(result));
    Compaction {
        order: number(retry.order),
        attempts: number(retry.retries),
        most_attempts: number(retry.max_retries),
        result: result.map_or_else(
            || format!("with the result {}", retry.result),
            |words| (*words).to_owned(),
        ),
    }
}

fn number(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}
