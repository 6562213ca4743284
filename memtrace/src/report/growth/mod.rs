//! The model of a growth report (`memtrace.growth.v1`): what every renderer
//! draws.
pub mod assemble;
mod svg;
#[cfg(test)]
mod tests;
mod text;

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{Document, Format, folded, heap::Frame};
use crate::{
    finding::Finding,
    growth::{Confidence, Kind, Pattern, Source, Verdict},
};

/// Names the document's version.
pub const SCHEMA: &str = "memtrace.growth.v1";

impl Document for GrowthReport {
    const FORMATS: &'static [Format<Self>] = &[
        Format::text(text::render),
        Format::JSON,
        Format::folded(|report, _, out| folded(report, out)),
        Format::svg(|report, _, out| svg::render(report, out)),
    ];
}

/// What grows in one process, in several, or in all. Sizes in bytes, times in
/// nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthReport {
    /// [`SCHEMA`].
    pub schema: String,
    /// From the first sample to the last.
    pub duration_ns: u64,
    /// Between two samples.
    pub interval_ns: u64,
    /// Sums that were dropped for lack of room: their bytes are in no source.
    pub lost_events: u64,
    /// How each hook is served; empty where nothing was probed.
    #[serde(default)]
    pub hooks: Vec<Hook>,
    /// What a reader must know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The processes; where all were looked at, the fastest growing first.
    pub processes: Vec<Process>,
    /// Processes there are in all; `processes` may hold fewer.
    #[serde(default)]
    pub processes_total: u64,
    /// By stack, the most bytes first.
    pub sources: Vec<SourceStack>,
    /// Sums over all stacks, also those that `--top` cut off.
    #[serde(default)]
    pub totals: Vec<Total>,
    /// What to do about it.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// How a hook is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// What is looked at.
    pub hook: String,
    /// By which mechanism; null: not at all.
    pub mechanism: Option<String>,
    /// As options call it.
    #[serde(default)]
    pub name: Option<String>,
    /// What that does not see, and what it costs others.
    pub loses: Option<String>,
    /// Whether there would be a better mechanism.
    #[serde(default)]
    pub fallback: bool,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// In the namespace of memtrace.
    pub pid: u32,
    /// The kernel's name for it.
    pub comm: String,
    /// Whether it has ended.
    pub exited: bool,
    /// The heap from its start to the program break, now; null where the
    /// process's mappings could not be read.
    pub brk_bytes: Option<u64>,
    /// Anonymous mappings that may be touched, now.
    pub mmap_bytes: Option<u64>,
    /// Resident, now.
    pub rss_bytes: u64,
    /// Resident, shared pages divided by those who share them; null where that
    /// could not be read.
    #[serde(default)]
    pub pss_bytes: Option<u64>,
    /// Swapped out, now.
    #[serde(default)]
    pub swap_bytes: u64,
    /// What came since the first sample; negative: went.
    #[serde(default)]
    pub brk_growth_bytes: Option<i64>,
    /// The same of `mmap_bytes`.
    #[serde(default)]
    pub mmap_growth_bytes: Option<i64>,
    /// The same of `rss_bytes`.
    #[serde(default)]
    pub rss_growth_bytes: i64,
    /// The trend of what is resident or swapped out.
    pub rss_slope_bytes_per_s: i64,
    /// Its interval of confidence, 95 %.
    #[serde(default)]
    pub rss_slope_low: i64,
    /// The same.
    #[serde(default)]
    pub rss_slope_high: i64,
    /// Where it goes; of a sawtooth its low points.
    pub verdict: Verdict,
    /// How it goes there.
    pub pattern: Pattern,
    /// How sure the verdict is.
    pub confidence: Confidence,
    /// Which memory grows; null: none, or not known.
    #[serde(default)]
    pub source: Option<Source>,
    /// Its mappings by kind; empty where they could not be read.
    #[serde(default)]
    pub kinds: Vec<KindSize>,
    /// How many samples were taken; `samples` may hold fewer.
    #[serde(default)]
    pub samples_total: u64,
    /// What it held over time.
    #[serde(default)]
    pub samples: Vec<Point>,
}

