//! The lines about who was killed, in all their wordings since 2.6.32.
use super::{
    super::{Constraint, Victim},
    prefix::all_digits,
    request::leading_number,
};

/// What a line says about a victim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// `Kill process 1 (x) score 9 or sacrifice child`: who has the points.
    Chosen(Victim, Option<Constraint>),
    /// `Killed process 1 (x) total-vm:…`: who dies.
    Killed(Victim, Option<Constraint>),
    /// The reaper's verdict on a process.
    Reaped(u32, bool),
}

/// Words before the process, whether it is dead by them.
const WORDS: &[(&str, bool)] = &[
    ("Killed process ", true),
    ("Kill process ", false),
    ("kill process ", false),
];

/// What the kernel calls the occasion, before those words.
const OCCASIONS: &[(&str, Constraint)] = &[
    ("Memory cgroup out of memory", Constraint::Memcg),
    ("Memory cgroup stats", Constraint::Memcg),
    ("No available memory (MPOL_BIND)", Constraint::Mempolicy),
    ("No available memory in cpuset", Constraint::Cpuset),
];

/// Reads a line.
pub(super) fn line(text: &str) -> Option<Said> {
    if let Some(rest) = text.trim_start().strip_prefix("oom_reaper: ") {
        return reaper(rest);
    }
    let (at, words, dead) = WORDS
        .iter()
        .find_map(|(words, dead)| Some((text.find(words)?, *words, *dead)))?;
    let (before, rest) = (text.get(..at)?, text.get(at + words.len()..)?);
    // The kernel's words come at a line's start or behind the occasion.
    let occasion = before.trim();
    if !(occasion.is_empty() || occasion.ends_with(':')) {
        return None;
    }
    let constraint = OCCASIONS
        .iter()
        .find(|(known, _)| occasion.starts_with(known))
        .map(|(_, constraint)| *constraint);
    let victim = victim(rest)?;
    Some(if dead {
        Said::Killed(victim, constraint)
    } else {
        Said::Chosen(victim, constraint)
    })
}

/// `reaped process 1 (x), now anon-rss:0kB…`, `unable to reap pid:1 (x)`.
fn reaper(rest: &str) -> Option<Said> {
    let (pid, done) = match rest.strip_prefix("reaped process ") {
        Some(rest) => (rest, true),
        None => (rest.strip_prefix("unable to reap pid:")?, false),
    };
    let pid = u32::try_from(leading_number(pid)?).ok()?;
    Some(Said::Reaped(pid, done))
}

/// `1234 (name) total-vm:1kB, …`, or with `, UID 0,` on either side of the name.
fn victim(rest: &str) -> Option<Victim> {
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (pid, rest) = rest.split_at_checked(digits)?;
    let open = rest.find('(')?;
    // A name may hold parentheses: the last before the figures closes it.
    let behind = rest.get(open..)?;
    let figures = ENDS.iter().filter_map(|end| behind.find(end)).min();
    let close = open + behind.get(..figures.unwrap_or(behind.len()))?.rfind(')')?;
    let mut victim = Victim {
        pid: pid.parse().ok()?,
        comm: rest.get(open + 1..close)?.to_owned(),
        ..Victim::default()
    };
    let around = [rest.get(..open), rest.get(close + 1..)];
    for text in around.into_iter().flatten() {
        figures_of(text, &mut victim);
    }
    Some(victim)
}

/// Words with which the part behind the name begins.
const ENDS: &[&str] = &[" total-vm:", " vsz:", " score ", ", UID ", " sharing "];

type Field = fn(&mut Victim) -> &mut Option<u64>;

const FIGURES: &[(&str, Field)] = &[
    ("total-vm:", |victim| &mut victim.total_vm_kb),
    ("vsz:", |victim| &mut victim.total_vm_kb),
    ("anon-rss:", |victim| &mut victim.anon_rss_kb),
    ("file-rss:", |victim| &mut victim.file_rss_kb),
    ("shmem-rss:", |victim| &mut victim.shmem_rss_kb),
    ("pgtables:", |victim| &mut victim.pgtables_kb),
];

fn figures_of(text: &str, victim: &mut Victim) {
    for word in text.split([' ', ',']) {
        let figure = FIGURES
            .iter()
            .find_map(|(name, field)| Some((word.strip_prefix(name)?, field)));
        if let Some((value, field)) = figure {
            *field(victim) = size_kb(value);
        } else if let Some(uid) = word.strip_prefix("UID:") {
            victim.uid = uid.parse().ok();
        } else if let Some(adj) = word.strip_prefix("oom_score_adj:") {
            victim.oom_score_adj = adj.parse().ok();
        }
    }
    let behind = |name: &str| leading_number(text.split_once(name)?.1);
    if let Some(uid) = behind("UID ") {
        victim.uid = u32::try_from(uid).ok();
    }
    if let Some(score) = behind("score ") {
        victim.oom_score = Some(score);
    }
}

/// `64kB`; a number alone is bytes.
fn size_kb(value: &str) -> Option<u64> {
    match value.strip_suffix("kB") {
        Some(kb) => kb.parse().ok(),
        None if all_digits(value) => Some(value.parse::<u64>().ok()? / 1024),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed(text: &str) -> Victim {
        match line(text) {
            Some(Said::Killed(victim, _)) => victim,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn wordings() {
        let bare = killed("Killed process 12 (a b)");
        assert_eq!((bare.pid, bare.comm.as_str()), (12, "a b"));
        let old = killed("Killed process 12 (x) vsz:10kB, anon-rss:4kB, file-rss:1kB");
        assert_eq!((old.total_vm_kb, old.rss_kb()), (Some(10), Some(5)));
        let uid =
            killed("Killed process 12, UID 500, (x) total-vm:10kB, anon-rss:4kB, file-rss:1kB");
        assert_eq!((uid.uid, uid.comm.as_str()), (Some(500), "x"));
        let behind = killed(
            "Killed process 12 (x), UID 500, total-vm:10kB, anon-rss:4kB, file-rss:1kB, shmem-rss:2kB",
        );
        assert_eq!((behind.uid, behind.rss_kb()), (Some(500), Some(7)));
        let new = killed(
            "Out of memory: Killed process 12 (x) total-vm:10kB, anon-rss:4kB, file-rss:1kB, shmem-rss:2kB, UID:7 pgtables:64kB oom_score_adj:-5",
        );
        assert_eq!(
            (new.uid, new.pgtables_kb, new.oom_score_adj),
            (Some(7), Some(64), Some(-5))
        );
        let odd = killed("Killed process 12 ((sd-pam)) total-vm:10kB, anon-rss:4kB, file-rss:1kB");
        assert_eq!(odd.comm, "(sd-pam)");
    }

    #[test]
    fn chosen_and_reaped() {
        let text = "Memory cgroup out of memory: Kill process 12 (x) score 900 or sacrifice child";
        let Some(Said::Chosen(victim, Some(Constraint::Memcg))) = line(text) else {
            panic!("{:?}", line(text));
        };
        assert_eq!((victim.pid, victim.oom_score), (12, Some(900)));
        assert_eq!(
            line("oom_reaper: reaped process 12 (x), now anon-rss:0kB"),
            Some(Said::Reaped(12, true))
        );
        assert_eq!(
            line("oom_reaper: unable to reap pid:12 (x)"),
            Some(Said::Reaped(12, false))
        );
        for other in [
            "",
            "Killed process",
            "Killed process x (y)",
            "a daemon says Killed process 1 (x)",
        ] {
            assert_eq!(line(other), None, "{other}");
        }
    }
}
