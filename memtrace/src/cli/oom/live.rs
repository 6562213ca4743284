//! The recorder: waits for kills, joins what the kernel side and the kernel's log
//! say about each with the minute before it, and writes it down.
use std::{io, rc::Rc, time::Duration};

use anyhow::{Context as _, bail};
use aya::maps::{MapData, RingBuf};
use memtrace_common::oom::{KILL, OomKill, SIGNAL};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{OomArgs, guard, kmsg::KernelLog, sink::Sink};
use crate::{
    cli::{
        run::on_one_thread,
        signals::{self, Signals},
    },
    event::poll::readable,
    kernel::{self, btf::Btf},
    oom::{
        Kill, groups,
        history::{self, History, Look, Roots},
        record::{self, Scene},
    },
    probe::OomProbes,
    report::oom::OomReport,
    session::monotonic_ns,
    symbol::kernel::KernelSymbols,
};

/// How often the machine is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How long a kill waits for the other half of what is said about it.
const PATIENCE: Duration = Duration::from_millis(300);

/// Runs until it is asked to end.
pub(super) fn run(args: &OomArgs) -> anyhow::Result<i32> {
    let sink = Sink::open(&args.reporting)?;
    signals::hold().context("failed to hold signals back")?;
    // One thread: less to lock.
    let runtime = on_one_thread()?;
    runtime.block_on(async {
        let mut signals = Signals::listen().context("failed to listen for signals")?;
        let mut recorder = Recorder::start(sink, args)?;
        guard::protect();
        recorder.announce();
        let end = args.duration.map(|duration| Instant::now() + duration);
        recorder.until_asked(&mut signals, end).await?;
        Ok(0)
    })
}

/// A kill that waits for its report in the kernel's log.
struct Event {
    record: OomKill,
    scene: Scene,
    deadline: Instant,
}

/// A kill of the kernel's log that waits for its event.
struct Logged {
    kill: Kill,
    scene: Scene,
    /// When it was read, on the clock of events.
    at_ns: u64,
    deadline: Instant,
}

struct Recorder {
    sink: Sink,
    roots: Roots,
    probes: Option<OomProbes>,
    ring: Option<AsyncFd<RingBuf<MapData>>>,
    log: Option<KernelLog>,
    symbols: KernelSymbols,
    release: String,
    page_kb: u64,
    history: History,
    look: Rc<Look>,
    events: Vec<Event>,
    logged: Vec<Logged>,
    lost: u64,
    written: u64,
}

impl Recorder {
    fn start(sink: Sink, args: &OomArgs) -> anyhow::Result<Self> {
        let types = kernel::oom::type_information();
        let btf = types.as_ref().ok().and_then(|bytes| Btf::parse(bytes).ok());
        if btf.is_none() {
            log::warn!(
                "this kernel has no type information (CONFIG_DEBUG_INFO_BTF): names and sizes are from its log alone"
            );
        }
        let layout = kernel::oom::layout(btf.as_ref(), kernel::version());
        let log = if args.no_log {
            Err(io::ErrorKind::Unsupported.into())
        } else {
            KernelLog::open()
        };
        let probes = OomProbes::start(&layout, &args.mechanism);
        if let (Err(error), false) = (&probes, args.mechanism.is_empty()) {
            bail!("cannot watch as --mechanism asks: {error}");
        }
        let (probes, log) = match (probes, log) {
            (Ok(probes), Ok(log)) => (Some(probes), Some(log)),
            (Ok(probes), Err(error)) => {
                log::warn!("cannot read /dev/kmsg ({error}): the kernel's own reports are missing");
                (Some(probes), None)
            }
            (Err(error), Ok(log)) => {
                log::warn!(
                    "no eBPF, so only what the kernel writes into its log is recorded, and it writes little about many kills in a row: {error}"
                );
                (None, Some(log))
            }
            (Err(error), Err(_)) => {
                return Err(error).context(
                    "cannot watch for out-of-memory kills, neither by eBPF nor in /dev/kmsg",
                );
            }
        };
        let mut recorder = Self {
            sink,
            roots: Roots::default(),
            ring: None,
            probes,
            log,
            symbols: KernelSymbols::default(),
            release: kernel::release(),
            page_kb: procfs::page_size() / 1024,
            history: History::default(),
            look: Rc::default(),
            events: Vec::new(),
            logged: Vec::new(),
            lost: 0,
            written: 0,
        };
        let ring = recorder.probes.as_mut().and_then(OomProbes::ring);
        recorder.ring = ring
            .map(readable)
            .transpose()
            .context("failed to poll the ring buffer")?;
        recorder.look_around();
        Ok(recorder)
    }

    fn announce(&self) {
        let (used, missing) = match &self.probes {
            Some(probes) => (probes.used.as_slice(), probes.missing.as_slice()),
            None => (&[][..], &[][..]),
        };
        for (tells, candidate) in used {
            log::info!("{tells}: {:?}", candidate.mechanism);
            if !candidate.loses.is_empty() {
                log::info!("  not known by that: {}", candidate.loses);
            }
        }
        for (tells, reason) in missing {
            log::info!("not known: {tells} ({reason})");
        }
        super::super::tell("waiting for out-of-memory kills; Ctrl-C ends");
    }

