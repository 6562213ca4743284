//! A kill as it was caught: what the kernel side took, what the kernel wrote into
//! its log about it, and what was seen of the machine before, put together.
mod retry;

use std::rc::Rc;

use memtrace_common::oom::{
    GROUP_LEVELS, KILL, Known, OomKill, Request, SIGNAL, UNKNOWN, UNKNOWN_ADJ,
};
use zerocopy::FromBytes as _;

use super::{
    Candidate, Cause, CgroupUsage, Constraint, Frame, Kill, Source, Trigger, Victim, history::Look,
    log::MOST_CANDIDATES, oom_score,
};
use crate::kernel::{
    gfp::Numbering,
    oom::{CGROUP_FUNCTIONS, SYSRQ_FUNCTION},
    text,
};

/// Reads a record of the ring buffer; `None`: it is none of a kill.
pub fn decode(bytes: &[u8]) -> Option<OomKill> {
    let (event, _) = OomKill::read_from_prefix(bytes).ok()?;
    matches!(event.head.kind, KILL | SIGNAL).then_some(event)
}

/// What goes with an event.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// When, in RFC 3339.
    pub time: String,
    /// The kernel's release.
    pub kernel: String,
    /// Functions and offsets of the event's stack.
    pub frames: Vec<Option<(String, u64)>>,
    /// The last look at the machine before it.
    pub look: Rc<Look>,
    /// The group that had the limit, as found in its file system.
    pub limit: Option<(String, CgroupUsage)>,
    /// Size of a page.
    pub page_kb: u64,
}

/// Programs that kill when memory is short.
const KILLERS: &[&str] = &["systemd-oomd", "earlyoom", "nohang", "oomd", "lmkd"];

/// Whether a signal is likely to be for want of memory: its sender is known for
/// that, or memory was short as it sent SIGKILL. SIGTERM has too many other uses.
pub fn is_for_memory(event: &OomKill, look: &Look) -> bool {
    let sender = text(&event.trigger_comm);
    KILLERS.contains(&sender.as_str()) || (event.signal == SIGKILL && is_short(look))
}

/// On all architectures (`include/uapi/asm-generic/signal.h`).
const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

fn signal(event: &OomKill) -> Option<String> {
    let names = [(SIGKILL, "SIGKILL"), (SIGTERM, "SIGTERM")];
    let of_process = event.head.kind == SIGNAL;
    let found = names.iter().find(|(number, _)| *number == event.signal);
    found
        .filter(|_| of_process)
        .map(|(_, name)| (*name).to_owned())
}

fn is_short(look: &Look) -> bool {
    let row = |name: &str| look.meminfo.get(name).copied();
    let low = match (row("MemAvailable"), row("MemTotal")) {
        (Some(available), Some(total)) => available.saturating_mul(100) < total.saturating_mul(5),
        _ => false,
    };
    low || look
        .sample
        .pressure
        .is_some_and(|pressure| pressure.some_avg10 >= 20.0)
}

/// The path of the victim's memory cgroup, or of the one so many levels above it.
/// `None`: it is not known.
pub fn cgroup(event: &OomKill, level: usize) -> Option<String> {
    let names: Vec<String> = event
        .groups
        .iter()
        .skip(level)
        .map(|name| text(name))
        .collect();
    let known: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .take_while(|name| !name.is_empty())
        .collect();
    let is_cut = level + known.len() == GROUP_LEVELS;
    let start = if is_cut { "…" } else { "" };
    let path: Vec<&str> = known.into_iter().rev().collect();
    (!path.is_empty()).then(|| format!("{start}/{}", path.join("/")))
}

/// Puts a kill together. `log`: the kernel's own report of it, which is the more
/// exact, where there is one: kernels print few of many kills in a row.
pub fn kill(event: &OomKill, scene: Scene, log: Option<Kill>) -> Kill {
    let of_stack = |function: &str| {
        let mut names = scene.frames.iter().flatten();
        names.any(|(name, _)| name == function)
    };
    let mut kill = log.unwrap_or_default();
    // Of many kills in a row, the log has nothing but who died.
    if kill.cause == Cause::Allocation {
        kill.cause = match event.head.kind {
            SIGNAL => Cause::UserSpace,
            _ if of_stack(SYSRQ_FUNCTION) => Cause::Sysrq,
            _ => Cause::Allocation,
        };
    }
    if kill.constraint == Constraint::None && event.head.kind == KILL {
        let by_stack = CGROUP_FUNCTIONS.iter().any(|function| of_stack(function));
        kill.constraint = constraint(event, by_stack);
    }
    kill.signal = signal(event);
    retry::fill(&mut kill, event, scene.page_kb);
    kill.source = Source::Live;
    kill.trigger = Some(trigger(event, &scene, &kill));
    kill.victim = Some(victim(event, kill.victim.take(), &scene));
    if kill.constraint == Constraint::Memcg {
        let level = usize::try_from(event.limit_level)
            .ok()
            .filter(|_| event.limit_level != UNKNOWN);
        let of_kernel = level.and_then(|level| cgroup(event, level));
        let (found, usage) = scene.limit.clone().unzip();
        kill.cgroup = kill
            .cgroup
            .or(of_kernel)
            .or(found)
            .or_else(|| cgroup(event, 0));
        kill.cgroup_usage = kill.cgroup_usage.or(usage);
    }
    complete(kill, scene)
}

