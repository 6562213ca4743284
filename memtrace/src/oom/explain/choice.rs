//! Whom it hit, and whether rightly: scores and adjustments, fork bombs, kills
//! on demand.
use std::collections::HashMap;

use super::{Case, Finding, Severity, by_share, finding, kb, share, size};
use crate::oom::{Candidate, Cause, NEVER, Victim};

pub(super) fn user_space(case: &Case<'_>) -> Option<Finding> {
    (case.kill.cause == Cause::UserSpace).then(|| {
        let killer = case.kill.trigger.as_ref().map_or_else(String::new, |trigger| match trigger.pid {
            Some(pid) => format!("{} ({pid})", trigger.comm),
            None => trigger.comm.clone(),
        });
        finding(
            "userspace_killer",
            Severity::Critical,
            format!("{killer} sent {} while memory was short: the kernel did not kill", case.kill.signal.as_deref().unwrap_or("SIGKILL")),
            "the signal came from a process, and no report of the kernel's killer goes with it".into(),
            "systemd-oomd, earlyoom and others kill by memory pressure before the kernel would: their own logs (`oomctl`, the journal) say by which rule; ManagedOOMPreference=avoid, or their options, spare a service".into(),
        )
    })
}

pub(super) fn sysrq(case: &Case<'_>) -> Option<Finding> {
    (case.kill.cause == Cause::Sysrq).then(|| {
        finding(
            "sysrq",
            Severity::Critical,
            "somebody asked for this kill (sysrq f); memory need not have been short".into(),
            "the kernel reports a manual execution".into(),
            "Alt-SysRq-F on a console, or `echo f > /proc/sysrq-trigger`; kernel.sysrq says who may".into(),
        )
    })
}

pub(super) fn nobody(case: &Case<'_>) -> Option<Finding> {
    let (title, advice) = match case.kill.cause {
        Cause::NoKillableProcess => (
            "no process could be killed",
            "everything that is left has oom_score_adj -1000 or is the kernel's: protect less",
        ),
        Cause::Panic => (
            "the kernel panicked instead of killing, as vm.panic_on_oom asks",
            "set vm.panic_on_oom to 0 to have a process killed instead; a cluster may want the panic, to fail over",
        ),
        _ => return None,
    };
    Some(finding(
        "nobody_killed",
        Severity::Critical,
        title.into(),
        "the kernel says so".into(),
        advice.into(),
    ))
}

/// From so many tasks of one name on it may be a fork bomb.
const MANY: usize = 100;

pub(super) fn fork_bomb(case: &Case<'_>) -> Option<Finding> {
    let tasks = &case.kill.tasks;
    let mut by_name: HashMap<&str, (usize, u64)> = HashMap::new();
    for task in tasks {
        let (count, held) = by_name.entry(&task.comm).or_default();
        *count += 1;
        *held = held.saturating_add(task.held_kb());
    }
    let (name, (count, held)) = by_name
        .into_iter()
        .max_by_key(|(name, (count, _))| (*count, *name))?;
    if count < MANY || count * 2 < tasks.len() {
        return None;
    }
    Some(finding(
        "fork_bomb",
        Severity::Critical,
        format!("{count} of {} processes are called {name}: a fork bomb, or a server without a limit on its workers", tasks.len()),
        format!("together they hold {}", kb(held)),
        "bound the number of processes (TasksMax=, pids.max, `ulimit -u`), at the price that fork fails beyond it; killing one of them at a time does not help".into(),
    ))
}

/// The larger of a process that was spared for its adjustment.
pub(super) fn protected(case: &Case<'_>) -> Option<Finding> {
    let victim = case.kill.victim.as_ref()?;
    let died = held_by(case, victim)?;
    let spared = case.kill.tasks.iter().filter(|task| {
        task.pid != victim.pid && task.oom_score_adj < victim.oom_score_adj.unwrap_or(0).min(0)
    });
    let spared = spared.max_by_key(|task| task.held_kb())?;
    let held = spared.held_kb();
    if held < died.saturating_mul(2) {
        return None;
    }
    // Small ones are protected everywhere, and rightly.
    let severity = by_share(held, case.total_kb()?, 20, 40)?;
    Some(finding(
        "oom_score_adj_protected",
        severity,
        format!(
            "{} ({}) died for {} ({}), which held {} and is protected",
            victim.comm,
            victim.pid,
            spared.comm,
            spared.pid,
            size(held)
        ),
        format!(
            "{}: {} at oom_score_adj {}; {}: {} at {}",
            spared.comm,
            kb(held),
            spared.oom_score_adj,
            victim.comm,
            kb(died),
            victim.oom_score_adj.unwrap_or(0)
        ),
        format!(
            "raise oom_score_adj of {} (OOMScoreAdjust=; {NEVER} means never): a process that may grow must not be safe from its own growth. Its end then is the price; or bound it with MemoryMax=",
            spared.comm
        ),
    ))
}

