//! What made the request fail: limits, zones, watermarks, fragmentation, CMA.
use super::{Case, Finding, Severity, finding, kb, share, size};
use crate::oom::{Cause, CgroupUsage, Zone, groups::UNLIMITED_KB};

pub(super) fn cgroup_limit(case: &Case<'_>) -> Option<Finding> {
    if !case.is_memcg() {
        return None;
    }
    let group = case.kill.cgroup.as_deref().unwrap_or("(not named)");
    let usage = case.kill.cgroup_usage.as_ref();
    let limit = usage.filter(|usage| usage.limit_kb > 0);
    let title = match limit {
        Some(usage) => format!(
            "the memory cgroup {group} reached its limit of {}",
            size(usage.limit_kb)
        ),
        None => format!("the memory cgroup {group} reached its limit"),
    };
    let mut evidence = vec![match limit {
        Some(usage) => format!("usage {} of {}", kb(usage.usage_kb), kb(usage.limit_kb)),
        None => "the kernel looked for a victim within that group alone".into(),
    }];
    if let Some(usage) = usage {
        if usage.failures > 0 {
            evidence.push(format!("limit hit {} times", usage.failures));
        }
        if let Some(swap) = usage.swap.filter(|swap| swap.limit_kb < UNLIMITED_KB) {
            let what = if swap.with_memory {
                "memory and swap"
            } else {
                "swap"
            };
            evidence.push(format!(
                "{what} {} of {}",
                kb(swap.usage_kb),
                kb(swap.limit_kb)
            ));
        }
        evidence.extend(contents(usage));
    }
    let victim = case.kill.victim.as_ref();
    if let Some(cgroup) = victim.and_then(|victim| victim.cgroup.as_deref())
        && cgroup != group
    {
        evidence.push(format!("the victim was in {cgroup}, below it"));
    }
    Some(finding(
        "cgroup_limit",
        Severity::Critical,
        title,
        evidence.join("; "),
        "raise memory.max (version 1: memory.limit_in_bytes; systemd: MemoryMax=; a container's memory limit) if the group's job needs it, at the price of memory for others; or make the job smaller. memory.high slows the group down before it is killed; `memtrace -p PID` tells which code holds the memory".into(),
    ))
}

/// Kinds of memory in `memory.stat`, of versions 2 and 1.
const KINDS: &[(&str, &str)] = &[
    ("anon", "anonymous"),
    ("rss", "anonymous"),
    ("file", "page cache"),
    ("cache", "page cache"),
    ("shmem", "of it shared memory"),
    ("kernel", "kernel"),
    ("slab", "slab"),
    ("sock", "network buffers"),
    ("pagetables", "page tables"),
    ("percpu", "per-CPU"),
];

fn contents(usage: &CgroupUsage) -> Option<String> {
    let kinds = KINDS.iter().filter_map(|(name, words)| {
        let in_kb = usage.stat.get(*name)? / 1024;
        (in_kb > 0).then(|| format!("{words} {}", kb(in_kb)))
    });
    let kinds: Vec<String> = kinds.collect();
    (!kinds.is_empty()).then(|| format!("in it: {}", kinds.join(", ")))
}

/// Whether zones that may serve the request are exhausted while others, which
/// may not, have plenty.
pub(super) fn low_zones(case: &Case<'_>) -> Option<Finding> {
    if !case.is_global() {
        return None;
    }
    let eligible = case.eligible()?;
    if eligible.iter().any(|zone| case.has_room(zone)) {
        return None;
    }
    let forbidden = case
        .kill
        .zones
        .iter()
        .filter(|zone| !eligible.contains(zone));
    let forbidden: Vec<&Zone> = forbidden
        .filter(|zone| {
            zone.get("free").unwrap_or(0) > zone.get("high").unwrap_or(0).saturating_mul(2)
        })
        .collect();
    let unusable = forbidden.iter().fold(0_u64, |sum, zone| {
        sum.saturating_add(zone.get("free").unwrap_or(0))
    });
    if unusable == 0 {
        return None;
    }
    let names: Vec<&str> = eligible.iter().map(|zone| zone.name.as_str()).collect();
    let names = names.join(", ");
    let zones: Vec<String> = eligible
        .iter()
        .map(|zone| zone_figures(case, zone))
        .collect();
    let others: Vec<String> = forbidden
        .iter()
        .map(|zone| format!("{} free {}", zone.name, kb(zone.get("free").unwrap_or(0))))
        .collect();
    Some(finding(
        "lowmem_exhausted",
        Severity::Critical,
        format!("the zones that this request may use ({names}) are exhausted; {} free elsewhere did not help it", size(unusable)),
        format!("{}; not for this request: {}", zones.join("; "), others.join(", ")),
        "find what fills the low zones (slab, page tables, kernel stacks; `memtrace pages`); a 64-bit kernel has no HighMem, and a driver that asks for DMA or DMA32 only for want of a better mask can be fixed. A smaller vm.lowmem_reserve_ratio keeps more of the low zones free of user memory, at the price of that memory".into(),
    ))
}

