//! What is unaccounted, by the formulas that others have published, next to
//! memtrace's on the same figures: where they differ, and by which kB.
use std::path::Path;

use super::{Machine, Roots, Sheet, parse::Meminfo};

/// linuxperf.com: the kernel's counters, what is corrupted or bounces, and the
/// LRU lists with huge pages.
fn linuxperf(meminfo: &Meminfo) -> i64 {
    let kernel = [
        "Slab",
        "VmallocUsed",
        "PageTables",
        "KernelStack",
        "HardwareCorrupted",
        "Bounce",
    ];
    let user = ["Active", "Inactive", "Unevictable"];
    total(meminfo)
        - sum(meminfo, &["MemFree"])
        - sum(meminfo, &kernel)
        - sum(meminfo, &user)
        - huge(meminfo)
}

/// Oracle's oled-tools (memstate): by name, without RDS.
fn oled(meminfo: &Meminfo) -> i64 {
    let counted = [
        "MemFree",
        "Slab",
        "VmallocUsed",
        "PageTables",
        "KernelStack",
        "AnonPages",
        "Cached",
        "Buffers",
    ];
    total(meminfo) - sum(meminfo, &counted) - huge(meminfo)
}

/// Alibaba's sysAK (memgraph): Mlocked where others have Unevictable.
fn sysak(meminfo: &Meminfo) -> i64 {
    let user = [
        "Active(anon)",
        "Inactive(anon)",
        "Active(file)",
        "Inactive(file)",
        "Mlocked",
    ];
    let kernel = ["Slab", "KernelStack", "PageTables", "VmallocUsed"];
    total(meminfo)
        - sum(meminfo, &["MemFree"])
        - sum(meminfo, &user)
        - sum(meminfo, &kernel)
        - huge(meminfo)
}

fn sum(meminfo: &Meminfo, names: &[&str]) -> i64 {
    names
        .iter()
        .map(|name| i64::try_from(meminfo.kb(name)).unwrap())
        .sum()
}

fn total(meminfo: &Meminfo) -> i64 {
    sum(meminfo, &["MemTotal"])
}

fn huge(meminfo: &Meminfo) -> i64 {
    i64::try_from(meminfo.kb("HugePages_Total") * meminfo.kb("Hugepagesize")).unwrap()
}

fn folder() -> &'static Path {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/data/meminfo"
    ))
}

/// On a live machine the others' hole is three times as large, and each kB of
/// the difference has a name.
#[test]
fn on_a_recorded_machine() {
    let proc = folder().join("recorded-6.18-x86_64");
    let sys = proc.join("sys");
    let machine = Machine::read(&Roots { proc, sys }).unwrap();
    let sheet = Sheet::of(&machine);
    let ours = i64::try_from(sheet.unaccounted_kb).unwrap();
    let meminfo = &machine.meminfo;
    let kb = |name| i64::try_from(sheet.kb(name)).unwrap();
    // Counted by memtrace alone: pages on the lists of the CPUs, Percpu; and
    // twice by the others: stacks in vmalloc.
    let known = kb("per-CPU free lists") + kb("Percpu") - kb("KernelStack");
    let isolated = i64::try_from(machine.pages_kb("nr_isolated_file").unwrap()).unwrap()
        + i64::try_from(machine.pages_kb("nr_isolated_anon").unwrap()).unwrap();
    assert_eq!(linuxperf(meminfo), ours + known + isolated);
    // Lists against names.
    let lists = sum(meminfo, &["Active", "Inactive", "Unevictable"]);
    let names = sum(meminfo, &["AnonPages", "Cached", "Buffers"]);
    assert_eq!(oled(meminfo), linuxperf(meminfo) + lists - names);
    // Pages that cannot be reclaimed without being locked (ramfs, memfd_secret).
    let unlocked = sum(meminfo, &["Unevictable"]) - sum(meminfo, &["Mlocked"]);
    assert_eq!(sysak(meminfo), linuxperf(meminfo) + unlocked);
    assert!(
        ours * 3 < linuxperf(meminfo),
        "{ours} of {}",
        linuxperf(meminfo)
    );
}

/// A saved file has no lists of CPUs, so all are close.
#[test]
fn on_the_device_that_was_out_of_memory() {
    let text = std::fs::read_to_string(folder().join("meminfo-1g-oom.txt")).unwrap();
    let machine = Machine::of_meminfo(&text).unwrap();
    let ours = i64::try_from(Sheet::of(&machine).unaccounted_kb).unwrap();
    let percpu = sum(&machine.meminfo, &["Percpu"]);
    assert_eq!(ours, 15_820);
    assert_eq!(linuxperf(&machine.meminfo), ours + percpu);
    assert_eq!(oled(&machine.meminfo), ours + percpu - 164);
    assert_eq!(sysak(&machine.meminfo), ours + percpu + 4);
}

/// 7.1: what newer kernels count is part of the others' hole.
#[test]
fn on_a_new_kernel() {
    let text = std::fs::read_to_string(folder().join("made-7.1-x86_64.txt")).unwrap();
    let machine = Machine::of_meminfo(&text).unwrap();
    let sheet = Sheet::of(&machine);
    let kb = |name| i64::try_from(sheet.kb(name)).unwrap();
    let newer = [
        "SecPageTables",
        "Percpu",
        "compressed memory",
        "Balloon",
        "GPUActive",
        "GPUReclaim",
        "other KReclaimable",
    ];
    let newer: i64 = newer.into_iter().map(kb).sum();
    let ours = i64::try_from(sheet.unaccounted_kb).unwrap();
    assert_eq!(
        linuxperf(&machine.meminfo),
        ours + newer - kb("KernelStack")
    );
}
