//! `memtrace heap -p PID`: one look into a glibc heap, without probes.
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::anyhow;
use clap::Args;

use super::{output::Output, reporting::Reporting, run::nanoseconds};
use crate::{
    heapwalk::{self, Heap, HeapError, Image},
    process::{
        self, ProcessError, Target,
        memory::{ProcessMemory, ReadError},
        stop::Stopped,
    },
    report::heapwalk::{HeapWalk, Process},
};

/// What `memtrace heap` takes.
#[derive(Debug, Args)]
pub struct HeapWalkArgs {
    /// Process to look into
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub pid: u32,

    /// Stop the process while its heap is read, usually for milliseconds, so
    /// that all figures are of one moment
    #[arg(long)]
    pub stop: bool,

    /// How to report.
    #[command(flatten)]
    pub reporting: Reporting<HeapWalk>,
}

/// How often a heap is looked at that changes meanwhile, or that a stopped
/// thread was changing, and how long to wait in between.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// How often a process is stopped until no thread is within malloc, and how
/// long it goes on in between. One that does nothing but allocate is within
/// malloc most of the time.
const STOPS: u32 = 100;
const GO_ON: Duration = Duration::from_millis(1);

/// Runs the command and returns the exit status.
pub(super) fn run(args: &HeapWalkArgs) -> anyhow::Result<i32> {
    let mut output = Output::open(&args.reporting)?;
    let report = look(Path::new("/proc"), args.pid, args.stop)?;
    output.write(&report)?;
    Ok(0)
}

/// Looks until the heap held still, or a few times.
pub(super) fn look(proc_root: &Path, pid: u32, stop: bool) -> anyhow::Result<HeapWalk> {
    let target = Target::find(proc_root, pid).map_err(|error| explained(error, pid))?;
    let program = proc_root.join(format!("{pid}/exe"));
    let program = program
        .read_link()
        .unwrap_or_else(|_| PathBuf::from(&target.comm));
    let mut look = 1;
    let (heap, stopped) = loop {
        let outcome = once(proc_root, pid, &program, stop);
        let is_good = match &outcome {
            Ok((heap, _)) => heap.consistent,
            // It may have been in the middle of a change.
            Err(error) => !error
                .downcast_ref::<HeapError>()
                .is_some_and(|error| matches!(error, HeapError::Damaged { .. })),
        };
        if is_good || look == LOOKS {
            break outcome;
        }
        log::debug!("look {look}: the heap did not hold still");
        look += 1;
        std::thread::sleep(PAUSE);
    }
    .map_err(|error| failed(error, &target))?;
    let process = Process {
        pid,
        comm: target.comm,
        exe: target.exe.display().to_string(),
    };
    Ok(HeapWalk::of(process, &heap, stopped.map(nanoseconds)))
}

/// One look. Also returns how long the process was stopped.
fn once(
    proc_root: &Path,
    pid: u32,
    program: &Path,
    stop: bool,
) -> anyhow::Result<(Heap, Option<Duration>)> {
    let memory = ProcessMemory::of(pid);
    let read_maps = || process::maps(proc_root, pid).map_err(|error| explained(error, pid));
    // What takes longest of a small heap need not wait for it to hold still.
    let place = heapwalk::locate(&Image {
        memory: &memory,
        maps: &read_maps()?,
        program,
    })?;
    let mut stops = 1;
    let (since, stopped, maps) = loop {
        let since = Instant::now();
        let stopped = stop.then(|| Stopped::stop(proc_root, pid)).transpose();
        let stopped = stopped.map_err(|error| explained(error, pid))?;
        let maps = read_maps()?;
        let image = Image {
            memory: &memory,
            maps: &maps,
            program,
        };
        if stopped.is_none() || stops == STOPS || !heapwalk::is_busy(&image, &place) {
            break (since, stopped, maps);
        }
        drop(stopped);
        std::thread::sleep(GO_ON);
        stops += 1;
    };
    let image = Image {
        memory: &memory,
        maps: &maps,
        program,
    };
    let heap = heapwalk::walk(&image, &place);
    let threads = stopped.as_ref().map_or(0, Stopped::threads);
    let time = stopped.map(|stopped| {
        drop(stopped);
        since.elapsed()
    });
    match time {
        Some(time) => log::info!("{threads} threads were stopped for {time:.1?}"),
        None => log::info!("read in {:.1?}", since.elapsed()),
    }
    Ok((heap?, time))
}

/// What to do where the kernel says no: less is needed than for tracing.
fn explained(error: ProcessError, pid: u32) -> anyhow::Error {
    match error {
        ProcessError::NotPermitted { .. } => not_permitted(pid),
        other => other.into(),
    }
}

fn not_permitted(pid: u32) -> anyhow::Error {
    anyhow!(
        "not permitted to read the memory of process {pid}: run as root (sudo) or with CAP_SYS_PTRACE; its own user may where kernel.yama.ptrace_scope is 0 and it allows core dumps"
    )
}

fn failed(error: anyhow::Error, target: &Target) -> anyhow::Error {
    let pid = target.pid;
    match error.downcast::<HeapError>() {
        Ok(HeapError::Read(ReadError::NotPermitted)) => not_permitted(pid),
        Ok(HeapError::Read(ReadError::Gone)) => ProcessError::NotFound { pid }.into(),
        Ok(error) => anyhow::Error::from(error).context(format!(
            "cannot look into the heap of process {pid} ({})",
            target.comm
        )),
        Err(other) => other,
    }
}
