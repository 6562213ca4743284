//! The balance holds, whatever the figures: recorded, made, random.
use std::fmt::Write as _;

use super::{
    Case, Kind, Machine, Moment, Sheet, explain::explanations, findings, parse::Meminfo,
    sheet::OVERLAP, vmalloc::Vmalloc, zoneinfo::Zone,
};
use crate::kernel::memory::{FIELDS, UNACCOUNTED};

fn machine(text: &str) -> Machine {
    Machine::of_meminfo(text).unwrap()
}

fn sheet(text: &str) -> Sheet {
    let sheet = Sheet::of(&machine(text));
    balanced(&sheet);
    sheet
}

/// Rows add up, parts do not exceed their row, names are unique.
pub(super) fn balanced(sheet: &Sheet) {
    let top = sheet.rows.iter().filter(|row| row.of.is_none());
    let sum: i64 = top.map(|row| row.kb).sum();
    assert_eq!(u64::try_from(sum), Ok(sheet.total_kb), "{sheet:?}");
    assert_eq!(sheet.kb(UNACCOUNTED), sheet.unaccounted_kb);
    for (at, row) in sheet.rows.iter().enumerate() {
        assert!(row.kb >= 0 || row.name == OVERLAP, "{row:?}");
        assert!(!row.source.is_empty() && !row.about.is_empty(), "{row:?}");
        let parts: i64 = sheet.parts(&row.name).map(|part| part.kb).sum();
        assert!(parts <= row.kb.max(0), "{row:?}: {parts}");
        if let Some(of) = &row.of {
            assert_eq!(sheet.row(of).map(|parent| parent.kind), Some(row.kind));
        }
        let first = sheet.rows.iter().position(|other| other.name == row.name);
        assert_eq!(first, Some(at), "{row:?}");
    }
}

#[test]
fn torn_counters_are_taken_back() {
    let sheet = sheet("MemTotal: 1000 kB\nMemFree: 900 kB\nSlab: 300 kB\n");
    let row = sheet.row(OVERLAP).unwrap();
    assert_eq!((row.kb, row.kind), (-200, Kind::Unaccounted));
    assert_eq!(sheet.unaccounted_kb, 0);
    assert!(sheet.notes.iter().any(|note| note.contains("200 kB more")));
}

#[test]
fn lists_count_and_names_share_them_out() {
    let text = "MemTotal: 1000 kB\nMemFree: 100 kB\nActive: 300 kB\nInactive: 200 kB\nUnevictable: 10 kB\n\
        AnonPages: 100 kB\nCached: 370 kB\nShmem: 50 kB\nBuffers: 20 kB\nSwapCached: 40 kB\n";
    let sheet = sheet(text);
    let kb = |name| sheet.kb(name);
    assert_eq!((kb("AnonPages"), kb("Shmem"), kb("Buffers")), (100, 50, 20));
    // 510 on lists: 20 of the 340 of SwapCached and others are left over.
    assert_eq!(
        (kb("page cache"), kb("SwapCached"), kb("other LRU pages")),
        (320, 20, 0)
    );
    assert_eq!(sheet.unaccounted_kb, 390);
}

#[test]
fn what_is_on_no_list_is_a_known_part_of_unaccounted() {
    let text = "MemTotal: 1000 kB\nMemFree: 100 kB\nActive: 300 kB\nInactive: 0 kB\n\
        AnonPages: 100 kB\nCached: 230 kB\nShmem: 0 kB\nDriverCma: 9000 kB\n";
    let sheet = sheet(text);
    assert_eq!(sheet.unaccounted_kb, 600);
    // A vendor's figure that does not fit is cut, and the rest follows.
    assert_eq!(
        (sheet.kb("DriverCma"), sheet.kb("not on a list yet")),
        (600, 0)
    );
}

