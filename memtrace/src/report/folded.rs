//! Folded stacks, for flame graph tools: `outermost;…;innermost bytes`, a line
//! for each stack.
use super::heap::{Frame, HeapReport, Stack};
use super::name;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Writes outstanding bytes by stack. The root is the process where there are
/// several. A function that was inlined ends in `_[i]`, as inferno's own
/// collapsers write it. Stacks that differ only in what is not shown are one.
pub fn render(report: &HeapReport, out: &mut dyn Write) -> io::Result<()> {
    for (stack, bytes) in lines(report) {
        writeln!(out, "{stack} {bytes}")?;
    }
    Ok(())
}

/// Outstanding bytes by folded stack.
pub(super) fn lines(report: &HeapReport) -> BTreeMap<String, u64> {
    let mut folded = BTreeMap::<String, u64>::new();
    for stack in report.stacks.iter().filter(|stack| stack.bytes > 0) {
        let bytes = folded.entry(line(report, stack)).or_default();
        *bytes = bytes.saturating_add(stack.bytes);
    }
    folded
}

fn line(report: &HeapReport, stack: &Stack) -> String {
    let several = report.processes.len() > 1;
    let root = several.then(|| format!("{}-{}", report.comm(stack.pid), stack.pid));
    fold(root.as_deref(), stack.truncated, &stack.frames)
}

/// One stack, folded: a root of its own where there is one, then the frames
/// (innermost first) from the outermost on.
pub(super) fn fold(root: Option<&str>, truncated: bool, stack: &[Frame]) -> String {
    let mut frames = Vec::with_capacity(stack.len() + 2);
    frames.extend(root.map(safe));
    if truncated {
        frames.push("[truncated]".into());
    }
    if stack.is_empty() {
        frames.push("[unknown]".into());
    }
    frames.extend(stack.iter().rev().map(frame));
    frames.join(";")
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
