//! `cargo xtask bench pairs`: what memtrace costs a program that does nothing but
//! allocate. Untraced and traced runs alternate, so that both see the same
//! machine; the report is the medians and their ratio, as JSON.
use super::median;
use crate::shell::{Guard, as_root, memtrace, run};
use anyhow::{Context, Result, ensure};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Measure what memtrace costs a malloc/free loop
#[derive(clap::Args)]
pub(super) struct PairLoop {
    /// Pairs of malloc and free in each thread
    #[arg(long, default_value_t = 1_000_000)]
    pairs: u64,
    /// Threads of the program
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Runs of each kind
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Milliseconds that memtrace gets to attach
    #[arg(long, default_value_t = 3000)]
    attach_ms: u64,
}

impl PairLoop {
    pub(super) fn run(&self, root: &Path) -> Result<()> {
        ensure!(self.runs > 0, "at least one run");
        crate::run::build(root)?;
        let folder = tempfile::tempdir()?;
        let program = folder.path().join("pair_loop");
        let source = root.join("tests/programs/pair_loop.c");
        run(Command::new("cc")
            .args(["-O2", "-pthread", "-o"])
            .args([&program, &source]))?;
        let (mut untraced, mut traced) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            untraced.push(self.measure(&program, None)?);
            traced.push(self.measure(&program, Some(&memtrace(root)))?);
        }
        let (untraced, traced) = (median(&mut untraced), median(&mut traced));
        let document = serde_json::json!({
            "schema": "memtrace.bench.v1",
            "pairs": self.pairs,
            "threads": self.threads,
            "runs": self.runs,
            "untraced_ns_per_pair": untraced,
            "traced_ns_per_pair": traced,
            "added_ns_per_pair": traced - untraced,
            "ratio": traced / untraced,
        });
        println!("{document:#}");
        Ok(())
    }

    /// Nanoseconds a pair, in one run of the program.
    fn measure(&self, program: &Path, tracer: Option<&Path>) -> Result<f64> {
        let mut target = Guard(
            Command::new(program)
                .args([self.pairs.to_string(), self.threads.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?,
        );
        // The program waits for a line before it starts.
        let tracer = tracer
            .map(|tracer| self.attach(tracer, target.0.id()))
            .transpose()?;
        target
            .0
            .stdin
            .take()
            .context("it has an input")?
            .write_all(b"\n")?;
        let mut line = String::new();
        BufReader::new(target.0.stdout.take().context("it has an output")?).read_line(&mut line)?;
        ensure!(target.0.wait()?.success(), "pair_loop failed");
        if let Some(mut tracer) = tracer {
            ensure!(tracer.0.wait()?.success(), "memtrace failed");
        }
        let number = line
            .trim()
            .strip_prefix("ns_per_pair ")
            .context("pair_loop says nothing")?;
        Ok(number.parse()?)
    }

    fn attach(&self, tracer: &Path, pid: u32) -> Result<Guard> {
        let mut command = as_root(tracer, &[]);
        command.args(["-p", &pid.to_string(), "--format", "json"]);
        let mut tracer = Guard(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
        sleep(Duration::from_millis(self.attach_ms));
        let early = tracer.0.try_wait()?;
        ensure!(early.is_none(), "memtrace ended before the program began");
        Ok(tracer)
    }
}
