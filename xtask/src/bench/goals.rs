//! `cargo xtask bench goals`: what memtrace promises about its cost, each a
//! figure with a goal, measured side by side with what it is compared to.
use super::figures::{Figure, Limit};
use super::target::{Target, processor_ns};
use super::watcher::{FLOOR, MEMTRACE, Watcher, Way};
use super::{attach, pages, replay};
use crate::shell::{cargo, find, run, target};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Where and how often to measure.
pub(super) struct Lab<'a> {
    pub(super) root: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) runs: u32,
}

/// A promise.
pub(super) struct Goal {
    /// As the table says it; its first words name it.
    pub(super) what: &'static str,
    pub(super) limit: Limit,
    /// Another program that it takes, if it is not memtrace itself.
    pub(super) needs: Option<&'static str>,
    /// A figure a run.
    pub(super) measure: fn(&Lab<'_>) -> Result<Vec<f64>>,
}

/// In this order; the table in docs/benchmarks.md has a row for each.
pub(super) const GOALS: &[Goal] = &[
    Goal {
        what: "malloc/free pair: added cost, all events with stacks, against the same by bpftrace",
        limit: Limit::AtMost(0.18),
        needs: Some("bpftrace"),
        measure: |lab| added(lab, "loop 1 100000", MEMTRACE, Way::Bpftrace),
    },
    Goal {
        what: "malloc/free pair at depth 20: added cost against probes whose programs do nothing",
        limit: Limit::AtMost(1.5),
        needs: None,
        measure: |lab| added(lab, "loop 20 200000", MEMTRACE, FLOOR),
    },
    Goal {
        what: "malloc/free pair: added cost against heaptrack, loaded from the start",
        limit: Limit::Told,
        needs: Some("heaptrack"),
        measure: |lab| added_against(lab, HEAPTRACK),
    },
    Goal {
        what: "malloc/free pair: added cost against valgrind massif, from the start",
        limit: Limit::Told,
        needs: Some("valgrind"),
        measure: |lab| added_against(lab, MASSIF),
    },
    Goal {
        what: "C++ tree, 22 frames deep, 20,000 stacks: added cost against bpftrace",
        limit: Limit::Told,
        needs: Some("bpftrace"),
        measure: |lab| added(lab, "tree 8 50000", MEMTRACE, Way::Bpftrace),
    },
    Goal {
        what: "redis -P 16: throughput against that under bpftrace",
        limit: Limit::AtLeast(4.0),
        needs: Some("bpftrace"),
        measure: |lab| throughput(lab, 16, MEMTRACE, Way::Bpftrace),
    },
    Goal {
        what: "redis -P 16: throughput against untraced",
        limit: Limit::Told,
        needs: None,
        measure: |lab| throughput(lab, 16, MEMTRACE, Way::Untraced),
    },
    Goal {
        what: "redis -P 1: throughput against untraced",
        limit: Limit::AtLeast(0.5),
        needs: None,
        measure: |lab| throughput(lab, 1, MEMTRACE, Way::Untraced),
    },
    Goal {
        what: "redis -P 16, one sample in 512 KiB: throughput against untraced",
        limit: Limit::Told,
        needs: None,
        measure: |lab| throughput(lab, 16, SAMPLED, Way::Untraced),
    },
    Goal {
        what: "sqlite3: processor time against untraced",
        limit: Limit::Told,
        needs: Some("sqlite3"),
        measure: |lab| processor_time(lab, Target::sqlite),
    },
    Goal {
        what: "python3: processor time against untraced",
        limit: Limit::Told,
        needs: Some("python3"),
        measure: |lab| processor_time(lab, Target::python),
    },
    Goal {
        what: "two threads: cost of a pair against one thread",
        limit: Limit::AtMost(1.15),
        needs: None,
        measure: two_threads,
    },
    Goal {
        what: "pages: added cost of a page taken and given back, with stacks, against bpftrace",
        limit: Limit::AtMost(0.5),
        needs: Some("bpftrace"),
        measure: pages::against_bpftrace,
    },
    Goal {
        what: "replay: million events a second from a capture, one core",
        limit: Limit::AtLeast(10.0),
        needs: None,
        measure: replay::speed,
    },
    Goal {
        what: "memory: bytes for each outstanding block",
        limit: Limit::AtMost(48.0),
        needs: None,
        measure: memory,
    },
    Goal {
        what: "own processor time at 200,000 events a second: per cent of a core",
        limit: Limit::AtMost(20.0),
        needs: None,
        measure: own_time,
    },
    Goal {
        what: "attach to 300 mapped libraries: milliseconds from the start of memtrace",
        limit: Limit::AtMost(300.0),
        needs: None,
        measure: attach::attached,
    },
    Goal {
        what: "detach from them: milliseconds from Ctrl-C to the end of memtrace",
        limit: Limit::AtMost(100.0),
        needs: None,
        measure: attach::detached,
    },
    Goal {
        what: "symbols: seconds for 10,000 addresses of a program of 170 MB with debug information",
        limit: Limit::AtMost(2.0),
        needs: None,
        measure: symbols,
    },
    Goal {
        what: "lost: events lost with two threads at full speed, per million",
        limit: Limit::AtMost(0.0),
        needs: None,
        measure: lost,
    },
];

/// A sample in 512 KiB, as in production.
const SAMPLED: Way = Way::Memtrace(&["--no-mmap", "--sample-bytes", "512KiB"]);

/// Both ways in turn, run by run: what each costs over nothing, as a ratio.
fn added(lab: &Lab<'_>, request: &str, way: Way, other: Way) -> Result<Vec<f64>> {
    let mut target = Target::walks(lab.root, lab.folder, request)?;
    target.round()?;
    let mut ratios = Vec::new();
    for _ in 0..lab.runs {
        let untraced = target.round()?;
        let one = watched(lab, &mut target, way, Target::round)? - untraced;
        let two = watched(lab, &mut target, other, Target::round)? - untraced;
        ratios.push(one / two);
    }
    Ok(ratios)
}

/// A round while somebody watches.
fn watched(
    lab: &Lab<'_>,
    target: &mut Target,
    way: Way,
    round: fn(&mut Target) -> Result<f64>,
) -> Result<f64> {
    let watcher = way.watch(lab.root, target.pid())?;
    let measured = round(target)?;
    if let Some(watcher) = watcher {
        watcher.end()?;
    }
    Ok(measured)
}

type Starter = fn(&Path) -> Command;

/// heaptrack's library, as its script preloads it, without the interpreter that
/// reads along.
const HEAPTRACK: Starter = |program| {
    let library = ["/usr/lib/heaptrack", "/usr/lib64/heaptrack"]
        .map(|folder| format!("{folder}/libheaptrack_preload.so"))
        .into_iter()
        .find(|path| Path::new(path).exists());
    let mut command = Command::new(program);
    command.env("LD_PRELOAD", library.unwrap_or_default());
    command.env("DUMP_HEAPTRACK_OUTPUT", "/dev/null");
    command
};

const MASSIF: Starter = |program| {
    let mut command = Command::new("valgrind");
    command.args(["-q", "--tool=massif", "--massif-out-file=/dev/null"]);
    command.arg(program);
    command
};

/// memtrace against a program that has to be there from the start.
fn added_against(lab: &Lab<'_>, start: Starter) -> Result<Vec<f64>> {
    const REQUEST: &str = "loop 20 100000";
    let mut target = Target::walks(lab.root, lab.folder, REQUEST)?;
    let mut other = Target::walks_under(lab.root, lab.folder, REQUEST, start)?;
    target.round()?;
    other.round()?;
    let mut ratios = Vec::new();
    for _ in 0..lab.runs {
        let untraced = target.round()?;
        let traced = watched(lab, &mut target, MEMTRACE, Target::round)? - untraced;
        ratios.push(traced / (other.round()? - untraced));
    }
    Ok(ratios)
}

/// redis-benchmark's requests a second in one way against another.
fn throughput(lab: &Lab<'_>, pipeline: u32, way: Way, other: Way) -> Result<Vec<f64>> {
    let mut target = Target::redis(lab.folder, pipeline)?;
    target.round()?;
    let mut ratios = Vec::new();
    for _ in 0..lab.runs {
        let one = watched(lab, &mut target, way, Target::timed_round)?;
        let two = watched(lab, &mut target, other, Target::timed_round)?;
        ratios.push(two / one);
    }
    Ok(ratios)
}

/// Of a whole program, not of its allocations alone.
fn processor_time(lab: &Lab<'_>, start: fn() -> Result<Target>) -> Result<Vec<f64>> {
    let mut target = start()?;
    target.round()?;
    let mut ratios = Vec::new();
    for _ in 0..lab.runs {
        let untraced = target.round()?;
        ratios.push(watched(lab, &mut target, MEMTRACE, Target::round)? / untraced);
    }
    Ok(ratios)
}

fn two_threads(lab: &Lab<'_>) -> Result<Vec<f64>> {
    let mut one = Target::walks(lab.root, lab.folder, "loop 1 200000")?;
    let mut two = Target::walks(lab.root, lab.folder, "both 1 200000")?;
    let mut ratios = Vec::new();
    for _ in 0..lab.runs {
        let alone = watched(lab, &mut one, MEMTRACE, Target::round)?;
        // Each thread makes as many pairs.
        ratios.push(watched(lab, &mut two, MEMTRACE, Target::round)? / 2.0 / alone);
    }
    Ok(ratios)
}

/// What memtrace grows by while a program keeps a million blocks.
fn memory(lab: &Lab<'_>) -> Result<Vec<f64>> {
    const BLOCKS: f64 = 1_000_000.0;
    let mut figures = Vec::new();
    for _ in 0..lab.runs {
        let mut target = Target::walks(lab.root, lab.folder, "keep 3 1000000")?;
        let watcher = Watcher::memtrace(lab.root, target.pid(), &["--no-mmap"])?;
        let before = super::resident_bytes(watcher.pid())?;
        target.round()?;
        // It reads what waits every 20 ms.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let after = super::resident_bytes(watcher.pid())?;
        figures.push((after - before) / BLOCKS);
        watcher.end()?;
    }
    Ok(figures)
}

/// A hundred pairs in each millisecond, for two seconds.
fn own_time(lab: &Lab<'_>) -> Result<Vec<f64>> {
    let mut target = Target::walks(lab.root, lab.folder, "paced 20 200000")?;
    let mut figures = Vec::new();
    for _ in 0..lab.runs {
        let watcher = Watcher::memtrace(lab.root, target.pid(), &["--no-mmap"])?;
        let before = processor_ns(watcher.pid())?;
        let since = Instant::now();
        target.round()?;
        let took = since.elapsed();
        figures.push((processor_ns(watcher.pid())? - before) / took.as_secs_f64() / 1e7);
        watcher.end()?;
    }
    Ok(figures)
}

fn lost(lab: &Lab<'_>) -> Result<Vec<f64>> {
    const EVENTS: f64 = 4.0e6;
    let mut target = Target::walks(lab.root, lab.folder, "both 1 1000000")?;
    let mut figures = Vec::new();
    for _ in 0..lab.runs {
        let watcher = Watcher::memtrace(lab.root, target.pid(), &["--no-mmap"])?;
        target.round()?;
        let said = watcher.end()?;
        let lost = said.number("events lost: ring buffer full")?;
        let received = said.number("records received")?;
        ensure!(
            received + lost >= EVENTS,
            "events are missing: {}",
            said.text
        );
        figures.push(lost / (received + lost) * 1e6);
    }
    Ok(figures)
}

/// What `memtrace/benches/symbols.rs` measures; criterion repeats it as often as
/// it takes.
fn symbols(lab: &Lab<'_>) -> Result<Vec<f64>> {
    run(cargo(lab.root).args(["bench", "--quiet", "-p", "memtrace", "--bench", "symbols"]))?;
    let file = target(lab.root).join("criterion/symbols/10000 addresses/new/estimates.json");
    let estimates: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    let ns = estimates["median"]["point_estimate"].as_f64();
    Ok(vec![ns.context("criterion has no median")? / 1e9])
}

/// All of them, or those whose text holds `only`.
pub(super) fn measure(lab: &Lab<'_>, only: &str) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for goal in GOALS.iter().filter(|goal| goal.what.contains(only)) {
        if let Some(program) = goal.needs.filter(|program| find(program).is_none()) {
            eprintln!("SKIPPED: {}: {program} is not installed", goal.what);
            continue;
        }
        let figure = Figure::of(goal.what, goal.limit, &(goal.measure)(lab)?);
        println!("{figure}");
        figures.push(figure);
    }
    Ok(figures)
}
