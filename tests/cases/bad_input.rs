//! What cannot work: the right status, one line on standard error that says what, why and what to do, nothing on
//! standard output, nothing left behind. docs/peers.md (bad input) shows how other tracers fail here.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memtrace_tests::report::Report;
use memtrace_tests::target::{Guard, Target};
use memtrace_tests::tracer::{self, Outcome};
use memtrace_tests::{check, need_root, program, skip, turn};

/// No failure takes long.
const SOON: Duration = Duration::from_secs(10);

fn run(arguments: &[&str]) -> Result<Outcome> {
    check::leaving_nothing(|| Ok((tracer::run(arguments, SOON)?, vec![])))
}

/// A pid that nobody has: of a child that has been reaped just now.
fn free_pid() -> Result<u32> {
    let mut child = Command::new("true").spawn()?;
    let pid = child.id();
    child.wait()?;
    Ok(pid)
}

/// docs/peers.md (bad input): `failed to create uprobe … No such process`, or a traceback.
#[test]
fn no_such_process() -> Result<()> {
    let _turn = turn();
    need_root!("no_such_process");
    let pid = free_pid()?.to_string();
    check::refused(
        &run(&["-p", &pid])?,
        &[
            &pid,
            "no such process|no process|does not exist|not running",
        ],
    )?;
    // The largest that Linux allows is 2^22.
    check::refused(
        &run(&["-p", "4194304"])?,
        &[
            "4194304",
            "no such process|no process|does not exist|not running",
        ],
    )
}

/// One of several is not there.
#[test]
fn one_of_two_is_no_process() -> Result<()> {
    let _turn = turn();
    need_root!("one_of_two_is_no_process");
    let target = Target::start("phases", &[] as &[&str])?;
    let missing = free_pid()?.to_string();
    let both = format!("{},{missing}", target.pid());
    let outcome =
        check::leaving_nothing(|| Ok((tracer::run(&["-p", &both], SOON)?, vec![target.pid()])))?;
    check::refused(
        &outcome,
        &[
            &missing,
            "no such process|no process|does not exist|not running",
        ],
    )?;
    target.end()
}

/// Wrong usage is status 2, root or not.
#[test]
fn wrong_usage() -> Result<()> {
    let _turn = turn();
    check::misused(&run(&["-p", "0"])?, "0")?;
    check::misused(&run(&["-p", "garbage"])?, "garbage")?;
    check::misused(&run(&["-p", "-5"])?, "5")?;
    check::misused(
        &run(&["-p", "99999999999999999999"])?,
        "99999999999999999999",
    )?;
    check::misused(&run(&["-p", "1,,x"])?, "")?;
    check::misused(&run(&["-p", "1", "--no-such-option"])?, "--no-such-option")?;
    check::misused(&run(&["-p", "1", "-f", "yaml"])?, "yaml")?;
    check::misused(&run(&["-p", "1", "--duration", "soon"])?, "soon")?;
    check::misused(&run(&["-p", "1", "--min-size", "big"])?, "big")?;
    check::misused(&run(&["-p", "1", "--sort", "age"])?, "age")?;
    check::misused(&run(&["-p", "1", "--", "true"])?, "")?;
    check::misused(&run(&[])?, "-p")
}

/// Kernel threads have no heap.
#[test]
fn kernel_thread() -> Result<()> {
    let _turn = turn();
    need_root!("kernel_thread");
    let is_kernel_thread = |pid: &str| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "kthreadd")
    };
    if !is_kernel_thread("2") {
        skip!("kernel_thread", "pid 2 is not kthreadd: in a container?");
    }
    check::refused(&run(&["-p", "2"])?, &["2", "kernel thread"])
}

/// A process that has ended but is not reaped.
#[test]
fn zombie() -> Result<()> {
    let _turn = turn();
    need_root!("zombie");
    let mut ended = Guard(Command::new("true").spawn()?);
    let stat = format!("/proc/{}/stat", ended.0.id());
    let deadline = Instant::now() + SOON;
    while !fs::read_to_string(&stat)?.contains(") Z ") {
        ensure!(Instant::now() < deadline, "`true` does not end");
        sleep(Duration::from_millis(5));
    }
    let pid = ended.0.id().to_string();
    check::refused(&run(&["-p", &pid])?, &[&pid])?;
    ensure!(!ended.runs(), "it was a zombie");
    Ok(())
}

