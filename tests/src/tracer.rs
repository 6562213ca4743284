//! memtrace itself, as its users start it.
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lines::{Bytes, Lines};
use crate::report::Report;
use crate::target::{Guard, brief, text};

/// How long memtrace may take to attach. Ten perf-event probes take 13 ms; symbols and unwind tables come on top.
pub const ATTACH: Duration = Duration::from_secs(20);
/// How long it may take to end, in tests that are not about that.
pub const FINISH: Duration = Duration::from_secs(20);

/// Where memtrace is: `$MEMTRACE_BIN`, or a release build, or a debug build.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MEMTRACE_BIN") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "MEMTRACE_BIN is {}, which is not a file",
            path.display()
        );
        return fs::canonicalize(&path)
            .with_context(|| format!("MEMTRACE_BIN: {}", path.display()));
    }
    let target = crate::target_directory()?;
    for profile in ["release", "debug"] {
        let path = target.join(profile).join("memtrace");
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!(
        "no memtrace in {}: run `cargo build --release -p memtrace`, or set MEMTRACE_BIN",
        target.display()
    );
}

/// memtrace, ready to be given arguments. Not started through sudo as far as it can tell: CMD runs as this user.
pub fn command() -> Result<Command> {
    let mut command = Command::new(binary()?);
    for name in [
        "SUDO_UID",
        "SUDO_GID",
        "SUDO_USER",
        "RUST_LOG",
        "MEMTRACE_LOG",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// A running memtrace.
pub struct Running {
    child: Guard,
    stderr: Lines,
    stdout: Bytes,
    started: Instant,
}

/// What it did.
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// All of it.
    pub stdout: Vec<u8>,
    /// All of it, in lines.
    pub stderr: Vec<String>,
    /// From its start (or the interrupt, see [`Running::stop`]) to its end.
    pub took: Duration,
}

/// Starts any command as a tracer is started.
pub fn spawn(command: &mut Command) -> Result<Running> {
    let mut child: Child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let stdout = Bytes::of(child.stdout.take().context("no standard output")?);
    let stderr = Lines::of(child.stderr.take().context("no standard error")?);
    Ok(Running {
        child: Guard(child),
        stderr,
        stdout,
        started: Instant::now(),
    })
}

/// Starts `memtrace ARGUMENTS…`.
pub fn start<S: AsRef<OsStr>>(arguments: &[S]) -> Result<Running> {
    spawn(command()?.args(arguments))
}

/// Runs `memtrace ARGUMENTS…` to its end.
pub fn run<S: AsRef<OsStr>>(arguments: &[S], timeout: Duration) -> Result<Outcome> {
    start(arguments)?.finish(timeout)
}

/// `memtrace -p PID… -f json ARGUMENTS…`, attached.
pub fn attach(pids: &[u32], arguments: &[&str]) -> Result<Running> {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let mut all: Vec<OsString> = vec!["-p".into(), pids.join(",").into()];
    if !arguments.contains(&"-f") && !arguments.contains(&"--format") {
        all.extend(["-f".into(), "json".into()]);
    }
    // Rows are checked one by one: no cut-off, whatever the default.
    if !arguments.contains(&"--top") {
        all.extend(["--top".into(), "1000000".into()]);
    }
    all.extend(arguments.iter().map(Into::into));
    let mut tracer = start(&all)?;
    tracer.wait_attached()?;
    Ok(tracer)
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Waits until it says that its probes are in: a line with the word `tracing` on standard error.
    pub fn wait_attached(&mut self) -> Result<()> {
        self.stderr
            .wait_for("memtrace to say 'tracing'", ATTACH, |line| {
                line.contains("tracing")
            })?;
        Ok(())
    }

    /// Waits for a line on standard error.
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        self.stderr.wait_for(what, FINISH, wanted)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.runs()
    }

    /// Ctrl-C.
    pub fn interrupt(&self) -> Result<()> {
        self.signal(Signal::SIGINT)
    }

    /// Sends it a signal. It is our child and not reaped yet: the pid is its own.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?);
        kill(pid, signal).with_context(|| format!("sending {signal} to memtrace"))
    }

    /// Waits for its end and returns all that it said.
    pub fn finish(mut self, timeout: Duration) -> Result<Outcome> {
        let status = match self.child.wait(timeout) {
            Ok(status) => status,
            Err(error) => {
                let so_far = self.stderr.so_far().join("\n");
                return Err(error.context(format!(
                    "memtrace does not end; its standard error:\n{so_far}"
                )));
            }
        };
        let took = self.started.elapsed();
        // The pipes end with the last process that holds them; memtrace has none left running when it ends.
        let stdout = self.stdout.all(Duration::from_secs(5));
        let stderr = self.stderr.all(Duration::from_secs(5));
        let panicked = stderr.iter().any(|line| line.contains("panicked at"));
        ensure!(!panicked, "memtrace panicked:\n{}", stderr.join("\n"));
        Ok(Outcome {
            status,
            stdout,
            stderr,
            took,
        })
    }

    /// Ctrl-C, and all that it said; the time counts from the interrupt.
    pub fn stop(mut self) -> Result<Outcome> {
        self.interrupt()?;
        self.started = Instant::now();
        self.finish(FINISH)
    }

    /// Ctrl-C, a good end, and the last report.
    pub fn report(self) -> Result<Report> {
        self.stop()?.report()
    }
}

impl Outcome {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What it said, for messages.
    pub fn context(&self) -> String {
        let stdout: String = self.text().chars().take(2000).collect();
        format!(
            "{}\nstandard error:\n{}\nstandard output:\n{stdout}",
            self.status,
            self.stderr.join("\n")
        )
    }

    /// The document of this schema on standard output, after a good end.
    pub fn document(&self, schema: &str) -> Result<Value> {
        ensure!(self.status.success(), "{}", self.context());
        let document: Value =
            serde_json::from_slice(&self.stdout).with_context(|| self.context())?;
        ensure!(text(&document, "schema")? == schema, "{}", brief(&document));
        Ok(document)
    }

    /// The reports on standard output, after a good end.
    pub fn reports(&self) -> Result<Vec<Report>> {
        ensure!(
            self.status.success(),
            "memtrace ended with {}",
            self.context()
        );
        Report::parse_all(&self.stdout).with_context(|| self.context())
    }

    /// The last of them.
    pub fn report(&self) -> Result<Report> {
        self.reports()?
            .pop()
            .with_context(|| format!("no report: {}", self.context()))
    }
}
