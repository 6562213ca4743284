//! Differences of reports made by hand.
use super::*;
use crate::report::Style;
use crate::report::heap::HeapReport;
use crate::report::tests::{leak, several, source};

fn written(format: &str, report: &DiffReport) -> String {
    let mut out = Vec::new();
    let format = DiffReport::format(format).unwrap();
    (format.render)(report, &Style::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The same program later: another pid, other addresses and lines, a larger
/// leak, one of its stacks gone and one new.
fn later() -> HeapReport {
    let mut report = leak();
    report.processes[0].pid = 99;
    report.totals.outstanding_bytes = 7_382_016;
    report.totals.outstanding_count = 19;
    for stack in &mut report.stacks {
        stack.pid = 99;
        for frame in &mut stack.frames {
            frame.ip = "0x1".into();
            frame.line = frame.line.map(|line| line + 3);
        }
    }
    report.stacks[0].bytes = 7_372_800;
    report.stacks[0].count = 18;
    report.stacks[1].bytes = 9216;
    report.stacks[1].count = 1;
    report.stacks[1].frames = vec![source("other", "/src/leak.cpp", 5, false)];
    report
}

fn states(report: &DiffReport) -> Vec<(State, i64, i64)> {
    let stacks = report.stacks.iter();
    stacks
        .map(|change| (change.state, change.bytes, change.count))
        .collect()
}

#[test]
fn what_grew_comes_first() {
    let report = compare(&leak(), &later(), ["old", "new"]);
    assert_eq!(
        states(&report),
        [
            (State::Grown, 3_686_400, 9),
            (State::New, 9216, 1),
            (State::Gone, -4096, -1)
        ]
    );
    assert_eq!((report.bytes, report.count), (3_691_520, 9));
    assert!(report.exact && report.notes.is_empty());
    assert_eq!(report.stacks[0].frames[1].line, Some(15), "the later one's");
    let back = compare(&later(), &leak(), ["new", "old"]);
    assert_eq!(
        states(&back),
        [
            (State::New, 4096, 1),
            (State::Gone, -9216, -1),
            (State::Shrunk, -3_686_400, -9)
        ]
    );
    let same = compare(&leak(), &leak(), ["a", "a"]);
    assert!(
        same.stacks
            .iter()
            .all(|change| change.state == State::Unchanged)
    );
}

#[test]
fn versions_of_files_are_the_same() {
    let mut new = leak();
    new.processes[0].exe = "/opt/leak-2".into();
    new.processes[0].comm = "leak-2".into();
    for frame in new.stacks.iter_mut().flat_map(|stack| &mut stack.frames) {
        frame.module = frame.module.take().map(|path| match path.as_str() {
            "/usr/bin/leak" => "/opt/leak-2".into(),
            library => format!("{library}.1.2"),
        });
    }
    let report = compare(&leak(), &new, ["a", "b"]);
    assert!(
        report
            .stacks
            .iter()
            .all(|change| change.state == State::Unchanged)
    );
    // Other functions of the same names are others.
    new.stacks[0].frames[2].module = Some("/usr/lib/libmain.so".into());
    assert_eq!(compare(&leak(), &new, ["a", "b"]).stacks.len(), 3);
}

#[test]
fn processes_are_told_apart_by_name() {
    let mut new = several();
    for process in &mut new.processes {
        process.pid += 100;
    }
    for stack in &mut new.stacks {
        stack.pid += 100;
    }
    let report = compare(&several(), &new, ["a", "b"]);
    assert!(
        report
            .stacks
            .iter()
            .all(|change| change.state == State::Unchanged)
    );
    assert!(!report.exact);
    assert_eq!(report.notes[0], "OLD lost 312 events");
    new.processes[1].comm = "another".into();
    assert_eq!(compare(&several(), &new, ["a", "b"]).stacks.len(), 3);
}

#[test]
fn reports_that_were_cut_are_not_exact() {
    let mut new = later();
    new.stacks.truncate(1);
    let report = compare(&leak(), &new, ["a", "b"]);
    assert!(!report.exact);
    assert!(
        report.notes[0].starts_with("NEW holds 1 of 2 stacks"),
        "{:?}",
        report.notes
    );
}

#[test]
fn text_of_a_difference() {
    assert_eq!(
        written(
            "text",
            &compare(&leak(), &later(), ["old.json", "new.json"])
        ),
        "\
OLD  old.json: leak (pid 4711, /usr/bin/leak), traced for 9.8 s
NEW  new.json: leak (pid 99, /usr/bin/leak), traced for 9.8 s
Exact: every allocation was seen in both.

Outstanding  +3.52 MiB: 3.52 MiB in 10 blocks before, 7.04 MiB in 19 blocks after
Stacks       1 new, 1 grown, 0 shrunk, 1 gone, 0 unchanged

#1   +3.52 MiB (3.52 MiB in 9 → 7.03 MiB in 18 blocks)
     by malloc
      operator new(unsigned long)  [libc.so.6]
      shop::grow(int) (inlined)    /src/leak.cpp:15
      main                         /src/leak.cpp:23
      libc.so.6+0x27249
      0x1

#2   +9 KiB (new, in 1 mapping)
     by mmap
      other  /src/leak.cpp:5

#3   -4 KiB (gone, was in 1 mapping)
     by mmap
      main  /src/leak.cpp:31
"
    );
}

#[test]
fn graphs_of_a_difference() {
    let report = compare(&leak(), &later(), ["old.json", "new.json"]);
    assert_eq!(
        written("folded", &report),
        "0x1;libc.so.6+0x27249;main;shop::grow(int)_[i];operator new(unsigned long) 3686400 7372800\n\
         [truncated];main 4096 0\n\
         [truncated];other 0 9216\n"
    );
    let svg = written("svg", &report);
    for said in [
        "Outstanding 7.04 MiB, +3.52 MiB since old.json",
        "gone and not drawn: 4 KiB",
        "operator new(unsigned long) (7,372,800 bytes, 99.88%; +49.94%)",
    ] {
        assert!(svg.contains(said), "{said} is not in {svg}");
    }
    let mut absurd = later();
    absurd.stacks[0].bytes = u64::MAX;
    absurd.stacks[1].bytes = u64::MAX;
    absurd.totals.outstanding_bytes = u64::MAX;
    for report in [
        compare(&absurd, &leak(), ["", ""]),
        compare(&leak(), &absurd, ["", ""]),
    ] {
        for format in DiffReport::FORMATS {
            assert!(!written(format.name, &report).is_empty());
        }
    }
}

#[test]
fn json_of_a_difference_is_read_back() {
    let report = compare(&leak(), &later(), ["old.json", "new.json"]);
    let text = written("json", &report);
    assert_eq!(serde_json::from_str::<DiffReport>(&text).unwrap(), report);
    assert!(text.contains("\"schema\": \"memtrace.diff.v1\""), "{text}");
}
