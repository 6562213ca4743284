//! `--children`: processes that the target starts are traced from their first instruction.
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use memtrace_tests::report::Report;
use memtrace_tests::target::{Ledger, Target};
use memtrace_tests::{check, leftover, need_root, say, tracer, turn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LEAKS: &[&str] = &[
    "leak_in_parent",
    "leak_in_child",
    "leak_in_grandchild",
    "leak_in_childs_thread",
    "leak_after_exec",
];

/// Every leak is there to the byte, whichever process made it.
fn all_there(report: &Report, ledger: &Ledger) -> Result<()> {
    report.must_be_exact()?;
    for site in LEAKS {
        let found = report.of_caller(site)?;
        let (bytes, count) = ledger
            .row(site)
            .map_or((0, 0), |row| (row.bytes, row.count));
        ensure!(
            (found.bytes, found.count) == (bytes, count),
            "{site}: {found:?} instead of {count} blocks, {bytes} bytes\n{}",
            report.describe()
        );
    }
    Ok(())
}

/// `fork`, `vfork`, `posix_spawn`, `system`, `exec`, forks of threads, grandchildren: each from its first instruction and with
/// rows of its own. docs/peers.md (asks): follow children.
#[test]
fn children_of_every_kind() -> Result<()> {
    let _turn = turn();
    need_root!("children_of_every_kind");
    let mut target = Target::start("family", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], &["--children"])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    all_there(&report, &ledger)?;
    // 4 children with a child each, 3 that exec, that of a thread, and system's shell.
    ensure!(report.process_count() >= 13, "{}", report.0);
    let mut pids = Vec::new();
    for stack in report.live_stacks()? {
        if stack.caller_is("leak_in_child") {
            ensure!(stack.count() == 100, "{}", report.describe());
            ensure!(report.exited(stack.pid())?, "{}", report.0);
            let parent = report.process(stack.pid())?["parent"].as_u64();
            ensure!(parent == Some(ledger.pid), "{}", report.0);
            pids.push(stack.pid());
        }
    }
    pids.dedup();
    ensure!(pids.len() == 4, "{}", report.describe());
    leftover::no_breakpoints(target.pid())?;
    target.go()?;
    ensure!(
        target.wait()?.code() == Some(42),
        "the target ended otherwise"
    );
    Ok(())
}

/// The same for a command that memtrace starts; its exit status is passed on though another thread waits for it.
#[test]
fn children_of_a_command() -> Result<()> {
    let _turn = turn();
    need_root!("children_of_a_command");
    let path = memtrace_tests::program::path("family")?;
    let mut command = tracer::command()?;
    command.args(["--children", "-f", "json", "--top", "0", "--"]);
    command.arg(&path).args(["again", "23"]);
    let outcome = tracer::spawn(&mut command)?.finish(Duration::from_mins(1))?;
    ensure!(outcome.status.code() == Some(0), "{}", outcome.context());
    let report = outcome.report()?;
    report.must_be_exact()?;
    ensure!(
        report.of_caller("leak_after_exec")?.count == 23,
        "{}",
        report.describe()
    );
    let script = format!(
        "{} again 5; {} again 6; exit 7",
        path.display(),
        path.display()
    );
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("report.json");
    let mut command = tracer::command()?;
    command.args(["--children", "-f", "json", "--top", "0", "-o"]);
    command.arg(&file).args(["--", "sh", "-c", &script]);
    let outcome = tracer::spawn(&mut command)?.finish(Duration::from_mins(1))?;
    ensure!(outcome.status.code() == Some(7), "{}", outcome.context());
    let report = Report::read(&file)?;
    report.must_be_exact()?;
    ensure!(
        report.of_caller("leak_after_exec")?.count == 11,
        "{}",
        report.describe()
    );
    Ok(())
}

