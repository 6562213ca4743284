//! `cargo xtask soak`: a long trace of a busy program with a leak that it knows
//! of. memtrace's own memory and descriptors must stay bounded, and the last
//! report must be exact.
use crate::shell::{Guard, as_root, memtrace, run};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Trace a busy program for long, and check that memtrace does not grow
#[derive(clap::Args)]
pub(crate) struct Soak {
    /// For how long
    #[arg(long, default_value_t = Self::default().seconds)]
    seconds: u64,
    /// How much memtrace may grow in the second half, KiB
    #[arg(long, default_value_t = Self::default().growth_kib)]
    growth_kib: u64,
}

/// How often memtrace reports meanwhile, and how often it is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// What a process uses.
#[derive(Clone, Copy, Debug)]
struct Use {
    resident_kib: u64,
    descriptors: usize,
}

impl Use {
    fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .context("no VmRSS")?;
        Ok(Self {
            resident_kib: resident.parse()?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }
}

impl Default for Soak {
    fn default() -> Self {
        Self {
            seconds: 60,
            growth_kib: 4096,
        }
    }
}

impl Soak {
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        ensure!(
            crate::shell::is_root(),
            "run it as root: it traces, and looks into a process of root's"
        );
        crate::run::build(root)?;
        let folder = tempfile::tempdir()?;
        let build = |source: &str, program: &str, flags: &[&str]| -> Result<PathBuf> {
            let path = folder.path().join(program);
            let source = root.join("tests/programs").join(source);
            run(Command::new("cc")
                .args(["-O1", "-g", "-pthread", "-o"])
                .args([&path, &source])
                .args(flags))?;
            Ok(path)
        };
        let plugin = build("plugin.c", "libplugin.so", &["-shared", "-fPIC"])?;
        let program = build("soak.c", "soak", &["-ldl"])?;
        let mut target = Target::start(&program, &plugin)?;
        let report = folder.path().join("report.json");
        let interval = format!("{}s", INTERVAL.as_secs());
        let mut tracer = Guard(
            as_root(memtrace(root), &[])
                .args(["-p", &target.pid().to_string(), "-f", "json", "--top", "0"])
                .args(["-i", &interval, "-o"])
                .arg(&report)
                .stdin(Stdio::null())
                .spawn()?,
        );
        let pid = tracer.0.id();
        sleep(Duration::from_secs(3));
        target.line()?;
        let (mut uses, start) = (Vec::new(), Instant::now());
        while start.elapsed() < Duration::from_secs(self.seconds) {
            sleep(INTERVAL);
            ensure!(tracer.0.try_wait()?.is_none(), "memtrace ended early");
            uses.push(Use::of(pid)?);
        }
        target.line()?;
        let truth = target.ledger()?;
        run(Command::new("kill").args(["-INT", &pid.to_string()]))?;
        ensure!(tracer.0.wait()?.success(), "memtrace failed");
        self.judge(&uses, &fs::read_to_string(&report)?, &truth)
    }

    fn judge(&self, uses: &[Use], reports: &str, truth: &serde_json::Value) -> Result<()> {
        // The one before the last: the program was still running then.
        let last = serde_json::Deserializer::from_str(reports)
            .into_iter::<serde_json::Value>()
            .last()
            .context("no report")??;
        let (half, rest) = uses.split_at(uses.len() / 2);
        let most = |uses: &[Use], of: fn(&Use) -> u64| uses.iter().map(of).max().unwrap_or(0);
        let resident = |uses| most(uses, |used| used.resident_kib);
        let descriptors = |uses| most(uses, |used| used.descriptors as u64);
        let document = serde_json::json!({
            "schema": "memtrace.soak.v1",
            "seconds": self.seconds,
            "events": last["totals"]["allocated_count"],
            "exact": last["exact"],
            "resident_kib": [resident(half), resident(rest)],
            "descriptors": [descriptors(half), descriptors(rest)],
            "leaked_bytes": [truth["outstanding_bytes"], leaked(&last)],
        });
        println!("{document:#}");
        ensure!(last["exact"] == true, "not exact: {}", last["notes"]);
        ensure!(
            truth["outstanding_bytes"].as_u64() == Some(leaked(&last)),
            "the leak is another than the program's"
        );
        ensure!(
            resident(rest) <= resident(half) + self.growth_kib,
            "memtrace grows"
        );
        ensure!(
            descriptors(rest) <= descriptors(half),
            "descriptors pile up"
        );
        Ok(())
    }
}

/// Outstanding bytes of the site that leaks.
fn leaked(report: &serde_json::Value) -> u64 {
    let stacks = report["stacks"].as_array().into_iter().flatten();
    stacks
        .filter(|stack| stack["frames"][0]["symbol"] == "leak_a_little")
        .filter_map(|stack| stack["bytes"].as_u64())
        .sum()
}

/// The program.
struct Target {
    child: Guard,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Target {
    fn start(program: &Path, plugin: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .arg(plugin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("it has an input")?;
        let output = child.stdout.take().context("it has an output")?;
        let mut target = Self {
            child: Guard(child),
            input,
            output: BufReader::new(output).lines(),
        };
        ensure!(target.said()? == "READY", "it does not begin");
        Ok(target)
    }

    fn pid(&self) -> u32 {
        self.child.0.id()
    }

    fn line(&mut self) -> Result<()> {
        Ok(self.input.write_all(b"\n")?)
    }

    fn said(&mut self) -> Result<String> {
        Ok(self.output.next().context("it has ended")??)
    }

    fn ledger(&mut self) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.said()?)?)
    }
}
