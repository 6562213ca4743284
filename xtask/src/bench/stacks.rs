//! `cargo xtask bench stacks`: what taking a stack costs, for each way to walk
//! it, on real programs. The cost is what an allocation takes more than under
//! memtrace without stacks.
use super::{median, target::Target, watcher::Watcher};
use anyhow::{Result, ensure};
use serde_json::json;
use std::path::Path;

/// Measure what taking a stack costs, by each way of walking it
#[derive(clap::Args)]
pub(super) struct Stacks {
    /// Rounds of each way on each program
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Only programs whose name holds this
    #[arg(long, default_value = "")]
    only: String,
}

/// Name and options of each way; the first one takes no stack.
const WAYS: &[(&str, &[&str])] = &[
    ("no stack", &["--unwind", "none"]),
    ("kernel", &["--unwind", "kernel"]),
    ("frame pointers", &["--unwind", "fp", "--no-walk-cache"]),
    ("tables", &["--no-walk-cache"]),
    ("tables, remembered", &[]),
];

type Start = fn(root: &Path, folder: &Path) -> Result<Target>;

const PROGRAMS: &[(&str, Start)] = &[
    ("loop, depth 1", |root, folder| {
        Target::walks(root, folder, "loop 1 100000")
    }),
    ("loop, depth 20", |root, folder| {
        Target::walks(root, folder, "loop 20 100000")
    }),
    ("loop, depth 40", |root, folder| {
        Target::walks(root, folder, "loop 40 100000")
    }),
    ("loop, depth 100", |root, folder| {
        Target::walks(root, folder, "loop 100 100000")
    }),
    ("loop, depth 20, fp", |root, folder| {
        Target::walks_with_frame_pointers(root, folder, "loop 20 100000")
    }),
    ("C++ tree", |root, folder| {
        Target::walks(root, folder, "tree 8 100000")
    }),
    ("C++ tree, fp", |root, folder| {
        Target::walks_with_frame_pointers(root, folder, "tree 8 100000")
    }),
    ("sqlite3", |_, _| Target::sqlite()),
    ("redis-server -P 16", |_, folder| Target::redis(folder, 16)),
    ("redis-server -P 1", |_, folder| Target::redis(folder, 1)),
];

/// One round under memtrace.
struct Round {
    /// Of the program, processor time for each stack taken.
    ns_per_stack: f64,
    /// Stacks that needed no walk.
    remembered: f64,
    /// Stacks taken, all in all.
    stacks: f64,
}

impl Stacks {
    pub(super) fn run(&self, root: &Path) -> Result<()> {
        crate::run::build(root)?;
        let folder = tempfile::tempdir()?;
        let mut rows = Vec::new();
        println!("nanoseconds that a stack adds; in brackets: against the kernel's own walk");
        for (name, start) in PROGRAMS {
            if !name.contains(&self.only) {
                continue;
            }
            let mut target = start(root, folder.path())?;
            target.round()?;
            let mut rounds: Vec<Vec<Round>> = WAYS.iter().map(|_| Vec::new()).collect();
            for _ in 0..self.runs {
                for ((_, options), rounds) in WAYS.iter().zip(&mut rounds) {
                    rounds.push(round(root, &mut target, options)?);
                }
            }
            rows.push(report(name, &rounds));
        }
        println!(
            "{:#}",
            json!({ "schema": "memtrace.bench.stacks.v1", "runs": self.runs, "programs": rows })
        );
        Ok(())
    }
}

fn report(name: &str, rounds: &[Vec<Round>]) -> serde_json::Value {
    let cost = |way: usize| {
        let mut costs: Vec<f64> = rounds[way].iter().map(|round| round.ns_per_stack).collect();
        median(&mut costs)
    };
    let (base, kernel) = (cost(0), cost(1) - cost(0));
    let mut ways = serde_json::Map::new();
    let mut line = vec![format!("{name:20}")];
    for (way, (way_name, _)) in WAYS.iter().enumerate().skip(1) {
        let added = cost(way) - base;
        let ratio = added / kernel;
        line.push(format!("{way_name} {added:.0} ({ratio:.2})"));
        ways.insert(
            (*way_name).to_owned(),
            json!({ "ns": added.round(), "ratio_to_kernel": (ratio * 100.0).round() / 100.0 }),
        );
    }
    let last = rounds.last().map_or(&[][..], Vec::as_slice);
    let sum = |of: fn(&Round) -> f64| last.iter().map(of).sum::<f64>();
    let hits = sum(|round| round.remembered) / sum(|round| round.stacks).max(1.0);
    println!("{}  hits {:.1} %", line.join("  "), hits * 100.0);
    json!({ "program": name, "ways": ways, "hit_rate": (hits * 1e4).round() / 1e4 })
}

/// Attaches, lets the program do a round of work, and detaches.
fn round(root: &Path, target: &mut Target, options: &[&str]) -> Result<Round> {
    let options: Vec<&str> = ["--no-mmap"].iter().chain(options).copied().collect();
    let tracer = Watcher::memtrace(root, target.pid(), &options)?;
    let ns = target.round()?;
    let said = tracer.end()?;
    let text = &said.text;
    let returns = text
        .lines()
        .filter_map(|line| line.strip_suffix(" returns"));
    let returns = returns.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    let stacks: f64 = returns.sum();
    ensure!(stacks > 0.0, "the program allocated nothing: {text}");
    Ok(Round {
        ns_per_stack: ns / stacks,
        remembered: said.number("walks remembered")?,
        stacks,
    })
}
