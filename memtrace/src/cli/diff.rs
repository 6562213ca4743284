//! `memtrace diff OLD NEW`: what grew between two reports.
use std::path::PathBuf;

use clap::Args;

use super::{
    output::Output,
    reporting::Reporting,
    source::{Blocks, Stacks, load},
};
use crate::report::{
    assemble::Order,
    diff::{DiffReport, compare},
};

/// Stacks that text shows where nothing is said.
const USUAL_TOP: usize = 10;

/// What `memtrace diff` takes.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The earlier one: a capture that `memtrace --record FILE` wrote, or a report in JSON
    #[arg(value_name = "OLD")]
    pub old: PathBuf,

    /// The later one
    #[arg(value_name = "NEW")]
    pub new: PathBuf,

    /// Which blocks count.
    #[command(flatten)]
    pub blocks: Blocks,

    /// Show this many stacks, those that grew most; 0 shows all [default: 10 in text, else all]
    #[arg(long, value_name = "NUMBER")]
    pub top: Option<usize>,

    /// Sizes as plain numbers of bytes, in text
    #[arg(long)]
    pub raw: bool,

    /// How to report.
    #[command(flatten)]
    pub reporting: Reporting<DiffReport>,
}

/// Runs the command and returns the exit status.
pub(super) fn run(args: &DiffArgs) -> anyhow::Result<i32> {
    // One that is cut would make stacks look new.
    let all = Stacks {
        order: Some(Order::Bytes),
        top: Some(0),
        usual: usize::MAX,
        ended: false,
    };
    let old = load(&args.old, &args.blocks, all)?;
    let new = load(&args.new, &args.blocks, all)?;
    let files = [&args.old, &args.new].map(|path| path.display().to_string());
    let mut report = compare(&old, &new, [&files[0], &files[1]]);
    let text = args.reporting.format.name == "text";
    let top = args.top.unwrap_or(if text { USUAL_TOP } else { 0 });
    let mut output = Output::open(&args.reporting)?.raw(args.raw).paged();
    if text {
        // It tells what it leaves out.
        output = output.top(top);
    } else if top > 0 {
        report.stacks.truncate(top);
    }
    output.write(&report)?;
    Ok(0)
}
