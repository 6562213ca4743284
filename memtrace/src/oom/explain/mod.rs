//! Why a request failed, why this process died for it, and what to do: findings
//! from the figures of a kill. A table of rules, the likeliest cause first.
mod choice;
mod holders;
mod request;
mod retry;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::{Cause, Constraint, Kill, Zone};
use crate::{
    finding::{Finding, Severity},
    kernel::gfp,
    unit::{Bytes, Count},
};

/// What is to be said about a kill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// Why the request could not be served, one sentence.
    pub why_failed: String,
    /// Why this process was killed for it, one sentence.
    pub why_victim: String,
    /// The main finding first.
    pub findings: Vec<Finding>,
}

type Rule = fn(&Case<'_>) -> Option<Finding>;

/// What is tried, and its order among findings that are as bad: what made the
/// request fail, then who holds the memory, then whom it hit.
const RULES: &[Rule] = &[
    choice::user_space,
    choice::sysrq,
    choice::nobody,
    choice::fork_bomb,
    request::cgroup_limit,
    request::low_zones,
    request::fragmentation,
    request::cma_only_free,
    holders::shmem_hog,
    holders::slab_growth,
    holders::pagetable_bloat,
    holders::vmalloc_growth,
    holders::unaccounted_high,
    holders::hugepages_idle,
    holders::unevictable_high,
    choice::protected,
    choice::process_size,
    holders::processes_fill_memory,
    choice::sacrificed,
    choice::adjusted,
    choice::not_reaped,
    holders::swap_exhausted,
    holders::no_swap,
    request::below_watermarks,
    request::lowmem_reserve,
    retry::reclaim_gave_up,
    retry::compaction_failed,
];

/// Explains one kill.
pub fn explain(kill: &Kill) -> Explanation {
    let case = Case { kill };
    let mut findings: Vec<Finding> = RULES.iter().filter_map(|rule| rule(&case)).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    if findings
        .iter()
        .all(|finding| finding.severity == Severity::Info)
    {
        findings.extend(unexplained(&case));
    }
    Explanation {
        why_failed: request::sentence(&case),
        why_victim: choice::sentence(&case),
        findings,
    }
}

/// Says so where no rule found a cause.
fn unexplained(case: &Case<'_>) -> Option<Finding> {
    let asked = matches!(case.kill.cause, Cause::Sysrq | Cause::UserSpace);
    (!asked).then(|| {
        let known = case.kill.meminfo.len();
        finding(
            "unexplained",
            Severity::Info,
            "these figures do not explain the kill".into(),
            match known {
                0 => "nothing is known of the machine's memory at that moment".into(),
                _ => format!("{known} counters of memory are known, and none stands out"),
            },
            "let `memtrace oom` run, so that the next kill is recorded with its history; for a log, give all lines from `invoked oom-killer` to `Killed process`, and /proc/meminfo with --meminfo".into(),
        )
    })
}

fn finding(
    id: &'static str,
    severity: Severity,
    title: String,
    evidence: String,
    advice: String,
) -> Finding {
    Finding {
        id: id.into(),
        severity,
        title,
        evidence,
        advice,
    }
}

/// A kill with the questions that rules ask of it.
struct Case<'a> {
    kill: &'a Kill,
}

