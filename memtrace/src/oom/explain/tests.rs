//! What is concluded from the logs of `tests/data/oom`.
use super::{Explanation, explain};
use crate::{
    finding::Severity,
    oom::{Cause, Kill, Trigger, log, meminfo},
};

macro_rules! log {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/data/oom/", $name))
    };
}

fn first(log: &str) -> Explanation {
    explain(&log::parse(log, None)[0])
}

fn ids(explanation: &Explanation) -> Vec<&str> {
    explanation
        .findings
        .iter()
        .map(|finding| &*finding.id)
        .collect()
}

fn evidence<'a>(explanation: &'a Explanation, id: &str) -> &'a str {
    let found = explanation.findings.iter().find(|finding| finding.id == id);
    found.map_or("", |finding| &finding.evidence)
}

/// The case of FACTS.md: both root causes, with its figures.
#[test]
fn tmpfs_and_cma() {
    let mut kill = log::parse(log!("reported-5.4-shmem.txt"), None).remove(0);
    kill.meminfo
        .extend(meminfo::parse(log!("reported-5.4-meminfo.txt")));
    let explanation = explain(&kill);
    assert_eq!(ids(&explanation), ["cma_only_free", "shmem_hog", "no_swap"]);
    assert!(
        explanation.findings[..2]
            .iter()
            .all(|finding| finding.severity == Severity::Critical)
    );
    assert_eq!(
        evidence(&explanation, "cma_only_free"),
        "MemFree 142,612 kB, of which CmaFree 137,876 kB (96.7 %); the request (GFP_KERNEL_ACCOUNT|__GFP_HIGHMEM|__GFP_ZERO) is not movable"
    );
    assert_eq!(
        explanation.why_failed,
        "S44bluetooth (31837) asked for a page, and of 142,612 kB free, this request could use 4,736 kB: the rest is CMA, for movable pages alone."
    );
    assert_eq!(
        evidence(&explanation, "shmem_hog"),
        "Cached 774,444 kB, of which Shmem 772,112 kB of 1,007,984 kB: not page cache, and dropping caches frees none of it"
    );
}

/// The same rebuilt in a virtual machine, without CMA, after two other kills.
#[test]
fn tmpfs_alone() {
    let kills = log::parse(log!("recorded-6.1-three.txt"), None);
    let explanations: Vec<Explanation> = kills.iter().map(explain).collect();
    let main: Vec<&str> = explanations
        .iter()
        .map(|explanation| ids(explanation)[0])
        .collect();
    assert_eq!(main, ["cgroup_limit", "sysrq", "shmem_hog"]);
    assert!(!ids(&explanations[1]).contains(&"oom_score_adj_protected"));
}

#[test]
fn without_figures_nothing_is_claimed() {
    let explanation = first(log!("reported-5.4-shmem.txt"));
    assert_eq!(ids(&explanation), ["unexplained"]);
}

#[test]
fn limits_of_cgroups() {
    let explanation = first(log!("recorded-6.18-memcg.txt"));
    assert_eq!(ids(&explanation), ["cgroup_limit", "process_size"]);
    assert!(
        evidence(&explanation, "cgroup_limit")
            .contains("usage 8,192 kB of 8,192 kB; limit hit 19 times")
    );
    let explanation = first(log!("made-3.10-memcg.txt"));
    assert_eq!(ids(&explanation)[0], "cgroup_limit");
    assert!(ids(&explanation).contains(&"child_sacrificed"));
}

#[test]
fn one_large_process_and_full_swap() {
    let explanation = first(log!("made-2.6.32-global.txt"));
    assert_eq!(
        ids(&explanation),
        [
            "process_size",
            "swap_exhausted",
            "below_watermarks",
            "lowmem_reserve"
        ]
    );
    assert_eq!(
        explanation.why_victim,
        "mysqld (3001) was killed because it held the most of 4 processes: 836 MiB, a score of 554."
    );
}

#[test]
fn low_memory() {
    let explanation = first(log!("made-4.4-lowmem.txt"));
    assert_eq!(ids(&explanation)[0], "lowmem_exhausted");
    let text = evidence(&explanation, "lowmem_exhausted");
    assert!(
        text.contains("Normal free 40,920 kB, minimum 41,100 kB"),
        "{text}"
    );
    assert!(text.contains("HighMem free 4,203,924 kB"), "{text}");
}

#[test]
fn fragmented() {
    let explanation = first(log!("made-4.15-fragmented.txt"));
    assert_eq!(ids(&explanation)[0], "fragmentation");
    assert_eq!(
        evidence(&explanation, "fragmentation"),
        "DMA32: 80,110 × 4 kB (UME), 17,250 × 8 kB (UME), 874 × 16 kB (UM)"
    );
}

#[test]
fn a_protected_process() {
    let explanation = first(log!("made-5.10-protected.txt"));
    assert_eq!(
        ids(&explanation)[..2],
        ["oom_score_adj_protected", "process_size"]
    );
    assert!(evidence(&explanation, "oom_score_adj_protected").contains("exporter"));
}

#[test]
fn a_fork_bomb() {
    let explanation = first(log!("made-6.1-forkbomb.txt"));
    assert_eq!(ids(&explanation)[..2], ["fork_bomb", "cgroup_limit"]);
    assert!(
        explanation.findings[0]
            .title
            .starts_with("240 of 241 processes are called sh")
    );
}

#[test]
fn slab() {
    let explanation = first(log!("made-7.2-slab.txt"));
    assert_eq!(ids(&explanation)[0], "slab_growth");
    assert!(
        evidence(&explanation, "slab_growth")
            .contains("kmalloc-2k 1,004,000 kB, skbuff_head_cache 402,400 kB")
    );
}

#[test]
fn on_demand() {
    assert_eq!(ids(&first(log!("made-6.8-sysrq.txt"))), ["sysrq"]);
    let kill = Kill {
        cause: Cause::UserSpace,
        trigger: Some(Trigger {
            pid: Some(7),
            comm: "systemd-oomd".into(),
            ..Trigger::default()
        }),
        ..Kill::default()
    };
    assert_eq!(ids(&explain(&kill)), ["userspace_killer"]);
}

/// Each of these rows alone, large, is found.
#[test]
fn holders() {
    for (rows, id) in [
        ("PageTables: 300 kB", "pagetable_bloat"),
        ("VmallocUsed: 500 kB", "vmalloc_growth"),
        ("Unevictable: 600 kB", "unevictable_high"),
        ("Active(anon): 700 kB", "processes_fill_memory"),
        ("SwapTotal: 100 kB\nSwapFree: 1 kB", "swap_exhausted"),
    ] {
        let meminfo = meminfo::parse(&format!("MemTotal: 1000 kB\n{rows}\n"));
        let kill = Kill {
            meminfo,
            ..Kill::default()
        };
        assert_eq!(ids(&explain(&kill)), [id]);
    }
    let rows = "MemTotal: 1000000 kB\nMemFree: 1 kB\nActive: 1 kB\nInactive: 1 kB\nSlab: 1 kB";
    let kill = Kill {
        meminfo: meminfo::parse(rows),
        ..Kill::default()
    };
    assert_eq!(ids(&explain(&kill)), ["unaccounted_high"]);
}