    async fn until_asked(
        &mut self,
        signals: &mut Signals,
        end: Option<Instant>,
    ) -> anyhow::Result<()> {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        loop {
            let next = self.next_deadline();
            tokio::select! {
                biased;
                _ = signals.next() => break,
                () = until(end) => break,
                () = more_events(self.ring.as_ref()) => {}
                () = more_log(self.log.as_ref()) => {}
                () = until(next) => {}
                _ = tick.tick() => self.look_around(),
            }
            self.take_in();
            if !self.write_ready(Instant::now())? {
                return Ok(());
            }
        }
        self.take_in();
        // All that waits.
        let late = Instant::now() + PATIENCE * 2;
        self.write_ready(late)?;
        log::info!("{} kills recorded, {} lost", self.written, self.lost);
        Ok(())
    }

    fn look_around(&mut self) {
        match history::look(&self.roots, monotonic_ns()) {
            Ok(look) => {
                self.history.push(look.sample.clone());
                self.look = Rc::new(look);
            }
            Err(error) => log::debug!("cannot look at the machine: {error}"),
        }
    }

    /// Reads all that there is, and joins what belongs together.
    fn take_in(&mut self) {
        let mut events = Vec::new();
        if let Some(ring) = &mut self.ring {
            let ring = ring.get_mut();
            while let Some(bytes) = ring.next() {
                events.extend(record::decode(&bytes));
            }
        }
        for event in events {
            self.take_event(&event);
        }
        let kills = self.log.as_mut().map(KernelLog::drain).unwrap_or_default();
        for kill in kills {
            let now = monotonic_ns();
            let scene = self.scene(&[], now, None);
            self.logged.push(Logged {
                kill,
                scene,
                at_ns: now,
                deadline: Instant::now() + PATIENCE,
            });
        }
    }

    fn take_event(&mut self, event: &OomKill) {
        if event.head.kind == SIGNAL && !record::is_for_memory(event, &self.look) {
            return;
        }
        let depth = usize::try_from(event.depth).unwrap_or(0);
        let path = record::cgroup(event, 0);
        let frames = event.stack.get(..depth).unwrap_or_default();
        let scene = self.scene(frames, event.head.time_ns, path.as_deref());
        // Only kills by the kernel are in its log.
        let waits = self.log.is_some() && event.head.kind == KILL;
        self.events.push(Event {
            deadline: Instant::now() + if waits { PATIENCE } else { Duration::ZERO },
            record: *event,
            scene,
        });
    }

    fn scene(&self, stack: &[u64], at_ns: u64, cgroup: Option<&str>) -> Scene {
        let age = Duration::from_nanos(monotonic_ns().saturating_sub(at_ns));
        let now = jiff::Timestamp::now();
        Scene {
            time: now.checked_sub(age).unwrap_or(now).to_string(),
            kernel: self.release.clone(),
            frames: self.symbols.names(stack),
            look: Rc::clone(&self.look),
            limit: cgroup.and_then(|path| groups::limiting(&self.roots.cgroup, path)),
            page_kb: self.page_kb,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let events = self.events.iter().map(|event| event.deadline);
        events
            .chain(self.logged.iter().map(|logged| logged.deadline))
            .min()
    }

    /// Writes the kills of which both halves are there, and those that have
    /// waited long enough. Returns whether anybody still reads.
    fn write_ready(&mut self, now: Instant) -> anyhow::Result<bool> {
        let mut waiting = Vec::new();
        for event in std::mem::take(&mut self.events) {
            let report = self.logged.iter().position(|logged| {
                let victim = logged.kill.victim.as_ref();
                event.record.head.kind == KILL
                    && victim.is_some_and(|victim| victim.pid == event.record.victim)
            });
            let log = report.map(|at| self.logged.remove(at).kill);
            if log.is_none() && event.deadline > now {
                waiting.push(event);
                continue;
            }
            let kill = record::kill(&event.record, event.scene, log);
            if !self.write(kill, event.record.head.time_ns)? {
                return Ok(false);
            }
        }
        self.events = waiting;
        let (late, waiting) = std::mem::take(&mut self.logged)
            .into_iter()
            .partition(|logged| logged.deadline <= now || self.probes.is_none());
        self.logged = waiting;
        let late: Vec<Logged> = late;
        for logged in late {
            if !self.write(record::complete(logged.kill, logged.scene), logged.at_ns)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn write(&mut self, kill: Kill, at_ns: u64) -> anyhow::Result<bool> {
        let lost = self.probes.as_ref().map_or(0, OomProbes::lost);
        let newly_lost = lost.saturating_sub(self.lost);
        self.lost = lost;
        self.written = self.written.saturating_add(1);
        let history = self.history.before(at_ns);
        self.sink.write(&OomReport::new(kill, history, newly_lost))
    }
}

async fn more_events(ring: Option<&AsyncFd<RingBuf<MapData>>>) {
    match ring {
        Some(ring) => {
            if let Ok(mut ready) = ring.readable().await {
                ready.clear_ready();
            }
        }
        None => std::future::pending().await,
    }
}

async fn more_log(log: Option<&KernelLog>) {
    match log {
        Some(log) => log.wait().await,
        None => std::future::pending().await,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
