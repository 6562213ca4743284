//! `memtrace growth`: what makes processes grow.
mod args;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::time::{Instant, MissedTickBehavior};

pub(super) use args::GrowthArgs;
use args::{PROCESSES, STACKS};

use super::{
    args::distinct,
    output::Output,
    run::{ended, nanoseconds, until, with_a_worker},
    signals::{self, Exit, Signals},
    tell,
};
use crate::{
    event::{Batch, ring::Reader},
    growth::{MANY, Ranking, Rollup, Sample, Sampler, Series},
    probe::LoadError,
    process::{self, ProcessError, Target},
    report::growth::{
        GrowthReport, Hook,
        assemble::{self, Probed, Watched},
    },
    session::{GrowthOptions, GrowthSession, SessionError, monotonic_ns},
    symbol::{self, Symbolizer},
};

/// Root of `/proc`.
const PROC: &str = "/proc";

/// Runs the command and returns the exit status.
pub(super) fn run(args: &GrowthArgs) -> anyhow::Result<i32> {
    let mut output = Output::open(&args.reporting)?;
    signals::hold().context("failed to hold signals back")?;
    let runtime = with_a_worker()?;
    let report = runtime.block_on(async {
        if args.all {
            rank(args).await
        } else {
            Box::pin(watch(args)).await
        }
    })?;
    output.write(&report)?;
    Ok(0)
}

async fn rank(args: &GrowthArgs) -> anyhow::Result<GrowthReport> {
    let mut signals = Signals::listen().context("failed to listen for signals")?;
    let mut ranking = Ranking::default();
    let page = procfs::page_size();
    let me = std::process::id();
    let deadline = args.duration.map(|duration| Instant::now() + duration);
    let mut look = tokio::time::interval(args.interval);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tell("watching all processes; Ctrl-C ends it with a report");
    let mut ends = false;
    while !ends {
        tokio::select! {
            biased;
            _ = signals.next() => ends = true,
            () = until(deadline) => ends = true,
            _ = look.tick() => {}
        }
        let mut glances =
            process::glance_at_all(Path::new(PROC)).context("cannot read /proc: is it mounted?")?;
        glances.retain(|glance| glance.pid != me);
        ranking.look(monotonic_ns(), page, glances);
    }
    let sizes = |pid| Sampler::new(Path::new(PROC), pid).sample(monotonic_ns(), true);
    let top = args.top(PROCESSES);
    let interval = nanoseconds(args.interval);
    let ranked = ranking.ranked();
    Ok(assemble::ranked(&ranked, sizes, interval, top, Vec::new()))
}

/// A process that is watched.
struct Subject {
    target: Target,
    sampler: Sampler,
    series: Series<Sample>,
    rollup: Option<Rollup>,
    exited: bool,
}

impl Subject {
    fn find(pid: u32) -> Result<Self, ProcessError> {
        Ok(Self {
            target: Target::find(Path::new(PROC), pid)?,
            sampler: Sampler::new(Path::new(PROC), pid),
            series: Series::keeping(MANY),
            rollup: None,
            exited: false,
        })
    }

    fn look(&mut self, thorough: bool) {
        // It may run another program by now, under another name.
        match Target::find(Path::new(PROC), self.target.pid) {
            Ok(now) if now.start_time == self.target.start_time && !self.exited => {
                self.target = now;
            }
            _ => {
                self.exited = true;
                return;
            }
        }
        if let Some(sample) = self.sampler.sample(monotonic_ns(), thorough) {
            self.series.push(sample);
        }
    }
}

async fn watch(args: &GrowthArgs) -> anyhow::Result<GrowthReport> {
    let mut signals = Signals::listen().context("failed to listen for signals")?;
    let pids = distinct(&args.pid);
    let subjects: Result<Vec<_>, _> = pids.iter().map(|pid| Subject::find(*pid)).collect();
    let mut subjects = subjects?;
    let mut probes = if args.no_probes {
        None
    } else {
        Some(Probes::attach(args, &pids).map_err(explain)?)
    };
    for subject in &mut subjects {
        subject.look(true);
    }
    announce(&subjects, probes.as_ref());
    let deadline = args.duration.map(|duration| Instant::now() + duration);
    let mut look = tokio::time::interval_at(Instant::now() + args.interval, args.interval);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut exits = exits(&subjects);
    loop {
        tokio::select! {
            biased;
            _ = signals.next() => break,
            () = until(deadline) => break,
            () = ended(&exits) => {
                for subject in &mut subjects {
                    subject.exited = !subject.target.is_alive(Path::new(PROC));
                }
                if let Some(probes) = &mut probes {
                    probes.session.any_alive();
                }
                if subjects.iter().all(|subject| subject.exited) {
                    break;
                }
                exits = self::exits(&subjects);
            }
            _ = look.tick() => {
                for subject in &mut subjects {
                    subject.look(false);
                }
            }
            batch = next(&mut probes) => match (batch, &mut probes) {
                (Some(batch), Some(probes)) => probes.session.apply(&batch),
                _ => break,
            }
        }
    }
    for subject in &mut subjects {
        subject.look(true);
        if !subject.exited {
            subject.rollup = subject.sampler.rollup();
        }
    }
    report(args, &subjects, probes).await
}

