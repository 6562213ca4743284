//! Golden tests of the renderers for programs, the keys of the document, and the
//! reports that all renderers are tested with.
use super::heap::{
    AgeClass, Environment, Frame, HeapReport, Kind, Module, Moment, Process, SCHEMA, SizeClass,
    Stack, Totals,
};
use super::*;
use serde_json::Value;

const SECOND: u64 = 1_000_000_000;

pub(super) fn written(format: &str, report: &HeapReport, style: &Style) -> String {
    let mut out = Vec::new();
    (HeapReport::format(format).unwrap().render)(report, style, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn process(pid: u32, comm: &str) -> Process {
    Process {
        pid,
        namespace_pid: None,
        parent: None,
        comm: comm.into(),
        exe: format!("/usr/bin/{comm}"),
        exited: false,
        allocators: vec!["libc.so.6: malloc, free".into()],
    }
}

pub(super) fn source(symbol: &str, file: &str, line: u32, inlined: bool) -> Frame {
    Frame {
        ip: "0x55d0c0de1234".into(),
        symbol: Some(symbol.into()),
        module: Some("/usr/bin/leak".into()),
        offset: Some("0x1234".into()),
        file: Some(file.into()),
        line: Some(line),
        inlined,
    }
}

fn library(symbol: Option<&str>) -> Frame {
    Frame {
        ip: "0x7f00deadbeef".into(),
        symbol: symbol.map(Into::into),
        module: Some("/usr/lib/x86_64-linux-gnu/libc.so.6".into()),
        offset: Some("0x27249".into()),
        ..Frame::default()
    }
}

fn unknown() -> Frame {
    Frame {
        ip: "0x7f0012345678".into(),
        ..Frame::default()
    }
}

fn moment(time_ns: u64, bytes: u64, count: u64) -> Moment {
    Moment {
        time_ns,
        bytes,
        count,
        peak_bytes: bytes,
    }
}

/// The leaking program of the seed.
pub(crate) fn leak() -> HeapReport {
    let mut report = HeapReport {
        schema: SCHEMA.into(),
        duration_ns: 9_800_000_000,
        exact: true,
        lost_events: 0,
        sample_bytes: 0,
        notes: vec![],
        processes: vec![process(4711, "leak")],
        totals: Totals {
            outstanding_bytes: 3_690_496,
            outstanding_count: 10,
            outstanding_mapping_bytes: 4096,
            allocated_bytes: 3_764_224,
            allocated_count: 1_234,
            freed_bytes: 73_728,
            freed_count: 1_224,
            unmatched_frees: 12,
            doubtful_bytes: 0,
            doubtful_count: 0,
        },
        stacks_total: 2,
        stacks: vec![
            Stack {
                pid: 4711,
                kind: Kind::Heap,
                function: "malloc".into(),
                bytes: 3_686_400,
                count: 9,
                allocated_bytes: 3_686_400,
                allocated_count: 9,
                doubtful_bytes: 0,
                doubtful_count: 0,
                oldest_ns: 8_800_000_000,
                newest_ns: 800_000_000,
                ages: Vec::new(),
                truncated: false,
                frames: vec![
                    library(Some("operator new(unsigned long)")),
                    source("shop::grow(int)", "/src/leak.cpp", 12, true),
                    source("main", "/src/leak.cpp", 20, false),
                    library(None),
                    unknown(),
                ],
            },
            Stack {
                pid: 4711,
                kind: Kind::Mapping,
                function: "mmap".into(),
                bytes: 4096,
                count: 1,
                allocated_bytes: 8192,
                allocated_count: 2,
                doubtful_bytes: 0,
                doubtful_count: 0,
                oldest_ns: 5 * SECOND,
                newest_ns: 5 * SECOND,
                ages: Vec::new(),
                truncated: true,
                frames: vec![source("main", "/src/leak.cpp", 31, false)],
            },
        ],
        environment: None,
        timeline: vec![],
        ages: vec![],
        sizes: vec![],
        modules: vec![],
        heap_walk: vec![],
    };
    surround(&mut report);
    report
}

/// What there is besides stacks.
fn surround(report: &mut HeapReport) {
    report.environment = Some(Environment {
        memtrace: "0.1.0".into(),
        kernel: "6.1.0-18-amd64".into(),
        architecture: "x86_64".into(),
        mechanism: Some("uprobe-multi links".into()),
        began_unix_ns: 1_764_000_000_000_000_000,
    });
    report.timeline = vec![
        moment(1_000_000_000, 409_600, 1),
        moment(9_000_000_000, 3_690_496, 10),
    ];
    report.ages = vec![
        AgeClass {
            min_ns: 100_000_000,
            max_ns: SECOND - 1,
            bytes: 409_600,
            count: 1,
        },
        AgeClass {
            min_ns: SECOND,
            max_ns: 10 * SECOND - 1,
            bytes: 3_280_896,
            count: 9,
        },
    ];
    report.sizes = vec![SizeClass {
        min: 262_144,
        max: 524_287,
        bytes: 3_686_400,
        count: 9,
    }];
    report.modules = vec![
        Module {
            path: "/usr/bin/leak".into(),
            build_id: Some("00112233445566778899".into()),
            code_vaddr: Some("0x1000".into()),
            code_offset: Some(0x1000),
            code_size: Some(0x2345),
        },
        Module {
            path: "/usr/lib/x86_64-linux-gnu/libc.so.6".into(),
            ..Module::default()
        },
    ];
}

pub(super) fn several() -> HeapReport {
    let mut report = leak();
    report.exact = false;
    report.lost_events = 312;
    report.notes = vec!["events: 312 lost because the ring buffer was full".into()];
    report.processes.push(Process {
        exited: true,
        exe: String::new(),
        ..process(4712, "worker")
    });
    report.stacks[1].pid = 4712;
    report.stacks[1].frames.clear();
    report.stacks[1].truncated = false;
    report
}

#[test]
fn folded_stacks() {
    let mut report = several();
    report.stacks[1].frames = vec![
        source("a;b\n c", "f", 1, false),
        source("weird 12", "f", 1, false),
    ];
    report.stacks[1].truncated = true;
    // The same frames once more, by another function.
    report.stacks.push(report.stacks[1].clone());
    report.stacks[2].frames[0].symbol = Some("a:b c".into());
    let mut freed = report.stacks[0].clone();
    freed.bytes = 0;
    report.stacks.push(freed);
    assert_eq!(
        written("folded", &report, &Style::default()),
        "leak-4711;0x7f0012345678;libc.so.6+0x27249;main;shop::grow(int)_[i];\
         operator new(unsigned long) 3686400\n\
         worker-4712;[truncated];weird_12;a:b c 8192\n"
    );
    report.processes.truncate(1);
    report.stacks.truncate(1);
    report.stacks[0].frames.clear();
    assert_eq!(
        written("folded", &report, &Style::default()),
        "[unknown] 3686400\n"
    );
}

#[test]
fn json_has_the_keys_of_the_contract() {
    let report = leak();
    let text = written("json", &report, &Style::default());
    assert!(text.ends_with("}\n"));
    let value: Value = serde_json::from_str(&text).unwrap();
    let has = |value: &Value, keys: &str| {
        for key in keys.split_whitespace() {
            assert!(value.get(key).is_some(), "{key} is missing");
        }
    };
    has(
        &value,
        "schema duration_ns exact lost_events sample_bytes processes totals stacks",
    );
    has(&value["processes"][0], "pid comm exe exited");
    has(
        &value["totals"],
        "outstanding_bytes outstanding_count allocated_bytes allocated_count \
         freed_bytes freed_count unmatched_frees",
    );
    has(
        &value["stacks"][0],
        "pid kind function bytes count allocated_bytes allocated_count oldest_ns newest_ns \
         truncated frames",
    );
    for frame in value["stacks"][0]["frames"].as_array().unwrap() {
        has(frame, "ip symbol module offset file line inlined");
    }
    assert_eq!(value["schema"], "memtrace.heap.v1");
    assert_eq!(value["exact"], Value::Bool(true));
    assert_eq!(value["stacks"][0]["kind"], "heap");
    assert_eq!(value["stacks"][1]["kind"], "mapping");
    assert_eq!(value["stacks"][0]["frames"][4]["symbol"], Value::Null);
    assert_eq!(value["stacks"][0]["frames"][0]["ip"], "0x7f00deadbeef");
    assert_eq!(serde_json::from_str::<HeapReport>(&text).unwrap(), report);
}

#[test]
fn formats_are_found_by_name() {
    for known in HeapReport::FORMATS {
        assert_eq!(
            HeapReport::format(known.name).unwrap().extension,
            known.extension
        );
        let mut out = Vec::new();
        (known.render)(&leak(), &Style::terminal(80), &mut out).unwrap();
        assert!(!out.is_empty());
    }
    assert!(HeapReport::format("pdf").is_none());
}

#[test]
fn json_of_the_contract_alone_is_read() {
    let text = written("json", &leak(), &Style::default());
    let mut value: Value = serde_json::from_str(&text).unwrap();
    let object = value.as_object_mut().unwrap();
    object.remove("notes");
    for key in [
        "stacks_total",
        "environment",
        "timeline",
        "ages",
        "sizes",
        "modules",
    ] {
        object.remove(key);
    }
    object.insert("more".into(), Value::Null);
    let totals = value["totals"].as_object_mut().unwrap();
    totals.remove("outstanding_mapping_bytes");
    let process = value["processes"][0].as_object_mut().unwrap();
    process.remove("allocators");
    let report: HeapReport = serde_json::from_value(value).unwrap();
    assert_eq!(report.stacks, leak().stacks);
    for format in HeapReport::FORMATS {
        let mut out = Vec::new();
        (format.render)(&report, &Style::default(), &mut out).unwrap();
        assert!(!out.is_empty());
    }
}