impl Process {
    /// Where it goes and how sure that is, in words: `growing, likely`.
    pub fn judgement(&self) -> String {
        let what = match (self.verdict, self.pattern) {
            (Verdict::Growing, _) => "growing",
            (Verdict::Shrinking, _) => "shrinking",
            (Verdict::Steady, Pattern::Sawtooth) => "sawtooth",
            (Verdict::Steady, _) => "steady",
        };
        let how_sure = match self.confidence {
            Confidence::High => "",
            Confidence::Medium => ", likely",
            Confidence::Low => ", perhaps",
        };
        format!("{what}{how_sure}")
    }
}

/// Mappings of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindSize {
    /// What they are for.
    pub kind: Kind,
    /// Address space, now.
    pub bytes: u64,
    /// Lines of `/proc/PID/maps`, now.
    pub mappings: u64,
    /// What came since the first sample.
    pub growth_bytes: i64,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Since the first sample.
    pub time_ns: u64,
    /// Resident.
    pub rss_bytes: u64,
    /// The heap; null where the mappings were not read at that time.
    pub brk_bytes: Option<u64>,
    /// Anonymous mappings.
    pub mmap_bytes: Option<u64>,
    /// Swapped out.
    pub swap_bytes: u64,
}

/// The ways of [`memtrace_common::growth::Way`], as documents call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WayKind {
    /// Touched a page that was not there.
    Fault,
    /// Moved the program break.
    Brk,
    /// Mapped, unmapped or resized.
    Mmap,
}

/// One stack that made memory grow in one way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceStack {
    /// Whose.
    pub pid: u32,
    /// In which way.
    pub kind: WayKind,
    /// What it added.
    pub bytes: u64,
    /// How many times.
    pub count: u64,
    /// What it gave back, by whomever it was added.
    #[serde(default)]
    pub returned_bytes: u64,
    /// How many times.
    #[serde(default)]
    pub returned_count: u64,
    /// Whether the stack was cut before its outermost frame.
    #[serde(default)]
    pub truncated: bool,
    /// Innermost first; the first is the function that touches the page, or
    /// the caller of the C library's function.
    pub frames: Vec<Frame>,
}

/// Sums of one process in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Whose.
    pub pid: u32,
    /// In which way.
    pub kind: WayKind,
    /// What came.
    pub bytes: u64,
    /// How many times.
    pub count: u64,
    /// What was given back.
    pub returned_bytes: u64,
    /// How many times.
    pub returned_count: u64,
    /// From how many stacks.
    pub stacks: u64,
}

/// Writes what was added by stack. Below the process, where there are several,
/// lies the way, since the same bytes are mapped first and touched later.
fn folded(report: &GrowthReport, out: &mut dyn Write) -> io::Result<()> {
    let several = report.processes.len() > 1;
    let comm = |pid| {
        let process = report.processes.iter().find(|process| process.pid == pid);
        process.map_or("?", |process| process.comm.as_str())
    };
    let stacks = report.sources.iter().filter(|stack| stack.bytes > 0);
    let lines = stacks.map(|stack| {
        let mut roots = Vec::new();
        if several {
            roots.push(format!("{}-{}", comm(stack.pid), stack.pid));
        }
        roots.push(stack.kind.root().to_owned());
        folded::Line {
            roots,
            truncated: stack.truncated,
            frames: &stack.frames,
            bytes: stack.bytes,
        }
    });
    folded::write(lines, out)
}

impl WayKind {
    fn root(self) -> &'static str {
        match self {
            Self::Fault => "[fault]",
            Self::Brk => "[brk]",
            Self::Mmap => "[mmap]",
        }
    }
}
