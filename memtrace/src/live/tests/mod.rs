//! The state machine, fed by hand.
use memtrace_common::{Function, Head, Record, event::*};

mod heap;
mod mapping;

use super::{Filter, Live, Outstanding};

const PID: u32 = 7;

/// A head of thread `tid` at `time_ns`. The kind does not matter here.
fn head(function: Function, tid: u32, time_ns: u64) -> Head {
    Head {
        kind: 0,
        function: function as u16,
        pid: PID,
        tid,
        flags: 0,
        time_ns,
    }
}

fn alloc(address: u64, size: u64, stack: u64) -> Record<'static> {
    alloc_at(address, size, stack, 0)
}

fn alloc_at(address: u64, size: u64, stack: u64, time_ns: u64) -> Record<'static> {
    Record::Alloc(Alloc {
        head: head(Function::Malloc, 1, time_ns),
        address,
        size,
        stack,
    })
}

fn free(address: u64) -> Record<'static> {
    Record::Free(Free {
        head: head(Function::Free, 2, 0),
        address,
    })
}

fn realloc_begin(tid: u32, old: u64) -> Record<'static> {
    Record::ReallocBegin(ReallocBegin {
        head: head(Function::Realloc, tid, 0),
        old,
    })
}

fn realloc_end(tid: u32, old: u64, address: u64, size: u64) -> Record<'static> {
    let head = head(Function::Realloc, tid, 0);
    Record::ReallocEnd(ReallocEnd {
        head,
        old,
        address,
        size,
        stack: 50,
    })
}

fn map(address: u64, length: u64) -> Record<'static> {
    Record::Map(Map {
        head: head(Function::Mmap, 1, 0),
        address,
        length,
        stack: 60,
    })
}

fn unmap(address: u64, length: u64) -> Record<'static> {
    Record::UnmapBegin(UnmapBegin {
        head: head(Function::Munmap, 1, 0),
        address,
        length,
    })
}

fn live(records: &[Record<'static>]) -> Live {
    let mut live = Live::default();
    for record in records {
        live.apply(record);
    }
    live
}

fn all(live: &Live) -> Vec<Outstanding> {
    let mut all = live.snapshot(0, 0, &Filter::default()).sites;
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
                    Record::UnmapFailed(UnmapFailed {
                        head,
                        address,
                        length,
                    })
                }
            };
            live.apply(&record);
            sums(&live);
        }
    }
}
