//! Who holds the memory: shared memory, slab, page tables, vmalloc, what nothing
//! accounts for, huge pages, locked pages, swap.
use super::{Case, Finding, Severity, at_least, by_share, finding, kb, share, size};

/// Bytes in the group's statistics as kB, or the machine's row.
fn held(case: &Case<'_>, row: &str, stat: &str) -> Option<u64> {
    if case.is_memcg() {
        let usage = case.kill.cgroup_usage.as_ref()?;
        usage.stat.get(stat).map(|bytes| bytes / 1024)
    } else {
        case.kb(row)
    }
}

pub(super) fn shmem_hog(case: &Case<'_>) -> Option<Finding> {
    let (shmem, total) = (held(case, "Shmem", "shmem")?, case.total_kb()?);
    let severity = by_share(shmem, total, 15, 30)?;
    let cached = case.kb("Cached").filter(|_| !case.is_memcg());
    let of_cached = cached.map_or_else(String::new, |cached| {
        format!("Cached {}, of which ", kb(cached))
    });
    Some(finding(
        "shmem_hog",
        severity,
        format!("tmpfs and shared memory hold {}, {} of {}", size(shmem), share(shmem, total), case.whole()),
        format!("{of_cached}Shmem {} of {}: not page cache, and dropping caches frees none of it", kb(shmem), kb(total)),
        "look for it with `df -t tmpfs`, `du -x` on /tmp, /run and /dev/shm, and `ipcs -m`, and delete it; then mount those with size=, at the price that writers get ENOSPC. Killing processes does not free files in tmpfs. With swap it could be moved out".into(),
    ))
}

pub(super) fn slab_growth(case: &Case<'_>) -> Option<Finding> {
    let (slab, total) = (
        held(case, "SUnreclaim", "slab_unreclaimable")?,
        case.total_kb()?,
    );
    let severity = by_share(slab, total, 20, 40)?;
    let mut caches: Vec<_> = case.kill.slabs.iter().collect();
    caches.sort_by_key(|cache| std::cmp::Reverse(cache.total_kb));
    let caches = caches
        .iter()
        .take(3)
        .map(|cache| format!("{} {}", cache.name, kb(cache.total_kb)));
    let caches: Vec<String> = caches.collect();
    let largest = if caches.is_empty() {
        String::new()
    } else {
        format!("; the largest caches: {}", caches.join(", "))
    };
    Some(finding(
        "slab_growth",
        severity,
        format!("unreclaimable slab, the kernel's own objects, holds {}, {} of {}", size(slab), share(slab, total), case.whole()),
        format!("SUnreclaim {} of {}{largest}", kb(slab), kb(total)),
        "the cache's name says whose objects they are (/proc/slabinfo); one that only grows is a leak in a driver or a consequence of user space holding files, sockets or groups. slab_nomerge on the command line tells caches of one size apart, at the price of some memory".into(),
    ))
}

pub(super) fn pagetable_bloat(case: &Case<'_>) -> Option<Finding> {
    let (tables, total) = (held(case, "PageTables", "pagetables")?, case.total_kb()?);
    let severity = by_share(tables, total, 10, 25)?;
    Some(finding(
        "pagetable_bloat",
        severity,
        format!("page tables hold {}, {} of {}", size(tables), share(tables, total), case.whole()),
        format!("PageTables {} of {}", kb(tables), kb(total)),
        "many processes that map the same large shared memory have tables each: give them huge pages (for a database: huge_pages=on and vm.nr_hugepages), at the price of memory set aside; or have fewer processes".into(),
    ))
}

pub(super) fn vmalloc_growth(case: &Case<'_>) -> Option<Finding> {
    let (vmalloc, total) = (held(case, "VmallocUsed", "vmalloc")?, case.total_kb()?);
    let severity = by_share(vmalloc, total, 20, 40)?;
    Some(finding(
        "vmalloc_growth",
        severity,
        format!("vmalloc holds {}, {} of {}", size(vmalloc), share(vmalloc, total), case.whole()),
        format!("VmallocUsed {} of {}", kb(vmalloc), kb(total)),
        "/proc/vmallocinfo names the function behind each area: add up by function, and see which grows".into(),
    ))
}

/// Rows that together are all that the kernel accounts for.
const ACCOUNTED: &[&str] = &[
    "MemFree",
    "FreePerCpu",
    "Active",
    "Inactive",
    "Unevictable",
    "Isolated(anon)",
    "Isolated(file)",
    "Slab",
    "KernelStack",
    "PageTables",
    "SecPageTables",
    "VmallocUsed",
    "Percpu",
    "Hugetlb",
    "Bounce",
    "HardwareCorrupted",
    "DriverCma",
    "Balloon",
];

/// Less than this may be noise, kB.
const LEAST_UNACCOUNTED: u64 = 64 * 1024;

