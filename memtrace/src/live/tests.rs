//! The state machine, fed by hand.
use memtrace_common::{Function, Head, Record, event::*};

use super::{Filter, Live, Outstanding};

const PID: u32 = 7;

/// A head of thread `tid` at `time_ns`. The kind does not matter here.
fn head(function: Function, tid: u32, time_ns: u64) -> Head {
    Head { kind: 0, function: function as u16, pid: PID, tid, flags: 0, time_ns }
}

fn alloc(address: u64, size: u64, stack: u64) -> Record<'static> {
    alloc_at(address, size, stack, 0)
}

fn alloc_at(address: u64, size: u64, stack: u64, time_ns: u64) -> Record<'static> {
    Record::Alloc(Alloc { head: head(Function::Malloc, 1, time_ns), address, size, stack })
}

fn free(address: u64) -> Record<'static> {
    Record::Free(Free { head: head(Function::Free, 2, 0), address })
}

fn realloc_begin(tid: u32, old: u64) -> Record<'static> {
    Record::ReallocBegin(ReallocBegin { head: head(Function::Realloc, tid, 0), old })
}

fn realloc_end(tid: u32, old: u64, address: u64, size: u64) -> Record<'static> {
    let head = head(Function::Realloc, tid, 0);
    Record::ReallocEnd(ReallocEnd { head, old, address, size, stack: 50 })
}

fn map(address: u64, length: u64) -> Record<'static> {
    Record::Map(Map { head: head(Function::Mmap, 1, 0), address, length, stack: 60 })
}

fn unmap(address: u64, length: u64) -> Record<'static> {
    Record::UnmapBegin(UnmapBegin { head: head(Function::Munmap, 1, 0), address, length })
}

