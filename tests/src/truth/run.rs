//! Runs programs below memtrace with the shim preloaded, and compares.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Comparison, Truth, compare, file, resume};
use crate::report::Report;
use crate::target::{number, text};
use crate::{program, say, tracer};

/// Per cent of the allocations that must have the same stack.
const GOAL: f64 = 99.9;
const PATIENCE: Duration = Duration::from_mins(4);

/// A run of a program with the shim.
#[derive(Debug)]
pub struct Run {
    /// Where programs may write.
    pub directory: tempfile::TempDir,
    shim: PathBuf,
}

impl Run {
    /// Builds the shim.
    pub fn new() -> Result<Self> {
        Ok(Self {
            directory: tempfile::tempdir()?,
            shim: program::path("libshim.so")?,
        })
    }

    fn truths(&self) -> PathBuf {
        self.directory.path().join("truths")
    }

    /// Runs `command` below memtrace, all its children too. Only libc is probed, which the shim calls: a
    /// return probe on the shim's own functions would hide the return address from it.
    fn below_memtrace(&self, command: &[OsString]) -> Result<Report> {
        fs::create_dir_all(self.truths())?;
        let mut arguments = heap_options(&c_library()?);
        arguments.extend(["--children", "--", "env"].map(OsString::from));
        let assign = |name: &str, value: &Path| {
            let mut assignment = OsString::from(format!("{name}="));
            assignment.push(value);
            assignment
        };
        arguments.push(assign("TRUTH_DIRECTORY", &self.truths()));
        arguments.push(assign("LD_PRELOAD", &self.shim));
        arguments.push("PYTHONMALLOC=malloc".into());
        arguments.extend(command.iter().cloned());
        let mut memtrace = tracer::command()?;
        let memtrace = memtrace.current_dir(self.directory.path());
        self.report(tracer::spawn(memtrace.args(arguments))?)
    }

    fn report(&self, tracer: tracer::Running) -> Result<Report> {
        let outcome = tracer.finish(PATIENCE)?;
        ensure!(outcome.status.success(), "{}", outcome.context());
        Report::read(&self.directory.path().join("report.json"))
    }

    /// Compares all processes of a report that the shim was in, but those with a name that is to be left out. Those with
    /// the same name are added up.
    fn compare(&self, what: &str, report: &Report, leave: &[&str]) -> Result<Vec<Comparison>> {
        report.must_not_lose()?;
        let mut compared: BTreeMap<&str, Comparison> = BTreeMap::new();
        let mut files = fs::read_dir(self.truths())?.count();
        for process in report.processes()? {
            let pid = number(process, "pid")?;
            // `env` itself, and children that ended before they allocated.
            if !file(&self.truths(), pid).exists() {
                continue;
            }
            files = files.saturating_sub(1);
            let comm = text(process, "comm").unwrap_or("?");
            if leave.contains(&comm) {
                continue;
            }
            let comparison = compare(report, pid, &Truth::read(&self.truths(), pid)?)?;
            compared.entry(comm).or_default().add(comparison);
        }
        ensure!(
            files == 0,
            "{what}: {files} processes are not in the report"
        );
        ensure!(!compared.is_empty(), "{what}: nothing to compare");
        for (comm, comparison) in &compared {
            say(&format!("{what}, {comm}: {}", comparison.summary()));
        }
        Ok(compared.into_values().collect())
    }

    /// Runs a command to its end, and compares all its processes but those of the names `leave`.
    pub fn run(&self, what: &str, command: &[OsString], leave: &[&str]) -> Result<Vec<Comparison>> {
        let report = self.below_memtrace(command).context(what.to_owned())?;
        self.compare(what, &report, leave)
    }

    /// The same; every process must reach the goal. Returns how many allocations there were.
    pub fn must_be_true(&self, what: &str, command: &[OsString], leave: &[&str]) -> Result<u64> {
        reached(what, &self.run(what, command, leave)?)
    }

    /// The command of a program that the shim waits in until memtrace has attached.
    pub fn paused(&self, program: &Path) -> Result<Command> {
        fs::create_dir_all(self.truths())?;
        let mut command = Command::new(program);
        command.current_dir(self.directory.path());
        command.env("LD_PRELOAD", &self.shim);
        command.env("TRUTH_DIRECTORY", self.truths());
        command
            .env("TRUTH_PAUSED", "1")
            .env("PYTHONMALLOC", "malloc");
        Ok(command)
    }

    /// Attaches to a program, which must do nothing meanwhile, lets it and the shim work until it ends, and compares.
    /// `allocator`: the file whose functions the shim calls. Returns how many allocations there were.
    pub fn attached(
        &self,
        what: &str,
        pid: u32,
        allocator: &Path,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<u64> {
        let mut memtrace = tracer::command()?;
        memtrace.args(["-p", &pid.to_string()]);
        memtrace.args(heap_options(allocator));
        let mut tracer = tracer::spawn(memtrace.current_dir(self.directory.path()))?;
        tracer.wait_attached()?;
        resume(&self.truths(), pid.into())?;
        work()?;
        let report = self.report(tracer).context(what.to_owned())?;
        reached(what, &self.compare(what, &report, &[])?)
    }
}

fn heap_options(allocator: &Path) -> Vec<OsString> {
    let options = [
        "--no-mmap",
        "-f",
        "json",
        "--top",
        "0",
        "-o",
        "report.json",
        "--allocator",
    ];
    let mut options: Vec<_> = options.map(OsString::from).into();
    options.push(allocator.into());
    options
}

/// Fails below the goal, or where a stack is wrong and does not say that it was cut. Returns how many allocations there
/// were.
fn reached(what: &str, compared: &[Comparison]) -> Result<u64> {
    for comparison in compared {
        ensure!(
            comparison.share() >= GOAL && comparison.wrong == 0,
            "{what}: {}\n{}",
            comparison.summary(),
            comparison.describe()
        );
    }
    Ok(compared.iter().map(|comparison| comparison.blocks).sum())
}

/// The file that this process has mapped whose name contains `name`.
fn mapped(name: &str) -> Result<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let paths = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let found = paths.into_iter().find(|path| path.contains(name));
    Ok(found.with_context(|| format!("no {name} in maps"))?.into())
}

/// The C library that programs of this machine use.
pub fn c_library() -> Result<PathBuf> {
    mapped("/libc.so.6")
}