pub(super) fn unaccounted_high(case: &Case<'_>) -> Option<Finding> {
    // Without these rows everything would seem unaccounted for.
    let total = case.total_kb().filter(|_| !case.is_memcg())?;
    for row in ["MemFree", "Active", "Inactive", "Slab"] {
        case.kb(row)?;
    }
    let huge = if case.kb("Hugetlb").is_some() {
        0
    } else {
        huge_kb(case, |pages| pages.total)
    };
    let accounted = case.sum(ACCOUNTED).saturating_add(huge);
    let hole = total.saturating_sub(accounted);
    let severity = by_share(hole, total, 15, 30).filter(|_| hole >= LEAST_UNACCOUNTED)?;
    let unknown = if case.kb("VmallocUsed").is_none() {
        " (the log does not list vmalloc and per-CPU memory, which may be part of it)"
    } else {
        ""
    };
    Some(finding(
        "unaccounted_high",
        severity,
        format!("{} of memory, {}, is in nobody's account", size(hole), share(hole, total)),
        format!("MemTotal {} less all that the kernel accounts for, {}, leaves {}{unknown}", kb(total), kb(accounted), kb(hole)),
        "drivers, graphics, network buffers and balloons take pages that no counter shows: `memtrace pages` tells which code takes them, and `memtrace meminfo` draws up the balance".into(),
    ))
}

fn huge_kb(case: &Case<'_>, of: fn(&crate::oom::HugePages) -> u64) -> u64 {
    let pools = case.kill.huge_pages.iter();
    pools.fold(0, |sum, pool| {
        sum.saturating_add(of(pool).saturating_mul(pool.size_kb))
    })
}

pub(super) fn hugepages_idle(case: &Case<'_>) -> Option<Finding> {
    let total = case.total_kb().filter(|_| case.is_global())?;
    let idle = huge_kb(case, |pages| pages.free);
    let severity = by_share(idle, total, 10, 30)?;
    Some(finding(
        "hugepages_idle",
        severity,
        format!("{} of huge pages are set aside and not used", size(idle)),
        format!("free huge pages {} of {} of memory", kb(idle), kb(total)),
        "lower vm.nr_hugepages (or hugepages= on the command line) to what is used, at the price that more may not be had later; nothing else can use them".into(),
    ))
}

pub(super) fn unevictable_high(case: &Case<'_>) -> Option<Finding> {
    let (locked, total) = (held(case, "Unevictable", "unevictable")?, case.total_kb()?);
    let severity = by_share(locked, total, 30, 50)?;
    Some(finding(
        "unevictable_high",
        severity,
        format!("{} of {} cannot be reclaimed: it is locked (mlock, ramfs)", size(locked), case.whole()),
        format!("Unevictable {} of {}", kb(locked), kb(total)),
        "VmLck in /proc/PID/status tells who locks memory; LimitMEMLOCK= bounds it, at the price that programs that need it fail".into(),
    ))
}

/// Whether processes fill memory together, none of them by itself.
pub(super) fn processes_fill_memory(case: &Case<'_>) -> Option<Finding> {
    let total = case.total_kb().filter(|_| case.is_global())?;
    let anon = case.sum(&["Active(anon)", "Inactive(anon)"]);
    let anon = anon.saturating_sub(case.kb("Shmem").unwrap_or(0));
    if !at_least(anon, 60, total) || super::choice::process_size(case).is_some() {
        return None;
    }
    let largest = case
        .kill
        .candidates
        .iter()
        .map(|task| (task.held_kb(), &task.comm));
    let largest = largest.max().map_or_else(String::new, |(held, name)| {
        format!("; the largest process, {name}, held {}", kb(held))
    });
    Some(finding(
        "processes_fill_memory",
        Severity::Warning,
        format!("processes together hold {}, {} of memory", size(anon), share(anon, total)),
        format!("anonymous memory {} of {}{largest}", kb(anon), kb(total)),
        "run fewer of them, bound them with cgroups (MemoryMax=), or add memory; swap lets what is rarely used be moved out, at the price of waiting for it".into(),
    ))
}

pub(super) fn swap_exhausted(case: &Case<'_>) -> Option<Finding> {
    if !case.is_global() {
        return None;
    }
    let total = case.kb("SwapTotal").filter(|total| *total > 0)?;
    let free = case.kb("SwapFree")?;
    if at_least(free, 5, total) {
        return None;
    }
    Some(finding(
        "swap_exhausted",
        Severity::Warning,
        format!("swap is full: {} of {} left", size(free), size(total)),
        format!("SwapTotal {}, SwapFree {}", kb(total), kb(free)),
        "more swap delays the end, it does not avert it where something only grows; zswap or zram keep more in the same memory, at the price of processor time".into(),
    ))
}

pub(super) fn no_swap(case: &Case<'_>) -> Option<Finding> {
    let is_none = case.is_global() && case.kb("SwapTotal") == Some(0);
    is_none.then(|| {
        finding(
            "no_swap",
            Severity::Info,
            "there is no swap: anonymous memory and shared memory cannot be moved out".into(),
            "SwapTotal 0 kB".into(),
            "some swap (zram, on devices without a disk) lets memory that is never looked at make room, at the price of some processor time; the page cache then is no longer all that can be reclaimed".into(),
        )
    })
}
