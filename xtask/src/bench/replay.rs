//! How fast a capture is replayed.
use super::goals::Lab;
use super::target::Target;
use super::watcher::Watcher;
use crate::shell::{memtrace, run};
use anyhow::{Context as _, Result};
use std::process::Command;
use std::time::Instant;

/// Million events a second, all that `memtrace report` does included.
pub(super) fn speed(lab: &Lab<'_>) -> Result<Vec<f64>> {
    let capture = lab.folder.join("capture");
    let path = capture.to_str().context("a path that is no text")?;
    let mut target = Target::walks(lab.root, lab.folder, "loop 20 2000000")?;
    let options = ["--no-mmap", "--record", path];
    let watcher = Watcher::memtrace(lab.root, target.pid(), &options)?;
    target.round()?;
    let events = watcher.end()?.number("records received")?;
    let mut figures = Vec::new();
    for _ in 0..lab.runs {
        let since = Instant::now();
        run(Command::new("taskset")
            .args(["-c", "0"])
            .arg(memtrace(lab.root))
            .args(["report", "-f", "json", "-o", "/dev/null", path]))?;
        figures.push(events / since.elapsed().as_secs_f64() / 1e6);
    }
    Ok(figures)
}
