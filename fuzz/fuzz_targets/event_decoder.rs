//! Any bytes as a batch of records, into the state machine, to a report.
#![no_main]
use libfuzzer_sys::fuzz_target;
use memtrace::capture::Shown;
use memtrace::event::Batch;
use memtrace::process::{Modules, Target};
use memtrace::report::assemble;
use memtrace::symbol::{self, Symbolizer};
use memtrace::trace::{Losses, Process, Trace};
use memtrace_fuzz::{provide, seeds};

fuzz_target!(
    init: provide("event_decoder", &seeds::events()),
    |data: &[u8]| {
        let Some((&sampling, records)) = data.split_first() else {
            return;
        };
        // 0 or a mean of up to 4 GiB.
        let mut trace = Trace::new(match sampling % 33 {
            0 => 0,
            shift => 1 << shift,
        });
        let target = Target {
            pid: 7,
            comm: "it".to_owned(),
            exe: "/bin/it".into(),
            ..Target::default()
        };
        let mut process = Process::new(target, None, Modules::default());
        let batch = Batch::from_bytes(records.to_vec().into());
        let mut before = 0;
        for (end, record) in batch.records() {
            assert!(before < end && end <= batch.len(), "{before} {end}");
            before = end;
            trace.apply(record, |pid| (pid == 7).then_some(&mut process));
        }
        let facts = trace.facts(&[&process], trace.latest_ns, &Losses::default());
        let mut symbolizer = Symbolizer::new(symbol::Options::default());
        let report = assemble::heap(&facts, &Shown::default().choice(10), &mut symbolizer);
        let totals = report.totals;
        // Sums that are no program's stop at the largest number.
        let small = [totals.allocated_bytes, totals.freed_bytes, totals.outstanding_bytes]
            .iter()
            .all(|bytes| *bytes < u64::MAX / 4);
        if small && sampling % 33 == 0 {
            assert_eq!(
                totals.allocated_bytes - totals.freed_bytes,
                totals.outstanding_bytes,
                "{totals:?}"
            );
            assert_eq!(
                totals.allocated_count - totals.freed_count,
                totals.outstanding_count,
                "{totals:?}"
            );
        }
    }
);