#[test]
fn kernel_stacks_are_counted_once() {
    let text = "MemTotal: 1000 kB\nMemFree: 0 kB\nKernelStack: 50 kB\nVmallocUsed: 200 kB\n";
    // Unknown: as kernels are usually built.
    let likely = sheet(text);
    assert_eq!(
        likely.row("KernelStack").unwrap().of.as_deref(),
        Some("VmallocUsed")
    );
    assert_eq!(likely.unaccounted_kb, 800);
    assert!(
        likely
            .notes
            .iter()
            .any(|note| note.contains("CONFIG_VMAP_STACK"))
    );
    // A vendor's own way, and 32-bit machines.
    for line in ["VmapStack: 3 kB\n", "HighTotal: 9 kB\n"] {
        let apart = sheet(&format!("{text}{line}"));
        assert_eq!(apart.row("KernelStack").unwrap().of, None);
        assert_eq!(apart.unaccounted_kb, 750);
    }
    // Known: vmallocinfo has their areas, or has not.
    for (stack_pages, unaccounted) in [(12, 800), (0, 750)] {
        let vmalloc = Some(Vmalloc {
            stack_pages,
            pages: 50,
            ..Vmalloc::default()
        });
        let sheet = Sheet::of(&Machine {
            vmalloc,
            ..machine(text)
        });
        balanced(&sheet);
        assert_eq!(sheet.unaccounted_kb, unaccounted);
        assert!(!sheet.notes.iter().any(|note| note.contains("VMAP_STACK")));
    }
}

#[test]
fn vmalloc_by_what_the_kernel_prints() {
    let text = |rest: &str| format!("MemTotal: 1000 kB\nMemFree: 0 kB\nKernelStack: 50 kB\n{rest}");
    // 2.6.32 to 4.3: address space. 4.4 to 5.2: nothing.
    for rest in [
        "VmallocUsed: 700 kB\nVmallocChunk: 9 kB\n",
        "VmallocUsed: 0 kB\nVmallocChunk: 0 kB\n",
    ] {
        let text = text(rest);
        let without = sheet(&text);
        assert!(without.row("VmallocUsed").is_none());
        assert_eq!((without.unaccounted_kb, without.notes.len()), (950, 3));
        // Pages by vmallocinfo.
        let vmalloc = Some(Vmalloc {
            pages: 25,
            stack_pages: 13,
            ..Vmalloc::default()
        });
        let sheet = Sheet::of(&Machine {
            vmalloc,
            ..machine(&text)
        });
        balanced(&sheet);
        assert_eq!(
            (sheet.kb("VmallocUsed"), sheet.kb("KernelStack")),
            (100, 50)
        );
        assert_eq!(sheet.unaccounted_kb, 900);
    }
}

#[test]
fn a_balloon_counts_where_its_pages_are_in_the_total() {
    use super::machine::Balloon::{InTotal, OffTotal, Unknown};
    let text = "MemTotal: 1000 kB\nMemFree: 500 kB\nBalloon: 300 kB\n";
    for (balloon, unaccounted) in [(InTotal, 200), (OffTotal, 500), (Unknown, 200)] {
        let sheet = Sheet::of(&Machine {
            balloon,
            ..machine(text)
        });
        balanced(&sheet);
        assert_eq!(sheet.unaccounted_kb, unaccounted, "{balloon:?}");
    }
    // Where it does not fit, its driver has taken it off.
    let sheet = sheet("MemTotal: 1000 kB\nMemFree: 900 kB\nBalloon: 300 kB\n");
    assert_eq!((sheet.row("Balloon"), sheet.unaccounted_kb), (None, 100));
}

#[test]
fn zones_that_disagree_are_told() {
    let zone = Zone {
        managed: Some(100),
        on_cpus: 5,
        ..Zone::default()
    };
    let machine = Machine {
        zones: vec![zone],
        ..machine("MemTotal: 1000 kB\nMemFree: 0 kB\n")
    };
    let sheet = Sheet::of(&machine);
    balanced(&sheet);
    assert_eq!(sheet.kb("per-CPU free lists"), 20);
    assert!(
        sheet
            .notes
            .iter()
            .any(|note| note.contains("600 kB more than the zones"))
    );
}

