//! Folded stacks, for flame graph tools: `outermost;…;innermost bytes`, a line
//! for each stack.
use super::heap::{Frame, HeapReport};
use super::name;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// One stack and its weight.
pub(super) struct Line<'a> {
    /// What it is below: process, way.
    pub(super) roots: Vec<String>,
    /// Whether it was cut before its outermost frame.
    pub(super) truncated: bool,
    /// Innermost first.
    pub(super) frames: &'a [Frame],
    pub(super) bytes: u64,
}

/// Writes outstanding bytes by stack. The root is the process where there are
/// several.
pub fn render(report: &HeapReport, out: &mut dyn Write) -> io::Result<()> {
    write(stacks(report), out)
}

/// Writes stacks, each once.
pub(super) fn write<'a>(
    lines: impl Iterator<Item = Line<'a>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    for (stack, bytes) in sum(lines) {
        writeln!(out, "{stack} {bytes}")?;
    }
    Ok(())
}

/// Outstanding bytes by folded stack.
pub(super) fn lines(report: &HeapReport) -> BTreeMap<String, u64> {
    sum(stacks(report))
}

fn stacks(report: &HeapReport) -> impl Iterator<Item = Line<'_>> {
    let several = report.processes.len() > 1;
    let stacks = report.stacks.iter().filter(|stack| stack.bytes > 0);
    stacks.map(move |stack| Line {
        roots: several
            .then(|| format!("{}-{}", report.comm(stack.pid), stack.pid))
            .into_iter()
            .collect(),
        truncated: stack.truncated,
        frames: &stack.frames,
        bytes: stack.bytes,
    })
}

/// Stacks that differ only in what is not shown are one.
pub(super) fn sum<'a>(lines: impl Iterator<Item = Line<'a>>) -> BTreeMap<String, u64> {
    let mut folded = BTreeMap::<String, u64>::new();
    for line in lines {
        let bytes = folded.entry(line.text()).or_default();
        *bytes = bytes.saturating_add(line.bytes);
    }
    folded
}

impl Line<'_> {
    /// The stack, folded: its roots, then its frames from the outermost on. A
    /// function that was inlined ends in `_[i]`, as inferno's own collapsers
    /// write it.
    pub(super) fn text(&self) -> String {
        let mut frames: Vec<String> = self.roots.iter().map(|root| safe(root)).collect();
        if self.truncated {
            frames.push("[truncated]".into());
        }
        if self.frames.is_empty() {
            frames.push("[unknown]".into());
        }
        frames.extend(self.frames.iter().rev().map(frame));
        frames.join(";")
    }
}

fn frame(frame: &Frame) -> String {
    let mut text = safe(&name::of(frame));
    if frame.inlined {
        text.push_str("_[i]");
    }
    text
}

/// Without what has a meaning in the format: `;` between frames, the line's
/// end, a space and a number at the end, `# ` of a comment at the beginning.
fn safe(name: &str) -> String {
    let words: Vec<String> = name
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .map(|word| word.replace(';', ":"))
        .collect();
    let a_number = |word: &String| word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let gap = if words.last().is_some_and(a_number) {
        "_"
    } else {
        " "
    };
    let text = words.join(gap);
    match text.strip_prefix("# ") {
        Some(rest) => format!("#_{rest}"),
        None if text.is_empty() => "?".into(),
        None => text,
    }
}
