//! Processes that end, are killed, run other programs; programs that memtrace starts itself; and memtrace's own end.
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memtrace_tests::report::Report;
use memtrace_tests::target::{Ledger, Target};
use memtrace_tests::tracer::{FINISH, Outcome};
use memtrace_tests::{check, leftover, need_root, program, say, tracer, turn};
use nix::sys::signal::Signal;

/// A target that ends by itself ends the trace: a last report, its symbols still right.
/// docs/peers.md (bad input): other tracers go on printing the last table, or `[unknown]`.
#[test]
fn last_report_when_the_target_exits() -> Result<()> {
    let _turn = turn();
    need_root!("last_report_when_the_target_exits");
    for how in ["exit", "_exit", "kill"] {
        let mut target = Target::start("exiter", &[how])?;
        let tracer = tracer::attach(&[target.pid()], &[])?;
        target.go()?;
        // It prints its ledger and is gone.
        let ledger = target.ledger()?;
        let status = target.wait()?;
        ensure!(status.success() == (how != "kill"), "{how}: {status}");
        let gone = Instant::now();
        let outcome = tracer
            .finish(Duration::from_secs(10))
            .with_context(|| format!("{how}: nobody interrupts"))?;
        say(&format!(
            "{how}: report {} ms after the target's end",
            gone.elapsed().as_millis()
        ));
        let report = outcome.report()?;
        check::exactly(&report, &ledger).with_context(|| how.to_owned())?;
        ensure!(report.exited(ledger.pid)?, "{how}: {}", report.0);
        ensure!(
            report.of_function("main")?.count == 30,
            "{how}: symbols are lost: {}",
            report.describe()
        );
    }
    Ok(())
}

/// One of two targets ends: the trace goes on, and both are in the report.
#[test]
fn one_of_two_exits() -> Result<()> {
    let _turn = turn();
    need_root!("one_of_two_exits");
    let mut short = Target::start("exiter", &["kill"])?;
    let mut long = Target::start("phases", &[] as &[&str])?;
    let mut tracer = tracer::attach(&[short.pid(), long.pid()], &[])?;
    let first = short.work()?;
    short.wait()?;
    sleep(Duration::from_millis(500));
    ensure!(tracer.runs(), "memtrace ended with the first target");
    let second = long.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    check::rows(&report, &first)?;
    check::rows(&report, &second)?;
    ensure!(
        report.exited(first.pid)? && !report.exited(second.pid)?,
        "{}",
        report.0
    );
    long.end()
}

/// docs/peers.md (asks): exec ends all that the process had; what it allocates afterwards counts.
#[test]
fn exec_forgets_everything() -> Result<()> {
    let _turn = turn();
    need_root!("exec_forgets_everything");
    let mut target = Target::start("exiter", &["exec"])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    check::outstanding(&report, &ledger)?;
    ensure!(
        report.of_function("leak_and_go")?.count == 0,
        "from before exec: {}",
        report.describe()
    );
    target.end()
}

struct Started {
    outcome: Outcome,
    report: Report,
}

/// `memtrace -f json -o FILE -- COMMAND…`.
fn trace_command(command: &[&str]) -> Result<Started> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("report.json");
    let path = file.to_str().context("a path that is no text")?;
    let mut arguments = vec!["-f", "json", "--top", "1000000", "-o", path, "--"];
    arguments.extend(command);
    let outcome = tracer::run(&arguments, Duration::from_mins(1))?;
    let report = Report::read(&file).with_context(|| outcome.context())?;
    Ok(Started { outcome, report })
}

fn first() -> Result<String> {
    Ok(program::path("first")?
        .to_str()
        .context("a path that is no text")?
        .to_owned())
}

