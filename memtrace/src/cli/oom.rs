//! `memtrace oom`: records out-of-memory kills as they happen, explains those of
//! a kernel log, or lists who would be killed now.
mod guard;
mod kmsg;
mod live;
mod sink;

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, builder::PossibleValuesParser};

use super::{output::Output, reporting::Reporting};
use crate::{
    kernel::{self, uprobe::Version},
    oom::{candidates, log as kernel_log, meminfo},
    report::{
        Document as _,
        oom::{LIST_SCHEMA, OomList, OomReport},
    },
    unit::parse_duration,
};

/// What `memtrace oom` takes.
#[derive(Debug, Args)]
#[command(mut_arg("output", |arg| arg.help("Write the report to this file instead of standard output; the recorder: each record to a file of its own in this directory")))]
pub struct OomArgs {
    /// Explain the kills in this kernel log (dmesg, journalctl -k, syslog) instead; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,

    /// A saved /proc/meminfo of the same moment, for a log that has no figures
    #[arg(long, value_name = "FILE", requires = "from")]
    pub meminfo: Option<PathBuf>,

    /// The kernel that wrote the log (4.1), where the log does not say
    #[arg(long, value_name = "VERSION", requires = "from", value_parser = parse_kernel)]
    pub kernel: Option<Version>,

    /// Show who would be killed now, the likeliest first
    #[arg(long, conflicts_with = "from")]
    pub list: bool,

    /// Show this many processes with --list; 0 shows all
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 20,
        requires = "list",
        conflicts_with = "from"
    )]
    pub top: usize,

    /// Record for this long (10m, 8h) [default: until Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, conflicts_with_all = ["from", "list"])]
    pub duration: Option<Duration>,

    /// For tests: use this mechanism and no other for what it tells
    #[arg(long, hide = true, value_name = "NAME", value_parser = PossibleValuesParser::new(kernel::oom::mechanisms()), conflicts_with_all = ["from", "list"])]
    pub mechanism: Vec<String>,

    /// For tests: do without the kernel's log
    #[arg(long, hide = true, conflicts_with_all = ["from", "list"])]
    pub no_log: bool,

    /// How to report. The recorder's --output is a directory, with a file for each kill.
    #[command(flatten)]
    pub reporting: Reporting<OomReport>,
}

fn parse_kernel(text: &str) -> Result<Version, String> {
    let version = kernel::parse_version(text);
    version.ok_or_else(|| "write a version as 4.1 or 5.10.0-35".to_owned())
}

/// Runs the command and returns the exit status.
pub(super) fn run(args: &OomArgs) -> anyhow::Result<i32> {
    if args.list {
        list(args)
    } else if let Some(from) = &args.from {
        explain(args, from)
    } else {
        live::run(args)
    }
}

fn list(args: &OomArgs) -> anyhow::Result<i32> {
    let mut candidates =
        candidates::read(Path::new("/proc")).context("cannot read /proc: is it mounted?")?;
    let candidate_count = candidates.len();
    let remarks = candidates::remarks(&candidates);
    if args.top > 0 {
        candidates.truncate(args.top);
    }
    let list = OomList {
        schema: LIST_SCHEMA.into(),
        candidate_count,
        candidates,
        remarks,
    };
    let reporting = &args.reporting;
    let reporting = Reporting {
        format: OomList::format(reporting.format.name).unwrap_or(&OomList::FORMATS[0]),
        output: reporting.output.clone(),
        verbose: reporting.verbose,
        color: reporting.color,
    };
    Output::open(&reporting)?.write(&list)?;
    Ok(0)
}

fn explain(args: &OomArgs, from: &Path) -> anyhow::Result<i32> {
    let name = if from.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        from.display().to_string()
    };
    let log = read_log(from).with_context(|| format!("cannot read the log {name}"))?;
    let mut kills = kernel_log::parse(&log, args.kernel);
    if kills.is_empty() {
        bail!(
            "there is no out-of-memory kill in {name}: give the kernel's log (`dmesg`, `journalctl -k`) from `invoked oom-killer` to `Killed process`"
        );
    }
    if let Some(path) = &args.meminfo {
        let shown = path.display();
        let text = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        let rows = meminfo::parse(&String::from_utf8_lossy(&text));
        if rows.is_empty() {
            bail!("{shown} is no /proc/meminfo: it has no line like `MemFree: 142612 kB`");
        }
        if kills.len() > 1 {
            log::warn!(
                "{name} holds {} kills; {shown} is taken to belong to the last",
                kills.len()
            );
        }
        if let Some(kill) = kills.last_mut() {
            kill.meminfo.extend(rows);
        }
    }
    let mut output = Output::open(&args.reporting)?;
    for (number, kill) in kills.into_iter().enumerate() {
        if number > 0 {
            output.separate()?;
        }
        if !output.write(&OomReport::new(kill, Vec::new(), 0))? {
            break;
        }
    }
    Ok(0)
}

/// Logs may hold any bytes.
fn read_log(from: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    if from == Path::new("-") {
        io::stdin().lock().read_to_end(&mut bytes)?;
    } else {
        bytes = fs::read(from)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
