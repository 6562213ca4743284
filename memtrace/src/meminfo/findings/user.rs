//! Findings about what programs and files take.
use super::{Case, Limits, NEVER, finding, joined, kb};
use crate::{
    finding::Finding,
    meminfo::huge::{self, HUGETLB, IDLE},
    unit::Count,
};

pub(super) fn shmem_hog(case: &Case<'_>) -> Option<Finding> {
    const LIMITS: Limits = Limits {
        info: NEVER,
        warning: 20,
        critical: 50,
    };
    let shmem = case.field("Shmem");
    let severity = LIMITS.severity(shmem, case.sheet.total_kb)?;
    let cached = case.field("Cached");
    let held = format!(
        "Shmem is {} of {} ({}). It is counted in Cached ({}), of which only {} are page cache; drop_caches frees none of it",
        kb(shmem),
        kb(case.sheet.total_kb),
        case.share(shmem),
        kb(cached),
        kb(cached.saturating_sub(shmem)),
    );
    let swap = match case.field("SwapTotal") {
        0 => "there is no swap that it could go to".to_owned(),
        total => format!(
            "swap has {} of {} left",
            kb(case.field("SwapFree")),
            kb(total)
        ),
    };
    let largest = case.holders.and_then(|holders| holders.holders.first());
    let largest = largest.map(|largest| {
        format!(
            "the largest holder is {} with {}",
            largest.name,
            kb(largest.kb)
        )
    });
    let evidence = joined([Some(held), Some(swap), largest]);
    let advice = "Look at the holders: delete files in tmpfs (`df -t tmpfs`, `du -x`), limit a mount with `mount -o remount,size=…` (writers then get ENOSPC), remove orphaned segments with `ipcrm -m ID` (whoever still attaches them fails), end or fix the program that holds a memfd. Swap gives it somewhere to go, at the price of latency";
    Some(finding(
        "shmem_hog",
        severity,
        format!(
            "shared memory and tmpfs hold {} of the machine",
            case.share(shmem)
        ),
        evidence,
        advice,
    ))
}

pub(super) fn idle_huge_pages(case: &Case<'_>) -> Option<Finding> {
    const LIMITS: Limits = Limits {
        info: 1,
        warning: 10,
        critical: 50,
    };
    let idle = case.sheet.kb(IDLE);
    let severity = LIMITS.severity(idle, case.sheet.total_kb)?;
    let sizes: Vec<String> = huge::by_size(case.machine)
        .iter()
        .filter(|size| size.total > 0)
        .map(|size| {
            format!(
                "{} of {} ({} free, {} of these reserved)",
                Count(size.total),
                kb(size.size_kb),
                Count(size.free),
                Count(size.reserved)
            )
        })
        .collect();
    Some(finding(
        "hugepages_idle",
        severity,
        format!(
            "huge pages that nobody uses take {} of the machine",
            case.share(idle)
        ),
        format!(
            "{} of Hugetlb {} are idle: {}. Nothing else can use them, and no process shows them",
            kb(idle),
            kb(case.sheet.kb(HUGETLB)),
            sizes.join("; "),
        ),
        "Set vm.nr_hugepages (or /sys/kernel/mm/hugepages/…/nr_hugepages) to what is in use and reserved; later it may be impossible to get them back, because memory is fragmented. With vm.nr_overcommit_hugepages they are made on demand",
    ))
}
