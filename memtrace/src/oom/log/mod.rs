//! Kernel logs: the reports of out-of-memory kills in them, in the formats of
//! 2.6.32 to 7.x, cut off or mixed with other lines.
//!
//! Formats from `mm/oom_kill.c`, `mm/memcontrol.c`, `mm/page_alloc.c` and
//! `mm/show_mem.c` of those kernels.
mod cgroup;
mod memory;
mod prefix;
mod request;
mod tasks;
#[cfg(test)]
mod tests;
mod victim;

use super::{Candidate, Cause, Constraint, Kill, Victim, oom_score};
use crate::kernel::uprobe::Version;
use cgroup::Cgroup;
use memory::Memory;
use prefix::Line;
use tasks::Table;
use victim::Said;

/// Most candidates that a document lists.
pub const MOST_CANDIDATES: usize = 20;
/// Most frames of a call trace.
const MOST_FRAMES: usize = 128;

/// Reads the kills of a log. `kernel`: the version of the kernel that wrote it,
/// where the log does not say it and flags have no names.
pub fn parse(log: &str, kernel: Option<Version>) -> Vec<Kill> {
    let mut reader = Reader {
        hint: kernel,
        ..Reader::default()
    };
    for line in log.lines() {
        reader.record(line);
    }
    reader.end_kill();
    reader.kills
}

/// A log that is still being written, as `/dev/kmsg` yields it.
#[derive(Default)]
pub struct Stream(Reader);

impl Stream {
    /// Takes one record in. Returns the kill that it completes.
    pub fn record(&mut self, record: &str) -> Option<Kill> {
        // What follows are fields for programs.
        self.0.record(record.lines().next()?);
        if self.0.current.as_ref().is_some_and(|open| open.ended) {
            self.0.end_kill();
        }
        self.0.kills.pop()
    }
}

/// Reads line by line.
#[derive(Default)]
struct Reader {
    hint: Option<Version>,
    kills: Vec<Kill>,
    current: Option<Open>,
    /// A request through sysrq was announced before the report of it.
    sysrq: bool,
}

/// A report that is being read.
#[derive(Default)]
struct Open {
    kill: Kill,
    memory: Memory,
    table: Table,
    cgroup: Cgroup,
    /// Whether somebody was killed: another would be another kill.
    ended: bool,
    in_trace: bool,
}

impl Reader {
    /// A line, or several in one with their ends escaped, as `/dev/kmsg` has
    /// them.
    fn record(&mut self, record: &str) {
        let mut lines = record.split("\\x0a");
        let Line { stamp, text } = Line::parse(lines.next().unwrap_or_default());
        self.line(Line { stamp, text });
        for text in lines {
            self.line(Line { stamp, text });
        }
    }

    fn line(&mut self, line: Line<'_>) {
        let text = line.text;
        if let Some(trigger) = request::invoked(text) {
            self.end_kill();
            let open = self.open(line);
            open.kill.trigger = Some(trigger);
            if request::is_sysrq(text) {
                open.kill.cause = Cause::Sysrq;
            }
            return;
        }
        match victim::line(text) {
            Some(Said::Killed(victim, constraint)) => return self.killed(line, victim, constraint),
            Some(Said::Chosen(victim, constraint)) => return self.chosen(line, victim, constraint),
            Some(Said::Reaped(pid, done)) => return self.reaped(pid, done),
            None => {}
        }
        if let Some(cause) = request::cause(text) {
            match &mut self.current {
                Some(open) if !open.ended => open.kill.cause = cause,
                _ => self.sysrq |= cause == Cause::Sysrq,
            }
            return;
        }
        if let Some(open) = &mut self.current
            && !open.ended
        {
            open.line(text);
        } else if text.starts_with("oom-kill:") || text.starts_with("Mem-Info:") {
            // The beginning of the report is cut off.
            self.end_kill();
            self.open(line).line(text);
        }
    }

    fn open(&mut self, line: Line<'_>) -> &mut Open {
        let mut open = Open::default();
        open.kill.time = line.stamp.map(str::to_owned);
        if std::mem::take(&mut self.sysrq) {
            open.kill.cause = Cause::Sysrq;
        }
        self.current.insert(open)
    }

    /// The report that the line belongs to; a new one where nothing precedes it.
    fn open_or_current(&mut self, line: Line<'_>) -> &mut Open {
        if self.current.as_ref().is_none_or(|open| open.ended) {
            self.end_kill();
            self.open(line);
        }
        self.current.get_or_insert_default()
    }

    fn chosen(&mut self, line: Line<'_>, chosen: Victim, constraint: Option<Constraint>) {
        let kill = &mut self.open_or_current(line).kill;
        kill.constraint = constraint.unwrap_or(kill.constraint);
        merge(&mut kill.victim, chosen);
    }

    fn killed(&mut self, line: Line<'_>, killed: Victim, constraint: Option<Constraint>) {
        let open = self.open_or_current(line);
        let kill = &mut open.kill;
        kill.constraint = constraint.unwrap_or(kill.constraint);
        let chosen = kill
            .victim
            .as_ref()
            .map(|victim| victim.pid)
            .filter(|pid| *pid != 0);
        merge(&mut kill.victim, killed);
        if let Some(victim) = &mut kill.victim {
            victim.instead_of = chosen.filter(|chosen| *chosen != victim.pid);
        }
        open.ended = true;
    }

