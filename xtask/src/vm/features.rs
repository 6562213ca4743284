//! The features that depend on the kernel, each with the integration test that
//! checks it; how a guest runs these tests, and what it says about them.
use super::contents::TESTS;
use std::fmt::Write as _;

pub(crate) struct Feature {
    /// The table's column.
    pub(crate) title: &'static str,
    executable: &'static str,
    pub(crate) test: &'static str,
}

/// What the kernel has a part in: probes, filters, stacks, events of processes,
/// what is left when memtrace is gone, and what other reports read and hook.
pub(crate) const FEATURES: &[Feature] = &[
    Feature {
        title: "by pid",
        executable: "heap",
        test: "seed_leak_by_pid",
    },
    Feature {
        title: "every function, to the byte",
        executable: "heap",
        test: "every_function_with_four_threads",
    },
    Feature {
        title: "no frame pointers",
        executable: "stacks",
        test: "call_chains_without_frame_pointers",
    },
    Feature {
        title: "`dlopen`",
        executable: "stacks",
        test: "library_loaded_late",
    },
    Feature {
        title: "two processes",
        executable: "heap",
        test: "two_processes_at_once",
    },
    Feature {
        title: "fork",
        executable: "heap",
        test: "forked_child_frees_its_own",
    },
    Feature {
        title: "exec",
        executable: "lifecycle",
        test: "exec_forgets_everything",
    },
    Feature {
        title: "exit",
        executable: "lifecycle",
        test: "last_report_when_the_target_exits",
    },
    Feature {
        title: "`-- CMD`",
        executable: "lifecycle",
        test: "command_from_its_first_instruction",
    },
    Feature {
        title: "loss is told",
        executable: "loss",
        test: "lost_events_are_told",
    },
    Feature {
        title: "Ctrl-C leaves nothing",
        executable: "heap",
        test: "probes_are_gone_after_the_trace",
    },
    Feature {
        title: "`kill -9` leaves nothing",
        executable: "lifecycle",
        test: "memtrace_killed",
    },
    Feature {
        title: "hidden return addresses",
        executable: "unwind",
        test: "return_addresses_that_another_tracer_hides",
    },
    Feature {
        title: "`growth`: break",
        executable: "growth",
        test: "program_break",
    },
    Feature {
        title: "`growth`: mappings, faults",
        executable: "growth",
        test: "mappings_by_every_mechanism",
    },
    Feature {
        title: "`heap`",
        executable: "heapwalk",
        test: "known_heaps",
    },
    Feature {
        title: "`meminfo`",
        executable: "meminfo",
        test: "this_machine_adds_up",
    },
    Feature {
        title: "`pages`",
        executable: "pages",
        test: "pages_have_kinds",
    },
    Feature {
        title: "`oom`",
        executable: "oom",
        test: "records_outlive_restarts",
    },
    Feature {
        title: "`oom`: every mechanism",
        executable: "oom_mechanisms",
        test: "by_every_mechanism",
    },
];

/// How long a test may take in an emulated machine: about twice what the slowest does.
const TEST_SECONDS: u32 = 180;

/// What the guest prints around each test's output.
const STARTS: &str = "@@ test ";
const ENDS: &str = "@@ status ";
const RELEASE: &str = "@@ release ";

/// What became of a feature on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Works,
    Fails,
    /// The guest ended, or its time, before the test did.
    Died,
    NotReached,
}

/// One test after the other; each in a process of its own, so that one that hangs
/// or dies takes no other along.
pub(crate) fn script(features: &[Feature]) -> String {
    let mut script = format!("export MEMTRACE_FORBID_SKIP=1\necho \"{RELEASE}$(uname -r)\"\n");
    for feature in features {
        let Feature {
            executable, test, ..
        } = feature;
        let _ = write!(
            script,
            "echo \"{STARTS}{test}\"\n\
             timeout -s KILL {TEST_SECONDS} {TESTS}/{executable} --exact {test} --nocapture\n\
             echo \"{ENDS}$?\"\n"
        );
    }
    script
}

/// The kernel's own name.
pub(crate) fn release(printed: &str) -> Option<&str> {
    let mut lines = printed.lines();
    lines
        .find_map(|line| line.strip_prefix(RELEASE))
        .map(str::trim)
}

/// What each test that has begun printed, and its verdict, in the order of the
/// features.
pub(crate) fn sections(printed: &str) -> impl Iterator<Item = (&str, Verdict)> {
    let sections = printed.split(STARTS).skip(1);
    sections.map(|section| (section, verdict(section)))
}

/// Works only if exactly one test ran, and passed: a test that was renamed passes
/// with none at all.
fn verdict(section: &str) -> Verdict {
    let passed = section.contains("test result: ok. 1 passed; 0 failed; 0 ignored");
    match section.rsplit_once(ENDS) {
        None => Verdict::Died,
        Some((_, status)) if status.trim() == "0" && passed => Verdict::Works,
        Some(_) => Verdict::Fails,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: &str =
        "test x ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured";

    #[test]
    fn reads_what_a_guest_prints() {
        let printed = format!(
            "{RELEASE}6.1.0-50-cloud-amd64\r\n\
             {STARTS}a\n{PASSED}\n{ENDS}0\n\
             {STARTS}b\n{PASSED}\n{ENDS}1\n\
             {STARTS}c\ntest c ... "
        );
        assert_eq!(release(&printed), Some("6.1.0-50-cloud-amd64"));
        let found: Vec<_> = sections(&printed).map(|(_, verdict)| verdict).collect();
        assert_eq!(found, [Verdict::Works, Verdict::Fails, Verdict::Died]);
    }

    #[test]
    fn a_test_that_did_not_run_has_not_passed() {
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored";
        assert_eq!(verdict(&format!("x\n{PASSED}\n{ENDS}0\n")), Verdict::Works);
        assert_eq!(verdict(&format!("x\n{none}\n{ENDS}0\n")), Verdict::Fails);
    }
}
