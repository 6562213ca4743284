//! Comparisons that several tests make.
use anyhow::{Context, Result, ensure};

use crate::leftover;
use crate::report::Report;
use crate::target::Ledger;
use crate::tracer::Outcome;

/// The report holds the ledger's rows: for each site the bytes, the count, the function and the kind.
pub fn rows(report: &Report, ledger: &Ledger) -> Result<()> {
    ensure!(!ledger.rows.is_empty(), "an empty ledger proves nothing");
    for row in &ledger.rows {
        let sum = report.of_caller(&row.site)?;
        ensure!(
            (sum.bytes, sum.count) == (row.bytes, row.count),
            "{}: {} bytes in {} blocks outstanding, the report says {} in {}\n{}",
            row.site,
            row.bytes,
            row.count,
            sum.bytes,
            sum.count,
            report.describe()
        );
        let wrong = sum
            .functions
            .iter()
            .find(|function| !row.functions.contains(function));
        ensure!(
            wrong.is_none(),
            "{}: allocated by {:?}, the report says {wrong:?}",
            row.site,
            row.functions
        );
        let wrong = sum.kinds.iter().find(|kind| **kind != row.kind);
        ensure!(
            wrong.is_none(),
            "{}: a {}, the report says {wrong:?}",
            row.site,
            row.kind
        );
    }
    Ok(())
}

/// The report holds the ledger and nothing else, to the byte; nothing was lost, and the sums balance.
pub fn exactly(report: &Report, ledger: &Ledger) -> Result<()> {
    report.must_be_exact()?;
    outstanding(report, ledger)?;
    let (allocated, freed) = (
        report.total("allocated_bytes")?,
        report.total("freed_bytes")?,
    );
    ensure!(
        allocated.checked_sub(freed) == Some(ledger.bytes),
        "{allocated} allocated - {freed} freed is not {} outstanding",
        ledger.bytes
    );
    Ok(())
}

/// What is outstanding is the ledger's and nothing else.
pub fn outstanding(report: &Report, ledger: &Ledger) -> Result<()> {
    rows(report, ledger)?;
    let found = (
        report.total("outstanding_bytes")?,
        report.total("outstanding_count")?,
    );
    ensure!(
        found == (ledger.bytes, ledger.count),
        "{} bytes in {} outstanding, the totals say {found:?}\n{}",
        ledger.bytes,
        ledger.count,
        report.describe()
    );
    let all = report.sum(|_| true)?;
    ensure!(
        (all.bytes, all.count) == found,
        "the stacks hold {all:?}, the totals say {found:?}"
    );
    Ok(())
}

/// A job that could not be done: status 1, nothing on standard output, and one line on standard error that holds all of
/// `words` (of alternatives, `a|b`, one), case aside.
pub fn refused(outcome: &Outcome, words: &[&str]) -> Result<()> {
    ensure!(
        outcome.status.code() == Some(1),
        "the status should be 1: {}",
        outcome.context()
    );
    ensure!(
        outcome.stdout.is_empty(),
        "something on standard output: {}",
        outcome.context()
    );
    let [line] = outcome.stderr.as_slice() else {
        anyhow::bail!("standard error should be one line: {}", outcome.context())
    };
    let lower = line.to_lowercase();
    for word in words {
        let said = word
            .split('|')
            .any(|alternative| lower.contains(&alternative.to_lowercase()));
        ensure!(said, "the line should say '{word}': {line}");
    }
    // What, why and what to do do not fit into a few words.
    ensure!(
        line.split_whitespace().count() >= 6,
        "what, why, what to do? {line}"
    );
    Ok(())
}

/// Wrong usage: status 2, nothing on standard output, and standard error names `word`.
pub fn misused(outcome: &Outcome, word: &str) -> Result<()> {
    ensure!(
        outcome.status.code() == Some(2),
        "the status should be 2: {}",
        outcome.context()
    );
    ensure!(
        outcome.stdout.is_empty(),
        "something on standard output: {}",
        outcome.context()
    );
    let said = outcome
        .stderr
        .iter()
        .any(|line| line.to_lowercase().contains(&word.to_lowercase()));
    ensure!(
        said,
        "standard error should say '{word}': {}",
        outcome.context()
    );
    Ok(())
}

/// Runs `test` and then checks that memtrace left no program in the kernel and no breakpoint in `pids` (those of them
/// that still run).
pub fn leaving_nothing<T>(test: impl FnOnce() -> Result<(T, Vec<u32>)>) -> Result<T> {
    let before = leftover::Programs::now()?;
    let (value, pids) = test()?;
    before.nothing_new(&pids)?;
    for pid in pids {
        leftover::no_breakpoints(pid).with_context(|| format!("in the target, pid {pid}"))?;
    }
    Ok(value)
}
