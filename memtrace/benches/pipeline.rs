//! The stages between the ring buffer and a report, each alone: decoding,
//! accounting, a report; and what unwinding does in user space.
use std::{fs::File, io::sink};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use memtrace::{
    elf::{image::Image, unwind::UnwindTable},
    event::batch::{Batch, BatchBuilder},
    live::{Filter, Live},
    process::{Modules, Target},
    report::{
        Style,
        assemble::{self, Choice, Order},
        text,
    },
    symbol::{Options, Symbolizer},
    trace::{Losses, Process, Trace},
};
use memtrace_common::{
    EventKind, Function,
    event::{Alloc, Free, Head, StackHead},
};
use zerocopy::IntoBytes;

const PID: u32 = 7;
const PAIRS: u64 = 50_000;
const STACKS: u64 = 10_000;

fn head(kind: EventKind, time_ns: u64) -> Head {
    Head {
        kind: kind as u16,
        function: Function::Malloc as u16,
        pid: PID,
        tid: PID,
        flags: 0,
        time_ns,
    }
}

fn alloc(number: u64) -> Alloc {
    Alloc {
        head: head(EventKind::Alloc, number),
        address: 0x7f00_0000_0000 + number * 64,
        size: number % 500,
        stack: number % STACKS + 1,
    }
}

/// Pairs of allocations and frees; a thousand blocks are outstanding at a time.
fn pairs() -> Batch {
    let mut batch = BatchBuilder::default();
    for number in 0..PAIRS {
        batch.push(alloc(number).as_bytes());
        if let Some(old) = number.checked_sub(1000) {
            let free = Free {
                head: head(EventKind::Free, number),
                address: alloc(old).address,
            };
            batch.push(free.as_bytes());
        }
    }
    batch.take()
}

fn events(criterion: &mut Criterion) {
    let batch = pairs();
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(batch.records().count() as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| batch.records().filter(|(_, record)| record.is_ok()).count());
    });
    group.bench_function("decode and account", |bencher| {
        bencher.iter_batched_ref(
            Live::default,
            |live| {
                for (_, record) in batch.records() {
                    if let Ok(record) = record {
                        live.apply(&record);
                    }
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// A block from each of many stacks, 20 frames deep.
fn trace() -> Trace {
    let mut batch = BatchBuilder::default();
    for number in 0..STACKS {
        let start = StackHead {
            head: head(EventKind::Stack, number),
            hash: number + 1,
            depth: 20,
            reserved: 0,
        };
        let frames: Vec<u64> = (0..20).map(|depth| 0x1000 * depth + number).collect();
        batch.push(&[start.as_bytes(), frames.as_bytes()].concat());
        batch.push(alloc(number).as_bytes());
    }
    let mut process = Process::new(Target::default(), None, Modules::default());
    let mut trace = Trace::new(0);
    for (_, record) in batch.take().records() {
        trace.apply(record, |_| Some(&mut process));
    }
    trace
}

fn reports(criterion: &mut Criterion) {
    let trace = trace();
    let choice = Choice {
        filter: Filter::default(),
        order: Order::Bytes,
        top: usize::MAX,
        ended: false,
    };
    let mut group = criterion.benchmark_group("report");
    group.throughput(Throughput::Elements(STACKS));
    group.bench_function("assemble", |bencher| {
        let mut symbolizer = Symbolizer::new(Options::default());
        let losses = Losses::default();
        bencher.iter(|| {
            let facts = trace.facts(&[], trace.latest_ns, &losses);
            assemble::heap(&facts, &choice, &mut symbolizer)
        });
    });
    let mut symbolizer = Symbolizer::new(Options::default());
    let losses = Losses::default();
    let facts = trace.facts(&[], trace.latest_ns, &losses);
    let report = assemble::heap(&facts, &choice, &mut symbolizer);
    group.bench_function("text", |bencher| {
        bencher.iter(|| text::render(&report, &Style::default(), &mut sink()));
    });
    group.finish();
}

fn unwinding(criterion: &mut Criterion) {
    let itself = || File::open("/proc/self/exe").ok();
    let Some(image) = itself().and_then(|file| Image::open(&file).ok()) else {
        return;
    };
    let Ok(table) = UnwindTable::build(&image) else {
        return;
    };
    let rows = table.rows.len();
    criterion.bench_function(
        &format!("unwinding/build a table of {rows} rows"),
        |bencher| {
            bencher.iter(|| UnwindTable::build(&image));
        },
    );
    let last = table.rows.last().map_or(1, |row| row.pc.max(1));
    let mut state = 1_u32;
    criterion.bench_function("unwinding/find a row", |bencher| {
        bencher.iter(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            table.rule_at(state % last)
        });
    });
}

criterion_group!(pipeline, events, reports, unwinding);
criterion_main!(pipeline);
