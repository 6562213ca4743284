//! The loop of a trace: events, processes that change or end, reports, and the
//! end.
use std::{collections::VecDeque, path::Path, time::Duration};

use anyhow::Context as _;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    args::{Args, usual_top},
    heapwalk,
    output::Output,
    progress::Progress,
    signals::{Asked, Exit, Signals},
};
use crate::{
    capture::{RecordError, Recorder, Shown},
    event::ring::Reader,
    live::Filter,
    process::follow::Change,
    report::{
        assemble::{self, Choice},
        heap::HeapReport,
        pinned::{self, Look},
    },
    session::{Session, monotonic_ns},
    symbol::{self, Symbolizer},
};

/// Children that wait for their probes.
pub(super) type Changes = mpsc::UnboundedReceiver<Change>;

/// A run from its first event to its last report.
pub(super) struct Run<'a> {
    args: &'a Args,
    output: Output<HeapReport>,
    session: Session,
    reader: Reader,
    exits: Vec<Exit>,
    /// Processes that change, where they are followed.
    pub(super) changes: Option<Changes>,
    symbolizer: Symbolizer,
    /// What became of the capture.
    pub(super) recorded: Result<(), RecordError>,
    /// The latest looks into the processes' heaps.
    looks: Vec<Look>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        args: &'a Args,
        output: Output<HeapReport>,
        mut session: Session,
        reader: Reader,
        recorder: Option<Recorder>,
    ) -> Self {
        if let Some(recorder) = recorder {
            session.record(recorder, shown(args));
        }
        Self {
            recorded: Ok(()),
            looks: Vec::new(),
            exits: watch(&session),
            changes: None,
            symbolizer: Symbolizer::new(symbol::Options::default()),
            args,
            output,
            session,
            reader,
        }
    }

    /// Traces until Ctrl-C, the time is up or all processes have ended, then
    /// writes the last report. Returns the signal, if that was it.
    pub(super) async fn until_asked(
        &mut self,
        signals: &mut Signals,
    ) -> anyhow::Result<Option<Asked>> {
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
                Some(change) = next_change(self.changes.as_mut()) => {
                    self.session.follow(&change);
                    drop(change);
                    self.exits = watch(&self.session);
                }
                () = until(next_report) => {
                    self.look().await?;
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
    pub(super) async fn finish(&mut self) -> anyhow::Result<()> {
        // Whoever waits for probes goes on without.
        self.changes = None;
        self.look().await?;
        let end = self.session.finish(&mut self.reader).await;
        let end = end.context("failed to take the probes out")?;
        let reported = self.report(end);
        self.recorded = self.session.finish_recording(end, &mut self.symbolizer);
        reported?;
        for line in self.session.statistics() {
            log::info!("{line}");
        }
        Ok(())
    }

    /// Looks into the heaps of all processes that live, if that is asked for.
    /// Events are taken in meanwhile: large heaps take a while.
    async fn look(&mut self) -> anyhow::Result<()> {
        if !self.args.heap_walk {
            return Ok(());
        }
        self.session.any_alive();
        let processes = self.session.traced.iter().map(|traced| &traced.process);
        let processes: Vec<(u32, bool)> = processes
            .map(|process| (process.target.pid, process.exited))
            .collect();
        let mut looking = tokio::task::spawn_blocking(move || {
            let heap = |pid, exited| {
                if exited {
                    return Err("it has ended".to_owned());
                }
                heapwalk::look(Path::new("/proc"), pid, false).map_err(|error| format!("{error:#}"))
            };
            let look = |(pid, exited)| Look {
                pid,
                heap: heap(pid, exited),
            };
            processes.into_iter().map(look).collect()
        });
        let looks = loop {
            tokio::select! {
                looks = &mut looking => break looks,
                Some(batch) = self.reader.next() => self.session.apply(&batch),
            }
        };
        self.looks = looks.context("failed to look into the heaps")?;
        Ok(())
    }

    /// Returns whether anybody still reads.
    fn report(&mut self, now_ns: u64) -> anyhow::Result<bool> {
        let format = self.args.reporting.format;
        let choice = Choice {
            ended: format.is_history(),
            ..shown(self.args).choice(usual_top(format))
        };
        let progress = Progress::unknown("naming the code on the stacks");
        let facts = self.session.facts(now_ns);
        let mut report = assemble::heap(&facts, &choice, &mut self.symbolizer);
        report.heap_walk = pinned::join(&facts, &self.looks, &mut self.symbolizer);
        drop(progress);
        self.output.write(&report)
    }
}

/// A runtime on the calling thread alone.
pub(super) fn on_one_thread() -> anyhow::Result<Runtime> {
    built(&mut Builder::new_current_thread())
}

/// A runtime with a thread beside the calling one.
pub(super) fn with_a_worker() -> anyhow::Result<Runtime> {
    built(Builder::new_multi_thread().worker_threads(1))
}

fn built(builder: &mut Builder) -> anyhow::Result<Runtime> {
    let runtime = builder.enable_all().build();
    runtime.context("failed to start the asynchronous runtime")
}

/// Never, where nobody is followed.
async fn next_change(changes: Option<&mut Changes>) -> Option<Change> {
    match changes {
        Some(changes) => changes.recv().await,
        None => std::future::pending().await,
    }
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// How often to look for the end of processes that cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Completes when any of the processes has ended, or may have.
pub(super) async fn ended(exits: &[Exit]) {
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

/// What the run's own report shows.
pub(super) fn shown(args: &Args) -> Shown {
    Shown {
        filter: Filter {
            min_size: args.min_size.unwrap_or(0),
            max_size: args.max_size.unwrap_or(u64::MAX),
            older_than_ns: args.older_than.map_or(0, nanoseconds),
        },
        order: args.sort.order(),
        top: args.top,
    }
}

/// Watches for the end of all traced processes.
fn watch(session: &Session) -> Vec<Exit> {
    session
        .traced
        .iter()
        .filter(|traced| !traced.process.exited)
        .filter_map(|traced| Exit::of(traced.process.target.pid).ok())
        .collect()
}
