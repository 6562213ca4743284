//! Findings about what the kernel takes.
use super::{Case, Limits, NEVER, finding, growth, joined, kb, share};
use crate::{
    finding::{Finding, Severity},
    kernel::memory::UNACCOUNTED,
    meminfo::{huge::HUGETLB, sheet::OVERLAP, tables::compared},
    unit::Count,
};

pub(super) fn slab(case: &Case<'_>) -> Option<Finding> {
    const LIMITS: Limits = Limits {
        info: NEVER,
        warning: 10,
        critical: 30,
    };
    let held = case.field("SUnreclaim");
    let level = LIMITS.severity(held, case.sheet.total_kb);
    let growth = growth::of(case, "SUnreclaim");
    let severity = level.max(growth.as_ref().map(|_| Severity::Warning))?;
    let figures = format!(
        "SUnreclaim is {} ({} of the machine); SReclaimable, which memory pressure frees, is {}",
        kb(held),
        case.share(held),
        kb(case.field("SReclaimable")),
    );
    let cache = growth.as_ref().and_then(|_| grown_cache(case));
    let cache = cache.or_else(|| largest_cache(case));
    let evidence = joined([Some(figures), cache, growth::evidence(growth.as_ref())]);
    Some(finding(
        "slab_growth",
        severity,
        growth::title(
            "unreclaimable kernel objects (slab)",
            growth.as_ref(),
            &case.share(held),
        ),
        evidence,
        "Watch which cache grows (`memtrace meminfo --watch 10s`, `slabtop -s c`). The cache names the kind of object: dentry and inode caches shrink with vm.vfs_cache_pressure above 100 or `echo 2 > /proc/sys/vm/drop_caches` (later look-ups go to disk); kmalloc-* that only grows is most likely a leak of a driver or of the network stack",
    ))
}

fn largest_cache(case: &Case<'_>) -> Option<String> {
    let cache = case.machine.caches.first()?;
    Some(format!(
        "the largest cache is {} with {} ({} of {} objects in use)",
        cache.name,
        kb(cache.kb),
        Count(cache.active),
        Count(cache.objects)
    ))
}

fn grown_cache(case: &Case<'_>) -> Option<String> {
    let caches = compared(&case.machine.caches, &case.before?.machine.caches);
    let grown = caches.into_iter().max_by_key(|cache| cache.change_kb)?;
    let by = grown.change_kb?.max(0).unsigned_abs();
    (by > 0).then(|| {
        format!(
            "the cache {} grew most, by {} to {}",
            grown.name,
            kb(by),
            kb(grown.kb)
        )
    })
}

pub(super) fn vmalloc(case: &Case<'_>) -> Option<Finding> {
    const LIMITS: Limits = Limits {
        info: NEVER,
        warning: 10,
        critical: 30,
    };
    let held = case.sheet.kb("VmallocUsed");
    let level = LIMITS.severity(held, case.sheet.total_kb);
    let growth = growth::of(case, "VmallocUsed");
    let severity = level.max(growth.as_ref().map(|_| Severity::Warning))?;
    let figure = format!(
        "vmalloc holds {} ({} of the machine)",
        kb(held),
        case.share(held)
    );
    let callers = case.machine.vmalloc.as_ref().map(|areas| &areas.callers);
    let caller = callers.and_then(|callers| callers.first()).map(|caller| {
        format!(
            "the largest caller is {} with {} in {} areas",
            caller.caller,
            kb(caller.pages.saturating_mul(case.machine.page_kb)),
            Count(caller.areas)
        )
    });
    let evidence = joined([Some(figure), caller, growth::evidence(growth.as_ref())]);
    Some(finding(
        "vmalloc_growth",
        severity,
        growth::title("vmalloc", growth.as_ref(), &case.share(held)),
        evidence,
        "The caller (/proc/vmallocinfo, as root) names the code: BPF maps and programs go with the program that holds them, kernel stacks with threads, others are a driver's or file system's and go when it is unloaded or unmounted",
    ))
}

pub(super) fn page_tables(case: &Case<'_>) -> Option<Finding> {
    const LIMITS: Limits = Limits {
        info: NEVER,
        warning: 2,
        critical: 10,
    };
    let held = case.field("PageTables");
    let severity = LIMITS.severity(held, case.sheet.total_kb)?;
    Some(finding(
        "pagetable_bloat",
        severity,
        format!("page tables take {} of the machine", case.share(held)),
        format!(
            "PageTables is {}; programs have {} mapped (AnonPages) and {} (Mapped). A page table of 4 kB maps 2 MB, once for each process",
            kb(held),
            kb(case.field("AnonPages")),
            kb(case.field("Mapped")),
        ),
        "Find the processes with the most (VmPTE in /proc/PID/status). Many processes on one large shared segment: put it on huge pages (one entry for 2 MB; they must be set aside beforehand), or use fewer processes. One process with a huge sparse mapping: MADV_DONTNEED does not free its tables, munmap does",
    ))
}

