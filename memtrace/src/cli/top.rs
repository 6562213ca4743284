//! `memtrace top`, and `memtrace -p PID --tui`: the live view.
use std::{io::IsTerminal as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use memtrace_common::unwind::Method;

use super::{
    args::{self, distinct, parse_interval, parse_sample},
    heap,
    reporting::Color,
    run::{on_one_thread, shown},
    signals::{self, Signals},
};
use crate::{
    live::Filter,
    probe::object::Admission,
    report::{Style, assemble::Order},
    session,
    tui::{self, Options},
};

/// Between two looks, where nothing is said.
const INTERVAL: Duration = Duration::from_secs(1);

/// What `memtrace top` takes.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Look every so often
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval, default_value = "1s")]
    pub interval: Duration,

    /// In processes that are opened, take in about one block in every SIZE bytes and
    /// estimate the rest: far cheaper; 0 takes in every block
    #[arg(long, value_name = "SIZE", value_parser = parse_sample, default_value = "0")]
    pub sample_bytes: u64,

    /// Sizes as plain numbers of bytes
    #[arg(long)]
    pub raw: bool,

    /// Use colours
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
}

/// Runs the command and returns the exit status.
pub(super) fn run(args: &TopArgs) -> anyhow::Result<i32> {
    show(&Options {
        session: session::Options {
            proc_root: PathBuf::from("/proc"),
            sys_root: PathBuf::from("/sys"),
            mappings: true,
            ring_bytes: None,
            admission: Admission {
                min_size: 0,
                max_size: u64::MAX,
                sample_bytes: args.sample_bytes,
            },
            unwind: Method::Auto,
            remember_walks: true,
            allocator: None,
            log_level: 0,
        },
        filter: Filter::default(),
        order: Order::default(),
        interval: args.interval,
        pids: Vec::new(),
        style: style(args.color, args.raw),
    })
}

/// The live view of the processes that are to be traced.
pub(super) fn trace(args: &args::Args) -> anyhow::Result<i32> {
    let shown = shown(args);
    show(&Options {
        session: session::Options {
            log_level: 0,
            ..heap::options(args)
        },
        filter: shown.filter,
        order: shown.order,
        interval: args.interval.unwrap_or(INTERVAL),
        pids: distinct(&args.pid),
        style: style(args.reporting.color, args.raw),
    })
}

fn style(color: Color, raw: bool) -> Style {
    Style {
        color: color.is_on(std::io::stdout().is_terminal()),
        raw,
        ..Style::default()
    }
}

fn show(options: &Options) -> anyhow::Result<i32> {
    signals::hold().context("failed to hold signals back")?;
    let runtime = on_one_thread()?;
    runtime.block_on(async {
        let mut signals = Signals::listen().context("failed to listen for signals")?;
        let asked = async move {
            signals.next().await;
        };
        tui::run(options, asked).await?;
        Ok(0)
    })
}
