//! The balance sheet for people: rows in kB that add up, then what they mean.
use std::io::{self, Write};

use super::{MeminfoReport, UnknownField};
use crate::{
    meminfo::{
        Kind, Row,
        holders::{Holder, HolderKind, Process},
        parse::is_count,
    },
    report::{
        findings,
        lines::Lines,
        name::printable,
        style::{Paint, Style},
        words::percent,
    },
    unit::{Bytes, Count},
};

/// Headings of the sheet, in this order.
const KINDS: &[(Kind, &str)] = &[
    (Kind::User, "Programs and files"),
    (Kind::Kernel, "The kernel"),
    (Kind::Free, "Free"),
    (Kind::Unaccounted, "Not accounted for"),
];

/// Processes that are named for one holder.
const PROCESSES: usize = 4;

/// Writes the whole report.
pub(super) fn render(report: &MeminfoReport, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let mut text = Text { report, style, out };
    text.head()?;
    text.sheet()?;
    text.unknown()?;
    text.findings()?;
    text.holders()?;
    text.details()?;
    text.explanations()?;
    text.notes()?;
    if report.is_one_of_many {
        text.line("")?;
    }
    Ok(())
}

/// The report, how it is to look, and where it goes.
pub(super) struct Text<'a> {
    pub(super) report: &'a MeminfoReport,
    style: &'a Style,
    out: &'a mut dyn Write,
}

pub(super) fn kb(figure: u64) -> String {
    format!("{} kB", Count(figure))
}

/// `-12 kB`, `+3 kB`, `0 kB`.
pub(super) fn signed(figure: i64, plus: &str) -> String {
    let sign = match figure {
        ..0 => "-",
        0 => "",
        1.. => plus,
    };
    format!("{sign}{}", kb(figure.unsigned_abs()))
}

/// Rows that have nothing to say are left out.
fn is_shown(row: &Row) -> bool {
    row.kb != 0 || row.change_kb.is_some_and(|change| change != 0)
}

impl Lines for Text<'_> {
    fn style(&self) -> &Style {
        self.style
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", text.trim_end())
    }
}

