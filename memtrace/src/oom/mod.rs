//! Out-of-memory kills: read from kernel logs ([`log`]), caught live, and
//! explained ([`explain`]).
pub mod candidates;
pub mod explain;
pub mod groups;
pub mod history;
pub mod log;
pub mod meminfo;
pub mod record;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One kill, or one attempt at it, with all that is known of its moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kill {
    /// As the log has it (seconds since boot, or a date), or the date in RFC 3339.
    pub time: Option<String>,
    /// Where this is from.
    pub source: Source,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: Option<String>,
    /// What made the kernel, or somebody else, kill.
    pub cause: Cause,
    /// Within what memory had run out.
    pub constraint: Constraint,
    /// The memory cgroup whose limit was reached.
    pub cgroup: Option<String>,
    /// Who asked for memory.
    pub trigger: Option<Trigger>,
    /// Who died. `None`: nobody, or the log is cut off before it.
    pub victim: Option<Victim>,
    /// The tasks that the kernel chose from, the most likely first.
    pub candidates: Vec<Candidate>,
    /// How many there were.
    pub candidate_count: usize,
    /// Counters of the machine by their names in `/proc/meminfo`, kB.
    pub meminfo: BTreeMap<String, u64>,
    /// Zones of the machine's memory.
    pub zones: Vec<Zone>,
    /// Use and limit of the memory cgroup.
    pub cgroup_usage: Option<CgroupUsage>,
    /// Slab caches that cannot be reclaimed, as far as listed.
    pub slabs: Vec<SlabCache>,
    /// Pools of huge pages.
    pub huge_pages: Vec<HugePages>,
    /// How reclaim failed: what the kernel last said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reclaim: Option<Reclaim>,
    /// How compaction failed, for a request of several pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction: Option<Compaction>,
    /// The signal of a kill by a process: `SIGKILL`, or `SIGTERM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// All tasks of the log, for the explanation alone.
    #[serde(skip)]
    pub tasks: Vec<Candidate>,
}

/// Where a kill was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// In a kernel log.
    #[default]
    Log,
    /// As it happened.
    Live,
}

/// What led to the kill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An allocation that could not be served.
    #[default]
    Allocation,
    /// Somebody asked for it through sysrq (`echo f > /proc/sysrq-trigger`).
    Sysrq,
    /// Nobody could be killed.
    NoKillableProcess,
    /// The kernel panicked instead (`vm.panic_on_oom`).
    Panic,
    /// A process sent SIGKILL while memory was short.
    UserSpace,
}

/// Within what the request had to be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Constraint {
    /// The whole machine.
    #[default]
    None,
    /// A memory cgroup's limit.
    Memcg,
    /// The memory nodes of a cpuset.
    Cpuset,
    /// The memory nodes of a memory policy.
    Mempolicy,
}

/// The request that could not be served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trigger {
    /// Process id, where known.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: String,
    /// `"0x400dc2"`.
    pub gfp_mask: Option<String>,
    /// Names of the flags.
    pub gfp_flags: Vec<String>,
    /// 2 to this power pages in one piece. `None`: not known.
    pub order: Option<u32>,
    /// As set for it.
    pub oom_score_adj: Option<i64>,
    /// Its kernel stack, innermost first.
    pub frames: Vec<Frame>,
}

/// A place in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Function.
    pub symbol: String,
    /// Bytes behind its start.
    pub offset: u64,
    /// `None`: the kernel itself.
    pub module: Option<String>,
}

/// Who was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Victim {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Of its user.
    pub uid: Option<u32>,
    /// Address space.
    pub total_vm_kb: Option<u64>,
    /// Anonymous memory.
    pub anon_rss_kb: Option<u64>,
    /// Pages of files.
    pub file_rss_kb: Option<u64>,
    /// Shared memory.
    pub shmem_rss_kb: Option<u64>,
    /// Page tables.
    pub pgtables_kb: Option<u64>,
    /// As set for it.
    pub oom_score_adj: Option<i64>,
    /// Its memory cgroup.
    pub cgroup: Option<String>,
    /// The kernel's points, where the log names them.
    pub oom_score: Option<i64>,
    /// Where a child was killed instead (before 5.3): the parent, which had
    /// the points.
    pub instead_of: Option<u32>,
    /// Whether the kernel's reaper took its memory back: `None` if it does not say.
    pub reaped: Option<bool>,
}

impl Victim {
    /// All that it held in memory.
    pub fn rss_kb(&self) -> Option<u64> {
        let parts = [self.anon_rss_kb, self.file_rss_kb, self.shmem_rss_kb];
        let known = parts.iter().any(Option::is_some);
        known.then(|| {
            parts
                .iter()
                .flatten()
                .fold(0, |sum, kb| kb.saturating_add(sum))
        })
    }
}

