//! Findings about what is left, and for whom.
use super::{Case, Limits, NEVER, finding, kb, share};
use crate::{
    finding::{Finding, Severity},
    kernel::memory::PAGE_CACHE,
    meminfo::rows::balloon_kb,
};

/// Most of what is free is for movable pages alone. That is no trouble as long
/// as there is something to reclaim for others.
pub(super) fn cma_only_free(case: &Case<'_>) -> Option<Finding> {
    let (free, cma) = (case.field("MemFree"), case.field("CmaFree"));
    if cma == 0 || cma < free / 2 {
        return None;
    }
    let usable = free.saturating_sub(cma);
    let files = case.sheet.kb(PAGE_CACHE) + case.sheet.kb("Buffers");
    let slab = case.sheet.kb("SReclaimable");
    let within_reach = usable + files + slab;
    let total = case.sheet.total_kb;
    let severity = match within_reach {
        _ if within_reach < total / 20 => Severity::Critical,
        _ if within_reach < total / 10 => Severity::Warning,
        // A kernel keeps roughly 1 % back for requests in need.
        _ if usable < total / 100 => Severity::Info,
        _ => return None,
    };
    Some(finding(
        "cma_only_free",
        severity,
        format!(
            "what is free is nearly all CMA: the kernel can use {} of it",
            kb(usable)
        ),
        format!(
            "CmaFree is {} of MemFree {}: {} ({} of the machine) are left for requests that are not movable, such as GFP_KERNEL for a fork, a page table or a driver. To reclaim for them there are at most {} of files and {} of slab. MemAvailable ({}) counts CMA pages as available",
            kb(cma),
            kb(free),
            kb(usable),
            case.share(usable),
            kb(files),
            kb(slab),
            kb(case.field("MemAvailable")),
        ),
        "Make the area smaller (`cma=SIZE` on the kernel's command line or the size of `linux,cma` in the device tree): the drivers that allocate from it (video, camera, display) must still find their largest buffer. Otherwise free memory that is not movable, or raise vm.min_free_kbytes so that reclaim starts earlier, at the price of that much memory",
    ))
}

/// 32-bit machines with more memory than the kernel can address at all times.
pub(super) fn low_memory(case: &Case<'_>) -> Option<Finding> {
    let (total, free) = (case.field("LowTotal"), case.field("LowFree"));
    if case.field("HighTotal") == 0 || total == 0 {
        return None;
    }
    let severity = match free {
        _ if free < total / 50 => Severity::Critical,
        _ if free < total / 20 => Severity::Warning,
        _ => return None,
    };
    Some(finding(
        "lowmem_low",
        severity,
        format!("low memory is nearly used up: {} are free", kb(free)),
        format!(
            "LowFree is {} of LowTotal {} ({}); the kernel's own objects must lie there, and HighFree ({}) is of no use to them",
            kb(free),
            kb(total),
            share(free, total),
            kb(case.field("HighFree")),
        ),
        "A 64-bit kernel has no such limit. Otherwise fewer threads, files and sockets (Slab, KernelStack and PageTables lie there), or a kernel with another split (CONFIG_VMSPLIT_2G: programs then have less address space)",
    ))
}

pub(super) fn balloon(case: &Case<'_>) -> Option<Finding> {
    const LIMITS: Limits = Limits {
        info: NEVER,
        warning: 2,
        critical: 25,
    };
    let held = balloon_kb(case.machine)?;
    let counted = case.sheet.row("Balloon").is_some();
    let off_total = if counted { 0 } else { held };
    let before = case.sheet.total_kb.saturating_add(off_total);
    let severity = LIMITS.severity(held, before)?;
    let place = if counted {
        "they still count in MemTotal"
    } else {
        "MemTotal is that much smaller"
    };
    Some(finding(
        "balloon_inflated",
        severity,
        format!("the hypervisor has taken {} back", kb(held)),
        format!(
            "the balloon holds {} ({} of what the machine was given); {place}",
            kb(held),
            share(held, before)
        ),
        "The host is short of memory or set a limit: raise the machine's reservation or limit there, or move it. To remove the balloon driver makes the host swap instead, which is slower",
    ))
}

pub(super) fn swap(case: &Case<'_>) -> Option<Finding> {
    const LIMITS: Limits = Limits {
        info: NEVER,
        warning: 90,
        critical: 98,
    };
    let (total, free) = (case.field("SwapTotal"), case.field("SwapFree"));
    if total == 0 {
        return None;
    }
    let used = total.saturating_sub(free);
    let mut severity = LIMITS.severity(used, total)?;
    // Full swap alone may just be what nobody needs.
    if case.field("MemAvailable") > case.sheet.total_kb / 10 {
        severity = Severity::Warning;
    }
    Some(finding(
        "swap_exhausted",
        severity,
        format!("swap is full: {} used", share(used, total)),
        format!(
            "SwapFree is {} of {}; MemAvailable is {} ({})",
            kb(free),
            kb(total),
            kb(case.field("MemAvailable")),
            case.share(case.field("MemAvailable")),
        ),
        "Find who is in swap (VmSwap in /proc/PID/status). What cannot be swapped any more must be reclaimed from files or ends in an OOM kill: add swap or zram (costs disk or CPU), lower what programs take, or limit them with memory.max and memory.swap.max",
    ))
}

pub(super) fn available(case: &Case<'_>) -> Option<Finding> {
    let available = case.machine.meminfo.get("MemAvailable")?;
    let total = case.sheet.total_kb;
    let severity = match available {
        _ if available < total / 50 => Severity::Critical,
        _ if available < total / 20 => Severity::Warning,
        _ => return None,
    };
    let user = |name| kb(case.sheet.kb(name));
    Some(finding(
        "available_low",
        severity,
        format!("only {} are left without swapping", case.share(available)),
        format!(
            "MemAvailable is {} of {}; AnonPages {}, Shmem {}, Slab {}",
            kb(available),
            kb(total),
            user("AnonPages"),
            user("Shmem"),
            user("Slab"),
        ),
        "The largest rows of the sheet say where it went. AnonPages is programs': `memtrace growth --all` ranks them, `memtrace -p PID` shows which code of one holds on to it",
    ))
}
