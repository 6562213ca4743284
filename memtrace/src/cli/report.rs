//! `memtrace report FILE`: the report of a capture, or one that was saved as
//! JSON, in any format.
use std::{
    cmp::Reverse,
    fs::File,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use super::{
    args::{Sort, usual_top},
    output::Output,
    reporting::Reporting,
    run::nanoseconds,
};
use crate::{
    capture::{CaptureError, Replay},
    report::heap::{HeapReport, SCHEMA},
    symbol,
    unit::{parse_duration, parse_size},
};

/// What `memtrace report` takes.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Capture that `memtrace --record FILE` wrote, also one that was cut off; or a report in JSON
    #[arg(value_name = "FILE")]
    pub capture: PathBuf,

    /// Only count allocations that were at least this old [default of these
    /// five: as recorded]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub older_than: Option<Duration>,

    /// Only count allocations of at least this size (64, 4KiB, 1MB)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub min_size: Option<u64>,

    /// Only count allocations of at most this size
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,

    /// Show this many stacks; 0 shows all
    #[arg(long, value_name = "NUMBER")]
    pub top: Option<usize>,

    /// What to sort stacks by
    #[arg(long, value_enum)]
    pub sort: Option<Sort>,

    /// How to report.
    #[command(flatten)]
    pub reporting: Reporting<HeapReport>,
}

/// Runs the command and returns the exit status.
pub(super) fn run(args: &ReportArgs) -> anyhow::Result<i32> {
    let path = args.capture.display();
    let failed = || format!("cannot read {path}");
    let file = File::open(&args.capture).with_context(failed)?;
    ensure!(
        !file.metadata().with_context(failed)?.is_dir(),
        "cannot read {path}: it is a directory, and a capture is a file"
    );
    let mut input = BufReader::new(file);
    // No capture begins so.
    let is_json = input.fill_buf().with_context(failed)?.first() == Some(&b'{');
    let report = if is_json {
        from_json(args, input)?
    } else {
        from_capture(args, input)?
    };
    Output::open(&args.reporting)?.write(&report)?;
    Ok(0)
}

/// The last of the documents in a file: a run with `--interval` writes many.
fn from_json(args: &ReportArgs, input: BufReader<File>) -> anyhow::Result<HeapReport> {
    let path = args.capture.display();
    let documents = serde_json::Deserializer::from_reader(input).into_iter::<HeapReport>();
    let documents: Result<Vec<_>, _> = documents.collect();
    let last = documents.ok().and_then(|mut documents| documents.pop());
    let Some(mut report) = last.filter(|report| report.schema == SCHEMA) else {
        bail!("cannot report on {path}: it is neither a capture nor a whole report ({SCHEMA})");
    };
    ensure!(
        args.older_than.is_none() && args.min_size.is_none() && args.max_size.is_none(),
        "{path} is a report, in which single blocks cannot be chosen any more: --older-than, --min-size and --max-size take a capture (`memtrace --record FILE`)"
    );
    match args.sort {
        Some(Sort::Bytes) => report.stacks.sort_by_key(|stack| Reverse(stack.bytes)),
        Some(Sort::Count) => report.stacks.sort_by_key(|stack| Reverse(stack.count)),
        None => {}
    }
    if let Some(top) = args.top.filter(|top| *top > 0) {
        report.stacks.truncate(top);
    }
    Ok(report)
}

fn from_capture(args: &ReportArgs, input: BufReader<File>) -> anyhow::Result<HeapReport> {
    let mut replay = read(args, input)?;
    let mut shown = replay.start.shown;
    if let Some(age) = args.older_than {
        shown.filter.older_than_ns = nanoseconds(age);
    }
    if let Some(size) = args.min_size {
        shown.filter.min_size = size;
    }
    if let Some(size) = args.max_size {
        shown.filter.max_size = size;
    }
    if let Some(sort) = args.sort {
        shown.order = sort.order();
    }
    shown.top = args.top.or(shown.top);
    Ok(replay.report(&shown.choice(usual_top(args.reporting.format))))
}

fn read(args: &ReportArgs, input: BufReader<File>) -> anyhow::Result<Replay> {
    let path = args.capture.display();
    let replay = Replay::read(input, symbol::Options::default());
    let replay = replay.map_err(|error| match error {
        // What there is to do is in the message.
        error @ (CaptureError::Foreign | CaptureError::Newer { .. }) => {
            anyhow::anyhow!("cannot report on {path}: {error}")
        }
        error @ CaptureError::Empty(_) => anyhow::anyhow!(
            "cannot report on {path}: {error} (memtrace was killed before it traced, or the file was damaged)"
        ),
    })?;
    if let Some(early) = replay.ends_early() {
        log::warn!("{path} ends early: {early}; the report is about what comes before");
    }
    let start = &replay.start;
    log::info!(
        "{path}: recorded by memtrace {} on Linux {} ({})",
        start.version,
        start.kernel,
        start.architecture
    );
    Ok(replay)
}
