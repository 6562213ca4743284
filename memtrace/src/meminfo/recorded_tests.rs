//! Files of many kernels: each balances, and says what a person would find.
use std::path::Path;

use super::{
    Case, Machine, Moment, Roots, Sheet, findings, machine::Balloon, sheet_tests::balanced,
    unknown_fields,
};
use crate::{
    finding::{Finding, Severity},
    kernel::memory::UNACCOUNTED,
};

fn folder() -> &'static Path {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/data/meminfo"
    ))
}

fn saved(name: &str) -> Machine {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    Machine::of_meminfo(&text).unwrap()
}

fn recorded() -> Machine {
    let proc = folder().join("recorded-6.18-x86_64");
    let sys = proc.join("sys");
    Machine::read(&Roots { proc, sys }).unwrap()
}

fn findings_of(machine: &Machine) -> (Sheet, Vec<Finding>) {
    let sheet = Sheet::of(machine);
    balanced(&sheet);
    let case = Case {
        machine,
        sheet: &sheet,
        holders: None,
        before: None,
    };
    let findings = findings(&case);
    (sheet, findings)
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id.as_ref()).collect()
}

/// The case this project began with: both root causes, by the figures that
/// were worked out by hand.
#[test]
fn the_device_that_was_out_of_memory_with_140_mb_free() {
    let machine = saved("meminfo-1g-oom.txt");
    let (sheet, findings) = findings_of(&machine);
    assert_eq!(ids(&findings), ["shmem_hog", "cma_only_free"]);
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity == Severity::Critical)
    );
    for (finding, figures) in findings.iter().zip([
        ["772,112 kB", "774,444 kB", "76.5 %"],
        ["137,876 kB", "142,612 kB", "4,736 kB"],
    ]) {
        for figure in figures {
            assert!(finding.evidence.contains(figure), "{}", finding.evidence);
        }
    }
    assert_eq!(sheet.unaccounted_kb, 15_820);
    let parts: Vec<_> = sheet
        .parts(UNACCOUNTED)
        .map(|row| (&*row.name, row.kb))
        .collect();
    assert_eq!(parts, [("DriverCma", 11_536), ("not on a list yet", 164)]);
    let unknown = unknown_fields(&machine);
    let names: Vec<_> = unknown.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["VmapStack", "VmapFault", "VmapPfault"]);
}

#[test]
fn what_other_kernels_print() {
    let cases: &[(&str, &[&str], u64)] = &[
        (
            "made-2.6.32-x86_64.txt",
            &["hardware_corrupted", "hugepages_idle"],
            322_476,
        ),
        (
            "made-4.9-x86_64.txt",
            &[
                "swap_exhausted",
                "slab_growth",
                "pagetable_bloat",
                "available_low",
            ],
            278_544,
        ),
        ("made-4.19-armv7.txt", &["unaccounted_high"], 321_524),
        (
            "made-5.10-android.txt",
            &["pagetable_bloat", "unaccounted_high"],
            484_000,
        ),
        (
            "made-7.1-x86_64.txt",
            &["hugepages_idle", "balloon_inflated", "unaccounted_high"],
            5_100_000,
        ),
    ];
    for (name, expected, unaccounted) in cases {
        let (sheet, findings) = findings_of(&saved(name));
        assert_eq!(&ids(&findings), expected, "{name}");
        assert_eq!(sheet.unaccounted_kb, *unaccounted, "{name}");
        for finding in &findings {
            let has_figures = finding.evidence.contains(|c: char| c.is_ascii_digit());
            assert!(has_figures && !finding.advice.is_empty(), "{finding:?}");
        }
    }
}

/// A vendor's field that nobody knows is shown, and in no row.
#[test]
fn unknown_fields_are_kept() {
    let unknown = unknown_fields(&saved("made-5.10-android.txt"));
    let unknown: Vec<_> = unknown
        .iter()
        .map(|(name, kb, _)| (name.as_str(), *kb))
        .collect();
    assert_eq!(
        unknown,
        [("IonTotalCache", 40_000), ("GpuTotalUsed", 210_000)]
    );
}

