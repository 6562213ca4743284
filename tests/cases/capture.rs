//! Captures: what `memtrace report` shows of them is what the run itself showed, and what is left of one that was cut off
//! or damaged is shown as that.
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memtrace_tests::report::Report;
use memtrace_tests::target::Target;
use memtrace_tests::tracer::{self, FINISH, Outcome};
use memtrace_tests::{check, need_root, program, say, turn};
use nix::sys::signal::Signal;
use tempfile::TempDir;

const NOTHING: &[&str] = &[];

/// Bytes of a capture's header, and of what comes before a block's payload.
const HEADER: usize = 16;
const BLOCK_HEAD: usize = 12;

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// `memtrace report FILE ARGUMENTS…`
fn replay(capture: &Path, arguments: &[&str]) -> Result<Outcome> {
    let all = [&["report", text(capture)?], arguments].concat();
    tracer::run(&all, FINISH)
}

fn replayed(capture: &Path) -> Result<Report> {
    replay(capture, &["-f", "json"])?.report()
}

/// The capture's blocks: where each begins, its kind, and where it ends.
fn blocks(bytes: &[u8]) -> Result<Vec<(usize, u32, usize)>> {
    let mut blocks = Vec::new();
    let mut at = HEADER;
    while at < bytes.len() {
        let number = |from: usize| -> Result<u32> {
            let four = bytes.get(from..from + 4).context("cut off")?;
            Ok(u32::from_le_bytes(four.try_into()?))
        };
        let end = at + BLOCK_HEAD + usize::try_from(number(at + 4)?)?;
        ensure!(end <= bytes.len(), "cut off");
        blocks.push((at, number(at)?, end));
        at = end;
    }
    Ok(blocks)
}

/// Runs a copy of a program under memtrace with these arguments, with a report in JSON and a capture.
fn recorded(program: &[&str], arguments: &[&str]) -> Result<(TempDir, Report)> {
    let directory = tempfile::tempdir()?;
    let (name, options) = program.split_first().context("no program")?;
    // Gone when the capture is looked at.
    let gone = directory.path().join(name);
    fs::copy(program::path(name)?, &gone)?;
    let mut target = Target::start_command(Command::new(&gone).args(options))?;
    let capture = directory.path().join("capture");
    let live = directory.path().join("live.json");
    let all = [
        &["--record", text(&capture)?, "-o", text(&live)?],
        arguments,
    ];
    let tracer = tracer::attach(&[target.pid()], &all.concat())?;
    target.work()?;
    let outcome = tracer.stop()?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    let report = Report::parse_all(&fs::read(&live)?)?;
    let report = report.into_iter().next().context("no report")?;
    ensure!(
        !arguments.is_empty() || report.total("allocated_count")? > 0,
        "nothing was allocated"
    );
    target.end()?;
    fs::remove_file(&gone)?;
    Ok((directory, report))
}

/// The same document, byte for byte, after the target and its file have gone.
#[test]
fn a_replay_is_the_live_report() -> Result<()> {
    let _turn = turn();
    need_root!("a_replay_is_the_live_report");
    let selections: [&[&str]; 3] = [
        &[],
        &["--min-size", "1000", "--sort", "count", "--top", "3"],
        &["--no-mmap", "--older-than", "1ms", "--top", "0"],
    ];
    let plugin = program::path("libplugin.so")?;
    let programs: [&[&str]; 5] = [
        &["every_function"],
        &["stacks"],
        &["churn"],
        // A library that comes and goes, and another program.
        &["dlopener", text(&plugin)?, "close"],
        &["exiter", "exec"],
    ];
    for program in programs {
        for selection in selections {
            let (directory, _) = recorded(program, selection)?;
            let live = fs::read(directory.path().join("live.json"))?;
            let capture = directory.path().join("capture");
            let again = replay(&capture, &["-f", "json"])?;
            ensure!(again.status.success(), "{}", again.context());
            ensure!(
                again.stdout == live,
                "{program:?} {selection:?}: live\n{}\nreplayed\n{}",
                String::from_utf8_lossy(&live),
                again.text()
            );
            ensure!(again.stderr.is_empty(), "{}", again.context());
        }
    }
    Ok(())
}

