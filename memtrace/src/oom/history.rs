//! What led to a kill: a minute of samples of the machine, in bounded memory.
use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{
    Candidate, candidates,
    groups::{self, GroupUse},
    meminfo,
};

/// Samples that are kept.
pub const DEPTH: usize = 60;
/// Processes and cgroups in a sample.
const TOP: usize = 10;

/// Counters of `/proc/meminfo` that a sample keeps.
const COUNTERS: &[&str] = &[
    "MemFree",
    "MemAvailable",
    "CmaFree",
    "Cached",
    "Shmem",
    "AnonPages",
    "SReclaimable",
    "SUnreclaim",
    "KernelStack",
    "PageTables",
    "VmallocUsed",
    "Percpu",
    "Dirty",
    "Unevictable",
    "SwapFree",
];

/// The machine at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// How long before the kill.
    pub age_ms: u64,
    /// Rows of `/proc/meminfo`, kB.
    #[serde(flatten)]
    pub meminfo: BTreeMap<String, u64>,
    /// The processes that held most.
    pub processes: Vec<Candidate>,
    /// The memory cgroups that held most.
    pub cgroups: Vec<GroupUse>,
    /// Share of time that tasks waited for memory: `/proc/pressure/memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
    /// On the clock of events, ns.
    #[serde(skip)]
    pub at_ns: u64,
}

