//! `cargo xtask bench pages`: what `memtrace pages` costs a program that does nothing
//! but take pages and give them back, against bpftrace that counts kernel stacks.
//! Untraced and traced runs alternate; the report is the medians, as JSON.
use super::median;
use crate::shell::{Guard, as_root, find, memtrace, run};
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// What bpftrace is to do: it keeps no account of pages, it only counts.
const SCRIPT: &str = "tracepoint:kmem:mm_page_alloc { @[kstack] = count(); } tracepoint:kmem:mm_page_free { @[kstack] = count(); }";

/// Measure what `memtrace pages` costs a page fault, against bpftrace
#[derive(clap::Args)]
pub(super) struct Pages {
    /// Pages that are taken before they are given back
    #[arg(long, default_value_t = 4096)]
    held: u64,
    /// How often
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    /// Runs of each kind
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Milliseconds that a tracer gets to attach
    #[arg(long, default_value_t = 5000)]
    attach_ms: u64,
}

impl Pages {
    pub(super) fn run(&self, root: &Path) -> Result<()> {
        ensure!(self.runs > 0, "at least one run");
        crate::run::build(root)?;
        let folder = tempfile::tempdir()?;
        let program = folder.path().join("page_loop");
        let source = root.join("tests/programs/page_loop.c");
        run(Command::new("cc")
            .arg("-O2")
            .arg("-o")
            .args([&program, &source]))?;
        let memtrace = memtrace(root);
        let bpftrace = find("bpftrace").context("no bpftrace to compare with: install it")?;
        let by_memtrace = || {
            let mut command = as_root(&memtrace, &[]);
            command.args(["pages", "--format", "json"]);
            command
        };
        let by_bpftrace = || {
            let mut command = as_root(&bpftrace, &[]);
            command.args(["-e", SCRIPT]);
            command
        };
        let (mut untraced, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.runs {
            untraced.push(self.measure(&program, None)?);
            ours.push(self.measure(&program, Some(by_memtrace()))?);
            theirs.push(self.measure(&program, Some(by_bpftrace()))?);
        }
        let untraced = median(&mut untraced);
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        let document = serde_json::json!({
            "schema": "memtrace.bench.v1",
            "held_pages": self.held,
            "rounds": self.rounds,
            "runs": self.runs,
            "untraced_ns_per_page": untraced,
            "memtrace_added_ns_per_page": ours - untraced,
            "bpftrace_added_ns_per_page": theirs - untraced,
            "ratio": (ours - untraced) / (theirs - untraced),
        });
        println!("{document:#}");
        Ok(())
    }

    /// Nanoseconds for each page that is taken and given back, in one run.
    fn measure(&self, program: &Path, tracer: Option<Command>) -> Result<f64> {
        let mut target = Guard(
            Command::new(program)
                .args([self.held.to_string(), self.rounds.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?,
        );
        let tracer = tracer.map(|tracer| self.attach(tracer)).transpose()?;
        let mut input = target.0.stdin.take().context("it has an input")?;
        input.write_all(b"\n")?;
        let mut line = String::new();
        BufReader::new(target.0.stdout.take().context("it has an output")?).read_line(&mut line)?;
        ensure!(target.0.wait()?.success(), "page_loop failed");
        if let Some(mut tracer) = tracer {
            run(as_root("kill", &[]).args(["-INT", &tracer.0.id().to_string()]))?;
            ensure!(tracer.0.wait()?.success(), "the tracer failed");
        }
        let number = line
            .trim()
            .strip_prefix("ns_per_page ")
            .context("page_loop says nothing")?;
        Ok(number.parse()?)
    }

    fn attach(&self, mut tracer: Command) -> Result<Guard> {
        let mut tracer = Guard(
            tracer
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        );
        sleep(Duration::from_millis(self.attach_ms));
        if tracer.0.try_wait()?.is_some() {
            bail!("the tracer ended before the program began");
        }
        Ok(tracer)
    }
}