/// A command, its libraries, and the moment of its end.
#[test]
fn a_command_is_recorded() -> Result<()> {
    let _turn = turn();
    need_root!("a_command_is_recorded");
    let directory = tempfile::tempdir()?;
    let (capture, live) = (directory.path().join("c"), directory.path().join("l"));
    let line = format!("exec '{}' exit 0 500", program::path("first")?.display());
    let outcome = tracer::run(
        &[
            "--record",
            text(&capture)?,
            "-f",
            "json",
            "-o",
            text(&live)?,
            "--",
            "sh",
            "-c",
            &line,
        ],
        FINISH,
    )?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    let again = replay(&capture, &["-f", "json"])?;
    ensure!(again.stdout == fs::read(&live)?, "{}", again.context());
    ensure!(
        again.report()?.of_function("leak_in_main")?.count == 12,
        "{}",
        again.context()
    );
    Ok(())
}

/// The same capture with other choices and in other formats.
#[test]
fn a_capture_can_be_asked_again() -> Result<()> {
    let _turn = turn();
    need_root!("a_capture_can_be_asked_again");
    let (directory, live) = recorded(&["every_function"], &["--top", "1"])?;
    let capture = directory.path().join("capture");
    let all = replay(&capture, &["-f", "json", "--top", "0"])?.report()?;
    ensure!(
        live.stacks()?.len() == 1 && all.stacks()?.len() > 5,
        "{}",
        all.describe()
    );
    let outstanding = |report: &Report| report.total("outstanding_bytes");
    ensure!(
        outstanding(&live)? == outstanding(&all)?,
        "{}",
        all.describe()
    );
    // The names of what the run itself did not show are there, too.
    for stack in all.live_stacks()? {
        let names = stack.symbols();
        ensure!(!names.is_empty() && !names.contains(&"?"), "{names:?}");
    }
    let large = replay(
        &capture,
        &["-f", "json", "--top", "0", "--min-size", "1KiB"],
    )?
    .report()?;
    ensure!(
        outstanding(&large)? < outstanding(&all)?,
        "{}",
        large.describe()
    );
    let old = replay(&capture, &["-f", "json", "--older-than", "1h"])?.report()?;
    ensure!(outstanding(&old)? == 0, "{}", old.describe());
    let by_count = replay(&capture, &["-f", "json", "--top", "0", "--sort", "count"])?.report()?;
    ensure!(
        by_count
            .stacks()?
            .is_sorted_by(|a, b| a.count() >= b.count()),
        "{}",
        by_count.describe()
    );
    let human = replay(&capture, &[])?;
    ensure!(
        human.text().contains("Exact: every allocation was seen."),
        "{}",
        human.context()
    );
    let folded = replay(&capture, &["-f", "folded", "--top", "0"])?;
    ensure!(folded.text().lines().count() > 5, "{}", folded.context());
    // A saved report is one more source.
    let json = directory.path().join("live.json");
    let again = replay(&json, &["-f", "json"])?;
    ensure!(again.stdout == fs::read(&json)?, "{}", again.context());
    check::refused(&replay(&json, &["--min-size", "1"])?, &["capture"])?;
    Ok(())
}

/// What memtrace had written when it was killed is there.
#[test]
fn a_killed_run_leaves_its_capture() -> Result<()> {
    let _turn = turn();
    need_root!("a_killed_run_leaves_its_capture");
    let directory = tempfile::tempdir()?;
    let capture = directory.path().join("capture");
    let mut target = Target::start("every_function", NOTHING)?;
    let tracer = tracer::attach(&[target.pid()], &["--record", text(&capture)?])?;
    let ledger = target.work()?;
    // A record waits for 20 ms at most, and then for its turn.
    sleep(Duration::from_millis(500));
    tracer.signal(Signal::SIGKILL)?;
    let outcome = tracer.finish(FINISH)?;
    ensure!(!outcome.status.success(), "{}", outcome.context());
    let report = replayed(&capture)?;
    ensure!(!report.exact()?, "a capture without an end is not exact");
    check::outstanding(&report, &ledger)?;
    let notes = replay(&capture, &[])?;
    ensure!(
        notes.text().contains("the capture ends early"),
        "{}",
        notes.context()
    );
    ensure!(
        notes.stderr.iter().any(|line| line.contains("ends early")),
        "{}",
        notes.context()
    );
    target.end()
}