async fn report(
    args: &GrowthArgs,
    subjects: &[Subject],
    probes: Option<Probes>,
) -> anyhow::Result<GrowthReport> {
    let watched: Vec<Watched<'_>> = subjects.iter().map(Subject::watched).collect();
    let mut notes: Vec<String> = subjects.iter().filter_map(Subject::unread).collect();
    let mut symbolizer = Symbolizer::new(symbol::Options::default());
    let top = args.top(STACKS);
    let interval = nanoseconds(args.interval);
    let Some(mut probes) = probes else {
        return Ok(assemble::watched(
            &watched,
            None,
            interval,
            top,
            notes,
            &mut symbolizer,
        ));
    };
    let (sums, mut attached) = probes.session.end();
    let mut detaching = tokio::task::spawn_blocking(move || attached.detach());
    let detached = loop {
        tokio::select! {
            detached = &mut detaching => break detached,
            Some(batch) = probes.reader.next() => probes.session.apply(&batch),
        }
    };
    detached.context("failed to take the probes out")?;
    probes.reader.stop();
    while let Some(batch) = probes.reader.next().await {
        probes.session.apply(&batch);
    }
    for line in probes.session.statistics() {
        log::info!("{line}");
    }
    let session = &probes.session;
    notes.extend_from_slice(&session.missing);
    let probed = Probed {
        sums: &sums,
        stacks: &session.trace.stacks,
        modules: &session.trace.modules,
        hooks: hooks(session),
        lost: session.counters.lost(),
    };
    Ok(assemble::watched(
        &watched,
        Some(&probed),
        interval,
        top,
        notes,
        &mut symbolizer,
    ))
}

fn hooks(session: &GrowthSession) -> Vec<Hook> {
    let mechanisms = session.mechanisms().into_iter();
    mechanisms
        .map(|(hook, candidate)| Hook {
            hook: hook.to_owned(),
            mechanism: candidate.map(|candidate| candidate.label.to_owned()),
            name: candidate.map(|candidate| candidate.name.to_owned()),
            loses: candidate.map(|candidate| candidate.loses.to_owned()),
            fallback: candidate.is_some_and(|candidate| !candidate.is_first()),
        })
        .collect()
}

impl Subject {
    fn watched(&self) -> Watched<'_> {
        Watched {
            pid: self.target.pid,
            comm: &self.target.comm,
            exited: self.exited,
            series: &self.series,
            rollup: self.rollup,
        }
    }

    /// What of it could not be read, and why.
    fn unread(&self) -> Option<String> {
        let Target { pid, comm, .. } = &self.target;
        (!self.sampler.may_read_maps).then(|| {
            format!("the mappings of process {pid} ({comm}) may only be read by its user and by root: which kind of memory grows is not known")
        })
    }
}

/// The kernel side.
struct Probes {
    session: GrowthSession,
    reader: Reader,
}

impl Probes {
    fn attach(args: &GrowthArgs, pids: &[u32]) -> Result<Self, SessionError> {
        let options = GrowthOptions {
            proc_root: PathBuf::from(PROC),
            sys_root: PathBuf::from("/sys"),
            faults: args.faults,
            calls: args.calls,
            log_level: 0,
        };
        let (mut session, reader) = GrowthSession::prepare(options, pids)?;
        session.attach()?;
        Ok(Self { session, reader })
    }
}

/// What to do where probes are not permitted.
fn explain(error: SessionError) -> anyhow::Error {
    match error {
        SessionError::Load(LoadError::NotPermitted { .. })
        | SessionError::Process(ProcessError::NotPermitted { .. }) => anyhow::anyhow!(
            "{error}; or leave the stacks out with --no-probes, which needs no privileges"
        ),
        error => error.into(),
    }
}

async fn next(probes: &mut Option<Probes>) -> Option<Batch> {
    match probes {
        Some(probes) => probes.reader.next().await,
        None => std::future::pending().await,
    }
}

fn exits(subjects: &[Subject]) -> Vec<Exit> {
    let alive = subjects.iter().filter(|subject| !subject.exited);
    alive
        .filter_map(|subject| Exit::of(subject.target.pid).ok())
        .collect()
}

fn announce(subjects: &[Subject], probes: Option<&Probes>) {
    for Subject { target, .. } in subjects {
        let how = match probes {
            Some(probes) => format!("{} probes", probes.session.probes()),
            None => "/proc alone".to_owned(),
        };
        tell(&format!(
            "tracing {} ({}): {how}; Ctrl-C ends it with a report",
            target.pid, target.comm
        ));
    }
    for missing in probes.iter().flat_map(|probes| &probes.session.missing) {
        log::warn!("{missing}");
    }
}
