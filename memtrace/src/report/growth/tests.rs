//! What readers of a growth report get: the keys that scripts rely on, and text.
use memtrace_common::growth::{GrowthKey, GrowthSum, Way};

use super::{
    GrowthReport, Hook, WayKind,
    assemble::{Probed, Watched, ranked, watched},
};
use crate::{
    growth::{MANY, Ranking, Reading, Rollup, Sample, Series, Size},
    process::{Glance, Modules, modules::ModuleCache},
    report::{Document, Style},
    stack::StackTable,
    symbol::{Options, Symbolizer},
};

fn series(step: u64) -> Series<Sample> {
    let mut series = Series::keeping(MANY);
    for turn in 0..20 {
        let rss = (50 << 20) + turn * step;
        let mut sizes = [Size::default(); 7];
        sizes[0] = Size {
            bytes: rss / 2,
            mappings: 1,
        };
        series.push(Sample {
            time_ns: turn * 1_000_000_000,
            reading: Reading {
                rss,
                anonymous: rss,
                ..Reading::default()
            },
            sizes: Some(sizes),
        });
    }
    series
}

/// A process that grows by brk, with three stacks of which nothing is named.
fn report(top: usize) -> GrowthReport {
    let series = series(1 << 20);
    let sum = |grown_bytes, grown_count, returned_bytes| GrowthSum {
        grown_bytes,
        grown_count,
        returned_bytes,
        returned_count: u64::from(returned_bytes > 0),
    };
    let key = |stack| GrowthKey {
        stack,
        pid: 7,
        way: 0,
    };
    let sums = [
        (Way::Break, key(1), sum(132 << 10, 1, 0)),
        (Way::Break, key(2), sum(1 << 20, 8, 0)),
        (Way::Break, key(3), sum(0, 0, 64 << 10)),
        (Way::Fault, key(1), sum(20 << 20, 5120, 0)),
    ];
    let mut stacks = StackTable::default();
    stacks.insert(2, false, [0x1000, 0x2000].into_iter(), &Modules::default());
    let modules = ModuleCache::default();
    let probed = Probed {
        sums: &sums,
        stacks: &stacks,
        modules: &modules,
        hooks: vec![Hook {
            name: Some("tracepoint".into()),
            hook: "page faults".into(),
            mechanism: Some("a tracepoint".into()),
            loses: Some("half of them".into()),
            fallback: true,
        }],
        lost: 0,
    };
    let process = Watched {
        pid: 7,
        comm: "evil\u{1b}[2J",
        exited: false,
        series: &series,
        rollup: Some(Rollup {
            rss: 70 << 20,
            pss: 60 << 20,
            huge: 0,
        }),
    };
    let mut symbolizer = Symbolizer::new(Options::default());
    watched(
        &[process],
        Some(&probed),
        1_000_000_000,
        top,
        Vec::new(),
        &mut symbolizer,
    )
}

fn render(report: &GrowthReport, format: &str) -> String {
    let format = GrowthReport::format(format).expect("a format of the document");
    let mut out = Vec::new();
    (format.render)(report, &Style::default(), &mut out).expect("a vector takes everything");
    String::from_utf8(out).expect("text")
}

#[test]
fn keys_of_the_contract() {
    let document: serde_json::Value =
        serde_json::from_str(&render(&report(10), "json")).expect("JSON");
    assert_eq!(document["schema"], "memtrace.growth.v1");
    let process = &document["processes"][0];
    assert_eq!(process["pid"], 7);
    assert_eq!(process["brk_bytes"], (69 << 20) / 2);
    assert_eq!(process["mmap_bytes"], 0);
    assert_eq!(process["rss_bytes"], 69 << 20);
    assert_eq!(process["rss_slope_bytes_per_s"], 1 << 20);
    assert_eq!(process["verdict"], "growing");
    let source = &document["sources"][1];
    assert_eq!(source["kind"], "brk");
    assert_eq!(
        (&source["bytes"], &source["count"]),
        (&(1 << 20).into(), &8.into())
    );
    assert_eq!(source["frames"][0]["ip"], "0x1000");
    assert_eq!(document["findings"][0]["id"], "growth_brk");
    let again: GrowthReport =
        serde_json::from_value(document).expect("what was written can be read");
    assert_eq!(again, report(10));
}

