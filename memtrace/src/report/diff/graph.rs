//! Differences as folded stacks with two columns, and as a flame graph of
//! these.
use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use inferno::flamegraph::color::BasicPalette;

use super::DiffReport;
use crate::{
    report::{
        folded::Line,
        style::Style,
        svg::{Caption, MOST_BYTES, draw, taken},
    },
    unit::{Bytes, Elapsed},
};

/// Writes `outermost;…;innermost OLD NEW`, bytes, as inferno's `difffolded`
/// does.
pub(super) fn folded(report: &DiffReport, out: &mut dyn Write) -> io::Result<()> {
    for (stack, (old, new)) in lines(report) {
        writeln!(out, "{stack} {old} {new}")?;
    }
    Ok(())
}

/// Draws the later report, coloured by what became of each stack.
pub(super) fn svg(report: &DiffReport, out: &mut dyn Write) -> io::Result<()> {
    let mut room = (MOST_BYTES, MOST_BYTES);
    let lines: Vec<String> = lines(report)
        .into_iter()
        .map(|(stack, (old, new))| {
            let (old, new) = (taken(&mut room.0, old), taken(&mut room.1, new));
            format!("{stack} {old} {new}")
        })
        .collect();
    let exact = if report.exact { "exact" } else { "NOT EXACT" };
    let gone: u64 = report
        .stacks
        .iter()
        .filter(|change| change.new_bytes == 0)
        .map(|change| change.old_bytes)
        .fold(0, u64::saturating_add);
    let gone = if gone == 0 {
        String::new()
    } else {
        format!("; gone and not drawn: {}", Bytes(gone))
    };
    let caption = Caption {
        title: format!(
            "Outstanding {}, {} since {}",
            Bytes(report.new.outstanding_bytes),
            Style::default().change(report.bytes),
            report.old.file,
        ),
        subtitle: format!(
            "red: more than before, blue: less; traced for {} and {}, {exact}{gone}",
            Elapsed(report.old.duration_ns),
            Elapsed(report.new.duration_ns),
        ),
        nothing: "Nothing is outstanding in the later report".into(),
    };
    draw(&caption, &lines, BasicPalette::Mem, out)
}

/// Old and new bytes by stack.
fn lines(report: &DiffReport) -> BTreeMap<String, (u64, u64)> {
    let mut lines = BTreeMap::<_, (u64, u64)>::new();
    for change in &report.stacks {
        let root = report.several().then(|| change.comm.clone());
        let line = Line {
            roots: root.into_iter().collect(),
            truncated: change.truncated,
            frames: &change.frames,
            bytes: change.new_bytes,
        };
        let sum = lines.entry(line.text()).or_default();
        sum.0 = sum.0.saturating_add(change.old_bytes);
        sum.1 = sum.1.saturating_add(change.new_bytes);
    }
    lines
}
