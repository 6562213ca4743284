//! `memtrace oom`: every way to learn about a kill, each by itself.
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use memtrace_tests::group::Group;
use memtrace_tests::recorder::{finding, stop};
use memtrace_tests::target::brief;
use memtrace_tests::{need_root, say, skip, tracer, turn};

/// Each way to learn about a request, without the kernel's log, where the kernel
/// has it: the flags, the order, and the group whose limit it was.
#[test]
fn by_every_mechanism() -> Result<()> {
    let _turn = turn();
    need_root!("by_every_mechanism");
    let Some(group) = Group::make("mechanism")? else {
        skip!("by_every_mechanism", "no memory cgroup can be made here");
    };
    let traceable = fs::read_to_string("/sys/kernel/tracing/available_filter_functions");
    let traceable = traceable.unwrap_or_default();
    let has_kprobes = Path::new("/sys/bus/event_source/devices/kprobe").exists();
    for (mechanism, function, tells_flags) in [
        ("fentry", "oom_kill_process", true),
        ("kprobe", "oom_kill_process", true),
        ("fentry-entry", "out_of_memory", true),
        ("kprobe-entry", "out_of_memory", true),
        ("reclaim", "", false),
        ("mark-victim-classic", "", false),
    ] {
        // Functions are hooked where the kernel can be patched there; the classic
        // tracepoint is found where its file system is mounted.
        let must = mechanism == "reclaim"
            || (mechanism == "mark-victim-classic" && !traceable.is_empty())
            || (has_kprobes && traceable.lines().any(|line| line == function));
        let arguments = ["oom", "-f", "json", "--no-log", "--mechanism", mechanism];
        let mut recorder = tracer::start(&arguments)?;
        let waits = recorder.wait_for("memtrace to say 'waiting'", |line| line.contains("waiting"));
        if waits.is_err() && !must {
            say(&format!("{mechanism}: not on this kernel"));
            continue;
        }
        waits.with_context(|| mechanism.to_owned())?;
        let pid = group.kill()?;
        let records = stop(recorder)?;
        let record = records.iter().find(|record| record["victim"]["pid"] == pid);
        let record = record.with_context(|| format!("{mechanism}: no record"))?;
        let said = || format!("{mechanism}: {}", brief(record));
        ensure!(record["constraint"] == "memcg", "constraint: {}", said());
        // Without the log, the group is found by the victim's task, which the
        // kernel hands over since 6.9, and never to the classic tracepoint.
        if !record["victim"]["uid"].is_null() {
            ensure!(
                record["cgroup"] == group.name.as_str(),
                "cgroup: {}",
                said()
            );
        }
        // Not every kernel's tracepoint of reclaim tells it.
        let order = &record["trigger"]["order"];
        let unknown = mechanism == "reclaim" && order.is_null();
        ensure!(*order == 0 || unknown, "order: {}", said());
        ensure!(finding(record, 0) == "cgroup_limit", "{}", said());
        let flags = record["trigger"]["gfp_flags"].to_string();
        ensure!(!tells_flags || flags.contains("GFP_"), "{}", said());
        // Points are measured by the limit, which the hog fills.
        if function == "oom_kill_process" {
            let score = record["victim"]["oom_score"].as_i64();
            ensure!(score.is_some_and(|score| score >= 500), "{}", said());
        }
    }
    Ok(())
}
