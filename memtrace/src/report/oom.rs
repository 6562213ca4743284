//! `memtrace.oom.v1`: a kill and its explanation; and the list of those who
//! would be killed now.
use std::{
    borrow::Cow,
    io::{self, Write},
};

use serde::{Deserialize, Serialize};

use super::{
    Document, Format, findings, json,
    style::{Paint, Style},
    words::wrapped,
};
use crate::{
    oom::{
        Candidate, Cause, Constraint, Kill,
        explain::{Explanation, explain},
        history::{Sample, growth},
    },
    unit::{Bytes, Count},
};

/// Name and version of the document.
pub const SCHEMA: &str = "memtrace.oom.v1";
/// Of the list.
pub const LIST_SCHEMA: &str = "memtrace.oom_list.v1";

/// A kill, explained.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OomReport {
    /// [`SCHEMA`].
    pub schema: Cow<'static, str>,
    /// What is known of it.
    #[serde(flatten)]
    pub kill: Kill,
    /// Samples before it, the oldest first; empty for a log.
    pub history: Vec<Sample>,
    /// Kills whose records were lost before this one.
    pub lost_kills: u64,
    /// What it means.
    #[serde(flatten)]
    pub explanation: Explanation,
}

impl OomReport {
    /// Explains a kill.
    pub fn new(kill: Kill, history: Vec<Sample>, lost_kills: u64) -> Self {
        Self {
            schema: SCHEMA.into(),
            explanation: explain(&kill),
            kill,
            history,
            lost_kills,
        }
    }
}

impl Document for OomReport {
    const FORMATS: &'static [Format<Self>] = &[
        Format::text(|report, style, out| text(report, style, out)),
        // A stream of them is one a line.
        Format {
            name: "json",
            extension: "json",
            render: |report, _, out| json::line(report, out),
        },
    ];
}

/// Who would be killed now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OomList {
    /// [`LIST_SCHEMA`].
    pub schema: Cow<'static, str>,
    /// How many processes there are.
    pub candidate_count: usize,
    /// The likeliest first.
    pub candidates: Vec<Candidate>,
    /// What would change the order.
    pub remarks: Vec<String>,
}

impl Document for OomList {
    const FORMATS: &'static [Format<Self>] = &[
        Format::text(|list, style, out| {
            table(&list.candidates, style, out)?;
            writeln!(
                out,
                "{} of {} processes, the likeliest victim first",
                list.candidates.len(),
                list.candidate_count
            )?;
            list.remarks
                .iter()
                .try_for_each(|remark| paragraph(remark, style, out))
        }),
        Format::JSON,
    ];
}

fn paragraph(text: &str, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    wrapped(text, 2, style.width)
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
}

fn text(report: &OomReport, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let kill = &report.kill;
    let title = title(kill);
    for line in wrapped(&title, 2, style.width) {
        writeln!(out, "{}", style.paint(Paint::Strong, &line))?;
    }
    paragraph(&report.explanation.why_failed, style, out)?;
    paragraph(&report.explanation.why_victim, style, out)?;
    writeln!(out)?;
    findings::render(&report.explanation.findings, style, out)?;
    writeln!(out)?;
    for line in facts(kill) {
        paragraph(&line, style, out)?;
    }
    if !kill.candidates.is_empty() {
        writeln!(out)?;
        let shown = kill.candidates.get(..SHOWN).unwrap_or(&kill.candidates);
        table(shown, style, out)?;
        if kill.candidate_count > shown.len() {
            writeln!(
                out,
                "{} of {} tasks",
                shown.len(),
                Count(as_u64(kill.candidate_count))
            )?;
        }
    }
    grown(&report.history, style, out)?;
    if report.lost_kills > 0 {
        writeln!(
            out,
            "{} earlier kills were lost: too many at once",
            Count(report.lost_kills)
        )?;
    }
    Ok(())
}

/// Candidates that people see.
const SHOWN: usize = 10;

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn title(kill: &Kill) -> String {
    let what = match (&kill.victim, kill.cause) {
        (Some(victim), Cause::UserSpace) => {
            format!("Killed by a process: {} ({})", victim.comm, victim.pid)
        }
        (Some(victim), _) => format!("Out of memory: {} ({}) was killed", victim.comm, victim.pid),
        (None, _) => "Out of memory".to_owned(),
    };
    let at = kill
        .time
        .as_ref()
        .map_or_else(String::new, |time| format!(", at {time}"));
    let within = match (kill.constraint, &kill.cgroup) {
        (Constraint::Memcg, Some(cgroup)) => format!(", in the memory cgroup {cgroup}"),
        (Constraint::Memcg, None) => ", in a memory cgroup".to_owned(),
        (Constraint::Cpuset, _) => ", in a cpuset".to_owned(),
        (Constraint::Mempolicy, _) => ", under a memory policy".to_owned(),
        (Constraint::None, _) => String::new(),
    };
    format!("{what}{within}{at}")
}

