//! `cargo xtask bench`: what memtrace costs. Absolute times drift on shared
//! machines, so everything that is compared runs in turn, and the ratios of the
//! medians are what counts.
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

mod attach;
mod figures;
mod goals;
mod pages;
mod pairs;
mod replay;
mod stacks;
mod target;
mod watcher;

/// Measure what memtrace costs
#[derive(clap::Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Goals(Goals),
    Pages(pages::Pages),
    Pairs(pairs::PairLoop),
    Stacks(stacks::Stacks),
}

impl Bench {
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        match &self.what {
            What::Goals(goals) => goals.run(root),
            What::Pages(pages) => pages.run(root),
            What::Pairs(pairs) => pairs.run(root),
            What::Stacks(stacks) => stacks.run(root),
        }
    }
}

/// Measure what memtrace promises about its cost, and compare with bpftrace,
/// heaptrack and valgrind where they are installed
#[derive(clap::Args)]
struct Goals {
    /// Runs of each kind
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Only rows whose text holds this
    #[arg(long, default_value = "")]
    only: String,
    /// Put the table into docs/benchmarks.md and the figures into
    /// docs/benchmarks.json
    #[arg(long, conflicts_with = "only")]
    record: bool,
    /// Fail where a figure is worse than the recorded one by more than 15 %
    #[arg(long, conflicts_with = "record")]
    check: bool,
}

impl Goals {
    fn run(&self, root: &Path) -> Result<()> {
        crate::run::build(root)?;
        let folder = tempfile::tempdir()?;
        let lab = goals::Lab {
            root,
            folder: folder.path(),
            runs: self.runs,
        };
        let figures = goals::measure(&lab, &self.only)?;
        if self.record {
            let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
            figures::write(root, &figures, self.runs, kernel.trim())?;
        }
        if self.check {
            figures::compare(root, &figures)?;
        }
        Ok(())
    }
}

/// Resident memory of a process (`VmRSS`, proc(5)).
fn resident_bytes(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(kilobytes.context("no VmRSS")?.parse::<f64>()? * 1024.0)
}

/// The middle one, or the mean of the two in the middle; 0 of nothing.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (
        values.get(values.len().saturating_sub(1) / 2),
        values.get(values.len() / 2),
    ) else {
        return 0.0;
    };
    f64::midpoint(*low, *high)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn takes_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
    }
}
