//! Mappings.
use memtrace_common::{Function, Record, event::*};

use super::*;

#[test]
fn mappings_are_whole_pages() {
    assert_eq!(sums(&live(&[map(0x1000, 5000)])), (8192, 1));
}

#[test]
fn partial_unmaps_cut_and_split() {
    // Ten pages, less the two in the middle, less the first, less all but one.
    let mut live = live(&[map(0x10000, 10 * 4096), unmap(0x14000, 2 * 4096)]);
    assert_eq!(sums(&live), (8 * 4096, 1));
    live.apply(&unmap(0x10000, 4096));
    assert_eq!(sums(&live), (7 * 4096, 1));
    live.apply(&unmap(0x11000, 8 * 4096));
    assert_eq!(sums(&live), (4096, 1));
    live.apply(&unmap(0, 1 << 40));
    assert_eq!(sums(&live), (0, 0));
}

#[test]
fn one_unmap_ends_several_mappings() {
    let live = live(&[
        map(0x1000, 4096),
        map(0x2000, 4096),
        map(0x9000, 4096),
        unmap(0, 0x8000),
    ]);
    assert_eq!(sums(&live), (4096, 1));
}

#[test]
fn a_fixed_mapping_replaces_what_was_there() {
    let live = live(&[map(0x1000, 3 * 4096), map(0x2000, 4096)]);
    assert_eq!(sums(&live), (3 * 4096, 2));
}

#[test]
fn a_failed_unmap_gives_back() {
    let mut live = live(&[map(0x1000, 3 * 4096), unmap(0x2000, 4096)]);
    assert_eq!(sums(&live), (2 * 4096, 1));
    let head = head(Function::Munmap, 1, 0);
    live.apply(&Record::UnmapFailed(UnmapFailed {
        head,
        address: 0x2000,
        length: 4096,
    }));
    assert_eq!(sums(&live), (3 * 4096, 1));
}

#[test]
fn unmapping_what_is_not_known_changes_nothing() {
    let live = live(&[map(0x1000, 4096), unmap(0x9000, 4096)]);
    assert_eq!(sums(&live), (4096, 1));
    assert_eq!(live.totals().unmatched_frees, 0);
}

#[test]
fn remap_moves_grows_fails_and_keeps() {
    let remap = |address, keeps_old| {
        let head = head(Function::Mremap, 1, 0);
        [
            Record::RemapBegin(RemapBegin {
                head,
                old: 0x1000,
                old_length: 4096,
            }),
            Record::RemapEnd(RemapEnd {
                head,
                old: 0x1000,
                old_length: 4096,
                address,
                length: 8192,
                stack: 61,
                keeps_old,
            }),
        ]
    };
    for (address, keeps_old, expected) in [
        (0x9000, 0, (8192, 1)),
        (0x1000, 0, (8192, 1)),
        (0, 0, (4096, 1)),
        (0x9000, 1, (12288, 2)),
    ] {
        let mut live = live(&[map(0x1000, 4096)]);
        for record in remap(address, keeps_old) {
            live.apply(&record);
        }
        assert_eq!(sums(&live), expected, "to {address:#x}");
    }
}

/// No kernel says so; a damaged capture may.
#[test]
fn impossible_mappings_are_gone_at_once() {
    let live = live(&[
        map(0x1000, 4096),
        map(0x1000, 0),
        map(u64::MAX - 100, 4096),
        unmap(0x1000, 0),
    ]);
    assert_eq!(sums(&live), (4096, 1));
}
