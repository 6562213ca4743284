//! What grew between two heap reports (`memtrace.diff.v1`).
mod compare;
mod graph;
#[cfg(test)]
mod tests;
mod text;

use serde::{Deserialize, Serialize};

use super::{
    Document, Format,
    heap::{Frame, Kind, Process},
};
pub use compare::compare;

/// Names the document's version.
pub const SCHEMA: &str = "memtrace.diff.v1";

impl Document for DiffReport {
    const FORMATS: &'static [Format<Self>] = &[
        Format::text(text::render),
        Format::JSON,
        Format::folded(|report, _, out| graph::folded(report, out)),
        Format::svg(|report, _, out| graph::svg(report, out)),
    ];
}

/// The difference of two reports. Sizes in bytes, times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiffReport {
    /// [`SCHEMA`].
    pub schema: String,
    /// Whether both reports are exact, and none was cut by `--top`.
    pub exact: bool,
    /// Why it is not, and what else a reader must know.
    pub notes: Vec<String>,
    /// The earlier report.
    pub old: Side,
    /// The later report.
    pub new: Side,
    /// Outstanding bytes, new less old.
    pub bytes: i64,
    /// Outstanding blocks and mappings, new less old.
    pub count: i64,
    /// Stacks there are in all; `stacks` may hold fewer.
    pub stacks_total: u64,
    /// What grew most first, what shrank most last.
    pub stacks: Vec<Change>,
}

/// One of the two reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// The file that it is from.
    pub file: String,
    /// From the first probe's attachment to the report.
    pub duration_ns: u64,
    /// Whether every allocation was seen.
    pub exact: bool,
    /// Its total.
    pub outstanding_bytes: u64,
    /// Its total.
    pub outstanding_count: u64,
    /// The traced processes.
    pub processes: Vec<Process>,
}

/// What became of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Only in the later report.
    New,
    /// More bytes than before, or as many in more blocks.
    Grown,
    /// The same.
    Unchanged,
    /// Less.
    Shrunk,
    /// Only in the earlier report.
    Gone,
}

/// One stack in both reports: the same functions of the same files, in
/// processes of the same name. Addresses, pids and lines may differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What became of it.
    pub state: State,
    /// Name of the process.
    pub comm: String,
    /// Block or mapping.
    pub kind: Kind,
    /// The allocation function called.
    pub function: String,
    /// Outstanding bytes, new less old.
    pub bytes: i64,
    /// Outstanding blocks, new less old.
    pub count: i64,
    /// Outstanding in the earlier report.
    pub old_bytes: u64,
    /// Outstanding in the earlier report.
    pub old_count: u64,
    /// Outstanding in the later report.
    pub new_bytes: u64,
    /// Outstanding in the later report.
    pub new_count: u64,
    /// Whether the stack was cut before its outermost frame.
    pub truncated: bool,
    /// As in the later report, else as in the earlier one; innermost first.
    pub frames: Vec<Frame>,
}

impl DiffReport {
    /// Whether stacks of different processes are told apart.
    fn several(&self) -> bool {
        self.old.processes.len() > 1 || self.new.processes.len() > 1
    }
}