/// A victim that was chosen for its adjustment rather than for its size.
pub(super) fn adjusted(case: &Case<'_>) -> Option<Finding> {
    let victim = case.kill.victim.as_ref()?;
    let adj = victim.oom_score_adj.filter(|adj| *adj > 0)?;
    let died = held_by(case, victim)?;
    let larger = case.kill.tasks.iter().filter(|task| {
        task.pid != victim.pid && task.oom_score_adj > NEVER && task.oom_score_adj < adj
    });
    let larger = larger.max_by_key(|task| task.held_kb())?;
    if larger.held_kb() < died.saturating_mul(2) {
        return None;
    }
    Some(finding(
        "oom_score_adj_victim",
        Severity::Warning,
        format!("{} ({}) was chosen for its oom_score_adj of {adj}, not for its size", victim.comm, victim.pid),
        format!("it held {}; {} ({}) held {} at oom_score_adj {}", kb(died), larger.comm, larger.pid, kb(larger.held_kb()), larger.oom_score_adj),
        "that is right if it is the one to be missed least; its end frees little, so expect more kills. Otherwise lower its oom_score_adj (OOMScoreAdjust=; container runtimes set it by class of service)".into(),
    ))
}

pub(super) fn process_size(case: &Case<'_>) -> Option<Finding> {
    let total = case.total_kb()?;
    let largest = case.kill.tasks.iter().max_by_key(|task| task.held_kb());
    let (name, pid, held) = match (largest, &case.kill.victim) {
        (Some(task), _) => (&task.comm, task.pid, task.rss_kb),
        (None, Some(victim)) => (&victim.comm, victim.pid, victim.rss_kb()?),
        (None, None) => return None,
    };
    let severity = by_share(held, total, 40, 50)?;
    let swapped = largest.map_or(0, |task| task.swap_kb);
    let in_swap = if swapped > 0 {
        format!(", and {} in swap", kb(swapped))
    } else {
        String::new()
    };
    Some(finding(
        "process_size",
        severity,
        format!(
            "{name} ({pid}) alone held {}, {} of {}",
            size(held),
            share(held, total),
            case.whole()
        ),
        format!("resident {} of {}{in_swap}", kb(held), kb(total)),
        format!(
            "does {name} need so much? `memtrace -p PID` tells which of its code holds memory, `memtrace growth -p PID` whether it grows; MemoryMax= bounds it, at the price of its end when it gets there"
        ),
    ))
}

pub(super) fn sacrificed(case: &Case<'_>) -> Option<Finding> {
    let victim = case.kill.victim.as_ref()?;
    let parent = victim.instead_of?;
    Some(finding(
        "child_sacrificed",
        Severity::Info,
        format!("{} ({}) died instead of process {parent}, which had the points", victim.comm, victim.pid),
        "kernels before 5.3 kill a child or a thread's owner rather than the process that they chose".into(),
        "expect another kill soon if the child held little".into(),
    ))
}

pub(super) fn not_reaped(case: &Case<'_>) -> Option<Finding> {
    let victim = case
        .kill
        .victim
        .as_ref()
        .filter(|victim| victim.reaped == Some(false))?;
    Some(finding(
        "not_reaped",
        Severity::Warning,
        format!("the memory of {} ({}) could not be taken back at once", victim.comm, victim.pid),
        "the kernel's oom_reaper gave up: the process hangs in the kernel".into(),
        "its stack (/proc/PID/stack, if it is still there) tells where it hangs; others are killed meanwhile".into(),
    ))
}

/// What the victim held, kB.
fn held_by(case: &Case<'_>, victim: &Victim) -> Option<u64> {
    let task = case.kill.tasks.iter().find(|task| task.pid == victim.pid);
    task.map(Candidate::held_kb).or_else(|| victim.rss_kb())
}

/// Why this process was killed.
pub(super) fn sentence(case: &Case<'_>) -> String {
    let Some(victim) = &case.kill.victim else {
        return "Who was killed is not known: the report ends before it says so.".into();
    };
    let who = format!("{} ({})", victim.comm, victim.pid);
    if case.kill.cause == Cause::UserSpace {
        return format!("{who} was chosen by that process; its log knows why.");
    }
    let tasks = &case.kill.tasks;
    let held =
        held_by(case, victim).map_or_else(String::new, |held| format!(", holding {}", size(held)));
    let own = tasks.iter().find(|task| task.pid == victim.pid);
    let Some(own) = own else {
        return format!(
            "{who} was killed{held}: the kernel gave it the most points; the others' are not known."
        );
    };
    if tasks.len() == 1 {
        return format!(
            "{who} was killed because there was no other to choose: {}, a score of {}.",
            size(own.held_kb()),
            own.oom_score
        );
    }
    let largest = tasks.iter().max_by_key(|task| task.held_kb());
    if largest.is_some_and(|task| task.pid == own.pid) {
        return format!(
            "{who} was killed because it held the most of {} processes: {}, a score of {}.",
            tasks.len(),
            size(own.held_kb()),
            own.oom_score
        );
    }
    if tasks
        .first()
        .is_some_and(|task| task.oom_score <= own.oom_score)
    {
        return format!(
            "{who} was killed for its score of {}, the highest: {} held, oom_score_adj {}.",
            own.oom_score,
            size(own.held_kb()),
            own.oom_score_adj
        );
    }
    let first = tasks.first().map_or_else(String::new, |task| {
        format!(
            "; {} ({}) had a higher score, {}",
            task.comm, task.pid, task.oom_score
        )
    });
    format!(
        "{who} was killed with a score of {}{held}{first}: it may have been ending already, or shared its memory.",
        own.oom_score
    )
}
