//! The programs whose stacks are compared, each built in the ways in which frames differ.
use crate::program::{Build, OPTIMIZED};

const TRUTH_O0_FP: &[&str] = &["-std=c++17", "-O0", "-fno-omit-frame-pointer"];
const TRUTH_O0: &[&str] = &["-std=c++17", "-O0", "-fomit-frame-pointer"];
const TRUTH_O2_FP: &[&str] = &["-std=c++17", "-O2", "-fno-omit-frame-pointer"];
const TRUTH_O2: &[&str] = &[
    "-std=c++17",
    "-O2",
    "-fomit-frame-pointer",
    "-maccumulate-outgoing-args",
];
const TRUTH_O3: &[&str] = &[
    "-std=c++17",
    "-O3",
    "-fomit-frame-pointer",
    "-fstack-clash-protection",
    "-fstack-protector-strong",
    "-fcf-protection=full",
];
const TRUTH_OS: &[&str] = &[
    "-std=c++17",
    "-Os",
    "-fomit-frame-pointer",
    "-mstackrealign",
    "-Wl,-z,lazy",
];
const STOPS_FP: &[&str] = &[
    "-O0",
    "-fno-omit-frame-pointer",
    "-Wl,-z,now,--no-as-needed",
    "-lm",
];
const STOPS_O2: &[&str] = &[
    "-O2",
    "-fomit-frame-pointer",
    "-Wl,-z,lazy,--no-as-needed",
    "-lm",
];
const STOPS_CHECKED: &[&str] = &[
    "-O2",
    "-fomit-frame-pointer",
    "-fstack-clash-protection",
    "-fcf-protection=full",
    "-mstackrealign",
    "-Wl,-z,lazy,--no-as-needed",
    "-lm",
];
/// Without `.eh_frame`; the compiler then puts what it knows next to the debugging information.
const DEBUG_FRAME: &[&str] = &[
    "-O2",
    "-fomit-frame-pointer",
    "-fno-asynchronous-unwind-tables",
    "-fno-unwind-tables",
    "-gz=none",
];
/// Its thread-local variable must not need an allocation.
const SHIM: &[&str] = &[
    "-O2",
    "-fno-optimize-sibling-calls",
    "-ftls-model=initial-exec",
    "-shared",
    "-fPIC",
];

/// One row for each way of building one.
pub(crate) const BUILDS: &[Build] = &[
    Build {
        program: "truth_O0_fp",
        source: "truth.cpp",
        compiler: "g++",
        flags: TRUTH_O0_FP,
    },
    Build {
        program: "truth_O0",
        source: "truth.cpp",
        compiler: "g++",
        flags: TRUTH_O0,
    },
    Build {
        program: "truth_O2_fp",
        source: "truth.cpp",
        compiler: "g++",
        flags: TRUTH_O2_FP,
    },
    Build {
        program: "truth_O2",
        source: "truth.cpp",
        compiler: "g++",
        flags: TRUTH_O2,
    },
    Build {
        program: "truth_O3",
        source: "truth.cpp",
        compiler: "g++",
        flags: TRUTH_O3,
    },
    Build {
        program: "truth_Os",
        source: "truth.cpp",
        compiler: "g++",
        flags: TRUTH_OS,
    },
    Build {
        program: "truth_stops_fp",
        source: "truth_stops.c",
        compiler: "gcc",
        flags: STOPS_FP,
    },
    Build {
        program: "truth_stops_O2",
        source: "truth_stops.c",
        compiler: "gcc",
        flags: STOPS_O2,
    },
    Build {
        program: "truth_stops_checked",
        source: "truth_stops.c",
        compiler: "gcc",
        flags: STOPS_CHECKED,
    },
    Build {
        program: "truth_above_fp",
        source: "truth_above.c",
        compiler: "gcc",
        flags: STOPS_FP,
    },
    Build {
        program: "truth_above_O2",
        source: "truth_above.c",
        compiler: "gcc",
        flags: STOPS_O2,
    },
    Build {
        program: "truth_generated",
        source: "truth_generated.c",
        compiler: "gcc",
        flags: OPTIMIZED,
    },
    Build {
        program: "truth_debug_frame",
        source: "truth_generated.c",
        compiler: "gcc",
        flags: DEBUG_FRAME,
    },
    Build {
        program: "libshim.so",
        source: "shim.c",
        compiler: "gcc",
        flags: SHIM,
    },
];
