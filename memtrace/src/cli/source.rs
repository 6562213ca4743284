//! Reports from files: a capture, replayed, or a report that was saved as JSON.
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use super::{
    progress::{Progress, Reading},
    run::nanoseconds,
};
use crate::{
    capture::{CaptureError, Replay},
    report::{
        assemble::{Choice, Order},
        heap::{HeapReport, SCHEMA},
    },
    symbol,
    unit::{parse_duration, parse_size},
};

/// Which blocks of a capture count.
#[derive(Debug, Args)]
pub struct Blocks {
    /// Only count allocations that were at least this old [default of these three: as
    /// recorded]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub older_than: Option<Duration>,

    /// Only count allocations of at least this size (64, 4KiB, 1MB)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub min_size: Option<u64>,

    /// Only count allocations of at most this size
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,
}

/// Which stacks of it are wanted, and in which order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stacks {
    /// Absent: as recorded.
    pub(super) order: Option<Order>,
    /// 0: all; absent: as recorded.
    pub(super) top: Option<usize>,
    /// Where nothing is said.
    pub(super) usual: usize,
    /// Whether those count of which nothing is outstanding.
    pub(super) ended: bool,
}

/// The report in a file.
pub(super) fn load(path: &Path, blocks: &Blocks, stacks: Stacks) -> anyhow::Result<HeapReport> {
    let shown = path.display();
    let failed = || format!("cannot read {shown}");
    let file = File::open(path).with_context(failed)?;
    ensure!(
        !file.metadata().with_context(failed)?.is_dir(),
        "cannot read {shown}: it is a directory, and a capture is a file"
    );
    let mut input = BufReader::new(Reading::new(file, "reading"));
    // No capture begins so.
    if input.fill_buf().with_context(failed)?.first() == Some(&b'{') {
        from_json(path, blocks, stacks, input)
    } else {
        from_capture(path, blocks, stacks, input)
    }
}

/// The last of the documents in a file: a run with `--interval` writes many.
fn from_json(
    path: &Path,
    blocks: &Blocks,
    stacks: Stacks,
    input: impl Read,
) -> anyhow::Result<HeapReport> {
    let path = path.display();
    let documents = serde_json::Deserializer::from_reader(input).into_iter::<HeapReport>();
    let documents: Result<Vec<_>, _> = documents.collect();
    let last = documents.ok().and_then(|mut documents| documents.pop());
    let Some(mut report) = last.filter(|report| report.schema == SCHEMA) else {
        bail!("cannot report on {path}: it is neither a capture nor a whole report ({SCHEMA})");
    };
    ensure!(
        blocks.older_than.is_none() && blocks.min_size.is_none() && blocks.max_size.is_none(),
        "{path} is a report, in which single blocks cannot be chosen any more: --older-than, --min-size and --max-size take a capture (`memtrace --record FILE`)"
    );
    if let Some(order) = stacks.order {
        order.sort(&mut report.stacks);
    }
    if let Some(top) = stacks.top.filter(|top| *top > 0) {
        report.stacks.truncate(top);
    }
    Ok(report)
}

fn from_capture(
    path: &Path,
    blocks: &Blocks,
    stacks: Stacks,
    input: impl Read,
) -> anyhow::Result<HeapReport> {
    let mut replay = read(path, input)?;
    let mut shown = replay.start.shown;
    if let Some(age) = blocks.older_than {
        shown.filter.older_than_ns = nanoseconds(age);
    }
    if let Some(size) = blocks.min_size {
        shown.filter.min_size = size;
    }
    if let Some(size) = blocks.max_size {
        shown.filter.max_size = size;
    }
    if let Some(order) = stacks.order {
        shown.order = order;
    }
    shown.top = stacks.top.or(shown.top);
    let _progress = Progress::unknown("naming the code on the stacks");
    let choice = Choice {
        ended: stacks.ended,
        ..shown.choice(stacks.usual)
    };
    Ok(replay.report(&choice))
}

fn read(path: &Path, input: impl Read) -> anyhow::Result<Replay> {
    let path = path.display();
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
