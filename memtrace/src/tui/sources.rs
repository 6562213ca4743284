//! Threads that look at `/proc` for the live view.
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;

use super::{
    model::{Update, memory, processes},
    run::Message,
};
use crate::{
    growth::Ranking,
    meminfo::{Holders, Machine, Moment, Roots, holders},
    process,
    report::growth::assemble::ranked,
    session::monotonic_ns,
};

/// A search for holders takes at most this part of the time: one in so many.
const SHARE: u32 = 20;

/// Looks at all processes every so often, until nobody listens.
pub(super) fn watch_processes(
    proc_root: PathBuf,
    interval: Duration,
    sender: UnboundedSender<Message>,
) -> io::Result<()> {
    let look = move || {
        let mut ranking = Ranking::default();
        loop {
            let update = match look_at_processes(&mut ranking, &proc_root, interval) {
                Ok(look) => Message::Update(Update::Processes(Box::new(look))),
                Err(error) => Message::Failed(format!("cannot read /proc: {error}")),
            };
            if sender.send(update).is_err() {
                return;
            }
            thread::sleep(interval);
        }
    };
    spawn("processes", look)
}

fn look_at_processes(
    ranking: &mut Ranking,
    proc_root: &Path,
    interval: Duration,
) -> io::Result<processes::Look> {
    let me = std::process::id();
    let mut glances = process::glance_at_all(proc_root)?;
    glances.retain(|glance| glance.pid != me);
    ranking.look(monotonic_ns(), procfs::page_size(), glances);
    let ranks = ranking.ranked();
    let started = ranks.iter().map(|one| (one.pid, one.start_time));
    let started: HashMap<u32, u64> = started.collect();
    let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    // Their mappings would cost more than all the rest.
    let report = ranked(&ranks, |_| None, interval, usize::MAX, Vec::new());
    Ok(processes::Look { report, started })
}

/// Looks at the machine's memory whenever it is asked to.
pub(super) fn watch_memory(
    roots: Roots,
    sender: UnboundedSender<Message>,
) -> io::Result<mpsc::Sender<()>> {
    let (ask, asked) = mpsc::channel();
    let look = move || {
        let mut holders = Holding::default();
        for () in asked {
            let look = Machine::read(&roots).map(|machine| {
                Box::new(memory::Look {
                    time_ns: monotonic_ns(),
                    moment: Moment::of(machine),
                    holders: holders.now(&roots.proc),
                })
            });
            let look = look.map_err(|error| error.to_string());
            if sender.send(Message::Update(Update::Memory(look))).is_err() {
                return;
            }
        }
    };
    spawn("memory", look)?;
    Ok(ask)
}

/// Holders of shared memory, searched for only as often as that allows.
#[derive(Default)]
struct Holding {
    found: Option<Holders>,
    again: Option<Instant>,
}

impl Holding {
    fn now(&mut self, proc_root: &Path) -> Holders {
        let begin = Instant::now();
        if let Some(found) = &self.found
            && self.again.is_some_and(|again| begin < again)
        {
            return found.clone();
        }
        let found = holders::find(proc_root);
        self.again = Some(begin + begin.elapsed() * SHARE);
        self.found = Some(found.clone());
        found
    }
}

pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map(drop)
}
