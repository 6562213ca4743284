//! Blocks.
use memtrace_common::{Function, Record, event::*};

use super::*;

#[test]
fn blocks_are_outstanding_until_freed_by_any_thread() {
    let live = live(&[
        alloc(0x10, 100, 1),
        alloc(0x20, 50, 1),
        alloc(0x30, 7, 2),
        free(0x20),
    ]);
    let [first, second] = all(&live)[..] else {
        panic!("two sites")
    };
    assert_eq!(
        (first.bytes, first.count, first.site.allocated_count),
        (100, 1, 2)
    );
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
    let live = live(&[
        alloc(0x10, 100, 1),
        realloc_begin(1, 0x10),
        realloc_end(1, 0x10, 0x80, 300),
    ]);
    assert_eq!(all(&live)[0].site.key.stack, 50);
    assert_eq!(sums(&live), (300, 1));
}

/// memleak drops the old block before it knows whether the call succeeded.
#[test]
fn a_failed_realloc_leaves_the_old_block() {
    let live = live(&[
        alloc(0x10, 100, 1),
        realloc_begin(1, 0x10),
        realloc_end(1, 0x10, 0, 1 << 60),
    ]);
    assert_eq!(all(&live)[0].site.key.stack, 1);
    assert_eq!(sums(&live), (100, 1));
}

#[test]
fn realloc_to_nothing_frees() {
    let live = live(&[
        alloc(0x10, 100, 1),
        realloc_begin(1, 0x10),
        realloc_end(1, 0x10, 0, 0),
    ]);
    assert_eq!(sums(&live), (0, 0));
}

#[test]
fn realloc_of_nothing_allocates() {
    assert_eq!(sums(&live(&[realloc_end(1, 0, 0x10, 40)])), (40, 1));
}

#[test]
fn a_block_counts_while_it_is_being_reallocated() {
    assert_eq!(
        sums(&live(&[alloc(0x10, 100, 1), realloc_begin(1, 0x10)])),
        (100, 1)
    );
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
    live.apply(&Record::Free(Free {
        head: other,
        address: 0x10,
    }));
    assert_eq!(sums(&live), (100, 1));
    assert_eq!(live.totals().unmatched_frees, 1);
}

#[test]
fn exec_ends_everything_of_its_process() {
    let mut live = live(&[alloc(0x10, 100, 1), map(0x1000, 8192)]);
    live.apply(&Record::Exec(Exec {
        head: head(Function::Malloc, 1, 0),
    }));
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
    let [site] = live.snapshot(now, 0, &Filter::default()).sites[..] else {
        panic!("one site")
    };
    // Blocks remember their birth to about a millisecond.
    assert!(site.oldest_ns.abs_diff(6 * second) < 3_000_000);
    assert!(site.newest_ns.abs_diff(2 * second) < 3_000_000);
    // Of one site, and of all: there is one.
    let [class] = site.ages.classes()[..] else {
        panic!("one class: {:?}", site.ages.classes())
    };
    assert_eq!((class.min, class.bytes, class.count), (second, 1110, 3));
    assert_eq!(
        live.snapshot(now, 0, &Filter::default()).ages,
        site.ages.classes()
    );
    let filter = Filter {
        older_than_ns: 3 * second,
        ..Filter::default()
    };
    let [site] = live.snapshot(now, 0, &filter).sites[..] else {
        panic!("one site")
    };
    assert_eq!((site.bytes, site.count), (1010, 2));
    let filter = Filter {
        min_size: 11,
        max_size: 100,
        ..Filter::default()
    };
    let [site] = live.snapshot(now, 0, &filter).sites[..] else {
        panic!("one site")
    };
    assert_eq!((site.bytes, site.count), (100, 1));
    let none = Filter {
        min_size: 1 << 30,
        ..Filter::default()
    };
    assert!(live.snapshot(now, 0, &none).sites.is_empty());
}

#[test]
fn ages_are_right_on_machines_that_run_for_years() {
    let year = 365 * 86_400 * 1_000_000_000;
    let live = live(&[alloc_at(0x10, 1, 1, year)]);
    let [site] = live
        .snapshot(year + 5_000_000_000, 0, &Filter::default())
        .sites[..]
    else {
        panic!("one")
    };
    assert!(site.oldest_ns.abs_diff(5_000_000_000) < 3_000_000);
}

/// No program has that much; a damaged capture may.
#[test]
fn sums_stop_at_the_largest_number() {
    let mut live = live(&[alloc(0x1000, u64::MAX, 1), alloc(0x2000, 100, 1)]);
    assert_eq!(live.totals().allocated_bytes, u64::MAX);
    assert_eq!(all(&live)[0].bytes, u64::MAX);
    live.apply(&free(0x1000));
    live.apply(&free(0x2000));
    assert_eq!(live.totals().freed_bytes, u64::MAX);
}

#[test]
fn a_block_is_found_by_its_address() {
    let live = live(&[
        alloc(0x10, 100, 1),
        alloc(1 << 50, 7, 2),
        alloc(0x30, 9, 3),
        free(0x30),
        alloc(0x40, 11, 4),
        realloc_begin(1, 0x40),
    ]);
    let found = |address| {
        let block = live.block_at(PID, address, 5_000_000_000)?;
        assert!(block.count == 1 && block.oldest_ns == block.newest_ns && block.oldest_ns > 0);
        Some((block.bytes, block.site.key.stack))
    };
    assert_eq!(found(0x10), Some((100, 1)));
    assert_eq!(found(1 << 50), Some((7, 2)), "a wide address");
    assert_eq!(found(0x11), None, "inside a block is not its beginning");
    assert_eq!(found(0x30), None, "freed");
    assert_eq!(found(0x40), Some((11, 4)), "being reallocated");
    assert!(live.block_at(PID + 1, 0x10, 0).is_none());
}

#[test]
fn stacks_that_are_the_same_share_a_site() {
    let mut live = Live::default();
    live.apply(&alloc(0x10, 100, 1));
    live.same_stack(2, 1);
    live.apply(&alloc(0x20, 50, 2));
    live.apply(&alloc(0x30, 7, 2));
    live.apply(&free(0x20));
    let [one] = all(&live)[..] else {
        panic!("one site")
    };
    assert_eq!((one.bytes, one.count, one.site.key.stack), (107, 2, 1));
    assert_eq!(sums(&live), (107, 2));
}
