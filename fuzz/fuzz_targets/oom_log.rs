//! Any bytes as a kernel log: parsed whole and as a stream, and explained.
#![no_main]
use libfuzzer_sys::fuzz_target;
use memtrace::oom::{explain::explain, log};
use memtrace_fuzz::{provide, seeds};

fuzz_target!(
    init: provide("oom_log", &seeds::kernel_logs()),
    |data: &[u8]| {
        let text = String::from_utf8_lossy(data);
        for kill in log::parse(&text, None) {
            explain(&kill);
        }
        let mut stream = log::Stream::default();
        for line in text.lines() {
            stream.record(line);
        }
    }
);
