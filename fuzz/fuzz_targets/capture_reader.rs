//! Any bytes as a capture, to a report in every format. Checksums are not
//! looked at in this build.
#![no_main]
use libfuzzer_sys::fuzz_target;
use memtrace::capture::Replay;
use memtrace::report::heap::HeapReport;
use memtrace::report::{Document, Style};
use memtrace::symbol::Options;
use memtrace_fuzz::{provide, seeds};

fuzz_target!(
    init: provide("capture_reader", &seeds::captures()),
    |data: &[u8]| {
        let options = Options {
            debug_dirs: Vec::new(),
            debug_info: false,
        };
        let Ok(mut replay) = Replay::read(data, options) else {
            return;
        };
        let choice = replay.start.shown.choice(10);
        let report = replay.report(&choice);
        assert!(!report.exact || replay.ends_early().is_none());
        for format in HeapReport::FORMATS {
            let mut out = Vec::new();
            for style in [Style::default(), Style::terminal(40)] {
                (format.render)(&report, &style, &mut out).expect("memory takes everything");
            }
        }
    }
);
