//! The model of a report on pages (`memtrace.pages.v1`): what every renderer
//! draws.
pub mod assemble;
mod balance;
#[cfg(test)]
mod tests;
pub mod text;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use inferno::flamegraph::color::BasicPalette;
use serde::{Deserialize, Serialize};

use super::{
    Document, Format, folded,
    heap::Frame,
    svg::{self, Caption, MOST_BYTES, taken},
};
use crate::{
    pages::accounting::Accounted,
    unit::{Bytes, Elapsed},
};

/// Names the document's version.
pub const SCHEMA: &str = "memtrace.pages.v1";

impl Document for PagesReport {
    const FORMATS: &'static [Format<Self>] = &[
        Format::text(text::render),
        Format::JSON,
        Format::folded(|report, _, out| folded::write(lines(report), out)),
        Format::svg(|report, _, out| graph(report, out)),
    ];
}

/// Who holds the kernel's pages. Times in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PagesReport {
    /// [`SCHEMA`].
    pub schema: String,
    /// How long pages were watched.
    pub duration_ns: u64,
    /// Whether every page that was handed out or given back was seen.
    pub exact: bool,
    /// Pages about which something is not known; see `losses`.
    pub lost_events: u64,
    /// Bytes of a page.
    pub page_size: u64,
    /// How pages were seen.
    pub mechanism: String,
    /// What consumers are told apart by.
    pub by: By,
    /// Over all pages, also those that options or `--top` left out.
    pub totals: Totals,
    /// Who holds pages that were handed out since the start: first what nothing
    /// counts, then the most pages.
    pub consumers: Vec<Consumer>,
    /// Consumers there are; `consumers` may hold fewer.
    pub consumers_total: u64,
    /// When pages were counted for `trend` of the consumers, since the start.
    #[serde(default)]
    pub looks_ns: Vec<u64>,
    /// What the balance sheet of the machine does not explain, and how much of its
    /// change is explained here; null where the sheet cannot be made.
    #[serde(default)]
    pub hole: Option<Hole>,
    /// The check of the sums.
    #[serde(default)]
    pub balance: Balance,
    /// What the pages were that were in use at the start, by what their flags
    /// say; null where these cannot be read.
    #[serde(default)]
    pub before: Option<BTreeMap<String, u64>>,
    /// Why `lost_events` is not 0: reasons and pages.
    #[serde(default)]
    pub losses: Vec<Loss>,
    /// What a reader must know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What consumers are told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The first function on the stack that is not plumbing.
    #[default]
    Caller,
    /// The module of that function.
    Module,
    /// The whole stack.
    Stack,
}

/// Sums, in pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Handed out since the start.
    pub traced_pages: u64,
    /// Of these, held by somebody now.
    pub outstanding_pages: u64,
    /// Of these, counted by nothing.
    pub untracked_pages: u64,
    /// Given back since the start.
    #[serde(default)]
    pub freed_pages: u64,
    /// Of these, handed out before the start, or by ways that are not seen.
    #[serde(default)]
    pub freed_unseen_pages: u64,
    /// Outstanding pages by what counts them.
    #[serde(default)]
    pub accounted: BTreeMap<String, u64>,
}

/// Who holds pages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Consumer {
    /// The function that asked for them: the first that is not plumbing. Of the
    /// most pages, where modules are told apart.
    pub caller: String,
    /// Its module; null for the kernel itself.
    pub module: Option<String>,
    /// Pages it holds now.
    pub pages: u64,
    /// The same in bytes.
    pub bytes: u64,
    /// The zone that they lie in.
    pub zone: String,
    /// The NUMA node of the zone.
    #[serde(default)]
    pub node: u32,
    /// As the request says: `Unmovable`, `Movable`, `Reclaimable`.
    pub migratetype: String,
    /// Pages by order of the request that they came with.
    pub orders: BTreeMap<u32, u64>,
    /// What counts them.
    pub accounted_as: String,
    /// Flags of most of the requests, by name.
    pub gfp: String,
    /// The process that asked for most of them, by name.
    pub comm: String,
    /// Its id.
    pub pid: u32,
    /// How many pages this process asked for.
    #[serde(default)]
    pub pid_pages: u64,
    /// How many processes there are.
    #[serde(default)]
    pub processes: u64,
    /// Pages that these stacks held at each of `looks_ns`.
    #[serde(default)]
    pub trend: Vec<u64>,
    /// The stack of most of the pages, innermost first, without memtrace's own.
    pub frames: Vec<Frame>,
    /// Pages of that stack.
    #[serde(default)]
    pub frames_pages: u64,
    /// The other stacks, the most pages first.
    #[serde(default)]
    pub other_stacks: Vec<Stack>,
}

/// One stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Pages it holds now.
    pub pages: u64,
    /// Innermost first.
    pub frames: Vec<Frame>,
}

/// What no row of the machine's balance sheet explains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hole {
    /// At the start.
    pub start_kb: u64,
    /// Now.
    pub now_kb: u64,
    /// Of the change: pages that were handed out since the start and are counted by
    /// nothing.
    pub traced_kb: u64,
    /// Their share of the change, where it grew by enough to say.
    pub explained_percent: Option<f64>,
}

/// Free memory against what was seen, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// By how much free memory changed: MemFree, and the lists of the CPUs.
    pub free_change_pages: i64,
    /// By how much it should have: given back less handed out.
    pub seen_change_pages: i64,
    /// Pages that were handed out and given back in the meantime.
    pub moved_pages: u64,
}

/// Why something is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// In words.
    pub reason: String,
    /// Pages, or times.
    pub count: u64,
}

impl Consumer {
    /// Whether nothing counts its pages.
    pub fn is_untracked(&self) -> bool {
        self.accounted_as == Accounted::Untracked.name()
    }

    /// All stacks with their pages.
    fn stacks(&self) -> impl Iterator<Item = (u64, &[Frame])> {
        let others = self.other_stacks.iter();
        let others = others.map(|stack| (stack.pages, stack.frames.as_slice()));
        std::iter::once((self.frames_pages, self.frames.as_slice())).chain(others)
    }
}

/// Bytes by stack, below what counts them.
fn lines(report: &PagesReport) -> impl Iterator<Item = folded::Line<'_>> {
    report.consumers.iter().flat_map(|consumer| {
        consumer.stacks().map(|(pages, frames)| folded::Line {
            roots: vec![format!("[{}]", consumer.accounted_as)],
            truncated: false,
            frames,
            bytes: pages.saturating_mul(report.page_size),
        })
    })
}

fn graph(report: &PagesReport, out: &mut dyn Write) -> io::Result<()> {
    let mut room = MOST_BYTES;
    let lines: Vec<String> = folded::sum(lines(report))
        .into_iter()
        .map(|(stack, bytes)| format!("{stack} {}", taken(&mut room, bytes)))
        .collect();
    let outstanding = report.totals.outstanding_pages;
    let exact = if report.exact { "exact" } else { "NOT EXACT" };
    let caption = Caption {
        title: format!(
            "Pages handed out and held: {}",
            Bytes(outstanding.saturating_mul(report.page_size))
        ),
        subtitle: format!(
            "watched for {}, {exact}; width: bytes, by kernel stack below what counts them",
            Elapsed(report.duration_ns)
        ),
        nothing: "No page is outstanding".into(),
    };
    svg::draw(&caption, &lines, BasicPalette::Mem, out)
}
