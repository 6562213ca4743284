//! One stack in the list of stacks, and the columns of that list.
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{
    baseline::grown,
    table::{Column, Row},
};
use crate::{
    report::{
        heap::{Frame, HeapReport, Stack},
        name::{self, is_plumbing, printable, shorten},
        spark::spark,
        text::whose,
    },
    unit::{Count, Elapsed},
};

/// Names of a chain of callers are no longer than this.
const NAME: usize = 24;

/// One stack.
#[derive(Debug)]
pub struct StackRow {
    key: u64,
    /// Its place in the report.
    pub(super) index: usize,
    pub(super) bytes: u64,
    count: u64,
    oldest_ns: u64,
    /// Bytes since the baseline, or since tracing began.
    pub grown: i64,
    marked: bool,
    /// In which time.
    over_ns: u64,
    history: Vec<u64>,
    chain: String,
    /// All that a filter looks at.
    text: String,
}

impl Row for StackRow {
    fn key(&self) -> u64 {
        self.key
    }

    fn contains(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    fn grew(&self) -> bool {
        !self.marked || self.grown > 0
    }
}

impl StackRow {
    /// Of the stack at this place of the report; `history`: its bytes so far.
    pub(super) fn new(key: u64, index: usize, report: &HeapReport, history: Vec<u64>) -> Self {
        let stack = &report.stacks[index];
        let mut chain = chain(stack);
        let mut text = text(stack);
        if report.processes.len() > 1 {
            let whose = whose(report, stack.pid);
            text.push_str(&whose.to_lowercase());
            chain = format!("{whose}: {chain}");
        }
        Self {
            key,
            index,
            bytes: stack.bytes,
            count: stack.count,
            oldest_ns: stack.oldest_ns,
            grown: 0,
            marked: false,
            over_ns: 0,
            history,
            chain,
            text,
        }
    }

    /// Tells growth over this time; `before`: from what the baseline says, where
    /// there is one.
    pub(super) fn compare(&mut self, before: Option<u64>, over_ns: u64) {
        self.grown = grown(before.unwrap_or(0), self.bytes);
        self.over_ns = over_ns;
        self.marked = before.is_some();
    }

    /// Its bytes over time.
    pub fn history(&self) -> &[u64] {
        &self.history
    }
}

pub(super) const COLUMNS: &[Column<StackRow>] = &[
    Column {
        title: "OUTSTANDING",
        width: 12,
        grows: false,
        from: 0,
        left: false,
        cell: |row, style, _| style.bytes(row.bytes),
        order: |one, other| other.bytes.cmp(&one.bytes),
    },
    Column {
        title: "BLOCKS",
        width: 9,
        grows: false,
        from: 60,
        left: false,
        cell: |row, _, _| Count(row.count).to_string(),
        order: |one, other| other.count.cmp(&one.count),
    },
    Column {
        title: "PER SECOND",
        width: 12,
        grows: false,
        from: 72,
        left: false,
        cell: |row, style, _| match row.grown {
            0 => "–".to_owned(),
            grown => {
                let sign = if grown < 0 { "−" } else { "+" };
                let rate = style.rate(grown.unsigned_abs(), row.over_ns);
                format!("{sign}{rate}")
            }
        },
        // All were traced for the same time.
        order: |one, other| other.grown.cmp(&one.grown),
    },
    Column {
        title: "OLDEST",
        width: 10,
        grows: false,
        from: 100,
        left: false,
        cell: |row, _, _| Elapsed(row.oldest_ns).to_string(),
        order: |one, other| other.oldest_ns.cmp(&one.oldest_ns),
    },
    Column {
        title: "TREND",
        width: 10,
        grows: false,
        from: 80,
        left: true,
        cell: |row, _, width| spark(&row.history, width),
        order: |one, other| other.grown.cmp(&one.grown),
    },
    Column {
        title: "ALLOCATED BY",
        width: 20,
        grows: true,
        from: 0,
        left: true,
        cell: |row, _, _| row.chain.clone(),
        order: |one, other| one.chain.cmp(&other.chain),
    },
];

/// The indices of OUTSTANDING and BLOCKS.
pub(super) const BY_BYTES: usize = 0;
pub(super) const BY_COUNT: usize = 1;

/// Which stack it is, in every report of one trace.
pub(super) fn identity(stack: &Stack) -> u64 {
    let mut hasher = DefaultHasher::new();
    (stack.pid, &stack.function, stack.truncated).hash(&mut hasher);
    for frame in &stack.frames {
        (&frame.ip, &frame.module, frame.inlined).hash(&mut hasher);
    }
    hasher.finish()
}

/// Before everything that a program itself does.
const STARTS: &[&str] = &["__libc_start_", "_start", "start_thread", "clone3"];

/// Who called whom, innermost first, from the first function on that is not
/// plumbing, if there is one, and the line of that.
fn chain(stack: &Stack) -> String {
    let is_plumbing = |frame: &&Frame| is_plumbing(&name::of(frame));
    let first = stack.frames.iter().take_while(is_plumbing).count();
    let frames = match stack.frames.get(first..) {
        Some(frames) if !frames.is_empty() => frames,
        _ => &stack.frames,
    };
    let is_start = |frame: &Frame| {
        let name = name::of(frame);
        STARTS.iter().any(|start| name.starts_with(start))
    };
    let last = frames.iter().rposition(|frame| !is_start(frame));
    let frames = &frames[..last.map_or(frames.len(), |last| last + 1)];
    let names = frames.iter().enumerate().map(|(at, frame)| {
        let name = name::of(frame);
        let name = shorten(&printable(&name), NAME).into_owned();
        match frame.line.filter(|_| at == 0) {
            Some(line) => format!("{name}:{line}"),
            None => name,
        }
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return "(no stack)".to_owned();
    }
    names.join(" ← ")
}

fn text(stack: &Stack) -> String {
    let mut text = stack.function.to_lowercase();
    for frame in &stack.frames {
        let name = name::of(frame);
        let parts = [Some(&*name), frame.file.as_deref(), frame.module.as_deref()];
        for part in parts.into_iter().flatten() {
            text.push('\n');
            text.push_str(&part.to_lowercase());
        }
    }
    text
}