/// Averages over ten seconds, percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// At least one task waited.
    pub some_avg10: f32,
    /// All tasks waited.
    pub full_avg10: f32,
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys/fs/cgroup`.
    pub cgroup: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            cgroup: "/sys/fs/cgroup".into(),
        }
    }
}

/// One look at the machine: the sample, all of `/proc/meminfo`, and
/// all processes.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// For the history.
    pub sample: Sample,
    /// All rows, kB.
    pub meminfo: BTreeMap<String, u64>,
    /// All processes, the likeliest victims first.
    pub candidates: Vec<Candidate>,
}

/// Looks at the machine.
///
/// # Errors
/// `/proc` cannot be read.
pub fn look(roots: &Roots, at_ns: u64) -> io::Result<Look> {
    let meminfo = meminfo::parse(&fs::read_to_string(roots.proc.join("meminfo"))?);
    let candidates = candidates::read(&roots.proc)?;
    let mut largest: Vec<&Candidate> = candidates.iter().collect();
    largest.sort_by_key(|candidate| std::cmp::Reverse(candidate.held_kb()));
    let processes = largest.into_iter().take(TOP).cloned().collect();
    let kept = COUNTERS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), *meminfo.get(*name)?)));
    let sample = Sample {
        age_ms: 0,
        meminfo: kept.collect(),
        processes,
        cgroups: groups::largest(&roots.cgroup, TOP),
        pressure: fs::read_to_string(roots.proc.join("pressure/memory"))
            .ok()
            .and_then(|text| pressure(&text)),
        at_ns,
    };
    Ok(Look {
        sample,
        meminfo,
        candidates,
    })
}

/// `some avg10=0.12 avg60=…` and `full avg10=…`.
fn pressure(text: &str) -> Option<Pressure> {
    let average = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let mut words = line.split_whitespace();
        let average = words.find_map(|word| word.strip_prefix("avg10="))?;
        average.parse().ok()
    };
    Some(Pressure {
        some_avg10: average("some ")?,
        full_avg10: average("full ")?,
    })
}

/// The last [`DEPTH`] samples.
#[derive(Debug)]
pub struct History {
    samples: VecDeque<Sample>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            samples: VecDeque::with_capacity(DEPTH),
        }
    }
}

impl History {
    /// Takes a sample in; the oldest makes room.
    pub fn push(&mut self, sample: Sample) {
        if self.samples.len() >= DEPTH {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// What was before that time, the oldest first.
    pub fn before(&self, at_ns: u64) -> Vec<Sample> {
        let before = self.samples.iter().filter(|sample| sample.at_ns <= at_ns);
        let aged = before.map(|sample| Sample {
            age_ms: (at_ns - sample.at_ns) / 1_000_000,
            ..sample.clone()
        });
        aged.collect()
    }
}

/// What grew between the first and the last of some samples: processes and
/// groups that are in both, and counters, with their growth in kB, most first.
pub fn growth(history: &[Sample]) -> Vec<(String, u64)> {
    let (Some(first), Some(last)) = (history.first(), history.last()) else {
        return Vec::new();
    };
    let mut grown = Vec::new();
    for process in &last.processes {
        let before = first
            .processes
            .iter()
            .find(|old| old.pid == process.pid && old.comm == process.comm);
        // One that is new among the largest has grown from no more than the least of them.
        let before = before.map_or(0, Candidate::held_kb);
        grown.push((
            format!("{} ({})", process.comm, process.pid),
            process.held_kb().saturating_sub(before),
        ));
    }
    for group in &last.cgroups {
        let before = first.cgroups.iter().find(|old| old.path == group.path);
        let before = before.map_or(0, |group| group.usage_kb);
        grown.push((
            format!("cgroup {}", group.path),
            group.usage_kb.saturating_sub(before),
        ));
    }
    for name in [
        "Shmem",
        "SUnreclaim",
        "PageTables",
        "VmallocUsed",
        "KernelStack",
        "Percpu",
    ] {
        if let (Some(now), Some(before)) = (last.meminfo.get(name), first.meminfo.get(name)) {
            grown.push((name.to_owned(), now.saturating_sub(*before)));
        }
    }
    grown.retain(|(_, kb)| *kb > 0);
    grown.sort_by_key(|(_, kb)| std::cmp::Reverse(*kb));
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ns: u64, shmem: u64, rss_kb: u64) -> Sample {
        Sample {
            at_ns,
            meminfo: [("Shmem".to_owned(), shmem)].into(),
            processes: vec![Candidate {
                pid: 1,
                comm: "x".into(),
                rss_kb,
                ..Candidate::default()
            }],
            ..Sample::default()
        }
    }

    #[test]
    fn the_oldest_make_room() {
        let mut history = History::default();
        for second in 0..100 {
            history.push(sample(second * 1_000_000_000, 0, 0));
        }
        let before = history.before(98_500_000_000);
        assert_eq!(before.len(), DEPTH - 1);
        assert_eq!((before[0].age_ms, before[58].age_ms), (58_500, 500));
    }

    #[test]
    fn what_grew() {
        let history = [sample(0, 10, 100), sample(1, 90, 120)];
        assert_eq!(
            growth(&history),
            [("Shmem".to_owned(), 80), ("x (1)".to_owned(), 20)]
        );
        assert_eq!(growth(&[]), []);
    }

    #[test]
    fn pressure_is_read() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=1\n";
        let expected = Pressure {
            some_avg10: 1.5,
            full_avg10: 0.25,
        };
        assert_eq!(pressure(text), Some(expected));
        assert_eq!(pressure(""), None);
    }

    #[test]
    fn a_recorded_machine() {
        let root = tempfile::tempdir().expect("there is a place for temporary files");
        let roots = Roots {
            proc: root.path().join("proc"),
            cgroup: root.path().join("cgroup"),
        };
        let group = roots.cgroup.join("memory/a/b");
        fs::create_dir_all(&group).expect("the folder is ours");
        fs::create_dir_all(&roots.proc).expect("the folder is ours");
        fs::write(
            roots.proc.join("meminfo"),
            "MemFree: 5 kB\nMemTotal: 9 kB\n",
        )
        .expect("the folder is ours");
        fs::write(group.join("memory.usage_in_bytes"), "2048\n").expect("the folder is ours");
        fs::write(group.join("../memory.usage_in_bytes"), "4096\n").expect("the folder is ours");
        let look = look(&roots, 7).expect("it can be read");
        assert_eq!(look.sample.meminfo, [("MemFree".to_owned(), 5)].into());
        assert_eq!(look.meminfo.len(), 2);
        let paths: Vec<&str> = look
            .sample
            .cgroups
            .iter()
            .map(|group| group.path.as_str())
            .collect();
        assert_eq!(paths, ["/a", "/a/b"]);
    }
}
