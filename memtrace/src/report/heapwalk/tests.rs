//! The document, its text and its conclusions.
use super::{Arena, HeapWalk, Totals, conclude, text};
use crate::report::Style;

const MIB: u64 = 1 << 20;

/// A main arena with a hole of so many bytes below one block.
fn main_arena(hole: u64) -> Arena {
    let used = MIB;
    serde_json::from_value(serde_json::json!({
        "kind": "main", "address": "0x7f0000001c80", "system_bytes": used + hole + 4096,
        "in_use_bytes": used, "in_use_count": 2, "free_bytes": hole, "free_count": 1, "top_bytes": 4096,
        "overhead_bytes": 0, "largest_free": hole,
        "free_by_size": [{ "class": "large", "min": hole, "max": hole, "count": 1, "bytes": hole }],
        "in_use_by_size": [{ "min": 32, "max": 32, "count": 2, "bytes": used }],
        "fragmentation": 0.9, "trim_bytes": hole,
        "pinned_by": { "address": "0x1010", "size": 32, "releasable_below": hole + 32, "cached": false },
        "holes": [{ "address": "0x800", "size": hole, "blocks_above": 1, "bytes_above": 32 }],
        "consistent": true, "problem": null
    }))
    .unwrap()
}

fn report(arena: Arena) -> HeapWalk {
    let totals = Totals::of(std::slice::from_ref(&arena));
    let findings = conclude::findings(&totals, std::slice::from_ref(&arena));
    let process = super::Process {
        pid: 7,
        comm: "pin\x1bned".to_owned(),
        exe: "/bin/pinned".to_owned(),
    };
    HeapWalk {
        schema: super::SCHEMA.to_owned(),
        process,
        glibc: Some("2.36".to_owned()),
        consistent: arena.consistent,
        stopped_ns: None,
        notes: vec!["a note".to_owned()],
        totals,
        thread_caches: 1,
        mallinfo: super::Mallinfo::default(),
        findings,
        arenas: vec![arena],
    }
}

fn written(report: &HeapWalk) -> String {
    let mut out = Vec::new();
    text::render(report, &Style::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn ids(report: &HeapWalk) -> Vec<&str> {
    report.findings.iter().map(|found| &*found.id).collect()
}

#[test]
fn a_large_hole_below_one_block_is_said() {
    let report = report(main_arena(64 * MIB));
    assert_eq!(ids(&report), ["heap_holes", "heap_pinned"]);
    let text = written(&report);
    for wanted in [
        "(pid 7, /bin/pinned): heap of glibc 2.36\nConsistent: ",
        "Free        64 MiB in 1 block between them (98.4 %)",
        "pinned by the block at 0x1010 (32 B): without it ",
        "hole of 64 MiB at 0x800, below 1 block in use (32 B)",
        "64 MiB cannot return to the system because of 1 block in use above",
        "Note: a note\n",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn a_small_hole_is_not_worth_a_word() {
    assert!(ids(&report(main_arena(MIB))).is_empty());
}

#[test]
fn what_is_not_consistent_begins_with_that() {
    let mut arena = main_arena(MIB);
    arena.consistent = false;
    arena.problem = Some("it moved".to_owned());
    let text = written(&report(arena));
    assert!(text.contains("\nNOT CONSISTENT: it moved.\n"), "{text}");
}
