//! What the heap options do.
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memtrace_tests::report::Report;
use memtrace_tests::target::{Ledger, Target};
use memtrace_tests::tracer::{FINISH, Outcome};
use memtrace_tests::{check, need_root, tracer, turn};

/// Traces both turns of `phases` (40 × 103 bytes, then 3 × 70,001) with these options.
fn both_phases(arguments: &[&str], between: Duration) -> Result<(Outcome, Ledger)> {
    let mut target = Target::start("phases", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], arguments)?;
    target.work()?;
    sleep(between);
    let ledger = target.work()?;
    let outcome = tracer.stop()?;
    target.end()?;
    Ok((outcome, ledger))
}

fn sites(report: &Report) -> Result<Vec<(String, u64)>> {
    let stacks = report.live_stacks()?;
    Ok(stacks
        .iter()
        .map(|stack| {
            (
                stack.symbols().first().unwrap_or(&"?").to_string(),
                stack.bytes(),
            )
        })
        .collect())
}

const SMALL: (&str, u64) = ("leak_many_small", 40 * 103);
const LARGE: (&str, u64) = ("leak_few_large", 3 * 70_001);

fn must_be(report: &Report, wanted: &[(&str, u64)]) -> Result<()> {
    let found = sites(report)?;
    let wanted: Vec<(String, u64)> = wanted
        .iter()
        .map(|(site, bytes)| ((*site).to_owned(), *bytes))
        .collect();
    ensure!(found == wanted, "{wanted:?} expected, found {found:?}");
    Ok(())
}

/// Live reports: each a document of its own, with numbers that grow.
#[test]
fn interval_reports_while_it_runs() -> Result<()> {
    let _turn = turn();
    need_root!("interval_reports_while_it_runs");
    let (outcome, ledger) = both_phases(&["--interval", "300ms"], Duration::from_millis(1500))?;
    let reports = outcome.reports()?;
    ensure!(
        reports.len() >= 4 && reports.len() <= 12,
        "{} reports in about 1.5 s",
        reports.len()
    );
    let bytes = reports
        .iter()
        .map(|report| report.total("outstanding_bytes"))
        .collect::<Result<Vec<_>>>()?;
    ensure!(bytes.is_sorted(), "nothing is freed: {bytes:?}");
    ensure!(bytes.contains(&SMALL.1), "the first turn, alone: {bytes:?}");
    ensure!(
        bytes.last() == Some(&ledger.bytes),
        "the last report is the end: {bytes:?}"
    );
    let times = reports
        .iter()
        .map(|report| report.number("duration_ns"))
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        times.is_sorted_by(|one, next| one < next),
        "time stands still: {times:?}"
    );
    Ok(())
}

/// `--duration` ends by itself, in time.
#[test]
fn duration_ends_in_time() -> Result<()> {
    let _turn = turn();
    need_root!("duration_ends_in_time");
    let mut target = Target::start("phases", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], &["--duration", "1s"])?;
    let attached = Instant::now();
    let ledger = target.work()?;
    let outcome = tracer.finish(FINISH)?;
    let took = attached.elapsed();
    ensure!(
        took > Duration::from_millis(800) && took < Duration::from_secs(3),
        "1 s took {took:?}"
    );
    let report = outcome.report()?;
    check::exactly(&report, &ledger)?;
    let duration = Duration::from_nanos(report.number("duration_ns")?);
    ensure!(
        duration > Duration::from_millis(900) && duration < Duration::from_secs(3),
        "it says {duration:?}"
    );
    target.work()?;
    target.end()
}

/// `--top` cuts rows, not totals. By default the most bytes come first.
#[test]
fn top_cuts_rows_not_totals() -> Result<()> {
    let _turn = turn();
    need_root!("top_cuts_rows_not_totals");
    let (outcome, ledger) = both_phases(&["--top", "1"], Duration::ZERO)?;
    let report = outcome.report()?;
    ensure!(report.stacks()?.len() == 1, "{}", report.describe());
    must_be(&report, &[LARGE])?;
    ensure!(
        report.total("outstanding_bytes")? == ledger.bytes,
        "{}",
        report.describe()
    );
    ensure!(
        report.total("outstanding_count")? == ledger.count,
        "{}",
        report.describe()
    );
    ensure!(report.number("stacks_total")? >= 2, "{}", report.0);
    Ok(())
}

/// `--sort` orders rows.
#[test]
fn sort_by_count_or_bytes() -> Result<()> {
    let _turn = turn();
    need_root!("sort_by_count_or_bytes");
    let (outcome, _) = both_phases(&["--sort", "count"], Duration::ZERO)?;
    must_be(&outcome.report()?, &[SMALL, LARGE])?;
    let (outcome, _) = both_phases(&["--sort", "bytes"], Duration::ZERO)?;
    must_be(&outcome.report()?, &[LARGE, SMALL])
}

/// `--older-than` leaves out what is young; ages are right.
#[test]
fn older_than_leaves_out_the_young() -> Result<()> {
    let _turn = turn();
    need_root!("older_than_leaves_out_the_young");
    let (outcome, _) = both_phases(&["--older-than", "2s"], Duration::from_millis(2300))?;
    must_be(&outcome.report()?, &[SMALL])?;
    let (outcome, _) = both_phases(&[], Duration::from_secs(1))?;
    let report = outcome.report()?;
    must_be(&report, &[LARGE, SMALL])?;
    for stack in report.live_stacks()? {
        let age = |key| {
            stack
                .0
                .get(key)
                .and_then(serde_json::Value::as_u64)
                .with_context(|| format!("no {key}"))
        };
        let (oldest, newest) = (age("oldest_ns")?, age("newest_ns")?);
        ensure!(newest <= oldest && newest > 0, "{newest} to {oldest} ns");
        let waited = newest >= 1_000_000_000;
        ensure!(
            waited == stack.caller_is(SMALL.0),
            "{:?}: {newest} to {oldest} ns",
            stack.symbols()
        );
        ensure!(oldest < 20_000_000_000, "an age of {oldest} ns");
    }
    Ok(())
}