#[test]
fn a_folder_plays_a_machine() {
    let machine = recorded();
    assert_eq!(machine.page_kb, 4);
    assert_eq!(
        machine
            .zones
            .iter()
            .filter(|zone| zone.managed != Some(0))
            .count(),
        3
    );
    assert_eq!((machine.huge.len(), machine.nodes.len()), (2, 1));
    assert!(machine.caches.len() > 50 && machine.modules.is_empty());
    assert!(
        machine
            .vmalloc
            .as_ref()
            .is_some_and(|areas| areas.stack_pages > 0)
    );
    assert!(machine.transparent_huge_pages.is_some());
    let (sheet, findings) = findings_of(&machine);
    assert_eq!(ids(&findings), [""; 0]);
    assert_eq!(sheet.kb("per-CPU free lists"), 147_808);
    assert_eq!(sheet.unaccounted_kb, 14_844);
    assert_eq!(
        sheet.row("KernelStack").unwrap().of.as_deref(),
        Some("VmallocUsed")
    );
    assert!(machine.notes.is_empty() && sheet.notes.is_empty());
}

#[test]
fn a_folder_with_meminfo_alone_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let roots = Roots {
        proc: folder.path().to_owned(),
        sys: folder.path().join("sys"),
    };
    let error = Machine::read(&roots).unwrap_err().to_string();
    assert!(error.contains("meminfo"), "{error}");
    std::fs::write(folder.path().join("meminfo"), "nothing\n").unwrap();
    let error = Machine::read(&roots).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert!(
        cause.is_some_and(|cause| cause.contains("MemTotal")),
        "{error}"
    );
    std::fs::write(folder.path().join("meminfo"), "MemTotal: 5 kB\n").unwrap();
    assert_eq!(Machine::read(&roots).unwrap().notes.len(), 3);
}

/// Free memory that the kernel cannot use, on a 32-bit machine.
#[test]
fn low_memory_is_what_counts_on_32_bits() {
    let text = "MemTotal: 4000 kB\nMemFree: 2000 kB\nHighTotal: 3000 kB\nHighFree: 1990 kB\nLowTotal: 1000 kB\n";
    for (free, expected) in [
        (10, Some(Severity::Critical)),
        (30, Some(Severity::Warning)),
        (60, None),
    ] {
        let machine = Machine::of_meminfo(&format!("{text}LowFree: {free} kB\n")).unwrap();
        let (_, findings) = findings_of(&machine);
        let found = findings.iter().find(|finding| finding.id == "lowmem_low");
        assert_eq!(found.map(|finding| finding.severity), expected);
    }
}

/// Free CMA pages are trouble only where there is little else.
#[test]
fn cma_matters_where_nothing_can_be_reclaimed() {
    let text = "MemTotal: 100000 kB\nMemFree: 5000 kB\nInactive: 0 kB\nCmaFree: ";
    for (cma, files, expected) in [
        (4500, 1000, Some(Severity::Critical)),
        (4500, 6000, Some(Severity::Warning)),
        (4500, 30_000, Some(Severity::Info)),
        (3000, 30_000, None),
        (2000, 0, None),
    ] {
        let text = format!("{text}{cma} kB\nActive: {files} kB\nCached: {files} kB\n");
        let (_, findings) = findings_of(&Machine::of_meminfo(&text).unwrap());
        let found = findings
            .iter()
            .find(|finding| finding.id == "cma_only_free");
        assert_eq!(
            found.map(|finding| finding.severity),
            expected,
            "{cma} {files}"
        );
    }
}

/// What people have met: gigantic pages outside MemTotal, CMA pages freed twice.
#[test]
fn figures_that_do_not_fit() {
    let gigantic = "MemTotal: 32000000 kB\nMemFree: 31000000 kB\nHugePages_Total: 30\nHugePages_Free: 30\n\
        HugePages_Rsvd: 0\nHugepagesize: 1048576 kB\n";
    let (sheet, found) = findings_of(&Machine::of_meminfo(gigantic).unwrap());
    assert_eq!((sheet.unaccounted_kb, found.len()), (1_000_000, 0));
    assert!(sheet.row("Hugetlb").is_none());
    assert!(
        sheet.notes.iter().any(|note| note.contains("gigantic")),
        "{:?}",
        sheet.notes
    );
    let twice =
        "MemTotal: 16000000 kB\nMemFree: 22000000 kB\nCmaTotal: 200000 kB\nCmaFree: 6600000 kB\n";
    let (sheet, found) = findings_of(&Machine::of_meminfo(twice).unwrap());
    assert_eq!(
        (sheet.kb("MemFree"), ids(&found)),
        (22_000_000, vec!["counters_overlap"])
    );
    assert!(
        found[0].evidence.contains("CmaFree 6,600,000 kB is more"),
        "{}",
        found[0].evidence
    );
}

