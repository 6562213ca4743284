//! `memtrace meminfo`: where the memory of the machine is.
use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    args::parse_interval,
    output::Output,
    reporting::Reporting,
    run::{nanoseconds, on_one_thread},
    signals::{self, Signals},
};
use crate::{
    meminfo::{Holders, Machine, Moment, Roots, holders},
    report::meminfo::{Choice, MeminfoReport, Since, assemble},
};

/// The live system.
const PROC: &str = "/proc";
const SYS: &str = "/sys";

/// No copy of `/proc/meminfo` is larger, whatever it is pasted into.
const LARGEST_FILE: u64 = 16 << 20;

/// What `memtrace meminfo` takes.
#[derive(Debug, Args)]
pub struct MeminfoArgs {
    /// A saved /proc/meminfo, also pasted among other text, or a folder with copies
    /// of meminfo, zoneinfo, vmstat, vmallocinfo, slabinfo; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["watch", "diff"])]
    pub from: Option<PathBuf>,

    /// Report again and again, with each row's change per second, until Ctrl-C
    /// (1s, 10s); JSON is one document a line
    #[arg(long, value_name = "TIME", value_parser = parse_interval, conflicts_with = "diff")]
    pub watch: Option<Duration>,

    /// What changed from one saved file (or folder, as for --from) to another
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"])]
    pub diff: Vec<PathBuf>,

    /// Explain everything that is easily misread, not only what these figures call for
    #[arg(long)]
    pub explain: bool,

    /// Show this many holders of shared memory, caches and callers; 0 shows all
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub top: usize,

    /// How to report.
    #[command(flatten)]
    pub reporting: Reporting<MeminfoReport>,
}

/// Runs the command and returns the exit status.
pub(super) fn run(args: &MeminfoArgs) -> anyhow::Result<i32> {
    if let Some(interval) = args.watch {
        return watch(args, interval);
    }
    let mut output = Output::open(&args.reporting)?;
    let (machine, origin, before) = match args.diff.as_slice() {
        [old, new] => (load(new)?, named(new), Some(old)),
        _ => match &args.from {
            Some(path) => (load(path)?, named(path), None),
            None => (live()?, "This machine".to_owned(), None),
        },
    };
    let old = before.map(|path| load(path)).transpose()?;
    let old = old.map(Moment::of);
    let since = Since {
        origin: before.map(|path| named(path)).unwrap_or_default(),
        interval_ns: None,
    };
    let is_live = args.from.is_none() && args.diff.is_empty();
    let holders = is_live.then(|| holders::find(Path::new(PROC)));
    let choice = Choice {
        origin: &origin,
        holders: holders.as_ref(),
        previous: old.as_ref().map(|old| (old, &since)),
        first: old.as_ref(),
        ..choice(args)
    };
    let report = assemble(&Moment::of(machine), &choice);
    output.write(&report)?;
    Ok(0)
}

fn choice(args: &MeminfoArgs) -> Choice<'_> {
    Choice {
        origin: "This machine",
        explain: args.explain,
        top: if args.top == 0 { usize::MAX } else { args.top },
        ..Choice::default()
    }
}

fn live() -> anyhow::Result<Machine> {
    let roots = Roots {
        proc: PathBuf::from(PROC),
        sys: PathBuf::from(SYS),
    };
    Ok(Machine::read(&roots)?)
}

fn named(path: &Path) -> String {
    if path.as_os_str() == "-" {
        "Standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// A saved file, or a folder: the files themselves, or `proc` and `sys` in it.
fn load(path: &Path) -> anyhow::Result<Machine> {
    let name = if path.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let failed = || format!("cannot read {name}");
    let text = if path.as_os_str() == "-" {
        text(io::stdin().lock()).with_context(failed)?
    } else if fs::metadata(path).with_context(failed)?.is_dir() {
        let inner = path.join("proc");
        let proc = if inner.is_dir() {
            inner
        } else {
            path.to_path_buf()
        };
        let roots = Roots {
            proc,
            sys: path.join("sys"),
        };
        return Ok(Machine::read(&roots)?);
    } else {
        text(File::open(path).with_context(failed)?).with_context(failed)?
    };
    Machine::of_meminfo(&text).with_context(|| format!("cannot read {name} as /proc/meminfo"))
}

fn text(input: impl io::Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    input.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= LARGEST_FILE,
        "it is larger than 16 MiB, and /proc/meminfo takes 2 KiB: cut out the part with its lines"
    );
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn watch(args: &MeminfoArgs, interval: Duration) -> anyhow::Result<i32> {
    let output = Output::open(&args.reporting)?;
    signals::hold().context("failed to hold signals back")?;
    let runtime = on_one_thread()?;
    runtime.block_on(watch_until_asked(args, output, interval))?;
    Ok(0)
}

/// The sheet at once, then one with changes every interval. Holders are
/// searched for once: that takes longer than the rest.
async fn watch_until_asked(
    args: &MeminfoArgs,
    mut output: Output<MeminfoReport>,
    interval: Duration,
) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("failed to listen for signals")?;
    let mut ticks = interval_at(Instant::now(), interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first: Option<Moment> = None;
    let mut previous: Option<(Moment, Instant)> = None;
    loop {
        tokio::select! {
            biased;
            _ = signals.next() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let moment = Moment::of(live()?);
        let now = Instant::now();
        let holders: Option<Holders> = first.is_none().then(|| holders::find(Path::new(PROC)));
        let since = Since {
            origin: "This machine".to_owned(),
            interval_ns: previous.as_ref().map(|(_, then)| nanoseconds(now - *then)),
        };
        let choice = Choice {
            holders: holders.as_ref(),
            previous: previous.as_ref().map(|(moment, _)| (moment, &since)),
            first: first.as_ref(),
            ..choice(args)
        };
        let mut report = assemble(&moment, &choice);
        report.is_one_of_many = true;
        if !output.write(&report)? {
            return Ok(());
        }
        first.get_or_insert_with(|| moment.clone());
        previous = Some((moment, now));
    }
}