/// Fills in what the look at the machine knows.
pub fn complete(mut kill: Kill, scene: Scene) -> Kill {
    kill.source = Source::Live;
    kill.time = Some(scene.time);
    kill.kernel = Some(scene.kernel);
    for (name, kb) in &scene.look.meminfo {
        kill.meminfo.entry(name.clone()).or_insert(*kb);
    }
    if kill.tasks.is_empty() {
        kill.tasks = tasks(&kill, &scene.look.candidates);
        kill.candidate_count = kill.tasks.len();
        kill.candidates = kill.tasks.iter().take(MOST_CANDIDATES).cloned().collect();
    } else {
        // The log knows no cgroups.
        for candidate in &mut kill.candidates {
            let seen = scene
                .look
                .candidates
                .iter()
                .find(|seen| seen.pid == candidate.pid);
            candidate.cgroup = seen.and_then(|seen| seen.cgroup.clone());
        }
    }
    kill
}

/// Those whom the kernel chose from, as last seen: within a cgroup, those in it;
/// and the victim, which may be younger than the look.
fn tasks(kill: &Kill, seen: &[Candidate]) -> Vec<Candidate> {
    let within = kill
        .cgroup
        .as_deref()
        .filter(|_| kill.constraint == Constraint::Memcg);
    let is_within = |candidate: &Candidate| {
        within.is_none_or(|group| {
            let path = candidate.cgroup.as_deref().unwrap_or_default();
            path.strip_prefix(group)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let mut tasks: Vec<Candidate> = seen
        .iter()
        .filter(|candidate| is_within(candidate))
        .cloned()
        .collect();
    if let Some(victim) = &kill.victim {
        tasks.retain(|task| task.pid != victim.pid);
        let mut own = Candidate {
            pid: victim.pid,
            comm: victim.comm.clone(),
            rss_kb: victim.rss_kb().unwrap_or(0),
            pgtables_kb: victim.pgtables_kb.unwrap_or(0),
            oom_score_adj: victim.oom_score_adj.unwrap_or(0),
            cgroup: victim.cgroup.clone(),
            ..Candidate::default()
        };
        let limit = kill.cgroup_usage.as_ref().map(|usage| usage.limit_kb);
        let total = limit.or_else(|| kill.meminfo.get("MemTotal").copied());
        own.oom_score = oom_score(own.held_kb(), own.oom_score_adj, total.unwrap_or(u64::MAX));
        // It was chosen: whatever the others' scores were a moment before.
        tasks.insert(0, own);
    }
    tasks
}

/// No request is larger (`MAX_ORDER`); what is, was another argument of a
/// tracepoint that a kernel has changed.
const MOST_ORDER: u32 = 10;

/// The constraints in the order of `enum oom_constraint`.
const CONSTRAINTS: &[Constraint] = &[
    Constraint::None,
    Constraint::Cpuset,
    Constraint::Mempolicy,
    Constraint::Memcg,
];

fn constraint(event: &OomKill, by_stack: bool) -> Constraint {
    let Request {
        known, limit_group, ..
    } = event.request;
    let number = usize::try_from(event.request.constraint).unwrap_or(usize::MAX);
    match CONSTRAINTS.get(number) {
        Some(constraint) if known & Known::CONTROL != 0 => *constraint,
        _ if by_stack || (known & Known::CONTROL_BEFORE != 0 && limit_group != 0) => {
            Constraint::Memcg
        }
        // Without a stack, what the thread reclaimed last tells.
        _ if event.depth == 0 && known & Known::MEMCG_RECLAIM != 0 => Constraint::Memcg,
        _ => Constraint::None,
    }
}

fn trigger(event: &OomKill, scene: &Scene, kill: &Kill) -> Trigger {
    let mut trigger = kill.trigger.clone().unwrap_or_default();
    trigger.pid = Some(event.head.pid);
    trigger.comm = text(&event.trigger_comm);
    let request = &event.request;
    let is_its = event.head.kind == KILL && kill.cause == Cause::Allocation;
    // Reclaim for a cgroup has other flags than the request.
    if is_its
        && trigger.gfp_mask.is_none()
        && request.known & (Known::CONTROL | Known::CONTROL_BEFORE | Known::DIRECT_RECLAIM) != 0
    {
        trigger.gfp_mask = Some(format!("{:#x}", request.gfp));
        let version = crate::kernel::parse_version(&scene.kernel).unwrap_or((0, 0));
        trigger.gfp_flags = Numbering::of(version).names(u64::from(request.gfp));
    }
    if is_its && trigger.order.is_none() && request.known != 0 {
        let order = u32::try_from(request.order).ok();
        trigger.order = order.filter(|order| *order <= MOST_ORDER);
    }
    trigger.oom_score_adj = trigger.oom_score_adj.or(known_adj(event.trigger_adj));
    if trigger.frames.is_empty() {
        // What led to the kill, without how it was noticed.
        let frames = scene.frames.iter().flatten();
        let frames = frames.skip_while(|(symbol, _)| is_of_tracing(symbol));
        let frames = frames.map(|(symbol, offset)| Frame {
            symbol: symbol.clone(),
            offset: *offset,
            module: None,
        });
        trigger.frames = frames.collect();
    }
    trigger
}

fn is_of_tracing(symbol: &str) -> bool {
    let prefixes = ["bpf_", "__bpf_", "__traceiter_", "__probestub_"];
    prefixes.iter().any(|prefix| symbol.starts_with(prefix))
}

fn known_adj(adj: i32) -> Option<i64> {
    (adj != UNKNOWN_ADJ).then(|| i64::from(adj))
}

/// `MM_FILEPAGES`, `MM_ANONPAGES`, `MM_SHMEMPAGES` (`include/linux/mm_types_task.h`).
const FILE: usize = 0;
const ANON: usize = 1;
const SHMEM: usize = 3;

/// Its name in the event; where `mark_victim` tells the process id alone (before 6.9),
/// in the log, that of the thread that asked if it is of the same process, or as
/// last seen.
fn victim_comm(event: &OomKill, of_log: &str, seen: &[Candidate]) -> String {
    let own = text(&event.victim_comm);
    let asked = (event.victim == event.head.pid).then(|| text(&event.trigger_comm));
    let seen = seen.iter().find(|seen| seen.pid == event.victim);
    [own, of_log.to_owned()]
        .into_iter()
        .chain(asked)
        .chain(seen.map(|seen| seen.comm.clone()))
        .find(|name| !name.is_empty())
        .unwrap_or_default()
}

fn victim(event: &OomKill, of_log: Option<Victim>, scene: &Scene) -> Victim {
    let page_kb = scene.page_kb;
    // Counts that are not added up over all CPUs may make a sum negative, and
    // then it says nothing.
    let known = |value: u64| i64::try_from(value).ok().map(i64::unsigned_abs);
    let kb = |pages: u64| Some(known(pages)?.saturating_mul(page_kb));
    let count = |index: usize| event.rss.get(index).copied().and_then(kb);
    let log = of_log.unwrap_or_default();
    Victim {
        pid: event.victim,
        comm: victim_comm(event, &log.comm, &scene.look.candidates),
        uid: log
            .uid
            .or((event.victim_uid != UNKNOWN).then_some(event.victim_uid)),
        total_vm_kb: log.total_vm_kb.or(kb(event.total_vm)),
        anon_rss_kb: log.anon_rss_kb.or(count(ANON)),
        file_rss_kb: log.file_rss_kb.or(count(FILE)),
        shmem_rss_kb: log.shmem_rss_kb.or(count(SHMEM)),
        pgtables_kb: log
            .pgtables_kb
            .or(known(event.pgtables_bytes).map(|bytes| bytes / 1024)),
        oom_score_adj: log.oom_score_adj.or(known_adj(event.victim_adj)),
        cgroup: log.cgroup.or_else(|| cgroup(event, 0)),
        oom_score: log.oom_score.or_else(|| score(&event.request)),
        ..log
    }
}

/// The victim's score in thousandths, from the points that the kernel gave it.
fn score(request: &Request) -> Option<i64> {
    let is_known = request.known & Known::CONTROL != 0 && request.total_pages > 0;
    let score = i128::from(request.chosen_points) * 1000 / i128::from(request.total_pages.max(1));
    i64::try_from(score).ok().filter(|_| is_known)
}

#[cfg(test)]
mod tests;