    fn reaped(&mut self, pid: u32, done: bool) {
        let open = self.current.iter_mut().map(|open| &mut open.kill);
        let mut kills = open.chain(self.kills.iter_mut().rev());
        let victim = kills.find_map(|kill| kill.victim.as_mut().filter(|victim| victim.pid == pid));
        if let Some(victim) = victim {
            victim.reaped = Some(done);
        }
    }

    fn end_kill(&mut self) {
        if let Some(open) = self.current.take() {
            self.kills.extend(open.finish(self.hint));
        }
    }
}

/// Puts a victim's figures into what is known already.
fn merge(known: &mut Option<Victim>, new: Victim) {
    let Some(old) = known.take() else {
        *known = Some(new);
        return;
    };
    let same = old.pid == 0 || old.pid == new.pid;
    *known = Some(Victim {
        cgroup: new.cgroup.or(old.cgroup),
        uid: new.uid.or(old.uid.filter(|_| same)),
        oom_score: new.oom_score.or(old.oom_score),
        ..new
    });
}

impl Open {
    fn line(&mut self, text: &str) {
        let kill = &mut self.kill;
        if let Some((pid, release)) = request::process(text) {
            if let Some(trigger) = &mut kill.trigger {
                trigger.pid = Some(pid);
            }
            kill.kernel = release.map(str::to_owned);
        } else if text.trim_start().starts_with("Call Trace")
            || text.trim_start().starts_with("Call trace")
        {
            self.in_trace = true;
        } else if self.in_trace
            && let Some(frame) = request::frame(text)
        {
            if let Some(trigger) = &mut kill.trigger
                && trigger.frames.len() < MOST_FRAMES
            {
                trigger.frames.push(frame);
            }
        } else if let Some((pid, cgroup, uid)) = request::decision(text, kill) {
            let victim = Victim {
                pid,
                cgroup: Some(cgroup),
                uid: Some(uid),
                ..Victim::default()
            };
            merge(&mut kill.victim, victim);
        } else if self.cgroup.line(text, kill)
            || self.memory.line(text, kill)
            || self.table.line(text)
        {
            self.in_trace = false;
        }
    }

    /// `None`: nothing in it.
    fn finish(self, hint: Option<Version>) -> Option<Kill> {
        let mut kill = self.kill;
        self.memory.finish(&mut kill);
        let page_kb = memory::page_kb(&kill);
        kill.tasks = self.table.tasks(page_kb);
        if kill.constraint == Constraint::None && kill.cgroup_usage.is_some() {
            kill.constraint = Constraint::Memcg;
        }
        // One that was named as chosen in a log that ends before its death.
        if kill.victim.as_ref().is_some_and(|victim| victim.pid == 0) {
            kill.victim = None;
        }
        if let Some(victim) = &mut kill.victim {
            complete(victim, &self.table, &kill.tasks, page_kb);
        }
        request::name_flags(&mut kill, hint);
        rank(&mut kill);
        let empty = kill.trigger.is_none() && kill.victim.is_none() && kill.meminfo.is_empty();
        (!empty).then_some(kill)
    }
}

/// Fills in what the task table knows of the victim.
fn complete(victim: &mut Victim, table: &Table, tasks: &[Candidate], page_kb: u64) {
    let Some(task) = tasks.iter().find(|task| task.pid == victim.pid) else {
        return;
    };
    if victim.comm.is_empty() {
        victim.comm.clone_from(&task.comm);
    }
    victim.uid = victim.uid.or_else(|| table.uid(victim.pid));
    victim.oom_score_adj.get_or_insert(task.oom_score_adj);
    victim.total_vm_kb = victim
        .total_vm_kb
        .or_else(|| table.total_vm_kb(victim.pid, page_kb));
    if victim.rss_kb().is_none() {
        // The oldest kernels do not tell anonymous from file pages.
        victim.anon_rss_kb = Some(task.rss_kb);
    }
    if victim.pgtables_kb.is_none() && task.pgtables_kb != 0 {
        victim.pgtables_kb = Some(task.pgtables_kb);
    }
}

/// Works out scores, the greatest first.
fn rank(kill: &mut Kill) {
    let total = total_kb(kill);
    for task in &mut kill.tasks {
        task.oom_score = oom_score(task.held_kb(), task.oom_score_adj, total);
    }
    kill.tasks
        .sort_by_key(|task| std::cmp::Reverse((task.oom_score, task.held_kb())));
    kill.candidate_count = kill.tasks.len();
    kill.candidates = kill.tasks.iter().take(MOST_CANDIDATES).cloned().collect();
}

/// What the kernel measures scores by: the group's limit, or memory and swap;
/// where the log has neither, what the tasks hold together.
fn total_kb(kill: &Kill) -> u64 {
    let limit = kill.cgroup_usage.as_ref().map(|usage| usage.limit_kb);
    let row = |name: &str| kill.meminfo.get(name).copied();
    let machine = row("MemTotal").map(|total| total.saturating_add(row("SwapTotal").unwrap_or(0)));
    let tasks = || {
        kill.tasks
            .iter()
            .fold(0_u64, |sum, task| sum.saturating_add(task.held_kb()))
    };
    limit
        .or(machine)
        .filter(|total| *total > 0)
        .unwrap_or_else(tasks)
}
