//! Reports on pages, from figures that were made up.
use hashbrown::HashMap;
use memtrace_common::pages::Frame;
use serde_json::Value;

use super::{
    By, PagesReport,
    assemble::{Choice, assemble},
};
use crate::{
    kernel::{gfp::Numbering, modules::ModuleMap, page_flags as flag, pages::WAYS},
    meminfo::{Machine, zoneinfo::Zone},
    pages::{
        found::{Found, Sums},
        ledger::{ByOrigin, Looks, Origin, Tallies},
        zones::Zones,
    },
    report::{Document as _, Style},
};

/// Functions by address; 50 and 51 are memtrace's own.
const FUNCTIONS: &[(u64, &str)] = &[
    (50, "bpf_prog_0123456789abcdef_pages_alloc"),
    (51, "bpf_trace_run4"),
    (52, "__alloc_pages"),
    (53, "alloc_pages"),
    (60, "driver_fill"),
    (61, "driver_probe"),
    (70, "do_anonymous_page"),
    (71, "handle_mm_fault"),
    (72, "pte_alloc_one"),
];

fn names(stack: &[u64]) -> Vec<Option<(String, u64)>> {
    let name = |address: &u64| {
        let row = FUNCTIONS.iter().find(|(known, _)| known == address);
        row.map(|(_, name)| ((*name).to_owned(), 1))
    };
    stack.iter().map(name).collect()
}

fn origin(order: u32, migratetype: u32, stack: &[u64]) -> Origin {
    let own = [50, 51, 52, 53];
    Origin {
        gfp: 0xcc0,
        order,
        migratetype,
        pid: 7,
        comm: "first".to_owned(),
        stack: own.iter().chain(stack).copied().collect(),
    }
}

/// A driver in a module that two processes use, at two orders, and a program's
/// memory with its page tables.
fn found() -> Found {
    let origins = [
        (2, origin(0, 0, &[60, 61])),
        (3, origin(2, 0, &[60, 71])),
        (4, origin(0, 1, &[70, 71])),
        (5, origin(0, 0, &[72, 71])),
    ];
    let mut tallies = Tallies::default();
    let mut add = |origin, pid, zone, flags, pages| {
        for _ in 0..pages {
            tallies.add(Frame::held(origin, pid), Some(zone), Some(flags));
        }
    };
    add(2, 7, 1, 0, 30);
    add(3, 8, 1, 0, 12);
    add(2, 7, 0, 0, 1);
    add(4, 9, 1, flag::LRU | flag::ANON | flag::SWAPBACKED, 100);
    add(5, 9, 1, flag::PGTABLE, 3);
    let zone = |name: &str, start_frame, spanned| Zone {
        name: name.to_owned(),
        start_frame,
        spanned,
        present: spanned,
        ..Zone::default()
    };
    let mut looks = Looks::default();
    for (time, pages) in [(0, 10), (1_000_000_000, 30)] {
        looks.push(time, ByOrigin::from_iter([((2, Some(1)), pages)]));
    }
    Found {
        duration_ns: 1_000_000_000,
        way: &WAYS[0],
        sums: Sums {
            allocated: 200,
            freed: 60,
            freed_unseen: 6,
            ..Sums::default()
        },
        moved: [200, 60],
        origins: origins.into_iter().collect(),
        tallies,
        looks,
        zones: Zones::new(vec![zone("DMA", 1, 10), zone("Normal", 11, 1000)]),
        machines: [machine(10_000), machine(9_440)],
        census: None,
        comms: HashMap::from_iter([(7, "seven".to_owned()), (9, "nine".to_owned())]),
        // The driver's module is unloaded meanwhile.
        modules: [
            ModuleMap::parse("1 t text\n3b t driver_fill [driver]\n3e t text\n"),
            ModuleMap::parse("1 t text\n"),
        ],
        notes: Vec::new(),
    }
}

fn machine(free_kb: u64) -> Machine {
    let text = format!("MemTotal: 20000 kB\nMemFree: {free_kb} kB\n");
    let machine = Machine::of_meminfo(&text).expect("a meminfo");
    let zones = vec![Zone::default()];
    Machine { zones, ..machine }
}

fn choice(by: By) -> Choice {
    Choice {
        by,
        top: usize::MAX,
        untracked_only: false,
        min_order: 0,
        zone: None,
        pids: Vec::new(),
        gfp: Numbering::of((6, 1)),
        page_size: 4096,
    }
}

fn report(choice: &Choice) -> PagesReport {
    assemble(&found(), &names, choice)
}

/// Caller, what counts it, zone, pages.
fn rows(report: &PagesReport) -> Vec<(&str, &str, &str, u64)> {
    let consumers = report.consumers.iter();
    consumers
        .map(|one| {
            let (caller, accounted) = (one.caller.as_str(), one.accounted_as.as_str());
            (caller, accounted, one.zone.as_str(), one.pages)
        })
        .collect()
}

#[test]
fn what_nothing_counts_comes_first() {
    let report = report(&choice(By::Caller));
    let expected = [
        ("driver_fill", "untracked", "Normal", 42),
        ("driver_fill", "untracked", "DMA", 1),
        ("do_anonymous_page", "anon", "Normal", 100),
        ("pte_alloc_one", "pagetable", "Normal", 3),
    ];
    assert_eq!(rows(&report), expected);
    let driver = &report.consumers[0];
    assert_eq!(driver.module.as_deref(), Some("driver"));
    assert_eq!((driver.pid, driver.comm.as_str()), (7, "seven"));
    assert_eq!((driver.pid_pages, driver.processes), (30, 2));
    let orders: Vec<_> = driver.orders.iter().collect();
    assert_eq!(orders, [(&0, &30), (&2, &12)]);
    assert_eq!(driver.gfp, "GFP_KERNEL");
    assert_eq!(driver.trend, [10, 30]);
    // memtrace's own frames are not shown.
    let first = driver.frames[0].symbol.as_deref();
    assert_eq!(first, Some("__alloc_pages"));
    assert_eq!((driver.frames_pages, driver.other_stacks.len()), (30, 1));
    let totals = &report.totals;
    assert_eq!(
        (totals.outstanding_pages, totals.untracked_pages),
        (146, 43)
    );
    assert!(report.exact);
}

