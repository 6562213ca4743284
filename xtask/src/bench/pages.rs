//! `cargo xtask bench pages`: what `memtrace pages` costs a program that does nothing
//! but take pages and give them back, against bpftrace that counts kernel stacks.
//! Untraced and traced runs alternate; the report is the medians, as JSON.
use super::{goals::Lab, median, target::Waiting};
use crate::shell::{Guard, as_root, find, memtrace, run};
use anyhow::{Context, Result, bail, ensure};
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

/// What memtrace adds to a page against what bpftrace adds, run by run.
pub(super) fn against_bpftrace(lab: &Lab<'_>) -> Result<Vec<f64>> {
    let pages = Pages {
        held: 4096,
        rounds: 100,
        runs: lab.runs,
        attach_ms: 5000,
    };
    let rounds = pages.rounds_of_each(lab.root, lab.folder)?;
    let ratio = |[untraced, ours, theirs]: &[f64; 3]| (ours - untraced) / (theirs - untraced);
    Ok(rounds.iter().map(ratio).collect())
}

impl Pages {
    pub(super) fn run(&self, root: &Path) -> Result<()> {
        ensure!(self.runs > 0, "at least one run");
        crate::run::build(root)?;
        let folder = tempfile::tempdir()?;
        let rounds = self.rounds_of_each(root, folder.path())?;
        let of =
            |way: usize| median(&mut rounds.iter().map(|round| round[way]).collect::<Vec<_>>());
        let (untraced, ours, theirs) = (of(0), of(1), of(2));
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

    /// Nanoseconds for each page, run by run: untraced, under memtrace, under
    /// bpftrace.
    fn rounds_of_each(&self, root: &Path, folder: &Path) -> Result<Vec<[f64; 3]>> {
        let memtrace = memtrace(root);
        let bpftrace = find("bpftrace").context("no bpftrace to compare with: install it")?;
        let by_memtrace = || {
            let mut command = as_root(&memtrace, &[]);
            command.args(["pages", "--format", "json"]);
            command
        };
        let by_bpftrace = || {
            // It looks for tracepoints in tracefs, which need not be mounted here.
            let mounted = "mount -t tracefs tracefs /sys/kernel/tracing; exec \"$@\"";
            let mut command = as_root("unshare", &[]);
            command.args(["--mount", "sh", "-c", mounted, "sh"]);
            command.arg(&bpftrace).args(["-e", SCRIPT]);
            command
        };
        let round = |_| {
            Ok([
                self.measure(root, folder, None)?,
                self.measure(root, folder, Some(by_memtrace()))?,
                self.measure(root, folder, Some(by_bpftrace()))?,
            ])
        };
        (0..self.runs).map(round).collect()
    }

    /// Nanoseconds for each page that is taken and given back, in one run.
    fn measure(&self, root: &Path, folder: &Path, tracer: Option<Command>) -> Result<f64> {
        let target = Waiting::start(root, folder, "page_loop", [self.held, self.rounds])?;
        let tracer = tracer.map(|tracer| self.attach(tracer)).transpose()?;
        let ns = target.work("ns_per_page")?;
        if let Some(mut tracer) = tracer {
            run(as_root("kill", &[]).args(["-INT", &tracer.0.id().to_string()]))?;
            ensure!(tracer.0.wait()?.success(), "the tracer failed");
        }
        Ok(ns)
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