/// `memtrace -- CMD` traces from the first instruction (constructors run before main), leaves CMD's standard output
/// alone and passes its status on. docs/peers.md (bad input): with `-c`, other tracers do not.
#[test]
fn command_from_its_first_instruction() -> Result<()> {
    let _turn = turn();
    need_root!("command_from_its_first_instruction");
    let started =
        check::leaving_nothing(|| Ok((trace_command(&[&first()?, "exit", "3"])?, vec![])))?;
    ensure!(
        started.outcome.status.code() == Some(3),
        "{}",
        started.outcome.context()
    );
    let text = started.outcome.text();
    let ledger = Ledger::parse(text.trim_end()).with_context(|| started.outcome.context())?;
    ensure!(
        text.lines().count() == 1 && text.ends_with('\n'),
        "not CMD's output alone: {text}"
    );
    check::exactly(&started.report, &ledger)?;
    let early = started.report.of_caller("leak_in_constructor")?;
    ensure!(
        (early.bytes, early.count) == (1117, 1),
        "{}",
        started.report.describe()
    );
    ensure!(started.report.exited(ledger.pid)?, "{}", started.report.0);
    Ok(())
}

/// CMD's end by a signal is 128 + its number, as shells have it.
#[test]
fn command_killed_by_a_signal() -> Result<()> {
    let _turn = turn();
    need_root!("command_killed_by_a_signal");
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let number = signal as i32;
        let started = trace_command(&[&first()?, "signal", &number.to_string()])?;
        ensure!(
            started.outcome.status.code() == Some(128 + number),
            "{signal}: {}",
            started.outcome.context()
        );
        let ledger = Ledger::parse(started.outcome.text().trim_end())?;
        check::exactly(&started.report, &ledger)?;
    }
    Ok(())
}

/// A shell that becomes the program: what counts is the program. It lives for
/// half a second: memtrace reads what a program execs into some milliseconds
/// late, and one that has ended by then has addresses only.
#[test]
fn command_through_a_shell() -> Result<()> {
    let _turn = turn();
    need_root!("command_through_a_shell");
    let line = format!("exec '{}' exit 0 500", first()?);
    let started = trace_command(&["sh", "-c", &line])?;
    ensure!(
        started.outcome.status.success(),
        "{}",
        started.outcome.context()
    );
    let ledger = Ledger::parse(started.outcome.text().trim_end())?;
    check::rows(&started.report, &ledger)?;
    ensure!(
        started.report.of_function("leak_in_main")?.bytes > 0,
        "{}",
        started.report.describe()
    );
    Ok(())
}

/// A real program of some size.
#[test]
fn command_python() -> Result<()> {
    let _turn = turn();
    need_root!("command_python");
    let python = ["/usr/bin/python3", "/usr/local/bin/python3"]
        .into_iter()
        .find(|path| PathBuf::from(path).exists());
    let Some(python) = python else {
        memtrace_tests::skip!("command_python", "no python3 in /usr/bin or /usr/local/bin")
    };
    let started = trace_command(&[python, "-c", "print(1)"])?;
    ensure!(
        started.outcome.status.success(),
        "{}",
        started.outcome.context()
    );
    ensure!(
        started.outcome.text() == "1\n",
        "CMD's output was touched: {}",
        started.outcome.context()
    );
    let report = started.report;
    report.must_be_exact()?;
    // About 1,200 by heaptrack (Python 3.11): pymalloc keeps most objects in arenas of its own.
    let allocated = report.total("allocated_count")?;
    ensure!(allocated > 500, "{allocated} allocations");
    ensure!(report.total("freed_count")? > 200, "{}", report.0);
    let named = report
        .stacks()?
        .iter()
        .filter(|stack| stack.symbols().iter().any(|symbol| symbol.contains("Py")))
        .count();
    ensure!(
        named > 0,
        "no function of Python's anywhere: {}",
        report.describe()
    );
    Ok(())
}

