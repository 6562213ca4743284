//! `memtrace pages`: who holds the kernel's pages.
use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    args::parse_interval,
    output::Output,
    reporting::Reporting,
    run::{on_one_thread, until},
    signals::{self, Signals},
    tell,
};
use crate::{
    kernel::{
        self,
        gfp::Numbering,
        pages::{WAYS, Way},
    },
    probe::LoadError,
    report::pages::{
        By, PagesReport,
        assemble::{Choice, assemble},
        text::announcement,
    },
    session::{PageOptions, PageSession, SessionError},
    symbol::kernel::KernelSymbols,
    unit::{parse_duration, parse_size},
};

/// How many consumers to show where nothing is said.
const CONSUMERS: usize = 20;

/// How often new stacks are taken out of the buffer.
const TICK: Duration = Duration::from_millis(100);

/// What `memtrace pages` takes.
#[derive(Debug, Args)]
pub struct PagesArgs {
    /// End with the report after this time (500ms, 30s, 5m) [default: at Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Count who has how many pages every so often, for the trend
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval, default_value = "5s")]
    pub interval: Duration,

    /// Show this many consumers; 0 shows all [default: 20 in text and json, else all]
    #[arg(long, value_name = "NUMBER")]
    pub top: Option<usize>,

    /// What to tell consumers apart by
    #[arg(long, value_enum, default_value_t = ByWhat::Caller)]
    pub by: ByWhat,

    /// Only pages that no line of /proc/meminfo counts
    #[arg(long)]
    pub untracked_only: bool,

    /// Only pages that these processes asked for
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=4_194_304))]
    pub pid: Vec<u32>,

    /// Only pages of requests of at least 2 to this power pages
    #[arg(long, value_name = "ORDER", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=18))]
    pub min_order: u32,

    /// Only pages of this zone (DMA, DMA32, Normal, Movable)
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,

    /// Most memory for the table of page frames, which has 8 bytes for each (2 MiB for
    /// each GiB); what does not fit is not seen [default: as much as it takes]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_memory: Option<u64>,

    /// How to see pages [default: the first of these that works]
    #[arg(long, value_name = "HOW", value_parser = way())]
    pub tracepoints: Option<&'static Way>,

    /// Walk every stack anew: for `cargo xtask bench`, and for tests
    #[arg(long, hide = true)]
    pub no_walk_cache: bool,

    /// Root of /proc, for tests
    #[arg(long, hide = true, default_value = "/proc")]
    pub proc_root: PathBuf,

    /// How to report.
    #[command(flatten)]
    pub reporting: Reporting<PagesReport>,
}

/// What to tell consumers apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ByWhat {
    /// The function that asks for pages, behind the allocator's own
    Caller,
    /// The module of that function
    Module,
    /// The whole stack
    Stack,
}

impl ByWhat {
    fn by(self) -> By {
        match self {
            Self::Caller => By::Caller,
            Self::Module => By::Module,
            Self::Stack => By::Stack,
        }
    }
}

/// Takes the names of ways.
fn way() -> impl TypedValueParser<Value = &'static Way> {
    PossibleValuesParser::new(WAYS.iter().map(|way| way.name)).map(|name| {
        let way = WAYS.iter().find(|way| way.name == name);
        way.unwrap_or(&WAYS[0])
    })
}

/// Runs the command and returns the exit status.
pub(super) fn run(args: &PagesArgs) -> anyhow::Result<i32> {
    let mut output = Output::open(&args.reporting)?;
    signals::hold().context("failed to hold signals back")?;
    let runtime = on_one_thread()?;
    let report = runtime.block_on(watch(args))?;
    output.write(&report)?;
    Ok(0)
}

async fn watch(args: &PagesArgs) -> anyhow::Result<PagesReport> {
    let mut signals = Signals::listen().context("failed to listen for signals")?;
    let options = PageOptions {
        proc_root: args.proc_root.clone(),
        sys_root: PathBuf::from("/sys"),
        way: args.tracepoints,
        recall: !args.no_walk_cache,
        max_memory: args.max_memory.unwrap_or(u64::MAX),
    };
    let choice = args.choice();
    let mut session = PageSession::start(options).map_err(explain)?;
    if let Some(zone) = args.zone.as_ref().filter(|zone| !session.has_zone(zone)) {
        anyhow::bail!(
            "this machine has no zone {zone}: /proc/zoneinfo has {}",
            session.zone_names().join(", ")
        );
    }
    // Of modules that will be unloaded meanwhile.
    let before = KernelSymbols::default();
    let (bytes, frames) = session.table();
    tell(&format!(
        "{}; Ctrl-C ends it with a report",
        announcement(bytes, frames, choice.page_size)
    ));
    log::info!("by {}", session.way().label);
    let deadline = args.duration.map(|duration| Instant::now() + duration);
    let mut look = interval_at(Instant::now() + args.interval, args.interval);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drain = interval_at(Instant::now() + TICK, TICK);
    drain.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = signals.next() => break,
            () = until(deadline) => break,
            _ = look.tick() => session.look(),
            _ = drain.tick() => session.drain(),
        }
    }
    // While memtrace's programs are there: they have names, too.
    let now = KernelSymbols::default();
    let found = session.end()?;
    for note in &found.notes {
        log::info!("{note}");
    }
    log::info!("{:?}, {} origins", found.sums, found.origins.len());
    let name = |address: &u64| {
        let symbols = if found.is_unloaded(address.saturating_sub(1)) {
            &before
        } else {
            &now
        };
        symbols.names(&[*address]).pop().flatten()
    };
    let names = |stack: &[u64]| stack.iter().map(name).collect();
    Ok(assemble(&found, &names, &choice))
}

/// What there is without privileges.
fn explain(error: SessionError) -> anyhow::Error {
    match error {
        SessionError::Load(LoadError::NotPermitted { .. }) => anyhow::anyhow!(
            "{error}; what the machine's own counters know, `memtrace meminfo` tells without privileges"
        ),
        error => error.into(),
    }
}

impl PagesArgs {
    fn choice(&self) -> Choice {
        Choice {
            by: self.by.by(),
            top: match self.top {
                Some(0) => usize::MAX,
                Some(top) => top,
                None if self.reporting.format.is_excerpt() => CONSUMERS,
                None => usize::MAX,
            },
            untracked_only: self.untracked_only,
            min_order: self.min_order,
            zone: self.zone.clone(),
            pids: self.pid.clone(),
            gfp: Numbering::of(kernel::version()),
            page_size: procfs::page_size(),
        }
    }
}
