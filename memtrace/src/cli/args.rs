//! What may be typed. Nothing here does anything.
use std::{collections::HashSet, ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgGroup, CommandFactory as _, Parser, Subcommand, ValueEnum, error::ErrorKind};

use memtrace_common::{sampling::LARGEST_MEAN, unwind::Method};

use super::{
    completions::CompletionsArgs, diff::DiffArgs, growth::GrowthArgs, heapwalk::HeapWalkArgs,
    meminfo::MeminfoArgs, oom::OomArgs, pages::PagesArgs, report::ReportArgs, reporting::Reporting,
    top::TopArgs,
};
use crate::report::{Format, assemble::Order, heap::HeapReport};
use crate::unit::{parse_duration, parse_size};

/// Which code of a running program leaks memory: traces its allocations
/// without a restart and reports what is outstanding, by call stack.
#[derive(Debug, Parser)]
#[command(
    name = "memtrace",
    version,
    override_usage = "memtrace [OPTIONS] --pid <PID>[,<PID>…]\n       memtrace [OPTIONS] -- <COMMAND> [ARGUMENT]…\n       memtrace <JOB> [OPTIONS]",
    subcommand_value_name = "JOB",
    subcommand_help_heading = "Other jobs",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    group = ArgGroup::new("target").required(true).args(["pid", "command"]),
    after_help = "Examples:\n  \
        sudo memtrace -p 1234              trace a running process until Ctrl-C\n  \
        sudo memtrace -p 1234 -d 60s       for a minute\n  \
        sudo memtrace -p 1234 --older-than 30s --top 5\n  \
        sudo memtrace -f json -o leak.json -- ./program argument\n\n\
        Exit status: 0 done, 1 the job could not be done, 2 wrong usage; with a command, that command's."
)]
#[expect(clippy::struct_excessive_bools, reason = "a switch is one")]
pub struct Args {
    /// Another job than to trace.
    #[command(subcommand)]
    pub job: Option<Job>,

    /// Processes to trace, until Ctrl-C, --duration, or their end
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub pid: Vec<u32>,

    /// Program to start as the invoking user and trace from its first instruction
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// End with a report after this time (500ms, 30s, 5m)
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Also report every so often while tracing
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval)]
    pub interval: Option<Duration>,

    /// Only count allocations at least this old: what lives longer than that is suspect
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub older_than: Option<Duration>,

    /// Only count allocations of at least this size (64, 4KiB, 1MB)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub min_size: Option<u64>,

    /// Only count allocations of at most this size
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,

    /// Take in about one block in every SIZE bytes (512KiB) and estimate the rest:
    /// far cheaper; 0 takes in every block
    #[arg(long, value_name = "SIZE", value_parser = parse_sample, default_value = "0")]
    pub sample_bytes: u64,

    /// Trace the allocator in this file, which the process has mapped, and no other:
    /// functions named as malloc's family or with a prefix of their own
    #[arg(long, value_name = "auto|FILE", default_value = "auto")]
    pub allocator: PathBuf,

    /// Show this many stacks; 0 shows all [default: 10 in text and json, else all]
    #[arg(long, value_name = "NUMBER")]
    pub top: Option<usize>,

    /// What to sort stacks by
    #[arg(long, value_enum, default_value_t = Sort::Bytes)]
    pub sort: Sort,

    /// Also trace the processes that they start, each from its first instruction
    #[arg(long)]
    pub children: bool,

    /// How to walk stacks
    #[arg(long, value_enum, default_value_t = Unwind::Auto)]
    pub unwind: Unwind,

    /// Walk every stack anew: for `cargo xtask bench`
    #[arg(long, hide = true)]
    pub no_walk_cache: bool,

    /// Leave mmap, munmap and mremap alone
    #[arg(long)]
    pub no_mmap: bool,

    /// Size of the buffer between kernel and memtrace, where events wait to be
    /// read [default: 1/512 of the memory, 4 to 64 MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_buffer)]
    pub buffer: Option<u32>,

    /// Also write everything that happens into this file, for `memtrace report`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// At the report, also look into the processes' glibc heaps: which block keeps each
    /// from shrinking, and who allocated it
    #[arg(long)]
    pub heap_walk: bool,

    /// Watch the stacks live in the terminal instead of writing reports
    #[arg(long, conflicts_with_all = ["command", "children", "duration", "record", "heap_walk", "top", "format", "output"])]
    pub tui: bool,

    /// Sizes as plain numbers of bytes, in text
    #[arg(long)]
    pub raw: bool,

    /// How to report.
    #[command(flatten)]
    pub reporting: Reporting<HeapReport>,
}

