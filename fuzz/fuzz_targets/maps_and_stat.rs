//! Any bytes as the files of `/proc/PID` that a process has a say in.
#![no_main]
use libfuzzer_sys::fuzz_target;
use memtrace::process::fuzzing;
use memtrace_fuzz::{provide, seeds};

fuzz_target!(
    init: provide("maps_and_stat", &seeds::proc_files()),
    |data: &[u8]| fuzzing::parse(data)
);