/// docs/peers.md (bad input): `RLIMIT_MEMLOCK` or a traceback. The line names the capabilities and how to get them.
#[test]
fn not_root() -> Result<()> {
    const NOBODY: u32 = 65534;
    let _turn = turn();
    need_root!("not_root");
    let directory = tempfile::Builder::new()
        .prefix("memtrace-test")
        .tempdir_in("/tmp")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let binary = directory.path().join("memtrace");
    fs::copy(tracer::binary()?, &binary)?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    // Its own process: it is not the target that is out of reach.
    let target = Guard(
        Command::new("sleep")
            .arg("60")
            .uid(NOBODY)
            .gid(NOBODY)
            .spawn()?,
    );
    for arguments in [
        vec!["-p".to_owned(), target.0.id().to_string()],
        vec!["--".to_owned(), "true".to_owned()],
    ] {
        let mut command = Command::new(&binary);
        command
            .args(&arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/");
        let outcome = check::leaving_nothing(|| {
            Ok((
                tracer::spawn(&mut command)?.finish(SOON)?,
                vec![target.0.id()],
            ))
        })?;
        check::refused(&outcome, &["CAP_BPF", "CAP_PERFMON", "sudo|setcap|root"])?;
        let said = outcome.stderr.join("\n");
        ensure!(
            said.matches("Operation not permitted").count() == 1,
            "said twice: {said}"
        );
    }
    Ok(())
}

/// docs/peers.md (numbers): 'Top 0 stacks', status 0 and no warning for static targets.
#[test]
fn static_and_stripped() -> Result<()> {
    let _turn = turn();
    need_root!("static_and_stripped");
    let mut target = Target::start("static_stripped", &[] as &[&str])?;
    let pid = target.pid();
    let outcome =
        check::leaving_nothing(|| Ok((tracer::run(&["-p", &pid.to_string()], SOON)?, vec![pid])))?;
    check::refused(
        &outcome,
        &[&pid.to_string(), "static|stripped|malloc|allocator"],
    )?;
    target.work()?;
    target.end()
}

/// A run that is refused leaves no empty files behind, and those alone that were there before.
#[test]
fn a_refused_run_leaves_no_files() -> Result<()> {
    let _turn = turn();
    need_root!("a_refused_run_leaves_no_files");
    let directory = tempfile::tempdir()?;
    let pid = free_pid()?.to_string();
    let file = |name: &str| directory.path().join(name).display().to_string();
    fs::write(file("kept"), "an earlier report")?;
    let (report, capture, kept) = (file("report"), file("capture"), file("kept"));
    let outcome = run(&["-p", &pid, "-o", &report, "--record", &capture])?;
    check::refused(&outcome, &[&pid])?;
    check::refused(&run(&["-p", &pid, "-o", &kept])?, &[&pid])?;
    let files = fs::read_dir(directory.path())?.flatten();
    let files: Vec<_> = files.map(|entry| entry.file_name()).collect();
    ensure!(files == ["kept"], "left behind: {files:?}");
    ensure!(
        fs::read_to_string(&kept)? == "an earlier report",
        "it was overwritten"
    );
    // What is neither of the two says what would be.
    let refused = run(&["report", &kept])?;
    check::refused(&refused, &["--record", "JSON"])
}

/// An allocator that never comes is waited for, and its absence is told once.
#[test]
fn an_allocator_that_never_comes() -> Result<()> {
    let _turn = turn();
    need_root!("an_allocator_that_never_comes");
    let outcome = run(&["--allocator", "/no/such/allocator", "--", "true"])?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    let lines = &outcome.stderr;
    ensure!(
        lines.iter().filter(|line| line.contains("warn")).count() == 1
            && lines.iter().all(|line| !line.contains("0 probes"))
            && lines.iter().any(|line| line.contains("once it can be")),
        "{}",
        outcome.context()
    );
    Ok(())
}

/// An output file that cannot be written is found out before the trace, not after it.
#[test]
fn unwritable_output() -> Result<()> {
    let _turn = turn();
    need_root!("unwritable_output");
    let directory = tempfile::tempdir()?;
    let missing = directory.path().join("no/such/directory/report.json");
    let marker = directory.path().join("ran");
    let target = Target::start("phases", &[] as &[&str])?;
    let pid = target.pid().to_string();
    // A directory that is not there; a directory itself; a file system that root cannot write to either.
    let outputs = [
        missing,
        directory.path().to_path_buf(),
        PathBuf::from("/proc/memtrace.json"),
        PathBuf::from("/dev/full/report"),
    ];
    for output in outputs {
        let path = output.to_str().context("a path that is no text")?;
        let start = Instant::now();
        let arguments = ["-p", &pid, "--duration", "8s", "-o", path];
        let outcome =
            check::leaving_nothing(|| Ok((tracer::run(&arguments, SOON)?, vec![target.pid()])))?;
        check::refused(&outcome, &[path])?;
        ensure!(
            start.elapsed() < Duration::from_secs(6),
            "{path}: found out only after the trace"
        );
        // CMD must not have run either.
        let touch = marker.to_str().context("a path that is no text")?;
        check::refused(&run(&["-o", path, "--", "touch", touch])?, &[path])?;
        ensure!(
            !marker.exists(),
            "{path}: CMD was run although its report cannot be written"
        );
    }
    target.end()
}

/// docs/peers.md (bad input): `-c` with an unknown command, status 0.
#[test]
fn command_not_found() -> Result<()> {
    let _turn = turn();
    need_root!("command_not_found");
    let name = "memtrace-no-such-command";
    check::refused(&run(&["--", name])?, &[name, "not found|no such file"])?;
    check::refused(
        &run(&["--", "/no/such/program"])?,
        &["/no/such/program", "not found|no such file"],
    )?;
    // There, but not a program.
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("text");
    fs::write(&file, "not a program\n")?;
    let path = file.to_str().context("a path that is no text")?;
    check::refused(
        &run(&["--", path])?,
        &[path, "permission denied|not executable|cannot be executed"],
    )
}

/// A target that goes away at any moment of the attach: a report that says so, or a refusal; never a crash or a wait.
#[test]
fn target_exits_while_attaching() -> Result<()> {
    let _turn = turn();
    need_root!("target_exits_while_attaching");
    check::leaving_nothing(|| {
        for milliseconds in [0, 1, 3, 6, 10, 20, 40, 70, 100, 150, 250] {
            let mut target = Target::start("phases", &[] as &[&str])?;
            let pid = target.pid().to_string();
            let tracer = tracer::start(&["-p", &pid, "-f", "json"])?;
            sleep(Duration::from_millis(milliseconds));
            target.kill()?;
            let outcome = tracer
                .finish(SOON)
                .with_context(|| format!("killed after {milliseconds} ms"))?;
            match outcome.status.code() {
                Some(0) => {
                    let report = Report::parse_all(&outcome.stdout)?
                        .pop()
                        .with_context(|| outcome.context())?;
                    ensure!(
                        report.exited(pid.parse()?)?,
                        "after {milliseconds} ms: {}",
                        report.0
                    );
                }
                _ => check::refused(&outcome, &[&pid])
                    .with_context(|| format!("killed after {milliseconds} ms"))?,
            }
        }
        Ok(((), vec![]))
    })
}

/// A CMD that is over before anything could be traced.
#[test]
fn command_that_ends_at_once() -> Result<()> {
    let _turn = turn();
    need_root!("command_that_ends_at_once");
    let outcome = run(&["-f", "json", "--", "true"])?;
    ensure!(
        outcome.report()?.process_count() == 1,
        "{}",
        outcome.context()
    );
    let outcome = run(&["-f", "json", "--", "false"])?;
    ensure!(outcome.status.code() == Some(1), "{}", outcome.context());
    ensure!(
        Report::parse_all(&outcome.stdout)?.len() == 1,
        "{}",
        outcome.context()
    );
    Ok(())
}

/// A static and stripped CMD: refused, or run to its end with a report that says what it could not see; never silent.
#[test]
fn command_static_and_stripped() -> Result<()> {
    let _turn = turn();
    need_root!("command_static_and_stripped");
    let path = program::path("static_stripped")?;
    let outcome = run(&[
        "-f",
        "json",
        "--",
        path.to_str().context("a path that is no text")?,
    ])?;
    let said = outcome.stderr.iter().any(|line| {
        let line = line.to_lowercase();
        ["static", "stripped", "allocator", "malloc"]
            .iter()
            .any(|word| line.contains(word))
    });
    ensure!(
        said,
        "silent about the allocator that it did not find: {}",
        outcome.context()
    );
    Ok(())
}
