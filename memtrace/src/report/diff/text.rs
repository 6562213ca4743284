//! A difference for people.
use std::io::{self, Write};

use super::{Change, DiffReport, Side, State};
use crate::{
    report::{
        frames::{INDENT, rows},
        heap::Kind,
        lines::Lines,
        name::printable,
        style::{Paint, Style},
        text::described,
        words::number,
    },
    unit::{Count, Elapsed},
};

/// Writes the whole difference; stacks without a change are only counted.
pub(super) fn render(report: &DiffReport, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let mut text = Text { style, out };
    text.sides(report)?;
    text.exactness(report)?;
    text.line("")?;
    text.totals(report)?;
    text.stacks(report)?;
    if !report.notes.is_empty() {
        text.line("")?;
    }
    for note in &report.notes {
        text.sentence(6, None, &format!("Note: {}", printable(note)))?;
    }
    Ok(())
}

struct Text<'a> {
    style: &'a Style,
    out: &'a mut dyn Write,
}

impl Lines for Text<'_> {
    fn style(&self) -> &Style {
        self.style
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }
}

impl Text<'_> {
    fn sides(&mut self, report: &DiffReport) -> io::Result<()> {
        for (word, side) in [("OLD", &report.old), ("NEW", &report.new)] {
            let text = format!(
                "{word}  {}: {}, traced for {}",
                printable(&side.file),
                subject(side),
                Elapsed(side.duration_ns)
            );
            self.sentence(5, None, &text)?;
        }
        Ok(())
    }

    fn exactness(&mut self, report: &DiffReport) -> io::Result<()> {
        if report.exact {
            self.line("Exact: every allocation was seen in both.")
        } else {
            let text = "NOT EXACT: see the notes at the end.";
            self.sentence(2, Some(Paint::Alarm), text)
        }
    }

    fn totals(&mut self, report: &DiffReport) -> io::Result<()> {
        let style = self.style;
        let text = format!(
            "Outstanding  {}: {} in {} before, {} in {} after",
            style.change(report.bytes),
            style.bytes(report.old.outstanding_bytes),
            number(report.old.outstanding_count, "block", "blocks"),
            style.bytes(report.new.outstanding_bytes),
            number(report.new.outstanding_count, "block", "blocks"),
        );
        self.sentence(13, Some(Paint::Strong), &text)?;
        let counts = [
            (State::New, "new"),
            (State::Grown, "grown"),
            (State::Shrunk, "shrunk"),
            (State::Gone, "gone"),
            (State::Unchanged, "unchanged"),
        ]
        .map(|(state, word)| {
            let changes = report.stacks.iter();
            let count = changes.filter(|change| change.state == state).count();
            format!("{} {word}", Count(count as u64))
        });
        self.sentence(13, None, &format!("Stacks       {}", counts.join(", ")))
    }

    fn stacks(&mut self, report: &DiffReport) -> io::Result<()> {
        let changed = |change: &&Change| change.state != State::Unchanged;
        let all = report.stacks.iter().filter(changed).count();
        let limit = match self.style.top {
            0 => all,
            top => top.min(all),
        };
        let shown = report.stacks.iter().filter(changed).take(limit);
        for (index, change) in shown.enumerate() {
            self.line("")?;
            self.change(index + 1, change, report.several())?;
        }
        if limit < all {
            self.line("")?;
            let text = format!(
                "Not shown: {} that changed less, or shrank; --top 0 shows all.",
                number((all - limit) as u64, "stack", "stacks")
            );
            self.sentence(2, None, &text)?;
        }
        Ok(())
    }

    fn change(&mut self, position: usize, change: &Change, several: bool) -> io::Result<()> {
        let style = self.style;
        let (one, many) = match change.kind {
            Kind::Heap => ("block", "blocks"),
            Kind::Mapping => ("mapping", "mappings"),
        };
        let (old, new) = (change.old_bytes, change.new_bytes);
        let (old, new) = (style.bytes(old), style.bytes(new));
        let (before, after) = (change.old_count, change.new_count);
        let was = match change.state {
            State::New => format!("new, in {}", number(after, one, many)),
            State::Gone => format!("gone, was in {}", number(before, one, many)),
            State::Grown | State::Shrunk | State::Unchanged => format!(
                "{old} in {} → {new} in {}",
                Count(before),
                number(after, one, many)
            ),
        };
        let head = format!("#{position:<3} {} ({was})", style.change(change.bytes));
        self.sentence(5, Some(Paint::Strong), &head)?;
        let whose = if several {
            format!(", in {}", printable(&change.comm))
        } else {
            String::new()
        };
        self.line(&format!("     by {}{whose}", printable(&change.function)))?;
        let limit = match style.frames {
            0 => usize::MAX,
            frames => frames,
        };
        let shown = &change.frames[..change.frames.len().min(limit)];
        for (name, place) in rows(shown, style.width) {
            let place = style.paint(Paint::Faint, &place);
            self.line(&format!("{:INDENT$}{name}{place}", ""))?;
        }
        match change.frames.len() - shown.len() {
            0 if change.frames.is_empty() => self.line("      (no stack)"),
            0 => Ok(()),
            more => {
                let frames = number(more as u64, "more frame", "more frames");
                self.line(&format!("      … {frames} (--format json has all)"))
            }
        }
    }
}

fn subject(side: &Side) -> String {
    match side.processes.as_slice() {
        [] => "no process".into(),
        [one] => described(one),
        many => format!("{} processes", many.len()),
    }
}