impl Case<'_> {
    /// A row of `/proc/meminfo`, kB.
    fn kb(&self, name: &str) -> Option<u64> {
        self.kill.meminfo.get(name).copied()
    }

    /// The sum of some rows, of those that are known, kB.
    fn sum(&self, names: &[&str]) -> u64 {
        let rows = names.iter().filter_map(|name| self.kb(name));
        rows.fold(0, u64::saturating_add)
    }

    fn is_memcg(&self) -> bool {
        self.kill.constraint == Constraint::Memcg
    }

    /// Whether memory ran out on the machine as such.
    fn is_global(&self) -> bool {
        !self.is_memcg() && self.kill.cause != Cause::Sysrq && self.kill.cause != Cause::UserSpace
    }

    /// What there was to hold, kB: the group's limit, or the machine's memory.
    fn total_kb(&self) -> Option<u64> {
        let limit = self.kill.cgroup_usage.as_ref().map(|usage| usage.limit_kb);
        let total = if self.is_memcg() {
            limit
        } else {
            self.kb("MemTotal")
        };
        total.filter(|total| *total > 0)
    }

    /// What [`Self::total_kb`] is of.
    fn whole(&self) -> String {
        match (&self.kill.cgroup, self.is_memcg()) {
            (Some(cgroup), true) => format!("the limit of {cgroup}"),
            (None, true) => "the cgroup's limit".into(),
            _ => "memory".into(),
        }
    }

    /// Whether the request's flags hold this one; `None` where they are not known.
    fn may(&self, flag: &str) -> Option<bool> {
        let flags = &self.kill.trigger.as_ref()?.gfp_flags;
        (!flags.is_empty()).then(|| gfp::holds(flags, flag))
    }

    fn order(&self) -> Option<u32> {
        self.kill.trigger.as_ref()?.order
    }

    fn has_zone(&self, name: &str) -> bool {
        self.kill.zones.iter().any(|zone| zone.name == name)
    }

    /// The types of zones of that kernel, low to high: `lowmem_reserve` is
    /// indexed by them.
    fn zone_types(&self) -> &'static [&'static str] {
        if self.has_zone("DMA32") {
            &["DMA", "DMA32", "Normal", "Movable"]
        } else {
            &["DMA", "Normal", "HighMem", "Movable"]
        }
    }

    /// The place in [`Self::zone_types`] of the highest zone that may serve the
    /// request (`gfp_zone` of the kernel).
    fn highest_zone(&self) -> Option<usize> {
        let (movable, highmem) = (self.may("__GFP_MOVABLE")?, self.may("__GFP_HIGHMEM")?);
        let name = match (self.may("__GFP_DMA")?, self.may("__GFP_DMA32")?) {
            (true, _) => "DMA",
            (_, true) if self.has_zone("DMA32") => "DMA32",
            _ if movable && highmem => "Movable",
            _ if highmem && self.has_zone("HighMem") => "HighMem",
            _ => "Normal",
        };
        self.zone_types().iter().position(|zone| *zone == name)
    }

    /// The zones that may serve the request.
    fn eligible(&self) -> Option<Vec<&Zone>> {
        let highest = self.highest_zone()?;
        let allowed = self.zone_types().get(..=highest)?;
        let zones = self.kill.zones.iter();
        let found: Vec<_> = zones
            .filter(|zone| allowed.contains(&zone.name.as_str()))
            .collect();
        (!found.is_empty()).then_some(found)
    }

    /// What the request must leave in a zone, kB: the minimum, and the reserve
    /// for those that cannot do with a higher one.
    fn kept_kb(&self, zone: &Zone) -> u64 {
        let reserve = self
            .highest_zone()
            .and_then(|highest| zone.lowmem_reserve.get(highest));
        let reserve = reserve.map_or(0, |pages| pages.saturating_mul(self.page_kb()));
        reserve.saturating_add(zone.get("min").unwrap_or(0))
    }

    /// What of a zone's free memory the request may look at, kB.
    fn free_kb(&self, zone: &Zone) -> u64 {
        let free = zone.get("free").unwrap_or(0);
        match self.may("__GFP_MOVABLE") {
            Some(false) => free.saturating_sub(zone.get("free_cma").unwrap_or(0)),
            _ => free,
        }
    }

    /// Whether a zone has free memory above what must be left in it.
    fn has_room(&self, zone: &Zone) -> bool {
        self.free_kb(zone) > self.kept_kb(zone)
    }

    fn page_kb(&self) -> u64 {
        let smallest = self.kill.zones.iter().find_map(|zone| zone.buddy.first());
        smallest.map_or(4, |blocks| blocks.kb.max(1))
    }
}

/// `142,612 kB`.
fn kb(kb: u64) -> String {
    format!("{} kB", Count(kb))
}

/// `139 MiB`.
fn size(kb: u64) -> Bytes {
    Bytes(kb.saturating_mul(1024))
}

/// `76.6 %`, rounded.
fn share(part: u64, whole: u64) -> String {
    let per_mille = (u128::from(part) * 1000 + u128::from(whole / 2)) / u128::from(whole.max(1));
    format!("{}.{} %", per_mille / 10, per_mille % 10)
}

/// Whether `part` is at least so many percent of `whole`.
fn at_least(part: u64, percent: u64, whole: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}

/// Critical from one share on, a warning from a lower one.
fn by_share(part: u64, whole: u64, warning: u64, critical: u64) -> Option<Severity> {
    if at_least(part, critical, whole) {
        Some(Severity::Critical)
    } else {
        at_least(part, warning, whole).then_some(Severity::Warning)
    }
}
