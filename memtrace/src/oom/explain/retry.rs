//! How the kernel gave up: reclaim that made no progress or could not, and
//! compaction that found no piece.
use super::{Case, Finding, Severity, finding, kb, size};

/// Rounds without progress after which the kernel gives up (`MAX_RECLAIM_RETRIES`
/// of `mm/internal.h`, since 4.7).
const MOST_ROUNDS: u32 = 16;

pub(super) fn reclaim_gave_up(case: &Case<'_>) -> Option<Finding> {
    let reclaim = case.kill.reclaim.as_ref()?;
    let zone = reclaim.zone.as_deref().unwrap_or("(not named)");
    let title = if !reclaim.enough {
        format!(
            "reclaim could not have helped: all that it may set free would not do in any zone, {zone} the nearest to it"
        )
    } else if reclaim.rounds_without_progress >= MOST_ROUNDS {
        format!(
            "reclaim set nothing free in {MOST_ROUNDS} rounds in a row, and gave up, although zone {zone} seemed to hold enough"
        )
    } else {
        format!(
            "reclaim had set nothing free in {} rounds in a row",
            reclaim.rounds_without_progress
        )
    };
    let evidence = format!(
        "zone {zone}: {} free and reclaimable, {} of it reclaimable, minimum {}; {} rounds without progress",
        kb(reclaim.available_kb),
        kb(reclaim.reclaimable_kb),
        kb(reclaim.minimum_kb),
        reclaim.rounds_without_progress
    );
    let advice = if reclaim.enough {
        "what counts as reclaimable could not be set free: pages that are in use all the time, dirty ones on a device that is slow or gone, or locked ones. /proc/vmstat (pgscan_direct, pgsteal_direct) tells how much of what was looked at was set free"
    } else {
        "there was next to nothing left to reclaim: page cache and swap are used up. The other findings say who holds the memory"
    };
    Some(finding(
        "reclaim_gave_up",
        Severity::Info,
        title,
        evidence,
        advice.into(),
    ))
}

pub(super) fn compaction_failed(case: &Case<'_>) -> Option<Finding> {
    let compaction = case.kill.compaction.as_ref()?;
    let wanted = case
        .page_kb()
        .checked_shl(compaction.order)
        .unwrap_or(u64::MAX);
    Some(finding(
        "compaction_failed",
        Severity::Info,
        format!(
            "compaction made no piece of {}: {}",
            size(wanted),
            compaction.result
        ),
        format!(
            "order {}; attempt {} of {}",
            compaction.order, compaction.attempts, compaction.most_attempts
        ),
        "compaction moves movable pages together; unmovable ones among them (slab, drivers) stay. vm.compaction_proactiveness makes it begin earlier, vm.min_free_kbytes leaves it more room, at the price of processor time and of memory".into(),
    ))
}