impl Text<'_> {
    pub(super) fn heading(&mut self, text: &str) -> io::Result<()> {
        self.line("")?;
        let text = self.style.paint(Paint::Strong, text).into_owned();
        self.line(&text)
    }

    fn head(&mut self) -> io::Result<()> {
        let report = self.report;
        let total = Bytes(report.total_kb.saturating_mul(1024));
        let head = format!(
            "{}: MemTotal is {} ({total})",
            printable(&report.origin),
            kb(report.total_kb)
        );
        self.sentence(2, None, &head)?;
        let Some(since) = &report.since else {
            return Ok(());
        };
        let text = match since.interval_ns {
            None => format!("Changes since {}", printable(&since.origin)),
            Some(ns) => format!("Changes in the last {}", crate::unit::Elapsed(ns)),
        };
        self.line(&text)
    }

    fn sheet(&mut self) -> io::Result<()> {
        for (kind, heading) in KINDS {
            let top = (self.report.rows.iter()).filter(|row| row.of.is_none() && row.kind == *kind);
            let mut rows: Vec<&Row> = top.filter(|row| is_shown(row)).collect();
            rows.sort_by_key(|row| std::cmp::Reverse(row.kb));
            if rows.is_empty() {
                continue;
            }
            let sum = Row {
                name: (*heading).into(),
                kb: rows.iter().map(|row| row.kb).sum(),
                about: "".into(),
                change_kb: rows.iter().map(|row| row.change_kb).sum(),
                bytes_per_s: rows.iter().map(|row| row.bytes_per_s).sum(),
                ..rows[0].clone()
            };
            self.line("")?;
            self.row(&sum, 0)?;
            for row in rows {
                self.row(row, 1)?;
                self.parts(row)?;
            }
        }
        Ok(())
    }

    fn parts(&mut self, of: &Row) -> io::Result<()> {
        let parts = self.report.rows.iter();
        let parts = parts.filter(|row| row.of.as_ref() == Some(&of.name));
        let mut parts: Vec<&Row> = parts.filter(|row| is_shown(row)).collect();
        parts.sort_by_key(|row| std::cmp::Reverse(row.kb));
        for part in parts {
            self.row(part, 2)?;
        }
        Ok(())
    }

    /// One row: what, how much, how much of all, what it is.
    fn row(&mut self, row: &Row, depth: usize) -> io::Result<()> {
        const NAME: usize = 30;
        const NARROW: usize = 20;
        let narrow = self.style.width.is_some_and(|width| width < 60);
        let columns = if narrow { NARROW } else { NAME };
        let name = format!("{:indent$}{}", "", printable(&row.name), indent = 2 * depth);
        let sign = if row.kb < 0 { "-" } else { "" };
        let share = percent(row.kb.unsigned_abs(), self.report.total_kb);
        let share = format!("{sign}{share}");
        let line = format!(
            "{name:columns$} {:>18} {share:>8}{}",
            signed(row.kb, ""),
            self.change(row)
        );
        let about = format!("  {}", printable(&row.about));
        let fits = |width| line.chars().count() + about.chars().count() <= width;
        let line = if depth == 0 {
            self.style.paint(Paint::Strong, &line).into_owned()
        } else if self.report.since.is_none() && self.style.width.is_none_or(fits) {
            format!("{line}{}", self.style.paint(Paint::Faint, about.trim_end()))
        } else {
            line
        };
        self.line(&line)
    }

    /// The columns of what changed, where something was compared.
    fn change(&self, row: &Row) -> String {
        let Some(change) = row.change_kb.filter(|_| self.report.since.is_some()) else {
            return String::new();
        };
        let rate = row.bytes_per_s.map_or_else(String::new, per_second);
        format!(" {:>16} {rate:>14}", signed(change, "+"))
    }

    fn unknown(&mut self) -> io::Result<()> {
        let fields = &self.report.unknown;
        if fields.is_empty() {
            return Ok(());
        }
        let fields: Vec<String> = fields.iter().map(described).collect();
        self.line("")?;
        let text = format!(
            "In no row, since nobody says what they count: {}.",
            fields.join(", ")
        );
        self.sentence(2, None, &text)
    }

    fn findings(&mut self) -> io::Result<()> {
        if self.report.findings.is_empty() {
            return self.heading("Nothing stands out.");
        }
        self.heading("Findings")?;
        findings::render(&self.report.findings, self.style, self.out)
    }

    fn holders(&mut self) -> io::Result<()> {
        let Some(shmem) = &self.report.shmem else {
            return Ok(());
        };
        if shmem.holders.is_empty() && shmem.mounts.is_empty() {
            return Ok(());
        }
        let held = self.report.meminfo.get("Shmem").copied().unwrap_or(0);
        let head = format!(
            "Shared memory: {} in Shmem, {} found with its holders",
            kb(held),
            kb(shmem.named_kb)
        );
        self.heading(&head)?;
        for holder in &shmem.holders {
            let least = if holder.at_least { "at least " } else { "" };
            let line = format!(
                "{:>18}  {least}{} {}{}",
                kb(holder.kb),
                kind_word(holder.kind),
                printable(&holder.name),
                hands(holder)
            );
            self.sentence(20, None, &line)?;
        }
        for mount in shmem
            .mounts
            .iter()
            .filter(|mount| mount.kb.is_some_and(|kb| kb > 0))
        {
            let limit = mount.limit_kb.map_or_else(
                || "no limit".to_owned(),
                |limit| format!("limit {}", kb(limit)),
            );
            let through = mount
                .seen_through_pid
                .map_or_else(String::new, |pid| format!(", in the mounts of pid {pid}"));
            let line = format!(
                "{:>18}  in all in the tmpfs {} ({limit}{through})",
                kb(mount.kb.unwrap_or(0)),
                printable(&mount.path)
            );
            self.sentence(20, None, &line)?;
        }
        Ok(())
    }

    fn explanations(&mut self) -> io::Result<()> {
        let report = self.report;
        for (at, explanation) in report.explanations.iter().enumerate() {
            if at == 0 {
                self.heading("How to read it")?;
            }
            self.sentence(2, None, &format!("{}.", explanation.text))?;
        }
        Ok(())
    }

    fn notes(&mut self) -> io::Result<()> {
        let report = self.report;
        if !report.notes.is_empty() {
            self.line("")?;
        }
        for note in &report.notes {
            self.sentence(6, None, &format!("Note: {}", printable(note)))?;
        }
        Ok(())
    }
}

fn per_second(bytes: i64) -> String {
    let sign = match bytes {
        ..0 => "-",
        0 => "",
        1.. => "+",
    };
    format!("{sign}{}/s", Bytes(bytes.unsigned_abs()))
}

/// `VmapStack 620 kB (Amlogic: …)`.
fn described(field: &UnknownField) -> String {
    let unit = if is_count(&field.name) { "" } else { " kB" };
    let about = match field.about.as_str() {
        "unknown" => String::new(),
        about => format!(" ({about})"),
    };
    format!(
        "{} {}{unit}{about}",
        printable(&field.name),
        Count(field.value)
    )
}

fn kind_word(kind: HolderKind) -> &'static str {
    match kind {
        HolderKind::TmpfsFile => "file",
        HolderKind::Memfd => "memfd",
        HolderKind::DeletedFile => "deleted file",
        HolderKind::Sysv => "System V segment",
        HolderKind::SharedAnonymous => "shared anonymous mapping,",
    }
}

/// Who made it, who has it.
fn hands(holder: &Holder) -> String {
    let name = |process: &Process| match &process.comm {
        Some(comm) => format!("{} ({})", process.pid, printable(comm)),
        None => format!("{} (ended)", process.pid),
    };
    let made = match &holder.creator {
        Some(creator) => format!(", made by {}", name(creator)),
        None => String::new(),
    };
    if holder.processes.is_empty() {
        return made;
    }
    let shown: Vec<String> = holder.processes.iter().take(PROCESSES).map(name).collect();
    let more = match holder.processes.len().saturating_sub(PROCESSES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{made}, in the hands of {}{more}", shown.join(", "))
}
