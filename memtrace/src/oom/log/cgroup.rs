//! The lines about a memory cgroup: use and limit, and its statistics.
use super::super::{Charge, Kill};

/// Most rows of `memory.stat` kept.
const MOST: usize = 256;

/// Reads them.
#[derive(Default)]
pub(super) struct Cgroup {
    /// Whether rows of statistics may follow, among other lines.
    in_stat: bool,
}

impl Cgroup {
    /// Takes a line in. Returns whether it is one of these.
    pub(super) fn line(&mut self, text: &str, kill: &mut Kill) -> bool {
        let text = text.trim();
        if self.in_stat
            && let Some((name, value)) = stat(text)
        {
            let stat = &mut kill.cgroup_usage.get_or_insert_default().stat;
            if stat.len() < MOST {
                stat.entry(name.to_owned()).or_insert(value);
            }
            return true;
        }
        if let Some((group, limit)) = task_in(text) {
            kill.cgroup = Some(limit.to_owned());
            kill.victim.get_or_insert_default().cgroup = Some(group.to_owned());
            return true;
        }
        if let Some(rest) = text.strip_prefix("Memory cgroup stats for ") {
            let (group, figures) = rest
                .split_once(": ")
                .unwrap_or((rest.trim_end_matches(':'), ""));
            if kill.cgroup.is_none() {
                kill.cgroup = Some(group.to_owned());
            }
            let usage = kill.cgroup_usage.get_or_insert_default();
            // Until 4.19 a line each for a group and the groups in it: the
            // first is the group itself.
            if usage.stat.is_empty() {
                usage.stat = figures
                    .split_whitespace()
                    .filter_map(old_stat)
                    .take(MOST)
                    .collect();
            }
            self.in_stat |= figures.is_empty();
            return true;
        }
        charge(text, kill)
    }
}

/// `Task in /a killed as a result of limit of /b` (until 4.19).
fn task_in(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("Task in ")?
        .split_once(" killed as a result of limit of ")
}

/// `anon 8298496`.
fn stat(text: &str) -> Option<(&str, u64)> {
    let (name, value) = text.split_once(' ')?;
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    Some((name, value.parse().ok()?)).filter(|_| is_name)
}

/// `rss:10240KB`.
fn old_stat(word: &str) -> Option<(String, u64)> {
    let (name, value) = word.split_once(':')?;
    let kb: u64 = value.strip_suffix("KB")?.parse().ok()?;
    Some((name.to_owned(), kb.saturating_mul(1024)))
}

/// `memory: usage 8192kB, limit 8192kB, failcnt 19`.
fn charge(text: &str, kill: &mut Kill) -> bool {
    let Some((kind, figures)) = text.split_once(": usage ") else {
        return false;
    };
    let value = |before: &str, after: &str| {
        let (_, rest) = figures.split_once(before)?;
        rest.split_once(after)?.0.trim().parse::<u64>().ok()
    };
    let usage_kb = figures
        .split_once("kB")
        .and_then(|(usage, _)| usage.trim().parse().ok());
    let (Some(usage_kb), Some(limit_kb)) = (usage_kb, value("limit ", "kB")) else {
        return false;
    };
    let usage = kill.cgroup_usage.get_or_insert_default();
    let charge = |with_memory| {
        Some(Charge {
            usage_kb,
            limit_kb,
            with_memory,
        })
    };
    match kind {
        "memory" => {
            let failures = figures
                .rsplit_once("failcnt ")
                .and_then(|(_, count)| count.parse().ok());
            usage.usage_kb = usage_kb;
            usage.limit_kb = limit_kb;
            usage.failures = failures.unwrap_or(0);
        }
        "memory+swap" => usage.swap = charge(true),
        "swap" => usage.swap = charge(false),
        "kmem" => usage.kernel = charge(false),
        _ => return false,
    }
    true
}