fn zone_figures(case: &Case<'_>, zone: &Zone) -> String {
    let figure = |name: &str| zone.get(name).unwrap_or(0);
    let reserve = case.kept_kb(zone).saturating_sub(figure("min"));
    let mut parts = vec![
        format!("{} free {}", zone.name, kb(figure("free"))),
        format!("minimum {}", kb(figure("min"))),
    ];
    for (what, amount) in [("reserve", reserve), ("CMA", figure("free_cma"))] {
        if amount > 0 {
            parts.push(format!("{what} {}", kb(amount)));
        }
    }
    parts.join(", ")
}

/// Whether there is free memory, but not in one piece.
pub(super) fn fragmentation(case: &Case<'_>) -> Option<Finding> {
    let order = case.order().filter(|order| *order > 0)?;
    if !case.is_global() {
        return None;
    }
    let eligible = case.eligible()?;
    let roomy: Vec<&Zone> = eligible
        .into_iter()
        .filter(|zone| case.has_room(zone) && !zone.buddy.is_empty())
        .collect();
    let whole = roomy.iter().any(|zone| {
        let large = zone.buddy.iter().skip(order as usize);
        large
            .into_iter()
            .any(|blocks| blocks.count > 0 && usable(case, &blocks.types))
    });
    if roomy.is_empty() || whole {
        return None;
    }
    let wanted = case.page_kb().checked_shl(order).unwrap_or(u64::MAX);
    let free = roomy
        .iter()
        .fold(0_u64, |sum, zone| sum.saturating_add(case.free_kb(zone)));
    let zones: Vec<String> = roomy
        .iter()
        .map(|zone| format!("{}: {}", zone.name, blocks(zone)))
        .collect();
    Some(finding(
        "fragmentation",
        Severity::Critical,
        format!(
            "free memory is fragmented: none of {} free is a block of {} (order {order})",
            size(free),
            size(wanted)
        ),
        zones.join("; "),
        format!(
            "who asks for {} in one piece? The call trace tells: where a driver or a kernel thread could do with single pages, that is the fix. `echo 1 > /proc/sys/vm/compact_memory` defragments now; a larger vm.min_free_kbytes keeps larger blocks free, at the price of that memory",
            size(wanted)
        ),
    ))
}

/// Whether an unmovable or movable request may take blocks of these migration
/// types; older logs name none.
fn usable(case: &Case<'_>, types: &str) -> bool {
    let reserved = |letter: char| {
        matches!(letter, 'H' | 'I') || (letter == 'C' && case.may("__GFP_MOVABLE") == Some(false))
    };
    types.is_empty() || types.chars().any(|letter| !reserved(letter))
}

/// `80,110 × 4 kB (UME), 17,250 × 8 kB (UME)`: what is free.
fn blocks(zone: &Zone) -> String {
    let some = zone.buddy.iter().filter(|blocks| blocks.count > 0);
    let some = some.map(|blocks| {
        let types = if blocks.types.is_empty() {
            String::new()
        } else {
            format!(" ({})", blocks.types)
        };
        format!(
            "{} × {} kB{types}",
            crate::unit::Count(blocks.count),
            blocks.kb
        )
    });
    let some: Vec<String> = some.collect();
    if some.is_empty() {
        "no free blocks".into()
    } else {
        some.join(", ")
    }
}

