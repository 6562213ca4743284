//! `memtrace report FILE`: the report of a capture, or one that was saved as
//! JSON, in any format.
use std::path::PathBuf;

use clap::Args;

use super::{
    args::{Sort, usual_top},
    output::Output,
    reporting::Reporting,
    source::{Blocks, Stacks, load},
};
use crate::report::heap::HeapReport;

/// What `memtrace report` takes.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Capture that `memtrace --record FILE` wrote, also one that was cut off; or a report in JSON
    #[arg(value_name = "FILE")]
    pub capture: PathBuf,

    /// Which blocks count.
    #[command(flatten)]
    pub blocks: Blocks,

    /// Show this many stacks; 0 shows all [default of these two: as recorded]
    #[arg(long, value_name = "NUMBER")]
    pub top: Option<usize>,

    /// What to sort stacks by
    #[arg(long, value_enum)]
    pub sort: Option<Sort>,

    /// Sizes as plain numbers of bytes, in text
    #[arg(long)]
    pub raw: bool,

    /// How to report.
    #[command(flatten)]
    pub reporting: Reporting<HeapReport>,
}

/// Runs the command and returns the exit status.
pub(super) fn run(args: &ReportArgs) -> anyhow::Result<i32> {
    let stacks = Stacks {
        order: args.sort.map(Sort::order),
        top: args.top,
        usual: usual_top(args.reporting.format),
        ended: args.reporting.format.is_history(),
    };
    let report = load(&args.capture, &args.blocks, stacks)?;
    let mut output = Output::open(&args.reporting)?.raw(args.raw).paged();
    output.write(&report)?;
    Ok(0)
}
