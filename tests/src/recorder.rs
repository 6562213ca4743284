//! The recorder of `memtrace oom` and its documents.
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::tracer::{self, Outcome, Running};

/// A hundred kills take five seconds here.
const KILLS: Duration = Duration::from_mins(1);

/// The documents on standard output, one a line.
pub fn documents(outcome: &Outcome) -> Result<Vec<Value>> {
    ensure!(outcome.status.success(), "{}", outcome.context());
    let text = std::str::from_utf8(&outcome.stdout)?;
    let documents = text.lines().map(serde_json::from_str);
    Ok(documents.collect::<Result<_, _>>()?)
}

/// The id of a finding of a document.
pub fn finding(document: &Value, number: usize) -> &str {
    document["findings"][number]["id"]
        .as_str()
        .unwrap_or_default()
}

/// The recorder, once it waits.
pub fn record(arguments: &[&str]) -> Result<Running> {
    let mut recorder = tracer::start(&[&["oom", "-f", "json"][..], arguments].concat())?;
    recorder.wait_for("memtrace to say 'waiting'", |line| line.contains("waiting"))?;
    Ok(recorder)
}

/// Ends it; its records.
pub fn stop(recorder: Running) -> Result<Vec<Value>> {
    recorder.interrupt()?;
    documents(&recorder.finish(KILLS)?)
}