/// Ctrl-C gives a report within a second (2 s are allowed here: the machine is shared), and the target goes on.
#[test]
fn interrupt_reports_at_once() -> Result<()> {
    let _turn = turn();
    need_root!("interrupt_reports_at_once");
    let mut target = Target::start("phases", &[] as &[&str])?;
    let pid = target.pid();
    let took = check::leaving_nothing(|| {
        let tracer = tracer::attach(&[pid], &[])?;
        let ledger = target.work()?;
        let outcome = tracer.stop()?;
        check::exactly(&outcome.report()?, &ledger)?;
        Ok((outcome.took, vec![pid]))
    })?;
    say(&format!("Ctrl-C to the end: {} ms", took.as_millis()));
    ensure!(took < Duration::from_secs(2), "Ctrl-C took {took:?}");
    ensure!(target.runs(), "the target died");
    target.work()?;
    target.end()
}

/// `timeout` and service managers send SIGTERM.
#[test]
fn terminate_reports_too() -> Result<()> {
    let _turn = turn();
    need_root!("terminate_reports_too");
    let mut target = Target::start("phases", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    tracer.signal(Signal::SIGTERM)?;
    let outcome = tracer.finish(FINISH)?;
    check::exactly(
        &Report::parse_all(&outcome.stdout)?
            .pop()
            .with_context(|| outcome.context())?,
        &ledger,
    )?;
    target.work()?;
    target.end()
}

/// Ctrl-C at any moment detaches cleanly, also while memtrace is still attaching. docs/peers.md (asks).
#[test]
fn interrupt_at_any_moment() -> Result<()> {
    let _turn = turn();
    need_root!("interrupt_at_any_moment");
    let mut target = Target::start("phases", &[] as &[&str])?;
    let pid = target.pid();
    check::leaving_nothing(|| {
        for milliseconds in [1, 10, 40, 80, 120, 200, 400] {
            let tracer = tracer::start(&["-p", &pid.to_string(), "-f", "json"])?;
            sleep(Duration::from_millis(milliseconds));
            let outcome = tracer
                .stop()
                .with_context(|| format!("Ctrl-C after {milliseconds} ms"))?;
            ensure!(
                outcome.took < Duration::from_secs(3),
                "after {milliseconds} ms: took {:?}",
                outcome.took
            );
            ensure!(
                target.runs(),
                "the target died, Ctrl-C after {milliseconds} ms: {}",
                outcome.context()
            );
        }
        Ok(((), vec![pid]))
    })?;
    target.work()?;
    target.work()?;
    target.end()
}

/// The target survives the worst end of its tracer.
#[test]
fn memtrace_killed() -> Result<()> {
    let _turn = turn();
    need_root!("memtrace_killed");
    let mut target = Target::start("every_function", &["2"])?;
    let pid = target.pid();
    check::leaving_nothing(|| {
        let tracer = tracer::attach(&[pid], &[])?;
        ensure!(
            !leftover::breakpoints(pid)?.is_empty(),
            "traced without a breakpoint?"
        );
        tracer.signal(Signal::SIGKILL)?;
        tracer.finish(FINISH)?;
        Ok(((), vec![pid]))
    })?;
    target.work()?;
    target.end()
}

/// Two traces of one process do not disturb each other.
#[test]
fn two_tracers_at_once() -> Result<()> {
    let _turn = turn();
    need_root!("two_tracers_at_once");
    let mut target = Target::start("every_function", &["2"])?;
    let one = tracer::attach(&[target.pid()], &[])?;
    let two = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    check::exactly(&one.report()?, &ledger)?;
    check::exactly(&two.report()?, &ledger)?;
    target.end()
}

/// A program that is not traced is not slowed down or changed by a trace of another one that runs the same libc.
#[test]
fn others_are_left_alone() -> Result<()> {
    let _turn = turn();
    need_root!("others_are_left_alone");
    let target = Target::start("phases", &[] as &[&str])?;
    let mut other = Target::spawn(Command::new(program::path("phases")?).arg("other"))?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    ensure!(
        !leftover::breakpoints(target.pid())?.is_empty(),
        "traced without a breakpoint?"
    );
    leftover::no_breakpoints(other.pid())?;
    other.work()?;
    let report = tracer.report()?;
    ensure!(
        report.total("allocated_count")? == 0,
        "another process was counted: {}",
        report.describe()
    );
    target.end()?;
    other.work()?;
    other.end()
}