/// Whether most of what is free is CMA, and the request not movable.
pub(super) fn cma_only_free(case: &Case<'_>) -> Option<Finding> {
    if !case.is_global()
        || case.may("__GFP_MOVABLE") != Some(false)
        || case.may("__GFP_CMA") == Some(true)
    {
        return None;
    }
    let (free, cma) = (case.kb("MemFree")?, case.kb("CmaFree")?);
    let usable = free.saturating_sub(cma);
    if cma == 0 || usable >= cma {
        return None;
    }
    let flags = case
        .kill
        .trigger
        .as_ref()
        .map(|trigger| trigger.gfp_flags.join("|"));
    Some(finding(
        "cma_only_free",
        Severity::Critical,
        format!("of {} free, this request could use {}: the rest is CMA, for movable pages alone", kb(free), kb(usable)),
        format!(
            "MemFree {}, of which CmaFree {} ({}); the request ({}) is not movable",
            kb(free),
            kb(cma),
            share(cma, free),
            flags.unwrap_or_default()
        ),
        "make the CMA area as small as its drivers allow (cma= on the kernel's command line, linux,cma in the device tree), at the price that large buffers for them may fail; or free what is not CMA. `free` and MemAvailable count CMA as free memory: do not judge by them".into(),
    ))
}

/// Whether no zone that may serve the request has anything above its minimum:
/// the usual end.
pub(super) fn below_watermarks(case: &Case<'_>) -> Option<Finding> {
    if !case.is_global() {
        return None;
    }
    let eligible = case.eligible()?;
    if eligible.iter().any(|zone| case.has_room(zone)) {
        return None;
    }
    let zones: Vec<String> = eligible
        .iter()
        .map(|zone| zone_figures(case, zone))
        .collect();
    Some(finding(
        "below_watermarks",
        Severity::Info,
        "no zone that may serve the request has free memory above what it must keep".into(),
        zones.join("; "),
        "this is what running out of memory looks like; the other findings say who holds it. vm.min_free_kbytes sets the minimum: a larger one makes reclaim begin earlier, and leaves less to use".into(),
    ))
}

/// From which share of memory on a reserve is no detail, percent.
const LARGE_RESERVE: u64 = 5;

/// Whether free memory of low zones was kept for others.
pub(super) fn lowmem_reserve(case: &Case<'_>) -> Option<Finding> {
    if !case.is_global() {
        return None;
    }
    let kept: Vec<&Zone> = case
        .eligible()?
        .into_iter()
        .filter(|zone| !case.has_room(zone) && case.free_kb(zone) > zone.get("min").unwrap_or(0))
        .collect();
    let free = kept
        .iter()
        .fold(0_u64, |sum, zone| sum.saturating_add(case.free_kb(zone)));
    let first = kept.first()?;
    let large = case
        .kb("MemTotal")
        .is_some_and(|total| super::at_least(free, LARGE_RESERVE, total));
    let zones: Vec<String> = kept.iter().map(|zone| zone_figures(case, zone)).collect();
    Some(finding(
        "lowmem_reserve",
        if large { Severity::Warning } else { Severity::Info },
        format!("{} free in {} is kept for requests that no higher zone can serve", size(free), first.name),
        zones.join("; "),
        "that is usual for DMA. Where the share is large and no driver needs it, a larger vm.lowmem_reserve_ratio for that zone keeps less, at the price that such a driver may fail".into(),
    ))
}

/// Why the request could not be served.
pub(super) fn sentence(case: &Case<'_>) -> String {
    let kill = case.kill;
    match kill.cause {
        Cause::Sysrq => return "No request failed: somebody asked for a kill through sysrq.".into(),
        Cause::UserSpace => return "No request failed in the kernel: a process killed another while memory was short.".into(),
        _ => {}
    }
    let who = kill.trigger.as_ref().map_or_else(
        || "A process".to_owned(),
        |trigger| match trigger.pid {
            Some(pid) => format!("{} ({pid})", trigger.comm),
            None => trigger.comm.clone(),
        },
    );
    let what = match case.order() {
        Some(0) => "a page".to_owned(),
        Some(order) => format!(
            "{} in one piece",
            size(case.page_kb().checked_shl(order).unwrap_or(u64::MAX))
        ),
        None => "memory".to_owned(),
    };
    let causes: &[fn(&Case<'_>) -> Option<Finding>] = &[
        cgroup_limit,
        low_zones,
        fragmentation,
        cma_only_free,
        below_watermarks,
    ];
    match causes.iter().find_map(|rule| rule(case)) {
        Some(cause) => format!("{who} asked for {what}, and {}.", cause.title),
        None => format!(
            "{who} asked for {what}, which reclaim could not set free; the figures at hand do not tell more."
        ),
    }
}
