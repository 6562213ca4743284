//! Profiles, read back.
use std::io::Read as _;

use flate2::read::GzDecoder;

use super::*;
use crate::report::tests::{leak, several};
use crate::report::{Document as _, Style};

fn written(report: &HeapReport) -> Vec<u8> {
    let mut bytes = Vec::new();
    let format = HeapReport::format("pprof").unwrap();
    (format.render)(report, &Style::default(), &mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Profile {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    Profile::decode(&*plain).unwrap()
}

fn text(profile: &Profile, index: i64) -> &str {
    &profile.string_table[usize::try_from(index).unwrap()]
}

/// The functions of a sample, a location's in one word.
fn stack(profile: &Profile, sample: usize) -> Vec<String> {
    let locations = profile.sample[sample].location_id.iter();
    let location = |id: &u64| &profile.location[usize::try_from(*id).unwrap() - 1];
    let name = |line: &Line| {
        let function = &profile.function[usize::try_from(line.function_id).unwrap() - 1];
        let file = text(profile, function.filename);
        format!("{} {file}:{}", text(profile, function.name), line.line)
    };
    let names = |location: &Location| {
        location
            .line
            .iter()
            .map(name)
            .collect::<Vec<_>>()
            .join(" < ")
    };
    locations.map(|id| names(location(id))).collect()
}

#[test]
fn a_profile_holds_the_report() {
    let bytes = written(&leak());
    assert_eq!(bytes, written(&leak()), "the same report, the same bytes");
    let profile = read(&bytes);
    assert_eq!(profile.string_table[0], "");
    let types: Vec<_> = profile
        .sample_type
        .iter()
        .map(|value| (text(&profile, value.kind), text(&profile, value.unit)))
        .collect();
    assert_eq!(
        types,
        [
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes")
        ]
    );
    assert_eq!(text(&profile, profile.default_sample_type), "inuse_space");
    assert_eq!(profile.sample[0].value, [9, 3_686_400, 9, 3_686_400]);
    assert_eq!(profile.sample[1].value, [2, 8192, 1, 4096]);
    assert_eq!(profile.duration_nanos, 9_800_000_000);
    assert_eq!(profile.time_nanos, 1_764_000_009_800_000_000);
    assert_eq!(
        stack(&profile, 0),
        [
            "operator new(unsigned long) :0",
            "shop::grow(int) /src/leak.cpp:12 < main /src/leak.cpp:20",
            "libc.so.6+0x27249 :0",
            "0x7f0012345678 :0",
        ]
    );
    let labels: Vec<_> = profile.sample[1]
        .label
        .iter()
        .map(|label| {
            (
                text(&profile, label.key),
                text(&profile, label.str),
                label.num,
            )
        })
        .collect();
    assert_eq!(
        labels,
        [
            ("kind", "mapping", 0),
            ("allocator", "mmap", 0),
            ("pid", "", 4711)
        ]
    );
}

#[test]
fn mappings_lie_where_their_code_is() {
    let profile = read(&written(&leak()));
    let [program, library] = profile.mapping[..] else {
        panic!("{:?}", profile.mapping)
    };
    assert_eq!(text(&profile, program.filename), "/usr/bin/leak");
    assert_eq!(text(&profile, program.build_id), "00112233445566778899");
    assert_eq!(
        (
            program.memory_start,
            program.memory_limit,
            program.file_offset
        ),
        (0x1000, 0x4000, 0x1000)
    );
    assert_eq!(text(&profile, library.build_id), "");
    let mappings: Vec<_> = profile
        .location
        .iter()
        .map(|location| location.mapping_id)
        .collect();
    assert_eq!(mappings, [2, 1, 2, 0, 1]);
    assert_eq!(profile.location[1].address, 0x1233);
    assert_eq!(profile.location[3].address, 0x7f00_1234_5677);
}

#[test]
fn reports_without_modules_have_mappings() {
    let mut report = several();
    report.modules.clear();
    report.environment = None;
    report.stacks[0].bytes = u64::MAX;
    report.stacks[0].frames[0].offset = Some("rubbish".into());
    // Inlined into nothing.
    report.stacks[0].frames[4].inlined = true;
    let profile = read(&written(&report));
    assert_eq!(profile.mapping.len(), 2);
    assert_eq!(profile.sample[0].value[3], i64::MAX);
    assert_eq!(profile.sample[0].location_id.len(), 4);
    assert!(profile.sample[1].location_id.is_empty());
    let comments: Vec<_> = profile
        .comment
        .iter()
        .map(|index| text(&profile, *index))
        .collect();
    assert_eq!(comments[0], "memtrace: outstanding allocations, NOT EXACT");
    assert_eq!(comments[1], "events lost: 312");
}
