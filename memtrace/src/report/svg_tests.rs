//! Flame graphs: what they say, to whom, and that nothing in a report breaks
//! them.
use super::Style;
use super::heap::HeapReport;
use super::tests::{leak, several, source, written};

fn svg(report: &HeapReport) -> String {
    written("svg", report, &Style::default())
}

#[test]
fn a_flame_graph_says_what_it_shows() {
    let text = svg(&leak());
    for said in [
        "Outstanding 3.52 MiB of leak (pid 4711)",
        "traced for 9.8 s, exact; width: bytes",
        "shop::grow(int) (3,686,400 bytes, 99.89%)",
        "all (3,690,496 bytes, 100%)",
        ">main</text>",
    ] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
    assert_eq!(text, svg(&leak()), "the same report, the same bytes");
}

#[test]
fn several_processes_are_roots() {
    let mut report = several();
    report.stacks_total = 5;
    let text = svg(&report);
    for said in [
        "worker-4712 (4,096 bytes",
        "leak-4711 (3,686,400 bytes",
        "of 2 processes",
        "NOT EXACT, 2 of 5 stacks",
    ] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
}

#[test]
fn names_cannot_leave_their_place() {
    let mut report = leak();
    report.processes[0].comm = "</text><script>1".into();
    report.stacks[0].frames = vec![
        source("]]></script><b>", "f", 1, false),
        source("# 12 13", "f", 1, false),
        source("", "f", 1, true),
        source("a\u{1b}[2J\u{0}b", "f", 1, true),
    ];
    let text = svg(&report);
    for raw in ["<script>1", "<b>", "\u{1b}", "\u{0}"] {
        assert!(!text.contains(raw), "{raw:?} is in {text}");
    }
    assert!(text.contains("]]&gt;&lt;/script&gt;&lt;b&gt;"), "{text}");
    assert!(text.contains("#_12_13 (3,686,400 bytes"), "{text}");
}

#[test]
fn absurd_figures_are_drawn() {
    let mut report = leak();
    for stack in &mut report.stacks {
        stack.bytes = u64::MAX;
    }
    assert!(svg(&report).contains("all (36,028,797,018,963,968 bytes"));
    for stack in &mut report.stacks {
        stack.bytes = 0;
    }
    assert!(svg(&report).contains(">Nothing is outstanding</text>"));
    report.stacks.clear();
    report.processes.clear();
    assert!(svg(&report).contains(">Nothing is outstanding</text>"));
}
