//! `memtrace diff`, `--raw`, and what only a terminal sees: the pager.
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use memtrace_tests::target::{Ledger, Target};
use memtrace_tests::tracer::{self, FINISH, Outcome};
use memtrace_tests::{check, need_root, turn};
use serde_json::Value;

const NOTHING: &[&str] = &[];

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// A capture of one run of a program.
fn record(program: &str, capture: &Path, more: &[&str]) -> Result<Ledger> {
    let mut target = Target::start(program, NOTHING)?;
    let arguments = [&["--record", text(capture)?], more].concat();
    let tracer = tracer::attach(&[target.pid()], &arguments)?;
    let ledger = target.work()?;
    tracer.report()?.must_be_exact()?;
    target.end()?;
    Ok(ledger)
}

/// `memtrace diff OLD NEW ARGUMENTS…`, after a good end.
fn diff(old: &Path, new: &Path, arguments: &[&str]) -> Result<Outcome> {
    let all = [&["diff", text(old)?, text(new)?], arguments].concat();
    let outcome = tracer::run(&all, FINISH)?;
    ensure!(
        outcome.status.success() && outcome.stderr.is_empty(),
        "{}",
        outcome.context()
    );
    Ok(outcome)
}

fn document(outcome: &Outcome) -> Result<Value> {
    let document: Value = serde_json::from_slice(&outcome.stdout)?;
    ensure!(document["schema"] == "memtrace.diff.v1", "{document}");
    Ok(document)
}

/// State and change of each stack.
fn changes(document: &Value) -> Result<Vec<(&str, i64)>> {
    let stacks = document["stacks"].as_array().context("no stacks")?;
    stacks
        .iter()
        .map(|stack| {
            Ok((
                stack["state"].as_str().context("no state")?,
                stack["bytes"].as_i64().context("no bytes")?,
            ))
        })
        .collect()
}

/// Two runs of one program: other pids and addresses, the same stacks. One of them without mappings: these are new.
#[test]
fn runs_are_compared_by_their_functions() -> Result<()> {
    let _turn = turn();
    need_root!("runs_are_compared_by_their_functions");
    let directory = tempfile::tempdir()?;
    let [first, second, third] =
        ["first", "second", "third"].map(|name| directory.path().join(name));
    record("every_function", &first, &[])?;
    let ledger = record("every_function", &second, &[])?;
    record("every_function", &third, &["--no-mmap"])?;

    let same = document(&diff(&first, &second, &["-f", "json"])?)?;
    ensure!(same["exact"] == true && same["bytes"] == 0, "{same}");
    let all = changes(&same)?;
    ensure!(all.len() > 10, "{same}");
    ensure!(
        all.iter().all(|change| *change == ("unchanged", 0)),
        "{all:?}"
    );

    let grown = document(&diff(&third, &second, &["-f", "json"])?)?;
    let mapped = ledger.rows.iter().filter(|row| row.kind == "mapping");
    let bytes: u64 = mapped.map(|row| row.bytes).sum();
    ensure!(
        bytes > 0 && grown["bytes"] == bytes,
        "{bytes} mapped: {grown}"
    );
    let mut new = 0;
    for stack in grown["stacks"].as_array().context("no stacks")? {
        let state = if stack["kind"] == "mapping" {
            "new"
        } else {
            "unchanged"
        };
        ensure!(stack["state"] == state, "{stack}");
        new += u64::from(state == "new");
    }
    let human = diff(&third, &second, &["--raw"])?.text();
    ensure!(
        human.contains(&format!("Outstanding  +{bytes} B:")),
        "{human}"
    );
    ensure!(
        human.contains(&format!("{new} new, 0 grown, 0 shrunk, 0 gone")),
        "{human}"
    );
    let back = diff(&second, &third, &["--top", "1"])?.text();
    ensure!(back.contains("--top 0 shows all"), "{back}");

    let folded = diff(&third, &second, &["-f", "folded"])?.text();
    let columns = folded.lines().map(|line| {
        let mut words = line.rsplit(' ');
        let mut number = || {
            words
                .next()
                .and_then(|word| word.parse::<u64>().ok())
                .context("no number")
        };
        Ok((number()?, number()?))
    });
    let columns: Vec<(u64, u64)> = columns.collect::<Result<_>>()?;
    let sum = |of: fn(&(u64, u64)) -> u64| columns.iter().map(of).sum::<u64>();
    ensure!(sum(|line| line.0) - sum(|line| line.1) == bytes, "{folded}");
    let svg = diff(&third, &second, &["-f", "svg"])?.text();
    ensure!(
        svg.contains("red: more than before") && svg.ends_with("</svg>"),
        "{svg}"
    );
    Ok(())
}