/// `--min-size` and `--max-size`: blocks out of the range are not traced at all, and that is no loss.
#[test]
fn sizes_out_of_range_are_not_traced() -> Result<()> {
    let _turn = turn();
    need_root!("sizes_out_of_range_are_not_traced");
    for (option, size, wanted) in [
        ("--min-size", "1KiB", LARGE),
        ("--max-size", "1KiB", SMALL),
        ("--min-size", "103", SMALL),
    ] {
        let (outcome, ledger) = both_phases(&[option, size], Duration::ZERO)?;
        let report = outcome.report()?;
        if size == "103" {
            // The bound itself is in.
            must_be(&report, &[LARGE, wanted])?;
            ensure!(
                report.total("outstanding_bytes")? == ledger.bytes,
                "{}",
                report.describe()
            );
        } else {
            must_be(&report, &[wanted])?;
            ensure!(
                report.total("outstanding_bytes")? == wanted.1,
                "{option}: {}",
                report.describe()
            );
        }
        ensure!(report.number("lost_events")? == 0, "{}", report.0);
    }
    Ok(())
}

/// `--no-mmap` leaves mappings out.
#[test]
fn no_mmap_leaves_mappings_out() -> Result<()> {
    let _turn = turn();
    need_root!("no_mmap_leaves_mappings_out");
    let mut target = Target::start("every_function", &["1"])?;
    let tracer = tracer::attach(&[target.pid()], &["--no-mmap"])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    let heap: u64 = ledger
        .rows
        .iter()
        .filter(|row| row.kind == "heap")
        .map(|row| row.bytes)
        .sum();
    ensure!(
        heap > 0 && report.total("outstanding_bytes")? == heap,
        "{heap}: {}",
        report.describe()
    );
    ensure!(
        report.sum(|stack| stack.kind() == "mapping")?.count == 0,
        "{}",
        report.describe()
    );
    target.end()
}

/// `-f folded`: `outermost;…;innermost bytes`, for flame graphs.
#[test]
fn folded_stacks() -> Result<()> {
    let _turn = turn();
    need_root!("folded_stacks");
    let mut target = Target::start("stacks", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], &["-f", "folded"])?;
    let ledger = target.work()?;
    let outcome = tracer.stop()?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    let text = outcome.text();
    let mut total = 0;
    for line in text.lines() {
        let (_, bytes) = line
            .rsplit_once(' ')
            .with_context(|| format!("no number: {line}"))?;
        total += bytes
            .parse::<u64>()
            .with_context(|| format!("no number: {line}"))?;
    }
    ensure!(
        total == ledger.bytes,
        "{total} bytes in all lines, {} outstanding:\n{text}",
        ledger.bytes
    );
    let line = text
        .lines()
        .find(|line| line.contains("level_c"))
        .with_context(|| text.clone())?;
    let (stack, bytes) = line.rsplit_once(' ').context("no number")?;
    ensure!(bytes == "1201", "{line}");
    let frames: Vec<&str> = stack.split(';').collect();
    let chain = ["main", "level_a", "level_b", "level_c"];
    let at = frames
        .iter()
        .position(|frame| *frame == "main")
        .with_context(|| line.to_owned())?;
    ensure!(
        frames
            .iter()
            .skip(at)
            .zip(chain)
            .all(|(frame, name)| *frame == name),
        "{line}"
    );
    target.end()
}

/// The text report answers in its first screen: what leaks, how much, from where.
#[test]
fn text_says_it_in_the_first_screen() -> Result<()> {
    let _turn = turn();
    need_root!("text_says_it_in_the_first_screen");
    let (outcome, _) = both_phases(&["-f", "text", "--top", "10"], Duration::ZERO)?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    let text = outcome.text();
    let screen: Vec<&str> = text.lines().take(24).collect();
    for site in [LARGE.0, SMALL.0] {
        ensure!(
            screen.iter().any(|line| line.contains(site)),
            "no {site} in the first 24 lines:\n{text}"
        );
    }
    ensure!(
        text.lines().all(|line| !line.contains('\u{1b}')),
        "colours into a pipe:\n{text}"
    );
    Ok(())
}

/// `-o FILE` takes the report; standard output stays empty.
#[test]
fn output_goes_to_the_file() -> Result<()> {
    let _turn = turn();
    need_root!("output_goes_to_the_file");
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("report.json");
    let path = file.to_str().context("a path that is no text")?;
    fs::write(&file, "x".repeat(1 << 20))?; // What was there before is gone, however long.
    let (outcome, ledger) = both_phases(&["-o", path], Duration::ZERO)?;
    ensure!(
        outcome.status.success() && outcome.stdout.is_empty(),
        "{}",
        outcome.context()
    );
    check::exactly(&Report::read(&file)?, &ledger)
}

/// `-v` prints what the kernel side counted, for each reason.
#[test]
fn verbose_prints_counters() -> Result<()> {
    let _turn = turn();
    need_root!("verbose_prints_counters");
    let (outcome, ledger) = both_phases(&["-v"], Duration::ZERO)?;
    check::exactly(&outcome.report()?, &ledger)?;
    let sent = outcome
        .stderr
        .iter()
        .any(|line| line.to_lowercase().contains("sent"));
    ensure!(sent, "no counters on standard error: {}", outcome.context());
    Ok(())
}
