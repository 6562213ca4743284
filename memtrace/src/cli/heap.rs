//! `memtrace -p PID` and `memtrace -- COMMAND`: outstanding allocations.
use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context as _, ensure};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use tokio::sync::mpsc;

use super::{
    args::{Args, distinct},
    output::Output,
    run::{Changes, Run, with_a_worker},
    signals::{self, Asked, Signals},
    tell, top,
};
use crate::{
    capture::{RecordError, Recorder},
    event::{poll::readable, ring::Reader},
    probe::object::Admission,
    process::{
        Target,
        follow::Follower,
        launch::{Held, LaunchError},
    },
    report::heap::HeapReport,
    session::{self, Session},
};

/// Runs the command and returns the exit status.
pub(super) fn run(args: &Args) -> anyhow::Result<i32> {
    if args.tui {
        return top::trace(args);
    }
    let output = Output::open(&args.reporting)?.raw(args.raw);
    signals::hold().context("failed to hold signals back")?;
    let recorder = recorder(args)?;
    let runtime = with_a_worker()?;
    runtime.block_on(async {
        if args.command.is_empty() {
            trace_running(args, output, recorder).await
        } else {
            trace_command(args, output, recorder).await
        }
    })
}

/// Opens the capture before anything is probed.
fn recorder(args: &Args) -> anyhow::Result<Option<Recorder>> {
    let Some(path) = &args.record else {
        return Ok(None);
    };
    ensure!(
        args.reporting.output.as_ref() != Some(path),
        "--record and --output name the same file, {}: give each its own",
        path.display()
    );
    Ok(Some(Recorder::create(path)?))
}

pub(super) fn options(args: &Args) -> session::Options {
    session::Options {
        proc_root: PathBuf::from("/proc"),
        sys_root: PathBuf::from("/sys"),
        mappings: !args.no_mmap,
        ring_bytes: args.buffer,
        admission: Admission {
            min_size: args.min_size.unwrap_or(0),
            max_size: args.max_size.unwrap_or(u64::MAX),
            sample_bytes: args.sample_bytes,
        },
        unwind: args.unwind.method(),
        remember_walks: !args.no_walk_cache,
        allocator: (args.allocator.as_os_str() != "auto").then(|| args.allocator.clone()),
        log_level: if args.reporting.verbose >= 2 {
            aya_log::Level::Debug as u8
        } else {
            0
        },
    }
}

async fn trace_running(
    args: &Args,
    output: Output<HeapReport>,
    recorder: Option<Recorder>,
) -> anyhow::Result<i32> {
    let mut signals = Signals::listen().context("failed to listen for signals")?;
    let pids = distinct(&args.pid);
    let (mut session, reader) = Session::prepare(options(args), &pids)?;
    log_kernel_side(&mut session, args);
    session.attach()?;
    let follower = args
        .children
        .then(|| follow(&pids, None, true))
        .transpose()?;
    announce(&session);
    let mut run = Run::new(args, output, session, reader, recorder);
    run.changes = follower.map(|(_, changes)| changes);
    run.until_asked(&mut signals).await?;
    run.recorded?;
    Ok(0)
}

fn follow(pids: &[u32], wake: Option<u32>, children: bool) -> anyhow::Result<(Follower, Changes)> {
    let (sender, changes) = mpsc::unbounded_channel();
    let changed = move |change| {
        // Nobody listens any more: dropping it lets the process go.
        let _ = sender.send(change);
    };
    let follower = Follower::start(PathBuf::from("/proc"), pids, wake, children, changed)?;
    Ok((follower, changes))
}

async fn trace_command(
    args: &Args,
    output: Output<HeapReport>,
    recorder: Option<Recorder>,
) -> anyhow::Result<i32> {
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
    let mut run = Run::new(args, output, session, reader, recorder);
    if let Some(status) = ended {
        run.finish().await?;
        return as_shell(status).and_then(|status| unless_failed(status, run.recorded));
    }
    // It may run another program, as env and shell scripts do.
    let pid = child.as_raw().unsigned_abs();
    let (follower, changes) = follow(&[pid], Some(pid), args.children)?;
    run.changes = Some(changes);
    let asked = run.until_asked(&mut signals).await?;
    let recorded = std::mem::replace(&mut run.recorded, Ok(()));
    drop(run);
    if asked == Some(Asked::Terminate) {
        let _ = kill(child, Signal::SIGTERM);
    }
    let status = wait_for(child, follower, &mut signals).await?;
    unless_failed(status, recorded)
}

/// The command's status, unless it did well and the capture did not.
fn unless_failed(status: i32, recorded: Result<(), RecordError>) -> anyhow::Result<i32> {
    if status == 0 {
        recorded?;
    }
    Ok(status)
}

/// Also returns how the command ended, if it did so before its first
/// instruction.
fn start_traced(args: &Args, held: Held) -> anyhow::Result<(Session, Reader, Option<WaitStatus>)> {
    let pid = held.pid();
    let (mut session, reader) = Session::prepare(options(args), &[pid])?;
    log_kernel_side(&mut session, args);
    session.refresh(pid, false);
    let ended = held.run_to_entry(|| {
        session.refresh(pid, false);
    })?;
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
async fn wait_for(child: Pid, follower: Follower, signals: &mut Signals) -> anyhow::Result<i32> {
    let mut waiting = tokio::task::spawn_blocking(move || match (waitpid(child, None), follower) {
        // The thread that follows has waited for it.
        (Err(Errno::ECHILD), follower) => follower.exit_status(child).ok_or(Errno::ECHILD),
        (status, _) => status,
    });
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

fn announce(session: &Session) {
    for traced in &session.traced {
        let process = &traced.process;
        let Target { pid, comm, .. } = &process.target;
        // The end says so again only if that never came.
        if let Some(awaits) = traced.awaits() {
            tell(&format!(
                "tracing {pid} ({comm}) once it can be: {awaits}; Ctrl-C ends it with a report"
            ));
            continue;
        }
        let allocators: Vec<&str> = process
            .allocators
            .iter()
            .map(|(file, _)| file.as_str())
            .collect();
        tell(&format!(
            "tracing {pid} ({comm}): {} in {}; Ctrl-C ends it with a report",
            plural(session.probes(), "probe"),
            allocators.join(", "),
        ));
        for missing in &process.missing {
            log::warn!("{missing}");
        }
        for (file, functions) in &process.allocators {
            log::info!("{file}: {}", functions.join(" "));
        }
    }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Prints what the kernel side logs, at -vv.
fn log_kernel_side(session: &mut Session, args: &Args) {
    if args.reporting.verbose < 2 {
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