/// Saved reports as well as captures, and what is left out of them.
#[test]
fn reports_are_compared_with_captures() -> Result<()> {
    let _turn = turn();
    need_root!("reports_are_compared_with_captures");
    let directory = tempfile::tempdir()?;
    let [capture, all, part] = ["capture", "all", "part"].map(|name| directory.path().join(name));
    record("every_function", &capture, &[])?;
    for (file, top) in [(&all, "0"), (&part, "3")] {
        let arguments = [
            "report",
            text(&capture)?,
            "-f",
            "json",
            "--top",
            top,
            "-o",
            text(file)?,
        ];
        let outcome = tracer::run(&arguments, FINISH)?;
        ensure!(outcome.status.success(), "{}", outcome.context());
    }
    let same = document(&diff(&all, &capture, &["-f", "json"])?)?;
    ensure!(same["exact"] == true, "{same}");
    ensure!(
        changes(&same)?
            .iter()
            .all(|(state, _)| *state == "unchanged"),
        "{same}"
    );
    let cut = document(&diff(&part, &capture, &["-f", "json"])?)?;
    ensure!(
        cut["exact"] == false && cut["notes"].to_string().contains("OLD holds 3 of"),
        "{cut}"
    );
    let refused = tracer::run(&["diff", text(&all)?, "/nonexistent/report"], FINISH)?;
    check::refused(&refused, &["/nonexistent/report", "no such file"])?;
    let refused = tracer::run(
        &["diff", text(&all)?, text(&capture)?, "--min-size", "1"],
        FINISH,
    )?;
    check::refused(&refused, &["capture"])?;
    check::misused(&tracer::run(&["diff", text(&all)?], FINISH)?, "NEW")?;
    Ok(())
}

/// On a terminal.
fn on_terminal(command: &str, pager: &str) -> Result<Outcome> {
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", command, "/dev/null"]);
    script
        .env("PAGER", pager)
        .env("TERM", "xterm")
        .env("NO_COLOR", "1");
    tracer::spawn(&mut script)?.finish(FINISH)
}

/// Only a terminal has a pager, only text goes there, and the text is that of a pipe.
#[test]
fn a_terminal_has_a_pager() -> Result<()> {
    let _turn = turn();
    need_root!("a_terminal_has_a_pager");
    let directory = tempfile::tempdir()?;
    let capture = directory.path().join("capture");
    record("stacks", &capture, &[])?;
    let piped = tracer::run(&["report", text(&capture)?], FINISH)?;
    let memtrace = tracer::binary()?;
    let command = format!("'{}' report '{}'", memtrace.display(), capture.display());
    let totals = piped
        .text()
        .lines()
        .find(|line| line.starts_with("Allocated"))
        .context("no totals")?
        .to_owned();
    for (pager, prefix) in [
        ("sed s/^/paged:/", "paged:"),
        ("cat", ""),
        ("", ""),
        ("/nonexistent/pager", ""),
    ] {
        let outcome = on_terminal(&command, pager)?;
        ensure!(outcome.status.success(), "{pager}: {}", outcome.context());
        let line = format!("{prefix}{totals}");
        let found = outcome.text().lines().any(|found| found.trim_end() == line);
        ensure!(found, "{pager}: no line {line:?}: {}", outcome.context());
    }
    // A pager that ends at once is somebody who has seen enough.
    let outcome = on_terminal(&command, "true")?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    // What is not for reading is refused there.
    let outcome = on_terminal(&format!("{command} -f pprof"), "cat")?;
    ensure!(outcome.status.code() == Some(1), "{}", outcome.context());
    ensure!(outcome.text().contains("binary"), "{}", outcome.context());
    let file = directory.path().join("file");
    let outcome = on_terminal(
        &format!("{command} -o '{}'", file.display()),
        "sed s/^/paged:/",
    )?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    ensure!(fs::read(&file)? == piped.stdout, "{}", outcome.context());
    Ok(())
}

/// The same figures, as plain numbers.
#[test]
fn raw_sizes_are_numbers() -> Result<()> {
    let _turn = turn();
    need_root!("raw_sizes_are_numbers");
    let directory = tempfile::tempdir()?;
    let capture = directory.path().join("capture");
    record("every_function", &capture, &[])?;
    let json = tracer::run(&["report", text(&capture)?, "-f", "json"], FINISH)?.report()?;
    let raw = tracer::run(&["report", text(&capture)?, "--raw"], FINISH)?.text();
    ensure!(!raw.contains("iB"), "{raw}");
    let mut figures = vec![
        json.total("outstanding_bytes")?,
        json.total("allocated_bytes")?,
    ];
    figures.extend(json.stacks()?.iter().map(|stack| stack.bytes()));
    for figure in figures {
        ensure!(
            raw.contains(&format!("{figure} B ")),
            "{figure} is not in {raw}"
        );
    }
    Ok(())
}