/// Request, victim and memory, a line each.
fn facts(kill: &Kill) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(trigger) = &kill.trigger {
        let pid = trigger.pid.map(|pid| format!(" ({pid})"));
        let mut parts = vec![format!(
            "Request: {}{}",
            trigger.comm,
            pid.unwrap_or_default()
        )];
        let mask = trigger.gfp_mask.as_ref();
        parts.extend(mask.map(|mask| format!("{} ({mask})", trigger.gfp_flags.join("|"))));
        parts.extend(trigger.order.map(|order| format!("order {order}")));
        parts.extend(
            trigger
                .oom_score_adj
                .map(|adj| format!("oom_score_adj {adj}")),
        );
        lines.push(parts.join(", "));
        let calls: Vec<&str> = trigger
            .frames
            .iter()
            .map(|frame| frame.symbol.as_str())
            .collect();
        if !calls.is_empty() {
            lines.push(format!("  called from {}", calls.join(" ← ")));
        }
    }
    if let Some(victim) = &kill.victim {
        let mut parts = Vec::new();
        for (name, kb) in [
            ("anonymous", victim.anon_rss_kb),
            ("files", victim.file_rss_kb),
            ("shared", victim.shmem_rss_kb),
            ("page tables", victim.pgtables_kb),
            ("address space", victim.total_vm_kb),
        ] {
            parts.extend(kb.map(|kb| format!("{name} {} kB", Count(kb))));
        }
        parts.extend(
            victim
                .oom_score_adj
                .map(|adj| format!("oom_score_adj {adj}")),
        );
        parts.extend(victim.uid.map(|uid| format!("uid {uid}")));
        parts.extend(
            victim
                .cgroup
                .as_ref()
                .map(|cgroup| format!("cgroup {cgroup}")),
        );
        lines.push(format!(
            "Victim: {} ({}): {}",
            victim.comm,
            victim.pid,
            parts.join(", ")
        ));
    }
    let rows = MEMORY.iter().filter_map(|row| {
        Some(format!(
            "{row} {}",
            Bytes(kill.meminfo.get(*row)?.saturating_mul(1024))
        ))
    });
    let rows: Vec<String> = rows.collect();
    if !rows.is_empty() {
        lines.push(format!("Memory: {}", rows.join(", ")));
    }
    lines
}

/// Counters that people see.
const MEMORY: &[&str] = &[
    "MemTotal",
    "MemFree",
    "MemAvailable",
    "CmaFree",
    "Active(anon)",
    "Inactive(anon)",
    "Active(file)",
    "Inactive(file)",
    "Shmem",
    "SReclaimable",
    "SUnreclaim",
    "PageTables",
    "KernelStack",
    "VmallocUsed",
    "SwapTotal",
    "SwapFree",
];

fn table(candidates: &[Candidate], style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let heading = format!(
        "{:>6} {:>6} {:>10} {:>10} {:>8}  NAME",
        "SCORE", "ADJ", "RESIDENT", "SWAP", "PID"
    );
    writeln!(out, "{}", style.paint(Paint::Faint, &heading))?;
    for candidate in candidates {
        let cgroup = candidate
            .cgroup
            .as_ref()
            .map_or_else(String::new, |cgroup| format!("  {cgroup}"));
        writeln!(
            out,
            "{:>6} {:>6} {:>10} {:>10} {:>8}  {}{cgroup}",
            candidate.oom_score,
            candidate.oom_score_adj,
            Bytes(candidate.rss_kb.saturating_mul(1024)),
            Bytes(candidate.swap_kb.saturating_mul(1024)),
            candidate.pid,
            candidate.comm
        )?;
    }
    Ok(())
}

fn grown(history: &[Sample], style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let Some(first) = history.first().filter(|_| history.len() > 1) else {
        return Ok(());
    };
    let grown = growth(history).into_iter().take(5);
    let grown: Vec<String> = grown
        .map(|(name, kb)| format!("{name} +{}", Bytes(kb.saturating_mul(1024))))
        .collect();
    let seconds = first.age_ms.div_ceil(1000);
    let line = if grown.is_empty() {
        format!("In the {seconds} s before, nothing grew.")
    } else {
        format!("In the {seconds} s before: {}", grown.join(", "))
    };
    paragraph(&line, style, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oom::log;

    fn report() -> OomReport {
        let log = include_str!("../../../tests/data/oom/recorded-6.18-memcg.txt");
        OomReport::new(log::parse(log, None).remove(0), Vec::new(), 0)
    }

    #[test]
    fn json_is_one_line_and_reads_back() {
        let mut out = Vec::new();
        (OomReport::FORMATS[1].render)(&report(), &Style::default(), &mut out)
            .expect("a vector takes everything");
        let lines = out
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        assert_eq!(lines.count(), 1);
        let value: serde_json::Value = serde_json::from_slice(&out).expect("it is JSON");
        for key in [
            "schema",
            "time",
            "source",
            "constraint",
            "cgroup",
            "trigger",
            "victim",
            "candidates",
            "meminfo",
            "history",
            "findings",
        ] {
            assert!(value.get(key).is_some(), "{key}");
        }
        assert_eq!(value["constraint"], "memcg");
        assert_eq!(value["source"], "log");
        let again: OomReport = serde_json::from_slice(&out).expect("it reads back");
        assert_eq!(again.explanation, report().explanation);
    }

    #[test]
    fn text_says_all() {
        let mut out = Vec::new();
        (OomReport::FORMATS[0].render)(&report(), &Style::default(), &mut out)
            .expect("a vector takes everything");
        let text = String::from_utf8_lossy(&out);
        for part in [
            "Out of memory: hog (17450) was killed, in the memory cgroup /oomx1, at 1177.145750\n",
            "critical: the memory cgroup /oomx1 reached its limit of 8 MiB\n",
            "Request: hog (17450), GFP_KERNEL (0xcc0), order 0, oom_score_adj 0\n",
            "Victim: hog (17450): anonymous 8,064 kB, files 956 kB, shared 0 kB, page tables 64 kB",
            "  1108      0   8.81 MiB        0 B    17450  hog\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
