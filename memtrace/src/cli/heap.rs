//! `memtrace -p PID` and `memtrace -- COMMAND`: outstanding allocations.
use std::{
    collections::{HashSet, VecDeque},
    ffi::OsString,
    io::Write as _,
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use tokio::time::{Instant, sleep_until};

use super::{
    args::{Args, Sort},
    output::Output,
    signals::{self, Asked, Exit, Signals},
};
use crate::{
    event::{poll::readable, ring::Reader},
    live::Filter,
    process::launch::{Held, LaunchError},
    report::assemble::{self, Choice, Order},
    session::{self, Session, monotonic_ns},
    symbol::{self, Symbolizer},
};

/// Runs the command and returns the exit status.
pub(super) fn run(args: &Args) -> anyhow::Result<i32> {
    let output = Output::open(args)?;
    signals::hold().context("failed to hold signals back")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("failed to start the asynchronous runtime")?;
    runtime.block_on(async {
        if args.command.is_empty() {
            trace_running(args, output).await
        } else {
            trace_command(args, output).await
        }
    })
}

fn options(args: &Args) -> session::Options {
    session::Options {
        proc_root: PathBuf::from("/proc"),
        mappings: !args.no_mmap,
        ring_bytes: args.buffer,
        log_level: if args.verbose >= 2 {
            aya_log::Level::Debug as u8
        } else {
            0
        },
    }
}

async fn trace_running(args: &Args, output: Output) -> anyhow::Result<i32> {
    let mut signals = Signals::listen().context("failed to listen for signals")?;
    let mut pids = args.pid.clone();
    let mut seen = HashSet::new();
    pids.retain(|pid| seen.insert(*pid));
    let (mut session, reader) = Session::prepare(options(args), &pids)?;
    log_kernel_side(&mut session, args);
    session.attach()?;
    announce(&session);
    let mut run = Run::new(args, output, session, reader);
    run.until_asked(&mut signals).await?;
    Ok(0)
}

async fn trace_command(args: &Args, output: Output) -> anyhow::Result<i32> {
    let mut signals = Signals::listen().context("failed to listen for signals")?;
    let command: Vec<OsString> = args.command.clone();
    let held = match Held::start(&command) {
        // The child has said why.
        Err(LaunchError::Said) => return Ok(1),
        held => held?,
    };
    let child = Pid::from_raw(i32::try_from(held.pid()).context("pid out of range")?);
    let started = start_traced(args, held);
    let (session, reader, ended) = match started {
        Ok(started) => started,
        Err(error) => {
            // Held at its first instruction: it has done nothing yet.
            let _ = kill(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
            return Err(error);
        }
    };
    let mut run = Run::new(args, output, session, reader);
    if let Some(status) = ended {
        run.finish().await?;
        return as_shell(status);
    }
    let asked = run.until_asked(&mut signals).await?;
    drop(run);
    if asked == Some(Asked::Terminate) {
        let _ = kill(child, Signal::SIGTERM);
    }
    wait_for(child, &mut signals).await
}

/// Also returns how the command ended, if it did so before its first
/// instruction.
fn start_traced(args: &Args, held: Held) -> anyhow::Result<(Session, Reader, Option<WaitStatus>)> {
    let pid = held.pid();
    let (mut session, reader) = Session::prepare(options(args), &[pid])?;
    log_kernel_side(&mut session, args);
    session.refresh(pid);
    let ended = held.run_to_entry(|| session.refresh(pid))?;
    if ended.is_none() {
        session.check_allocators()?;
        announce(&session);
    }
    Ok((session, reader, ended))
}

/// An exit status as a shell would tell it.
fn as_shell(status: WaitStatus) -> anyhow::Result<i32> {
    match status {
        WaitStatus::Exited(_, status) => Ok(status),
        WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
        other => anyhow::bail!("the command ended in an unknown way: {other:?}"),
    }
}

/// Waits for the command's end and returns its status as a shell would.
async fn wait_for(child: Pid, signals: &mut Signals) -> anyhow::Result<i32> {
    let mut waiting = tokio::task::spawn_blocking(move || waitpid(child, None));
    loop {
        tokio::select! {
            status = &mut waiting => {
                return as_shell(status?.context("failed to wait for the command")?);
            }
            asked = signals.next() => if asked == Asked::Terminate {
                let _ = kill(child, Signal::SIGTERM);
            }
        }
    }
}

/// Watches for the end of all traced processes.
fn watch(session: &Session) -> Vec<Exit> {
    session
        .traced
        .iter()
        .filter(|traced| !traced.exited)
        .filter_map(|traced| Exit::of(traced.target.pid).ok())
        .collect()
}

fn announce(session: &Session) {
    for traced in &session.traced {
        let allocators: Vec<&str> = traced
            .allocators
            .iter()
            .map(|(file, _)| file.as_str())
            .collect();
        eprint_line(&format!(
            "tracing {} ({}): {} in {}; Ctrl-C ends it with a report",
            traced.target.pid,
            traced.target.comm,
            plural(session.probes(), "probe"),
            allocators.join(", "),
        ));
        for unseen in &traced.unseen {
            log::warn!("{unseen}");
        }
        for (file, functions) in &traced.allocators {
            log::info!("{file}: {}", functions.join(" "));
        }
    }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Progress goes to standard error, also without `-v`.
fn eprint_line(line: &str) {
    // Where it cannot be written, there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "memtrace: {line}");
}

/// Prints what the kernel side logs, at -vv.
fn log_kernel_side(session: &mut Session, args: &Args) {
    if args.verbose < 2 {
        return;
    }
    let logger = session
        .logger()
        .map_err(anyhow::Error::from)
        .and_then(|logger| Ok(readable(logger)?));
    match logger {
        Ok(mut logger) => {
            tokio::spawn(async move {
                while let Ok(mut ready) = logger.readable_mut().await {
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
            });
        }
        Err(error) => log::warn!("the kernel side's log cannot be read: {error}"),
    }
}

struct Run<'a> {
    args: &'a Args,
    output: Output,
    session: Session,
    reader: Reader,
    exits: Vec<Exit>,
    symbolizer: Symbolizer,
}

impl<'a> Run<'a> {
    fn new(args: &'a Args, output: Output, session: Session, reader: Reader) -> Self {
        Self {
            exits: watch(&session),
            symbolizer: Symbolizer::new(symbol::Options::default()),
            args,
            output,
            session,
            reader,
        }
    }

    /// Traces until Ctrl-C, the time is up or all processes have ended, then
    /// writes the last report. Returns the signal, if that was it.
    async fn until_asked(&mut self, signals: &mut Signals) -> anyhow::Result<Option<Asked>> {
        let deadline = self.args.duration.map(|duration| Instant::now() + duration);
        let mut next_report = self.args.interval.map(|interval| Instant::now() + interval);
        let mut asked = None;
        loop {
            tokio::select! {
                // Events first, so that a report never lags behind them.
                biased;
                signal = signals.next() => { asked = Some(signal); break }
                () = until(deadline) => break,
                () = ended(&self.exits) => {
                    if !self.session.any_alive() { break }
                    self.exits = watch(&self.session);
                }
                () = until(next_report) => {
                    if !self.report(monotonic_ns())? { break }
                    next_report = self.args.interval.map(|interval| Instant::now() + interval);
                }
                batch = self.reader.next() => match batch {
                    Some(batch) => self.session.apply(&batch),
                    None => break,
                }
            }
        }
        self.finish().await?;
        Ok(asked)
    }

    /// Takes the probes out and reports what was outstanding when that began.
    async fn finish(&mut self) -> anyhow::Result<()> {
        let (end, mut probes) = self.session.end();
        let mut detaching = tokio::task::spawn_blocking(move || probes.detach());
        let detached = loop {
            tokio::select! {
                detached = &mut detaching => break detached,
                Some(batch) = self.reader.next() => self.session.apply(&batch),
            }
        };
        detached.context("failed to take the probes out")?;
        // Only now is everything in the ring buffer that will ever be.
        self.reader.stop();
        while let Some(batch) = self.reader.next().await {
            self.session.apply(&batch);
        }
        self.session.any_alive();
        self.report(end)?;
        for line in self.session.statistics() {
            log::info!("{line}");
        }
        Ok(())
    }

    /// Returns whether anybody still reads.
    fn report(&mut self, now_ns: u64) -> anyhow::Result<bool> {
        let args = self.args;
        let choice = Choice {
            filter: Filter {
                min_size: args.min_size.unwrap_or(0),
                max_size: args.max_size.unwrap_or(u64::MAX),
                older_than_ns: args.older_than.map_or(0, nanoseconds),
            },
            order: match args.sort {
                Sort::Bytes => Order::Bytes,
                Sort::Count => Order::Count,
            },
            top: args.top(),
        };
        let report = assemble::heap(&self.session.facts(now_ns), &choice, &mut self.symbolizer);
        self.output.write(&report)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// How often to look for the end of processes that cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Completes when any of the processes has ended, or may have.
async fn ended(exits: &[Exit]) {
    if exits.is_empty() {
        // All have ended, or cannot be watched: look now and then.
        tokio::time::sleep(LOOK_AGAIN).await;
        return;
    }
    let mut waiting: VecDeque<_> = exits.iter().map(|exit| Box::pin(exit.wait())).collect();
    std::future::poll_fn(|context| {
        for exit in &mut waiting {
            if exit.as_mut().poll(context).is_ready() {
                return std::task::Poll::Ready(());
            }
        }
        std::task::Poll::Pending
    })
    .await;
}