/// `--top` is for each process and way; the totals are of all.
#[test]
fn top_cuts_rows_not_totals() {
    let cut = report(1);
    let kinds: Vec<WayKind> = cut.sources.iter().map(|source| source.kind).collect();
    assert_eq!(kinds, [WayKind::Fault, WayKind::Brk]);
    let brk = cut.totals.iter().find(|total| total.kind == WayKind::Brk);
    let brk = brk.expect("a total");
    assert_eq!(
        (brk.bytes, brk.returned_bytes, brk.stacks),
        ((1 << 20) + (132 << 10), 64 << 10, 3)
    );
}

#[test]
fn text() {
    let text = render(&report(1), "text");
    for line in [
        "growing: +1 MiB/s (95 %: +1 MiB/s to +1 MiB/s); most of it is the heap below the program break (brk)\n",
        "resident          69 MiB      +19 MiB  ▁▁▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇██\n",
        "Touched first: 20 MiB in 5,120 page faults from 1 stack\n",
        "Program break raised: 1.13 MiB in 9 calls of brk from 3 stacks; 64 KiB given back in 1 call of brk\n",
        "  … and 2 more stacks; --top 0 shows all\n",
        "  page faults not seen: half of them\n",
        "PSS               60 MiB",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn folded_stacks_lie_below_their_way() {
    let folded = render(&report(10), "folded");
    assert!(folded.contains("[brk];0x2000;0x1000 1048576\n"), "{folded}");
    assert!(
        folded.contains("[fault];[truncated];[unknown] 20971520\n"),
        "{folded}"
    );
}

#[test]
fn a_ranking_is_a_table() {
    let mut ranking = Ranking::default();
    for turn in 0..10 {
        let glance = |pid, resident| Glance {
            pid,
            start_time: 1,
            comm: format!("p{pid}"),
            resident,
        };
        let glances = vec![
            glance(1, 500),
            glance(2, 1000 + turn * 256),
            glance(3, 9000 - turn * 256),
        ];
        ranking.look(turn * 1_000_000_000, 4096, glances);
    }
    let report = ranked(&ranking.ranked(), |_| None, 1, 2, Vec::new());
    let text = render(&report, "text");
    let rows: Vec<&str> = text.lines().filter(|line| line.contains("MiB/s")).collect();
    assert_eq!(rows.len(), 1, "{text}");
    assert!(
        rows[0].contains("+1 MiB/s") && rows[0].ends_with("2 p2"),
        "{text}"
    );
    assert!(
        text.contains("… and 1 more process; --top 0 shows all"),
        "{text}"
    );
    assert_eq!(report.processes_total, 3);
}

/// One point of each curve a sample, within the plot, and no name that is markup.
#[test]
fn curves_over_time() {
    let mut report = report(10);
    report.processes[0].comm = "<b>&".into();
    let svg = render(&report, "svg");
    assert!(svg.contains("&lt;b&gt;&amp; (pid 7)"), "{svg}");
    let points = |line: &str| {
        let list = line.split_once("points=\"")?.1.split_once('"')?.0;
        Some(list.split(' ').count())
    };
    let curves: Vec<usize> = svg.lines().filter_map(points).collect();
    let samples = report.processes[0].samples.len();
    assert!(curves.len() >= 2, "{svg}");
    assert!(curves.iter().all(|count| *count <= samples), "{curves:?}");
    assert!(curves.contains(&samples), "{curves:?}");
    // The greatest size is at the top, the last sample at the right.
    assert!(svg.contains("760.0,"), "{svg}");
    assert_eq!(svg, render(&report, "svg"));
    report.processes.clear();
    assert!(render(&report, "svg").contains("No process was seen"));
}
