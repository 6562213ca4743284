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
    let mut folded = BTreeMap::<String, u64>::new();
    for stack in report.stacks.iter().filter(|stack| stack.bytes > 0) {
        let bytes = folded.entry(line(report, stack)).or_default();
        *bytes = bytes.saturating_add(stack.bytes);
    }
    for (stack, bytes) in folded {
        writeln!(out, "{stack} {bytes}")?;
    }
    Ok(())
}

fn line(report: &HeapReport, stack: &Stack) -> String {
    let mut frames = Vec::with_capacity(stack.frames.len() + 2);
    if report.processes.len() > 1 {
        let comm = report
            .processes
            .iter()
            .find(|process| process.pid == stack.pid)
            .map_or("?", |process| &process.comm);
        frames.push(safe(&format!("{comm}-{}", stack.pid)));
    }
    if stack.truncated {
        frames.push("[truncated]".into());
    }
    if stack.frames.is_empty() {
        frames.push("[unknown]".into());
    }
    frames.extend(stack.frames.iter().rev().map(frame));
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
/// end, a space and a number at the end.
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
    if text.is_empty() { "?".into() } else { text }
}