#[test]
fn other_views() {
    let modules = report(&choice(By::Module));
    assert_eq!(modules.consumers[0].module.as_deref(), Some("driver"));
    assert_eq!(modules.consumers.len(), 4);
    let stacks = report(&choice(By::Stack));
    let pages: Vec<u64> = stacks.consumers.iter().map(|one| one.pages).collect();
    assert_eq!(pages, [30, 12, 1, 100, 3]);
}

#[test]
fn options_leave_out() {
    let pages = |choice: &Choice| -> Vec<u64> {
        let report = report(choice);
        assert_eq!(report.totals.outstanding_pages, 146, "of all pages");
        report.consumers.iter().map(|one| one.pages).collect()
    };
    let all = || choice(By::Caller);
    let untracked = Choice {
        untracked_only: true,
        ..all()
    };
    assert_eq!(pages(&untracked), [42, 1]);
    let min_order = Choice {
        min_order: 1,
        ..all()
    };
    assert_eq!(pages(&min_order), [12]);
    let zone = Choice {
        zone: Some("DMA".to_owned()),
        ..all()
    };
    assert_eq!(pages(&zone), [1]);
    let pids = Choice {
        pids: vec![8, 9],
        ..all()
    };
    assert_eq!(pages(&pids), [12, 100, 3]);
    let top = Choice { top: 1, ..all() };
    assert_eq!(pages(&top), [42]);
    assert_eq!(report(&top).consumers_total, 4);
}

#[test]
fn sums_are_checked_against_the_machine() {
    let found = found();
    let report = assemble(&found, &names, &choice(By::Caller));
    let balance = report.balance;
    assert_eq!(
        (balance.free_change_pages, balance.seen_change_pages),
        (-140, -140)
    );
    let hole = report.hole.expect("a sheet");
    assert_eq!(
        (hole.start_kb, hole.now_kb, hole.traced_kb),
        (10_000, 10_560, 172)
    );
    // Half a MiB is noise.
    assert_eq!(hole.explained_percent, None);
    let grown = Found {
        machines: [machine(10_000), machine(8_280)],
        ..found
    };
    let report = assemble(&grown, &names, &choice(By::Caller));
    let share = report.hole.and_then(|hole| hole.explained_percent);
    assert!(
        share.is_some_and(|share| (share - 10.0).abs() < 1e-9),
        "{share:?}"
    );
}

#[test]
fn what_is_not_known_is_told() {
    let lossy = Found {
        sums: Sums {
            misses: 2,
            outside: 5,
            ..found().sums
        },
        ..found()
    };
    let report = assemble(&lossy, &names, &choice(By::Caller));
    assert!(!report.exact);
    assert_eq!((report.lost_events, report.losses.len()), (7, 2));
    let stackless = Found {
        origins: HashMap::new(),
        ..found()
    };
    let report = assemble(&stackless, &names, &choice(By::Caller));
    assert!(
        report
            .consumers
            .iter()
            .all(|one| one.caller == "(not known)")
    );
    assert_eq!(report.totals.outstanding_pages, 146);
}

fn render(format: &str) -> String {
    let report = report(&choice(By::Caller));
    let format = PagesReport::format(format).expect("a format");
    let mut out = Vec::new();
    (format.render)(&report, &Style::default(), &mut out).expect("memory");
    String::from_utf8(out).expect("text")
}

/// Where the kernel does not list generated code, it seems to be far behind the last
/// symbol.
#[test]
fn programs_without_names() {
    let far = |stack: &[u64]| {
        let named = names(stack).into_iter().zip(stack);
        let name = named.map(|(name, address)| match address {
            50 | 51 => Some(("last_symbol".to_owned(), 1 << 20)),
            _ => name,
        });
        name.collect::<Vec<_>>()
    };
    let report = assemble(&found(), &far, &choice(By::Caller));
    let first = report.consumers[0].frames[0].symbol.as_deref();
    assert_eq!(
        (first, report.consumers[0].caller.as_str()),
        (Some("__alloc_pages"), "driver_fill")
    );
}

#[test]
fn every_format() {
    let text = render("text");
    for words in [
        "counted by nothing: 172 KiB (29.4 %)",
        "driver_fill [driver]",
        "order 0: 30, order 2: 12",
        "by seven (pid 7) 71.4 %, and 1 other process",
        "Zone Normal, Movable",
        "difference ±0 B",
    ] {
        assert!(text.contains(words), "no '{words}' in\n{text}");
    }
    let json: Value = serde_json::from_str(&render("json")).expect("JSON");
    assert_eq!(json["schema"], "memtrace.pages.v1");
    assert_eq!(json["consumers"][0]["orders"]["2"], 12);
    let folded = render("folded");
    assert!(
        folded.contains(
            "[anon];handle_mm_fault;do_anonymous_page;alloc_pages;__alloc_pages 409600\n"
        ),
        "{folded}"
    );
    assert!(render("svg").contains("driver_fill"));
}