fn live(records: &[Record<'static>]) -> Live {
    let mut live = Live::default();
    for record in records {
        live.apply(record);
    }
    live
}

fn all(live: &Live) -> Vec<Outstanding> {
    let mut all = live.snapshot(0, &Filter::default());
    all.sort_by_key(|site| site.site.key.stack);
    all
}

/// Outstanding (bytes, count), and that the totals say the same.
fn sums(live: &Live) -> (u64, u64) {
    let all = all(live);
    let bytes = all.iter().map(|site| site.bytes).sum();
    let count = all.iter().map(|site| site.count).sum();
    let totals = live.totals();
    assert_eq!(bytes, totals.allocated_bytes - totals.freed_bytes);
    assert_eq!(count, totals.allocated_count - totals.freed_count);
    (bytes, count)
}

#[test]
fn blocks_are_outstanding_until_freed_by_any_thread() {
    let live = live(&[alloc(0x10, 100, 1), alloc(0x20, 50, 1), alloc(0x30, 7, 2), free(0x20)]);
    let [first, second] = all(&live)[..] else { panic!("two sites") };
    assert_eq!((first.bytes, first.count, first.site.allocated_count), (100, 1, 2));
    assert_eq!((second.bytes, second.count), (7, 1));
    assert_eq!(sums(&live), (107, 2));
}

#[test]
fn blocks_from_before_are_unmatched_and_change_nothing() {
    let live = live(&[free(0x99), alloc(0x10, 1, 1)]);
    assert_eq!(live.totals().unmatched_frees, 1);
    assert_eq!(sums(&live), (1, 1));
}

#[test]
fn zero_sized_blocks_count() {
    assert_eq!(sums(&live(&[alloc(0x10, 0, 1)])), (0, 1));
}

#[test]
fn realloc_moves_the_block_to_its_own_site() {
    let live = live(&[alloc(0x10, 100, 1), realloc_begin(1, 0x10), realloc_end(1, 0x10, 0x80, 300)]);
    assert_eq!(all(&live)[0].site.key.stack, 50);
    assert_eq!(sums(&live), (300, 1));
}

/// memleak drops the old block before it knows whether the call succeeded.
#[test]
fn a_failed_realloc_leaves_the_old_block() {
    let live = live(&[alloc(0x10, 100, 1), realloc_begin(1, 0x10), realloc_end(1, 0x10, 0, 1 << 60)]);
    assert_eq!(all(&live)[0].site.key.stack, 1);
    assert_eq!(sums(&live), (100, 1));
}

#[test]
fn realloc_to_nothing_frees() {
    let live = live(&[alloc(0x10, 100, 1), realloc_begin(1, 0x10), realloc_end(1, 0x10, 0, 0)]);
    assert_eq!(sums(&live), (0, 0));
}

#[test]
fn realloc_of_nothing_allocates() {
    assert_eq!(sums(&live(&[realloc_end(1, 0, 0x10, 40)])), (40, 1));
}

#[test]
fn a_block_counts_while_it_is_being_reallocated() {
    assert_eq!(sums(&live(&[alloc(0x10, 100, 1), realloc_begin(1, 0x10)])), (100, 1));
}

/// Another thread gets the old address before realloc's return event.
#[test]
fn realloc_does_not_take_the_next_owners_block() {
    let live = live(&[
        alloc(0x10, 100, 1),
        realloc_begin(1, 0x10),
        alloc(0x10, 33, 2),
        realloc_end(1, 0x10, 0x80, 200),
    ]);
    assert_eq!(sums(&live), (233, 2));
    assert_eq!(live.totals().reused_addresses, 0);
}

#[test]
fn two_threads_reallocate_at_once() {
    let live = live(&[
        alloc(0x10, 1, 1),
        alloc(0x20, 2, 1),
        realloc_begin(1, 0x10),
        realloc_begin(2, 0x20),
        realloc_end(2, 0x20, 0x10, 20),
        realloc_end(1, 0x10, 0x20, 10),
    ]);
    assert_eq!(sums(&live), (30, 2));
}

#[test]
fn an_address_handed_out_again_proves_a_lost_free() {
    let live = live(&[alloc(0x10, 100, 1), alloc(0x10, 5, 2)]);
    assert_eq!(live.totals().reused_addresses, 1);
    assert_eq!(sums(&live), (5, 1));
}

#[test]
fn processes_do_not_share_addresses() {
    let mut live = live(&[alloc(0x10, 100, 1)]);
    let mut other = head(Function::Free, 9, 0);
    other.pid = PID + 1;
    live.apply(&Record::Free(Free { head: other, address: 0x10 }));
    assert_eq!(sums(&live), (100, 1));
    assert_eq!(live.totals().unmatched_frees, 1);
}

#[test]
fn exec_ends_everything_of_its_process() {
    let mut live = live(&[alloc(0x10, 100, 1), map(0x1000, 8192)]);
    live.apply(&Record::Exec(Exec { head: head(Function::Malloc, 1, 0) }));
    assert_eq!(sums(&live), (0, 0));
}

#[test]
fn ages_and_filters() {
    let second = 1_000_000_000;
    let live = live(&[
        alloc_at(0x10, 10, 1, second),
        alloc_at(0x20, 1000, 1, 3 * second),
        alloc_at(0x30, 100, 1, 5 * second),
    ]);
    let now = 7 * second;
    let [site] = live.snapshot(now, &Filter::default())[..] else { panic!("one site") };
    // Blocks remember their birth to about a millisecond.
    assert!(site.oldest_ns.abs_diff(6 * second) < 3_000_000);
    assert!(site.newest_ns.abs_diff(2 * second) < 3_000_000);
    let filter = Filter { older_than_ns: 3 * second, ..Filter::default() };
    let [site] = live.snapshot(now, &filter)[..] else { panic!("one site") };
    assert_eq!((site.bytes, site.count), (1010, 2));
    let filter = Filter { min_size: 11, max_size: 100, ..Filter::default() };
    let [site] = live.snapshot(now, &filter)[..] else { panic!("one site") };
    assert_eq!((site.bytes, site.count), (100, 1));
    let none = Filter { min_size: 1 << 30, ..Filter::default() };
    assert!(live.snapshot(now, &none).is_empty());
}

#[test]
fn ages_are_right_on_machines_that_run_for_years() {
    let year = 365 * 86_400 * 1_000_000_000;
    let live = live(&[alloc_at(0x10, 1, 1, year)]);
    let [site] = live.snapshot(year + 5_000_000_000, &Filter::default())[..] else { panic!("one") };
    assert!(site.oldest_ns.abs_diff(5_000_000_000) < 3_000_000);
}

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
    let live = live(&[map(0x1000, 4096), map(0x2000, 4096), map(0x9000, 4096), unmap(0, 0x8000)]);
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
    live.apply(&Record::UnmapFailed(UnmapFailed { head, address: 0x2000, length: 4096 }));
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
            Record::RemapBegin(RemapBegin { head, old: 0x1000, old_length: 4096 }),
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
    for (address, keeps_old, expected) in
        [(0x9000, 0, (8192, 1)), (0x1000, 0, (8192, 1)), (0, 0, (4096, 1)), (0x9000, 1, (12288, 2))]
    {
        let mut live = live(&[map(0x1000, 4096)]);
        remap(address, keeps_old).iter().for_each(|record| live.apply(record));
        assert_eq!(sums(&live), expected, "to {address:#x}");
    }
}

/// Any order of events: nothing panics, nothing goes below zero, and the sums
/// agree with the rows.
#[test]
fn random_histories_stay_consistent() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..200 {
        let mut live = Live::default();
        for _ in 0..300 {
            let address = 0x1000 * (1 + random(24));
            let length = 4096 * (1 + random(6));
            let tid = u32::try_from(random(3)).unwrap();
            let record = match random(9) {
                0 | 1 => alloc(address, length, random(4)),
                2 => free(address),
                3 => realloc_begin(tid, address),
                4 => realloc_end(tid, address, 0x1000 * random(24), random(2) * length),
                5 | 6 => map(address, length),
                7 => unmap(address, length),
                _ => {
                    let head = head(Function::Munmap, 1, 0);
                    Record::UnmapFailed(UnmapFailed { head, address, length })
                }
            };
            live.apply(&record);
            sums(&live);
        }
    }
}