#[test]
fn changes_add_up_as_rows_do() {
    let old = sheet("MemTotal: 1000 kB\nMemFree: 400 kB\nSlab: 100 kB\nKReclaimable: 7 kB\n");
    let mut new = sheet("MemTotal: 1000 kB\nMemFree: 300 kB\nSlab: 180 kB\nPercpu: 20 kB\n");
    new.compare(&old, Some(2_000_000_000));
    let changes = new.rows.iter().filter(|row| row.of.is_none());
    assert_eq!(changes.filter_map(|row| row.change_kb).sum::<i64>(), 0);
    let slab = new.row("Slab").unwrap();
    assert_eq!(
        (slab.change_kb, slab.bytes_per_s),
        (Some(80), Some(40 * 1024))
    );
    let gone = new.row("other KReclaimable").unwrap();
    assert_eq!((gone.kb, gone.change_kb), (0, Some(-7)));
    assert_eq!(new.row("Percpu").unwrap().change_kb, Some(20));
}

/// Random files, also with vendors' fields, huge figures and fields left out,
/// and random machines around them.
#[test]
fn any_figures_balance() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..3000 {
        let mut text = format!("MemTotal: {} kB\n", 1 + random(1 << 24));
        for field in FIELDS.iter().skip(1) {
            let figure = match random(12) {
                0..3 => continue,
                3 => u64::MAX - random(9),
                4 => random(1 << 51),
                5 => 0,
                _ => random(1 << 22),
            };
            writeln!(text, "{}: {figure} kB", field.name).unwrap();
        }
        writeln!(text, "SomeVendor: {} kB", random(u64::MAX)).unwrap();
        let mut machine = machine(&text);
        if random(2) == 0 {
            let counters = [
                "nr_isolated_anon",
                "nr_zspages",
                "balloon_inflate",
                "balloon_deflate",
            ];
            machine.vmstat = counters
                .iter()
                .map(|name| ((*name).to_owned(), random(u64::MAX) >> random(64)))
                .collect();
            machine.zones = (0..random(3))
                .map(|node| Zone {
                    node: u32::try_from(node).unwrap(),
                    managed: Some(random(u64::MAX)),
                    on_cpus: random(u64::MAX),
                    ..Zone::default()
                })
                .collect();
            machine.vmalloc = Some(Vmalloc {
                pages: random(u64::MAX),
                stack_pages: random(3),
                module_pages: random(u64::MAX),
                ..Vmalloc::default()
            });
        }
        let mut sheet = Sheet::of(&machine);
        balanced(&sheet);
        let before = sheet.clone();
        let old = Moment::of(machine.clone());
        let case = Case {
            machine: &machine,
            sheet: &before,
            holders: None,
            before: Some(&old),
        };
        let _ = findings(&case);
        let _ = explanations(&machine, &before, true);
        sheet.compare(&before, Some(random(3)));
        assert!(sheet.rows.iter().all(|row| row.change_kb == Some(0)));
    }
}

/// Random bytes and cut files: an error or fields, never a panic.
#[test]
fn any_text_can_be_read() {
    let real = include_str!("../../../tests/data/meminfo/meminfo-1g-oom.txt");
    for end in (0..real.len()).filter(|end| real.is_char_boundary(*end)) {
        if let Ok(meminfo) = Meminfo::parse(&real[..end]) {
            let machine = Machine {
                meminfo,
                page_kb: 4,
                ..Machine::default()
            };
            balanced(&Sheet::of(&machine));
        }
    }
    for junk in [
        "MemTotal:",
        "MemTotal: kB",
        ":::1 kB",
        "MemTotal: 1 kB: 2 kB",
        "é: 1 kB\nMemTotal: 5 kB é",
    ] {
        let _ = Meminfo::parse(junk);
    }
}
