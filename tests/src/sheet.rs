//! `memtrace meminfo` and what its documents must hold.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::tracer::{self, Outcome};

/// No sheet takes long.
pub const SOON: Duration = Duration::from_secs(20);

/// Runs `memtrace meminfo ARGUMENTS…`.
pub fn meminfo(arguments: &[&str]) -> Result<Outcome> {
    tracer::run(&[&["meminfo"], arguments].concat(), SOON)
}

/// Its document, which must add up.
pub fn document(outcome: &Outcome) -> Result<Value> {
    let document = outcome.document("memtrace.meminfo.v1")?;
    balanced(&document)?;
    Ok(document)
}

/// Both, in JSON.
pub fn json(arguments: &[&str]) -> Result<Value> {
    document(&meminfo(&[&["-f", "json"], arguments].concat())?)
}

/// A list of a document.
pub fn list<'a>(document: &'a Value, pointer: &str) -> Result<&'a Vec<Value>> {
    let value = document.pointer(pointer).and_then(Value::as_array);
    value.with_context(|| format!("no list {pointer}: {document}"))
}

/// The contract: rows without a parent add up to the total.
pub fn balanced(document: &Value) -> Result<()> {
    ensure!(document["schema"] == "memtrace.meminfo.v1", "{document}");
    let mut sum = 0;
    for row in list(document, "/rows")? {
        let kb = row["kb"].as_i64().with_context(|| row.to_string())?;
        let known = ["kernel", "user", "free", "unaccounted"]
            .iter()
            .any(|kind| row["kind"] == *kind);
        ensure!(
            known && row["name"].is_string() && row["source"].is_string(),
            "{row}"
        );
        if row["of"].is_null() {
            sum += kb;
        }
    }
    ensure!(
        Some(sum) == document["total_kb"].as_i64(),
        "{sum}: {document}"
    );
    Ok(())
}

/// A row by its name.
pub fn row<'a>(document: &'a Value, name: &str) -> Result<&'a Value> {
    let rows = list(document, "/rows")?.iter();
    rows.clone()
        .find(|row| row["name"] == name)
        .with_context(|| format!("no row {name}: {document}"))
}

/// The ids of its findings, in order.
pub fn finding_ids(document: &Value) -> Result<Vec<&str>> {
    let findings = list(document, "/findings")?.iter();
    Ok(findings
        .filter_map(|finding| finding["id"].as_str())
        .collect())
}