/// Cut at any block, in the midst of any, or damaged there: a report of what comes before, or one line that refuses.
#[test]
fn what_is_left_is_shown() -> Result<()> {
    let _turn = turn();
    need_root!("what_is_left_is_shown");
    let (directory, live) = recorded(&["every_function"], &[])?;
    let whole = fs::read(directory.path().join("capture"))?;
    let part = directory.path().join("part");
    let everything = live.total("allocated_count")?;
    let mut most = 0;
    for (start, kind, end) in blocks(&whole)? {
        for length in [start, start + 5, end - 1] {
            fs::write(&part, &whole[..length])?;
            if kind == 1 {
                check::refused(&replay(&part, &[])?, &["nothing"])?;
                continue;
            }
            let report = replayed(&part)?;
            ensure!(
                !report.exact()?,
                "exact, cut at {length} of {}",
                whole.len()
            );
            let count = report.total("allocated_count")?;
            ensure!((most..=everything).contains(&count), "{count} after {most}");
            most = count;
        }
        if kind != 1 {
            fs::write(&part, &whole)?;
            let middle = start + BLOCK_HEAD + (end - start - BLOCK_HEAD) / 2;
            let file = File::options().write(true).open(&part)?;
            file.write_all_at(&[!whole[middle]], u64::try_from(middle)?)?;
            let report = replayed(&part)?;
            ensure!(!report.exact()?, "exact, damaged at {middle}");
            ensure!(
                report.total("allocated_count")? == most,
                "damage at {middle}"
            );
        }
    }
    ensure!(
        most == everything,
        "{most} of {everything} at the last block"
    );
    Ok(())
}

/// One line, status 1, and nothing on standard output.
#[test]
fn other_files_are_refused() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("file");
    let report = |bytes: &[u8]| -> Result<Outcome> {
        fs::write(&path, bytes)?;
        replay(&path, &[])
    };
    check::refused(&report(b"")?, &["nothing"])?;
    check::refused(
        &report(b"#!/bin/sh\necho this is no capture\n")?,
        &["not a capture"],
    )?;
    check::refused(
        &report(b"{\"schema\": \"memtrace.other.v9\"}")?,
        &["memtrace.heap.v1"],
    )?;
    check::refused(&report(b"{")?, &["memtrace.heap.v1"])?;
    check::refused(&report(&fs::read(tracer::binary()?)?)?, &["not a capture"])?;
    let newer = b"\x8bmemtrc\n\x02\0\0\0\0\0\0\0";
    check::refused(&report(newer)?, &["format 2", "newer"])?;
    check::refused(
        &replay(&directory.path().join("none"), &[])?,
        &["no such file", "none"],
    )?;
    check::refused(&replay(directory.path(), &[])?, &["directory"])?;
    check::misused(&tracer::run(&["report"], FINISH)?, "FILE")?;
    check::misused(&tracer::run(&["-p", "1", "report", "x"], FINISH)?, "report")?;
    Ok(())
}

/// The trace goes on, its report is written, and the status says that the capture was not.
#[test]
fn a_full_disk_does_not_end_the_trace() -> Result<()> {
    let _turn = turn();
    need_root!("a_full_disk_does_not_end_the_trace");
    let mut target = Target::start("every_function", NOTHING)?;
    let mut tracer = tracer::attach(&[target.pid()], &["--record", "/dev/full"])?;
    let warned = |line: &str| line.contains("/dev/full") && line.contains("No space left");
    tracer.wait_for("a warning", warned)?;
    let ledger = target.work()?;
    let outcome = tracer.stop()?;
    ensure!(outcome.status.code() == Some(1), "{}", outcome.context());
    let reports = Report::parse_all(&outcome.stdout)?;
    check::exactly(reports.first().context("no report")?, &ledger)?;
    target.end()?;
    // And what cannot even be opened is told before anything is probed.
    let pid = std::process::id().to_string();
    let nowhere = ["-p", &pid, "--record", "/nonexistent/capture"];
    check::refused(
        &tracer::run(&nowhere, FINISH)?,
        &["/nonexistent/capture", "--record"],
    )?;
    Ok(())
}

/// Recording costs the events nothing: the same target, with and without.
#[test]
fn recording_loses_no_events() -> Result<()> {
    let _turn = turn();
    need_root!("recording_loses_no_events");
    let directory = tempfile::tempdir()?;
    let capture = directory.path().join("capture");
    for arguments in [&[][..], &["--record", text(&capture)?][..]] {
        let mut target = Target::start("churn", NOTHING)?;
        let tracer = tracer::attach(&[target.pid()], arguments)?;
        let start = Instant::now();
        target.work()?;
        let took = start.elapsed();
        let report = tracer.report()?;
        report.must_be_exact()?;
        say(&format!(
            "capture: churn took {took:?} with {arguments:?}, {} allocations",
            report.total("allocated_count")?
        ));
        target.end()?;
    }
    say(&format!("capture: {} bytes", fs::metadata(&capture)?.len()));
    Ok(())
}