pub(super) fn unaccounted(case: &Case<'_>) -> Option<Finding> {
    // Oracle's oled warns at 10 % of what is not huge pages.
    const LIMITS: Limits = Limits {
        info: NEVER,
        warning: 10,
        critical: 30,
    };
    let held = case.sheet.unaccounted_kb;
    let known: Vec<String> = (case.sheet.parts(UNACCOUNTED))
        .filter(|row| row.kb > 0)
        .map(|row| format!("{} {}", row.name, kb(row.kb.unsigned_abs())))
        .collect();
    let whole = case.sheet.total_kb.saturating_sub(case.sheet.kb(HUGETLB));
    let level = LIMITS.severity(held, whole);
    let growth = growth::of(case, UNACCOUNTED);
    let severity = level.max(growth.as_ref().map(|_| Severity::Warning))?;
    let of_the_rest = match case.sheet.kb(HUGETLB) {
        0 => String::new(),
        _ => format!(", {} of what is not huge pages", share(held, whole)),
    };
    let figure = format!(
        "{} ({}{of_the_rest}) are in no counter of the kernel",
        kb(held),
        case.share(held),
    );
    let known = (!known.is_empty()).then(|| format!("known of it: {}", known.join(", ")));
    let sockets = case.machine.socket_pages.map(|pages| {
        format!(
            "queues of sockets are at most {} of it",
            kb(pages.saturating_mul(case.machine.page_kb))
        )
    });
    let evidence = joined([
        Some(figure),
        known,
        sockets,
        growth::evidence(growth.as_ref()),
    ]);
    Some(finding(
        "unaccounted_high",
        severity,
        growth::title(
            "memory that no counter knows",
            growth.as_ref(),
            &case.share(held),
        ),
        evidence,
        "Drivers and the network allocate whole pages that nothing counts: look at sockets with full queues (`ss -tm`), graphics and DMA buffers (/sys/kernel/debug/dma_buf/bufinfo), ring sizes of network cards (`ethtool -g`), trace buffers, ZFS's ARC, VMware's balloon (`vmware-toolbox-cmd stat balloon`), virtual machines",
    ))
}

pub(super) fn hardware(case: &Case<'_>) -> Option<Finding> {
    let held = case.field("HardwareCorrupted");
    (held > 0).then(|| {
        finding(
            "hardware_corrupted",
            Severity::Warning,
            format!("{} were taken out of use after memory errors", kb(held)),
            format!("HardwareCorrupted is {}; the kernel found errors that could not be corrected there", kb(held)),
            "Find the module in the kernel's log (`dmesg`: Machine check, Memory failure, EDAC) and replace it: more errors are likely to follow. The pages stay out of use until a restart",
        )
    })
}

/// The counters cannot all be right.
pub(super) fn overlap(case: &Case<'_>) -> Option<Finding> {
    const LIMITS: Limits = Limits {
        info: NEVER,
        warning: 2,
        critical: NEVER,
    };
    let row = case.sheet.row(OVERLAP)?;
    let too_much = row.kb.unsigned_abs();
    let severity = LIMITS.severity(too_much, case.sheet.total_kb)?;
    let top = case.sheet.rows.iter().filter(|row| row.of.is_none());
    let largest = top.max_by_key(|row| row.kb)?;
    let cma = (case.field("CmaFree") > case.field("CmaTotal")).then(|| {
        format!(
            "CmaFree {} is more than CmaTotal {}",
            kb(case.field("CmaFree")),
            kb(case.field("CmaTotal"))
        )
    });
    let figure = format!(
        "the rows are {} ({}) more than MemTotal; the largest is {} with {}",
        kb(too_much),
        case.share(too_much),
        largest.name,
        kb(largest.kb.unsigned_abs()),
    );
    Some(finding(
        "counters_overlap",
        severity,
        "the counters add up to more than the machine has".to_owned(),
        joined([Some(figure), cma]),
        "Read it again: on a busy machine counters are torn. If it stays, a driver or the kernel counts pages twice or frees them twice (CMA did so in 4.4), or the figures are not one machine's: a container's meminfo (LXCFS), an edited file",
    ))
}
