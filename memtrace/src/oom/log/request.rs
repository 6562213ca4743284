//! The lines about the request: who invoked the killer with which flags, on
//! which kernel, from where, and within what.
use super::super::{Cause, Constraint, Frame, Kill, Trigger};
use crate::kernel::{self, gfp::Numbering, uprobe::Version};

/// `NAME invoked oom-killer: gfp_mask=0x201da, order=0, oom_score_adj=0`.
pub(super) fn invoked(text: &str) -> Option<Trigger> {
    let (comm, rest) = text.split_once(" invoked oom-killer: ")?;
    let mask = field(rest, "gfp_mask=").map(|value| {
        let end = value.find(|c: char| !c.is_ascii_alphanumeric());
        value.get(..end.unwrap_or(value.len())).unwrap_or(value)
    });
    let names = mask
        .and_then(|mask| rest.split_once(mask)?.1.strip_prefix('('))
        .and_then(|rest| rest.split_once(')'))
        .map(|(names, _)| names.split('|').map(str::to_owned).collect());
    let number = |name| field(rest, name).and_then(leading_number);
    let adj = number("oom_score_adj=").or_else(|| number("oom_adj=").map(from_oom_adj));
    Some(Trigger {
        comm: comm.trim().to_owned(),
        gfp_mask: mask.map(str::to_owned),
        gfp_flags: names.unwrap_or_default(),
        // -1 is a request through sysrq, for no memory at all.
        order: number("order=").and_then(|order| u32::try_from(order).ok()),
        oom_score_adj: adj,
        ..Trigger::default()
    })
}

/// Whether the header is that of a kill through sysrq.
pub(super) fn is_sysrq(text: &str) -> bool {
    text.contains(" invoked oom-killer: ") && text.contains("order=-1")
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_once(name).map(|(_, value)| value)
}

pub(super) fn leading_number(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let sign = text.len() - digits.len();
    let length = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    text.get(..sign + length)?.parse().ok()
}

/// The adjustment before 2.6.36, from -17 (never) to 15, in thousandths as
/// `oom_adj_write` of `fs/proc/base.c` converted it.
pub(super) fn from_oom_adj(adj: i64) -> i64 {
    if adj >= 15 {
        1000
    } else {
        adj.saturating_mul(1000) / 17
    }
}

/// `CPU: 2 PID: 31837 Comm: S44bluetooth Tainted: G O 5.4.125 #2`, or until 3.9
/// `Pid: 1234, comm: foo Not tainted 2.6.32-431.el6.x86_64 #1`: process id and
/// the kernel's release.
pub(super) fn process(text: &str) -> Option<(u32, Option<&str>)> {
    let text = text.trim_start();
    let (pid, rest) = if text.starts_with("CPU: ") {
        let (_, rest) = text.split_once(" PID: ")?;
        rest.split_once(" Comm: ")?
    } else {
        text.strip_prefix("Pid: ")?.split_once(", comm: ")?
    };
    let pid = pid.trim().parse().ok()?;
    let behind = ["ot tainted ", "ainted: "]
        .iter()
        .find_map(|word| rest.split_once(word));
    let release = behind.and_then(|(_, rest)| {
        rest.split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
    });
    Some((pid, release))
}

/// `oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),…,task=hog,pid=1,uid=0`
/// (since 4.20).
pub(super) fn decision(text: &str, kill: &mut Kill) -> Option<(u32, String, u32)> {
    let rest = text.trim_start().strip_prefix("oom-kill:")?;
    let value = |name: &str, next: &str| {
        let (_, value) = rest.split_once(name)?;
        Some(value.split_once(next).map_or(value, |(value, _)| value))
    };
    let constraint = value("constraint=", ",")?;
    kill.constraint = CONSTRAINTS
        .iter()
        .find(|(name, _)| *name == constraint)
        .map_or(Constraint::None, |(_, constraint)| *constraint);
    kill.cgroup = value(",oom_memcg=", ",task_memcg=").map(str::to_owned);
    let cgroup = value(",task_memcg=", ",task=").unwrap_or_default();
    // The name may hold anything, so the numbers are taken from the end.
    let (front, uid) = rest.rsplit_once(",uid=")?;
    let (_, pid) = front.rsplit_once(",pid=")?;
    Some((
        pid.parse().ok()?,
        cgroup.to_owned(),
        uid.trim().parse().ok()?,
    ))
}

/// The names of `mm/oom_kill.c`.
const CONSTRAINTS: &[(&str, Constraint)] = &[
    ("CONSTRAINT_NONE", Constraint::None),
    ("CONSTRAINT_MEMCG", Constraint::Memcg),
    ("CONSTRAINT_CPUSET", Constraint::Cpuset),
    ("CONSTRAINT_MEMORY_POLICY", Constraint::Mempolicy),
];

/// A frame of a call trace that the unwinder vouches for:
/// ` dump_header+0x43/0x1c0 [module]`.
pub(super) fn frame(text: &str) -> Option<Frame> {
    let text = text.trim();
    let text = match text
        .strip_prefix("[<")
        .and_then(|rest| rest.split_once(">]"))
    {
        Some((_, rest)) => rest.trim_start(),
        None => text,
    };
    let mut words = text.split_whitespace();
    let (symbol, place) = words.next()?.split_once("+0x")?;
    let (offset, size) = place.split_once("/0x")?;
    let offset = u64::from_str_radix(offset, 16).ok()?;
    u64::from_str_radix(size, 16).ok()?;
    let module = words.next().map(|word| word.trim_matches(['[', ']']));
    Some(Frame {
        symbol: symbol.to_owned(),
        offset,
        module: module.map(str::to_owned),
    })
}

/// Lines that say how it ended without a victim, or why it began.
const CAUSES: &[(&str, Cause)] = &[
    ("Manual OOM execution", Cause::Sysrq),
    (
        "Out of memory and no killable processes",
        Cause::NoKillableProcess,
    ),
    ("System is deadlocked on memory", Cause::NoKillableProcess),
    ("panic_on_oom is enabled", Cause::Panic),
    ("panic_on_oom is selected", Cause::Panic),
];

/// See [`CAUSES`].
pub(super) fn cause(text: &str) -> Option<Cause> {
    let found = CAUSES.iter().find(|(words, _)| text.contains(words));
    found.map(|(_, cause)| *cause)
}

/// Names the flags of a bare mask.
pub(super) fn name_flags(kill: &mut Kill, hint: Option<Version>) {
    let version = hint.or_else(|| kernel::parse_version(kill.kernel.as_deref()?));
    let Some(trigger) = kill
        .trigger
        .as_mut()
        .filter(|trigger| trigger.gfp_flags.is_empty())
    else {
        return;
    };
    let mask = trigger
        .gfp_mask
        .as_deref()
        .and_then(|mask| u64::from_str_radix(mask.trim_start_matches("0x"), 16).ok());
    if let Some(mask) = mask {
        let numbering = version.map_or_else(|| Numbering::of_bare(mask), Numbering::of);
        trigger.gfp_flags = numbering.names(mask);
    }
}
