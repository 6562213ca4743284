//! `cargo xtask bench pairs`: what memtrace costs a program that does nothing but
//! allocate. Untraced and traced runs alternate, so that both see the same
//! machine; the report is the medians and their ratio, as JSON.
use super::{median, target::Waiting};
use crate::shell::{Guard, as_root, memtrace};
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Stdio;
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
        let (mut untraced, mut traced) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            untraced.push(self.measure(root, folder.path(), None)?);
            traced.push(self.measure(root, folder.path(), Some(&memtrace(root)))?);
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
    fn measure(&self, root: &Path, folder: &Path, tracer: Option<&Path>) -> Result<f64> {
        let arguments = [self.pairs, u64::from(self.threads)];
        let target = Waiting::start(root, folder, "pair_loop", arguments)?;
        let tracer = tracer
            .map(|tracer| self.attach(tracer, target.pid()))
            .transpose()?;
        let ns = target.work("ns_per_pair")?;
        if let Some(mut tracer) = tracer {
            ensure!(tracer.0.wait()?.success(), "memtrace failed");
        }
        Ok(ns)
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
