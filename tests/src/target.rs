//! A traced program: started by the test, steered through its pipes, ended with its guard.
use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::lines::Lines;
use crate::{patience, program};

/// How long a program may take over anything. A trap costs microseconds, and the programs make thousands.
const PATIENCE: Duration = Duration::from_secs(30);

/// A child that does not outlive the test. It is reaped only here, so its pid cannot be another's.
pub struct Guard(pub Child);

impl Guard {
    /// Waits for the end, up to a time.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience(timeout);
        loop {
            if let Some(status) = self.0.try_wait().context("waiting for a child")? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("pid {} did not end within {timeout:?}", self.0.id());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program from `tests/programs/` that follows the protocol of `ledger.h`.
pub struct Target {
    child: Guard,
    stdin: Option<ChildStdin>,
    lines: Lines,
}

impl Target {
    /// Starts a program and waits until it is ready to be attached to.
    pub fn start<S: AsRef<OsStr>>(name: &str, arguments: &[S]) -> Result<Self> {
        Self::start_command(Command::new(program::path(name)?).args(arguments))
    }

    /// The same with an environment or whatever else a command takes.
    pub fn start_command(command: &mut Command) -> Result<Self> {
        let mut target = Self::spawn(command)?;
        target
            .lines
            .wait_for("READY", PATIENCE, |line| line == "READY")?;
        Ok(target)
    }

    /// Starts something that need not follow the protocol.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Self {
            child: Guard(child),
            stdin,
            lines: Lines::of(stdout),
        })
    }

    /// Waits for a line that begins so and returns what follows in it.
    pub fn line(&mut self, beginning: &str) -> Result<String> {
        let line = self
            .lines
            .wait_for(beginning, PATIENCE, |line| line.starts_with(beginning))?;
        Ok(line.strip_prefix(beginning).unwrap_or_default().to_owned())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.runs()
    }

    /// Writes to its standard input.
    pub fn tell(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("no standard input")?;
        stdin
            .write_all(text.as_bytes())
            .context("the target does not listen any more")
    }

    /// Lets it go on from where it waits.
    pub fn go(&mut self) -> Result<()> {
        let stdin = self.stdin.as_mut().context("no standard input")?;
        stdin
            .write_all(b"go\n")
            .context("the target does not listen any more")
    }

    /// Lets it work and returns its ledger.
    pub fn work(&mut self) -> Result<Ledger> {
        self.go()?;
        self.ledger()
    }

    /// Waits for its ledger.
    pub fn ledger(&mut self) -> Result<Ledger> {
        let ledger = self
            .lines
            .wait_for("the ledger", PATIENCE, |line| line.starts_with('{'))?;
        self.lines
            .wait_for("DONE", PATIENCE, |line| line == "DONE")?;
        Ledger::parse(&ledger)
    }

    /// Lets it work and returns the line of JSON that it says, where that is no ledger.
    pub fn work_for_json(&mut self) -> Result<Value> {
        self.go()?;
        let line = self
            .lines
            .wait_for("a line of JSON", PATIENCE, |line| line.starts_with('{'))?;
        self.done()?;
        serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))
    }

    /// Waits until it has worked, where it has no ledger.
    pub fn done(&mut self) -> Result<()> {
        self.lines
            .wait_for("DONE", PATIENCE, |line| line == "DONE")
            .map(drop)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait(PATIENCE)
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.0.kill().context("killing the target")?;
        self.child.wait(PATIENCE)
    }

    /// Lets it end by itself and checks that it ended well: the proof that tracing did it no harm.
    pub fn end(mut self) -> Result<()> {
        ensure!(self.runs(), "the target ended before it was told to");
        self.go()?;
        // Some have more work to do before; those that have not are gone by now.
        let _ = self.go().and_then(|()| self.go());
        let status = self.child.wait(PATIENCE)?;
        ensure!(status.success(), "the target ended with {status}");
        Ok(())
    }
}

/// What a program says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Its process id.
    pub pid: u64,
    /// Bytes requested and not freed, since it was told to work.
    pub bytes: u64,
    /// Blocks and mappings.
    pub count: u64,
    /// Ever allocated; 0 where the program does not count it.
    pub allocated_bytes: u64,
    /// Ever allocated; 0 where the program does not count it.
    pub allocated_count: u64,
    /// Blocks from before it was told to work that it freed since.
    pub unmatched_frees: u64,
    /// Reallocations that moved the block, where the program counts them.
    pub moved: u64,
    /// Reallocations that did not.
    pub in_place: u64,
    /// By site.
    pub rows: Vec<LedgerRow>,
}

/// One site of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// The function that calls the allocator.
    pub site: String,
    /// What a tracer may call the allocation function.
    pub functions: Vec<String>,
    /// `heap` or `mapping`.
    pub kind: String,
    /// Outstanding.
    pub bytes: u64,
    /// Outstanding.
    pub count: u64,
}

impl Ledger {
    /// Reads the line that a program printed.
    pub fn parse(line: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("the ledger is no JSON: {line}"))?;
        let rows = value
            .get("rows")
            .and_then(Value::as_array)
            .context("no rows")?;
        Ok(Self {
            pid: number(&value, "pid")?,
            bytes: number(&value, "outstanding_bytes")?,
            count: number(&value, "outstanding_count")?,
            allocated_bytes: number(&value, "allocated_bytes")?,
            allocated_count: number(&value, "allocated_count")?,
            unmatched_frees: number(&value, "unmatched_frees")?,
            moved: number(&value, "moved")?,
            in_place: number(&value, "in_place")?,
            rows: rows.iter().map(LedgerRow::read).collect::<Result<_>>()?,
        })
    }

    /// The row of a site.
    pub fn row(&self, site: &str) -> Result<&LedgerRow> {
        self.rows
            .iter()
            .find(|row| row.site == site)
            .with_context(|| format!("no site {site} in the ledger"))
    }
}

impl LedgerRow {
    fn read(value: &Value) -> Result<Self> {
        Ok(Self {
            site: text(value, "site")?.to_owned(),
            functions: text(value, "functions")?
                .split('|')
                .map(str::to_owned)
                .collect(),
            kind: text(value, "kind")?.to_owned(),
            bytes: number(value, "bytes")?,
            count: number(value, "count")?,
        })
    }
}

/// A number of a JSON object.
pub fn number(value: &Value, key: &str) -> Result<u64> {
    value
        .get(key)
        .and_then(Value::as_u64)
        .with_context(|| format!("no number '{key}' in {}", brief(value)))
}

/// A string of a JSON object.
pub fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value
        .get(key)
        .and_then(Value::as_str)
        .with_context(|| format!("no string '{key}' in {}", brief(value)))
}

/// The start of a JSON value, for messages.
pub fn brief(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}
