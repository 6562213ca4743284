//! `memtrace.growth.v1` as a script reads it, and traces of programs that say what they did.
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::check;
use crate::target::{Target, brief, number, text};
use crate::tracer::{self, Outcome, Running};

const PAGE: u64 = 4096;

/// Pages that a program touches beside its work: its stack, what the C library writes, and the page that the kernel
/// keeps for probes.
pub const BESIDE: u64 = 40 * PAGE;

/// `memtrace growth -p PID -f json --top 0 ARGUMENTS…`, attached.
pub fn start(pid: u32, arguments: &[&str]) -> Result<Running> {
    let pid = pid.to_string();
    let mut all = vec!["growth", "-p", &pid, "-f", "json", "--top", "0"];
    all.extend(arguments);
    let mut tracer = tracer::start(&all)?;
    tracer.wait_attached()?;
    Ok(tracer)
}

/// The report, after a good end; nothing was lost.
pub fn document(outcome: &Outcome) -> Result<Value> {
    let report = outcome.document("memtrace.growth.v1")?;
    ensure!(number(&report, "lost_events")? == 0, "{}", brief(&report));
    Ok(report)
}

/// What the program did, what memtrace says, and by how much its resident memory grew meanwhile.
pub struct Seen {
    /// What the program said.
    pub did: Value,
    /// What memtrace reported.
    pub report: Value,
    /// Growth of resident anonymous bytes.
    pub resident: i64,
    /// The program.
    pub pid: u32,
}

/// Traces one turn of a program.
pub fn trace(program: &str, way: &str, arguments: &[&str]) -> Result<Seen> {
    check::leaving_nothing(|| {
        let mut target = Target::start(program, &[way])?;
        let pid = target.pid();
        let tracer = start(pid, arguments)?;
        let before = resident(pid)?;
        let did = target.work_for_json()?;
        let resident = resident(pid)? - before;
        let report = document(&tracer.stop()?)?;
        let seen = Seen {
            did,
            report,
            resident,
            pid,
        };
        target.end()?;
        Ok((seen, vec![pid]))
    })
}

/// Resident anonymous bytes of a process, exactly. Of files the kernel maps up to 16 pages for one fault, if it happens to have them.
fn resident(pid: u32) -> Result<i64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let kib: i64 = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .context("no Anonymous")?
        .trim()
        .parse()?;
    Ok(kib * 1024)
}

/// A list of a JSON object.
pub fn rows<'a>(report: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    report
        .get(key)
        .and_then(Value::as_array)
        .with_context(|| format!("no list '{key}'"))
}

impl Seen {
    /// A number that the program said.
    pub fn did(&self, key: &str) -> Result<u64> {
        number(&self.did, key)
    }

    /// Bytes that came and went, over all stacks of a kind that lead through all of `functions`, in this order.
    pub fn sum(&self, kind: &str, functions: &[&str]) -> Result<(u64, u64)> {
        let mut sum = (0, 0);
        for source in rows(&self.report, "sources")? {
            if text(source, "kind")? == kind && leads_through(source, functions)? {
                sum.0 += number(source, "bytes")?;
                sum.1 += number(source, "returned_bytes")?;
            }
        }
        Ok(sum)
    }

    /// The process.
    pub fn process(&self) -> Result<&Value> {
        rows(&self.report, "processes")?
            .first()
            .context("no process")
    }

    /// The faults of `functions` are the bytes touched, and all faults are what the process grew by.
    pub fn faults_are(&self, touched: u64, functions: &[&str]) -> Result<()> {
        let (by_them, _) = self.sum("fault", functions)?;
        ensure!(
            by_them >= touched && by_them <= touched + 2 * PAGE,
            "{touched} bytes touched by {functions:?}, {by_them} seen: {:#}",
            self.report
        );
        let (all, _) = self.sum("fault", &[])?;
        ensure!(
            all < touched + BESIDE,
            "{touched} touched, {all} seen in all"
        );
        Ok(())
    }
}

fn leads_through(source: &Value, functions: &[&str]) -> Result<bool> {
    let mut wanted = functions.iter();
    let mut next = wanted.next();
    for frame in rows(source, "frames")? {
        let symbol = frame.get("symbol").and_then(Value::as_str);
        if next.is_some() && symbol == next.copied() {
            next = wanted.next();
        }
    }
    Ok(next.is_none())
}
