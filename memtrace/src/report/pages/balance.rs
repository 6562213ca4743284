//! What the machine's own figures say about the pages that were seen.
use super::{Balance, Hole, Loss};
use crate::{
    meminfo::{Machine, Moment, zoneinfo},
    pages::found::{Found, Sums},
};

/// A change of the hole below this says nothing: counters are read one after the
/// other while pages move.
const SMALLEST_CHANGE_KB: u64 = 1024;

/// What each sum of what is not known means.
type Reason = (fn(&Sums) -> u64, &'static str);

const REASONS: &[Reason] = &[
    (
        |sums| sums.outside,
        "pages lie outside the table (memory that was plugged in, or --max-memory)",
    ),
    (
        |sums| sums.no_origin,
        "pages have no stack: too many different ones",
    ),
    (
        |sums| sums.misses,
        "times that pages moved while a program was at work on the same CPU, and were not seen",
    ),
    (
        |sums| sums.freed_twice,
        "pages were given back that had not been seen handed out again",
    ),
    (
        |sums| sums.allocated_twice,
        "pages were handed out that had not been seen given back",
    ),
];

/// Why something is not known.
pub(super) fn losses(sums: &Sums) -> Vec<Loss> {
    let losses = REASONS.iter().map(|(count, reason)| Loss {
        reason: (*reason).to_owned(),
        count: count(sums),
    });
    losses.filter(|loss| loss.count > 0).collect()
}

/// What the balance sheet does not explain, and how much of it `untracked` pages
/// do.
pub(super) fn hole(found: &Found, untracked: u64) -> Option<Hole> {
    let [before, now] = &found.machines;
    let unaccounted = |machine: &Machine| Moment::of(machine.clone()).sheet.unaccounted_kb;
    if now.zones.is_empty() {
        return None;
    }
    let (start_kb, now_kb) = (unaccounted(before), unaccounted(now));
    let traced_kb = untracked.saturating_mul(now.page_kb);
    let change = now_kb.saturating_sub(start_kb);
    let explained_percent =
        (change >= SMALLEST_CHANGE_KB).then(|| traced_kb as f64 / change as f64 * 100.0);
    Some(Hole {
        start_kb,
        now_kb,
        traced_kb,
        explained_percent,
    })
}

/// Free memory against what was seen.
pub(super) fn balance(found: &Found) -> Balance {
    let [before, now] = &found.machines;
    let [handed_out, given_back] = found.moved;
    Balance {
        free_change_pages: difference(free_pages(now), free_pages(before)),
        seen_change_pages: difference(given_back, handed_out),
        moved_pages: handed_out.saturating_add(given_back),
    }
}

fn free_pages(machine: &Machine) -> u64 {
    let free = machine.meminfo.kb("MemFree") / machine.page_kb.max(1);
    free.saturating_add(zoneinfo::sum(&machine.zones, |zone| zone.on_cpus))
}

fn difference(new: u64, old: u64) -> i64 {
    let change = i128::from(new) - i128::from(old);
    i64::try_from(change).unwrap_or(if change < 0 { i64::MIN } else { i64::MAX })
}