/// Growth is told against an earlier sheet.
#[test]
fn growth_since_an_earlier_sheet() {
    let text = |slab: u64| {
        format!("MemTotal: 100000 kB\nMemFree: 50000 kB\nSlab: {slab} kB\nSUnreclaim: {slab} kB\n")
    };
    let old = Moment::of(Machine::of_meminfo(&text(1000)).unwrap());
    for (slab, expected) in [(2500, true), (1900, false), (900, false)] {
        let machine = Machine::of_meminfo(&text(slab)).unwrap();
        let sheet = Sheet::of(&machine);
        let case = Case {
            machine: &machine,
            sheet: &sheet,
            holders: None,
            before: Some(&old),
        };
        let found = findings(&case)
            .into_iter()
            .find(|finding| finding.id == "slab_growth");
        assert_eq!(found.is_some(), expected, "{slab}");
        if let Some(finding) = found {
            assert!(
                finding.evidence.contains("1,000 kB before"),
                "{}",
                finding.evidence
            );
        }
    }
}

/// A machine made of a few files.
struct Made(tempfile::TempDir);

impl Made {
    fn new(meminfo: &str) -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        made.put("proc/meminfo", meminfo);
        made
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read(&self) -> (Machine, Sheet) {
        let [proc, sys] = ["proc", "sys"].map(|root| self.0.path().join(root));
        let machine = Machine::read(&Roots { proc, sys }).unwrap();
        let sheet = Sheet::of(&machine);
        balanced(&sheet);
        (machine, sheet)
    }
}

#[test]
fn nodes_huge_pages_and_modules() {
    let made = Made::new("MemTotal: 4000 kB\nMemFree: 64 kB\nHugetlb: 3072 kB\n");
    made.put("proc/vmstat", "nr_free_pages 4\n");
    made.put(
        "proc/modules",
        "zram 40960 1 - Live 0x0\nvmw_balloon 20480 0 - Live 0x0\n",
    );
    for node in [0, 1] {
        let text = format!("Node {node} MemTotal: 2000 kB\nNode {node} MemFree: {node} kB\n");
        made.put(
            &format!("sys/devices/system/node/node{node}/meminfo"),
            &text,
        );
    }
    for (file, number) in [("nr", "1\n"), ("free", "1\n"), ("resv", "0\n")] {
        for size in [1024, 2048] {
            let path = format!("sys/kernel/mm/hugepages/hugepages-{size}kB/{file}_hugepages");
            made.put(&path, number);
        }
    }
    let (machine, sheet) = made.read();
    assert_eq!(machine.page_kb, 16);
    let free: Vec<_> = machine.nodes.iter().map(|node| node.free_kb).collect();
    assert_eq!(free, [0, 1]);
    assert_eq!(sheet.kb("idle huge pages"), 3072);
    let explained = super::explain::explanations(&machine, &sheet, true);
    let modules = explained
        .iter()
        .find(|topic| topic.id == "modules")
        .unwrap();
    assert!(
        modules.text.contains("60 kB in 2 modules"),
        "{}",
        modules.text
    );
}

#[test]
fn balloons_by_their_driver() {
    let made = Made::new("MemTotal: 4000 kB\nMemFree: 64 kB\n");
    made.put(
        "proc/vmstat",
        "nr_free_pages 4\nballoon_inflate 10\nballoon_deflate 4\n",
    );
    let (machine, sheet) = made.read();
    assert_eq!(
        (machine.balloon, sheet.kb("Balloon")),
        (Balloon::Unknown, 96)
    );
    for (bit, balloon) in [('0', Balloon::OffTotal), ('1', Balloon::InTotal)] {
        let path = "sys/bus/virtio/drivers/virtio_balloon/virtio3/features";
        made.put(path, &format!("11{bit}00\n"));
        assert_eq!(made.read().0.balloon, balloon);
    }
    made.put("sys/module/vmw_balloon/version", "1\n");
    made.put(
        "sys/kernel/debug/vmmemctl",
        "target:   9 pages\ncurrent:               20 pages\n",
    );
    let (machine, sheet) = made.read();
    assert_eq!(
        (machine.balloon, sheet.kb("Balloon")),
        (Balloon::InTotal, 320)
    );
}
