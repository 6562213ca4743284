//! `memtrace.pages.v1` as a script reads it, and runs over a program that knows what pages it took.
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::check;
use crate::target::{Target, number, text};
use crate::tracer::{self, Outcome};

/// `memtrace pages -f json --top 0 ARGUMENTS…`, attached.
pub fn start(arguments: &[&str]) -> Result<tracer::Running> {
    let mut all = vec!["pages", "-f", "json", "--top", "0"];
    all.extend(arguments);
    let mut tracer = tracer::start(&all)?;
    tracer.wait_attached()?;
    Ok(tracer)
}

/// The report, after a good end.
pub fn document(outcome: &Outcome) -> Result<Value> {
    outcome.document("memtrace.pages.v1")
}

/// Its consumers.
pub fn consumers(report: &Value) -> Result<&Vec<Value>> {
    let consumers = report.get("consumers").and_then(Value::as_array);
    consumers.context("no consumers")
}

/// Pages of all consumers with this value of a key.
pub fn pages(report: &Value, key: &str, value: &str) -> Result<u64> {
    let mut sum = 0;
    for consumer in consumers(report)? {
        if text(consumer, key)? == value {
            sum += number(consumer, "pages")?;
        }
    }
    Ok(sum)
}

/// Whether the kernel lets eBPF see what its bulk allocator hands out, from which kernel stacks come.
pub fn sees_bulk(report: &Value) -> bool {
    !report.to_string().contains("bulk allocator")
}

/// A run over one turn of the program, and what the program did.
pub fn trace(way: &[&str], arguments: &[&str]) -> Result<(Value, Value)> {
    check::leaving_nothing(|| {
        let mut target = Target::start("page_user", way)?;
        let pid = target.pid();
        let shown = pid.to_string();
        let mut all = vec!["--pid", &shown];
        all.extend(arguments);
        let tracer = start(&all)?;
        let did = target.work_for_json()?;
        let report = document(&tracer.stop()?)?;
        target.end()?;
        Ok(((did, report), vec![pid]))
    })
}

/// `memtrace pages`, in a mount namespace of its own that has tracefs, which classic tracepoints need: not everywhere it is
/// mounted.
pub fn with_tracefs() -> Result<Command> {
    let mut command = Command::new("sh");
    let mount =
        "mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null; exec \"$0\" pages \"$@\"";
    if Path::new("/sys/kernel/tracing/events").exists() {
        command.args(["-c", "exec \"$0\" pages \"$@\""]);
    } else {
        command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", mount]);
    }
    command.arg(tracer::binary()?);
    Ok(command)
}