/// A process that may be killed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Candidate {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// What it holds in memory.
    pub rss_kb: u64,
    /// What it has in swap.
    pub swap_kb: u64,
    /// Page tables.
    pub pgtables_kb: u64,
    /// Thousandths of what there is, with the adjustment; the greatest is
    /// killed. From a log, worked out as the kernel does.
    pub oom_score: i64,
    /// As set for it: -1000 is never killed.
    pub oom_score_adj: i64,
    /// Its memory cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

impl Candidate {
    /// What its end sets free.
    pub fn held_kb(&self) -> u64 {
        let swapped = self.rss_kb.saturating_add(self.swap_kb);
        swapped.saturating_add(self.pgtables_kb)
    }
}

/// The score of a process from what it holds of `total_kb`, as `oom_badness`
/// of `mm/oom_kill.c` works it out since 2.6.36.
pub fn oom_score(held_kb: u64, adj: i64, total_kb: u64) -> i64 {
    if adj <= NEVER {
        return 0;
    }
    let share = u128::from(held_kb) * 1000 / u128::from(total_kb.max(1));
    i64::try_from(share)
        .unwrap_or(i64::MAX)
        .saturating_add(adj)
        .max(0)
}

/// The adjustment of who is never killed (`OOM_SCORE_ADJ_MIN`).
pub const NEVER: i64 = -1000;

/// A zone of one node's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Zone {
    /// Memory node.
    pub node: u32,
    /// `DMA32`.
    pub name: String,
    /// kB, by the log's names: `free`, `min`, `low`, `high`, `managed`…
    pub kb: BTreeMap<String, u64>,
    /// What requests that could do with a higher zone must leave here, pages,
    /// by the request's highest zone.
    pub lowmem_reserve: Vec<u64>,
    /// Free blocks by order; empty: not in the log.
    pub buddy: Vec<FreeBlocks>,
}

impl Zone {
    /// A figure of the zone, kB.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.kb.get(name).copied()
    }
}

/// Free blocks of one order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeBlocks {
    /// How many.
    pub count: u64,
    /// Size of each.
    pub kb: u64,
    /// Letters of the migration types that have some: `U` unmovable, `M`
    /// movable, `E` reclaimable, `H` atomic reserve, `C` CMA, `I` isolated.
    pub types: String,
}

/// Why the kernel stopped reclaiming, by the zone that came nearest
/// (`should_reclaim_retry` of `mm/page_alloc.c`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reclaim {
    /// The zone, where its name could be read.
    pub zone: Option<String>,
    /// Rounds in a row that set nothing free; the kernel gives up after 16.
    pub rounds_without_progress: u32,
    /// What could be reclaimed from it at most.
    pub reclaimable_kb: u64,
    /// That and what was free.
    pub available_kb: u64,
    /// Its minimum watermark.
    pub minimum_kb: u64,
    /// Whether what was available would have been enough.
    pub enough: bool,
}

/// Why the kernel stopped compacting (`should_compact_retry`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compaction {
    /// 2 to this power pages in one piece were wanted.
    pub order: u32,
    /// Attempts, and how many are made at most.
    pub attempts: u32,
    /// See above.
    pub most_attempts: u32,
    /// How the last one ended.
    pub result: String,
}

/// What a memory cgroup held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CgroupUsage {
    /// kB.
    pub usage_kb: u64,
    /// kB; what is nearly 2⁶³ bytes is no limit.
    pub limit_kb: u64,
    /// How often the limit was hit.
    pub failures: u64,
    /// Swap (version 2), or memory and swap together (version 1).
    pub swap: Option<Charge>,
    /// Kernel memory (version 1).
    pub kernel: Option<Charge>,
    /// `memory.stat` of the group, bytes, or counts of events.
    pub stat: BTreeMap<String, u64>,
}

/// Use and limit of one kind of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// kB.
    pub usage_kb: u64,
    /// kB.
    pub limit_kb: u64,
    /// Whether memory counts in as well (`memory+swap` of version 1).
    pub with_memory: bool,
}

/// A slab cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlabCache {
    /// `kmalloc-64`.
    pub name: String,
    /// In use.
    pub used_kb: u64,
    /// With what is free in it.
    pub total_kb: u64,
}

/// A pool of huge pages on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePages {
    /// Memory node.
    pub node: u32,
    /// Pages in the pool.
    pub total: u64,
    /// Not in use.
    pub free: u64,
    /// Of each.
    pub size_kb: u64,
}