/// What else there is to do.
#[derive(Debug, Subcommand)]
pub enum Job {
    /// Report on what --record has recorded, also elsewhere and with other options
    #[command(override_usage = "memtrace report [OPTIONS] <FILE>")]
    Report(ReportArgs),
    /// Where the memory of the machine is: a balance sheet that adds up, with findings
    #[command(override_usage = "memtrace meminfo [OPTIONS]")]
    Meminfo(MeminfoArgs),
    /// Record out-of-memory kills with what led to them, or explain those in a kernel log
    #[command(
        override_usage = "memtrace oom [OPTIONS]\n       memtrace oom [OPTIONS] --from <FILE> [--meminfo <FILE>]\n       memtrace oom --list"
    )]
    Oom(OomArgs),
    /// Look into a glibc heap without probes: what is in use, free, and pinned
    #[command(override_usage = "memtrace heap [OPTIONS] --pid <PID>")]
    Heap(HeapWalkArgs),
    /// What makes processes grow, nearly free of charge: without probing malloc
    #[command(
        override_usage = "memtrace growth [OPTIONS] --pid <PID>[,<PID>…]\n       memtrace growth [OPTIONS] --all"
    )]
    Growth(GrowthArgs),
    /// Who holds the kernel's pages, and which of them nothing accounts for
    #[command(override_usage = "memtrace pages [OPTIONS]")]
    Pages(PagesArgs),
    /// Watch live in the terminal: processes by growth, the stacks of one, the machine's memory
    #[command(override_usage = "memtrace top [OPTIONS]")]
    Top(TopArgs),
    /// Tell what grew between two reports or captures
    #[command(override_usage = "memtrace diff [OPTIONS] <OLD> <NEW>")]
    Diff(DiffArgs),
    /// Write what a shell completes after memtrace (bash, zsh, fish, …)
    #[command(after_help = "Examples:\n  \
        source <(memtrace completions bash)\n  \
        memtrace completions fish > ~/.config/fish/completions/memtrace.fish")]
    Completions(CompletionsArgs),
}

/// Orders of stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Outstanding bytes, most first
    Bytes,
    /// Outstanding blocks, most first
    Count,
}

/// A ring buffer is a power of two and at least a page.
fn parse_buffer(text: &str) -> Result<u32, String> {
    const SMALLEST: u64 = 4096;
    const LARGEST: u64 = 1 << 30;
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    if !(SMALLEST..=LARGEST).contains(&bytes) {
        return Err("it must be between 4KiB and 1GiB".to_owned());
    }
    u32::try_from(bytes.next_power_of_two()).map_err(|error| error.to_string())
}

pub(super) fn parse_sample(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    if bytes > LARGEST_MEAN {
        return Err("it must be at most 4GiB".to_owned());
    }
    Ok(bytes)
}

/// A report every 0 s would never end.
pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(10) {
        return Err("it must be at least 10ms".to_owned());
    }
    Ok(interval)
}

/// Each once, in their order.
pub(super) fn distinct(pids: &[u32]) -> Vec<u32> {
    let mut seen = HashSet::new();
    let pids = pids.iter().copied();
    pids.filter(|pid| seen.insert(*pid)).collect()
}

/// How many stacks to show where nothing is said.
pub(super) fn usual_top(format: &Format<HeapReport>) -> usize {
    // A flame graph of ten stacks would mislead.
    if format.is_excerpt() { 10 } else { usize::MAX }
}

impl Args {
    /// What clap cannot check: options that contradict each other.
    pub fn check(&self) -> Result<(), clap::Error> {
        if let Some(Job::Growth(growth)) = &self.job {
            return growth.check();
        }
        match (self.min_size, self.max_size) {
            (Some(min), Some(max)) if min > max => Err(Self::command().error(
                ErrorKind::ValueValidation,
                format!("--min-size ({min} bytes) is larger than --max-size ({max} bytes): no block would count"),
            )),
            _ => self.check_interval().and_then(|()| self.check_heap_walk()),
        }
    }

    /// The other formats have no place for it.
    fn check_heap_walk(&self) -> Result<(), clap::Error> {
        let format = self.reporting.format;
        if self.heap_walk && !format.is_excerpt() {
            return Err(Self::command().error(
                ErrorKind::ArgumentConflict,
                format!(
                    "--heap-walk is for --format text and json: {} shows stacks alone",
                    format.name
                ),
            ));
        }
        Ok(())
    }

    /// Reports that cannot follow one another need a file, where each takes the
    /// place of the one before.
    fn check_interval(&self) -> Result<(), clap::Error> {
        let name = self.reporting.format.name;
        if self.interval.is_some()
            && !self.tui
            && self.reporting.output.is_none()
            && self.reporting.format.is_whole()
        {
            return Err(Self::command().error(
                ErrorKind::MissingRequiredArgument,
                format!("--interval with --format {name} needs --output FILE: each report replaces the one before, and standard output cannot be taken back"),
            ));
        }
        Ok(())
    }
}

/// Ways to walk stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Unwind {
    /// By unwind tables (`.eh_frame`), and by frame pointers in code that has none
    Auto,
    /// By frame pointers alone: needs no tables, and is right only where all code keeps them
    Fp,
    /// By unwind tables alone: a stack ends, marked as cut, in code that has none
    Dwarf,
    /// By the kernel, by frame pointers: for `cargo xtask bench`
    #[value(hide = true)]
    Kernel,
    /// Not at all: for `cargo xtask bench`
    #[value(hide = true)]
    None,
    /// Nor is anything else done: for `cargo xtask bench`
    #[value(hide = true)]
    Floor,
}

impl Unwind {
    /// As the kernel side knows it.
    pub fn method(self) -> Method {
        match self {
            Self::Auto => Method::Auto,
            Self::Fp => Method::FramePointers,
            Self::Dwarf => Method::Tables,
            Self::Kernel => Method::Kernel,
            Self::None => Method::Nothing,
            Self::Floor => Method::Floor,
        }
    }
}

impl Sort {
    /// As reports know it.
    pub fn order(self) -> Order {
        match self {
            Self::Bytes => Order::Bytes,
            Self::Count => Order::Count,
        }
    }
}
