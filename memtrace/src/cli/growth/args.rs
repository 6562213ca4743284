//! What `memtrace growth` takes.
use std::time::Duration;

use clap::{
    ArgGroup, Args, CommandFactory as _,
    builder::{PossibleValuesParser, TypedValueParser},
    error::ErrorKind,
};

use crate::{
    cli::{
        args::{self, parse_interval},
        reporting::Reporting,
    },
    probe::growth::{CALLS, Candidate, Choice, FAULTS},
    report::growth::GrowthReport,
    unit::parse_duration,
};

/// How many stacks of each kind, and how many processes, to show where nothing
/// is said.
pub(super) const STACKS: usize = 5;
pub(super) const PROCESSES: usize = 20;

/// What `memtrace growth` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("watched").required(true).args(["pid", "all"]))]
pub struct GrowthArgs {
    /// Processes to watch, until Ctrl-C, --duration, or their end
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub pid: Vec<u32>,

    /// Rank all processes by how they grow; needs no privileges, and no stacks are taken
    #[arg(long)]
    pub all: bool,

    /// End with a report after this time (500ms, 30s, 5m)
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Look at /proc every so often
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval, default_value = "1s")]
    pub interval: Duration,

    /// Show this many stacks of each kind, or processes; 0 shows all [default: 5
    /// stacks, 20 processes; folded: all]
    #[arg(long, value_name = "NUMBER")]
    pub top: Option<usize>,

    /// Look at /proc alone: no stacks; needs no privileges for one's own processes
    #[arg(long)]
    pub no_probes: bool,

    /// How to see page faults [default: the first of these that works]
    #[arg(long, value_name = "HOW", default_value = "auto", hide_default_value = true, conflicts_with_all = ["all", "no_probes"], value_parser = choice(FAULTS))]
    pub faults: Choice,

    /// How to see brk, mmap, munmap and mremap: behind the system calls of the C
    /// library, or at all system calls of all processes, which become slower
    #[arg(long, value_name = "HOW", default_value = "auto", hide_default_value = true, conflicts_with_all = ["all", "no_probes"], value_parser = choice(CALLS))]
    pub calls: Choice,

    /// How to report.
    #[command(flatten)]
    pub reporting: Reporting<GrowthReport>,
}

/// Takes the names of candidates.
fn choice(table: &'static [Candidate]) -> impl TypedValueParser<Value = Choice> {
    let names = table.iter().map(|candidate| candidate.name);
    PossibleValuesParser::new(["auto"].into_iter().chain(names).chain(["off"])).map(move |name| {
        match table.iter().find(|candidate| candidate.name == name) {
            Some(candidate) => Choice::Forced(candidate),
            None if name == "off" => Choice::Off,
            None => Choice::Auto,
        }
    })
}

impl GrowthArgs {
    /// What clap cannot check: options that contradict each other.
    pub fn check(&self) -> Result<(), clap::Error> {
        if self.is_folded() && (self.all || self.no_probes) {
            let message = "--format folded is about stacks, which neither --all nor --no-probes takes: use text or json";
            let mut all = args::Args::command();
            let mut growth = all.find_subcommand("growth").cloned();
            let command = growth.as_mut().unwrap_or(&mut all);
            return Err(command.error(ErrorKind::ArgumentConflict, message));
        }
        Ok(())
    }

    fn is_folded(&self) -> bool {
        self.reporting.format.name == "folded"
    }

    pub(super) fn top(&self, usual: usize) -> usize {
        match self.top {
            Some(0) => usize::MAX,
            Some(top) => top,
            None if self.is_folded() => usize::MAX,
            None => usual,
        }
    }
}
