//! The command line: parse → plan → run → report, one file a command.
pub mod args;
mod completions;
mod diff;
mod growth;
mod heap;
mod heapwalk;
mod meminfo;
mod oom;
mod output;
mod pager;
mod pages;
mod progress;
mod report;
mod reporting;
mod run;
mod signals;
mod source;
mod top;

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use clap::Parser as _;

use crate::process::launch;
use args::{Args, Job};
use reporting::Color;

/// Runs memtrace with the arguments of this process and returns its exit
/// status: 0 done, 1 the job could not be done, 2 wrong usage; with a
/// command, that command's.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let shim = arguments
        .nth(1)
        .is_some_and(|first| first == launch::SHIM_COMMAND);
    if shim {
        start_logging(0, false);
        let command: Vec<OsString> = arguments.skip(1).collect();
        return exit_code(launch::shim(&command));
    }
    let args = Args::parse();
    if let Err(error) = args.check() {
        error.exit();
    }
    let ((verbose, color), run) = chosen(&args);
    start_logging(verbose, color.is_on_stderr());
    match run() {
        Ok(status) => exit_code(status),
        Err(error) => {
            log::error!("{}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in one line, whatever they say. Many name their
/// cause themselves: that is not said again.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string().replace('\n', " ");
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}

/// What a job says on standard error, and the job.
type Chosen<'a> = ((u8, Color), Box<dyn FnOnce() -> anyhow::Result<i32> + 'a>);

/// One row a job.
fn chosen(args: &Args) -> Chosen<'_> {
    match &args.job {
        None => (args.reporting.messages(), Box::new(|| heap::run(args))),
        Some(Job::Report(job)) => (job.reporting.messages(), Box::new(|| report::run(job))),
        Some(Job::Meminfo(job)) => (job.reporting.messages(), Box::new(|| meminfo::run(job))),
        Some(Job::Oom(job)) => (job.reporting.messages(), Box::new(|| oom::run(job))),
        Some(Job::Heap(job)) => (job.reporting.messages(), Box::new(|| heapwalk::run(job))),
        Some(Job::Growth(job)) => (job.reporting.messages(), Box::new(|| growth::run(job))),
        Some(Job::Pages(job)) => (job.reporting.messages(), Box::new(|| pages::run(job))),
        Some(Job::Diff(job)) => (job.reporting.messages(), Box::new(|| diff::run(job))),
        Some(Job::Top(job)) => ((0, job.color), Box::new(|| top::run(job))),
        Some(Job::Completions(job)) => ((0, Color::Auto), Box::new(|| completions::run(job))),
    }
}

/// Progress goes to standard error, also without `-v`.
fn tell(line: &str) {
    // Where it cannot be written, there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "memtrace: {line}");
}

fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(1))
}

/// Errors and warnings to standard error, one line each; more with `-v`.
fn start_logging(verbose: u8, color: bool) {
    let level = match verbose {
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Info,
        _ => log::LevelFilter::Debug,
    };
    env_logger::Builder::new()
        .filter_level(level)
        // Its own notes on kernels' features are not ours.
        .filter_module("aya", log::LevelFilter::Warn)
        .filter_module("tracing", log::LevelFilter::Off)
        .write_style(if color {
            env_logger::WriteStyle::Always
        } else {
            env_logger::WriteStyle::Never
        })
        .format(|out, record| match record.level() {
            log::Level::Error | log::Level::Info => writeln!(out, "memtrace: {}", record.args()),
            level => writeln!(
                out,
                "memtrace: {}: {}",
                level.as_str().to_lowercase(),
                record.args()
            ),
        })
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn an_error_is_one_line_and_says_nothing_twice() {
        let cause = || std::io::Error::from_raw_os_error(1);
        let refused = crate::probe::LoadError::NotPermitted { source: cause() };
        let line = one_line(&refused.into());
        assert_eq!(line.matches("Operation not permitted").count(), 1, "{line}");
        let failed: Result<(), _> = Err(cause()).context("cannot read\nit");
        let line = failed.map_err(|error| one_line(&error)).unwrap_err();
        assert_eq!(line, "cannot read it: Operation not permitted (os error 1)");
    }
}