/// Without the option they are not traced, and say nothing about their parent.
#[test]
fn children_are_left_alone_unless_asked_for() -> Result<()> {
    let _turn = turn();
    need_root!("children_are_left_alone_unless_asked_for");
    let mut target = Target::start("family", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    ensure!(report.process_count() == 1, "{}", report.0);
    ensure!(
        report.of_caller("leak_in_child")?.count == 0,
        "{}",
        report.describe()
    );
    target.go()?;
    target.wait()?;
    Ok(())
}

/// A child that is stopped stays stopped, its parent hears of it, and it can be continued.
#[test]
fn job_control_works_while_followed() -> Result<()> {
    let _turn = turn();
    need_root!("job_control_works_while_followed");
    let mut target = Target::start("family", &["stop"])?;
    let tracer = tracer::attach(&[target.pid()], &["--children"])?;
    let ledger = target.work()?;
    let pid = Pid::from_raw(target.pid().cast_signed());
    kill(pid, Signal::SIGSTOP)?;
    let state = || -> Result<String> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with("State:"));
        Ok(line.unwrap_or_default().to_owned())
    };
    // T: stopped; t: held by memtrace, which is what it is for a debugger's tracee.
    for _ in 0..100 {
        if state()?.to_lowercase().contains("t (") {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    say(&state()?);
    ensure!(state()?.to_lowercase().contains("t ("), "{}", state()?);
    kill(pid, Signal::SIGCONT)?;
    let report = tracer.report()?;
    all_there(&report, &ledger)?;
    target.go()?;
    ensure!(
        target.wait()?.code() == Some(42),
        "the target ended otherwise"
    );
    Ok(())
}

/// memtrace is killed: whoever it followed goes on, untraced.
#[test]
fn followed_processes_survive_a_killed_memtrace() -> Result<()> {
    let _turn = turn();
    need_root!("followed_processes_survive_a_killed_memtrace");
    let mut target = Target::start("family", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], &["--children"])?;
    tracer.signal(Signal::SIGKILL)?;
    tracer.finish(Duration::from_secs(10))?;
    let ledger = target.work()?;
    ensure!(ledger.pid == u64::from(target.pid()), "another process");
    let status = std::fs::read_to_string(format!("/proc/{}/status", target.pid()))?;
    ensure!(status.contains("TracerPid:\t0"), "{status}");
    leftover::no_breakpoints(target.pid())?;
    target.go()?;
    ensure!(
        target.wait()?.code() == Some(42),
        "the target ended otherwise"
    );
    Ok(())
}

/// One that a debugger holds is refused in one line.
#[test]
fn a_process_under_a_debugger_cannot_be_followed() -> Result<()> {
    let _turn = turn();
    need_root!("a_process_under_a_debugger_cannot_be_followed");
    let target = Target::start("family", &[] as &[&str])?;
    let other = tracer::attach(&[target.pid()], &["--children"])?;
    let pid = target.pid().to_string();
    let outcome = tracer::run(&["-p", &pid, "--children"], Duration::from_secs(30))?;
    check::refused(&outcome, &["children", &pid, "traces it already"])?;
    // Without the option there may be two.
    let outcome = tracer::run(&["-p", &pid, "-d", "100ms"], Duration::from_secs(30))?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    other.stop()?;
    drop(target);
    Ok(())
}

/// A shell's pipelines: many short processes of stock programs.
#[test]
fn a_shell_pipeline() -> Result<()> {
    let _turn = turn();
    need_root!("a_shell_pipeline");
    let script =
        "i=0; while [ $i -lt 20 ]; do seq 100 | sort -r | head -n 3 >/dev/null; i=$((i+1)); done";
    let untraced = Command::new("sh").args(["-c", script]).status()?;
    ensure!(untraced.success());
    let mut command = tracer::command()?;
    command.args([
        "--children",
        "-f",
        "json",
        "--top",
        "0",
        "--",
        "sh",
        "-c",
        script,
    ]);
    let outcome = tracer::spawn(&mut command)?.finish(Duration::from_mins(2))?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    let report = outcome.report()?;
    ensure!(
        report.process_count() >= 61,
        "{} processes",
        report.process_count()
    );
    report.must_be_exact()
}
