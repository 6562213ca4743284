//! The report for people: what leaks, how much, how fast, from where.
use super::frames::{INDENT, rows};
use super::heap::{HeapReport, Kind, Process, Stack};
use super::lines::Lines;
use super::name::printable;
use super::style::Paint;
use super::words::{number, percent};
use crate::unit::{Count, Elapsed};
use std::io::{self, Write};

pub use super::style::Style;

/// Processes that the header names, where there are several.
const PROCESSES: usize = 6;
/// Writes the whole report. Without a width nothing is shortened or wrapped.
pub fn render(report: &HeapReport, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let mut text = Text { report, style, out };
    text.subject()?;
    text.exactness()?;
    text.line("")?;
    if report.totals.allocated_count == 0 && report.totals.outstanding_count == 0 {
        text.nothing_seen()?;
    } else {
        text.totals()?;
        text.stacks()?;
    }
    text.heaps()?;
    text.notes()
}

pub(super) struct Text<'a> {
    pub(super) report: &'a HeapReport,
    pub(super) style: &'a Style,
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
    /// Which processes, and for how long.
    fn subject(&mut self) -> io::Result<()> {
        let report = self.report;
        let time = Elapsed(report.duration_ns);
        let head = match report.processes.as_slice() {
            [] => format!("No process, traced for {time}"),
            [one] => format!("{}, traced for {time}", described(one)),
            many => format!("{} processes, traced for {time}:", many.len()),
        };
        self.sentence(2, Some(Paint::Strong), &head)?;
        if report.processes.len() > 1 {
            for process in report.processes.iter().take(PROCESSES) {
                self.line(&format!("  {}", described(process)))?;
            }
            if let Some(more @ 1..) = report.processes.len().checked_sub(PROCESSES) {
                self.line(&format!("  … and {more} more"))?;
            }
        }
        Ok(())
    }

    /// Whether the figures can be trusted, in words.
    fn exactness(&mut self) -> io::Result<()> {
        let report = self.report;
        let mut reasons = Vec::new();
        if report.lost_events > 0 {
            reasons.push(format!(
                "{} lost, so freed blocks may count as outstanding and allocated ones be missing",
                number(report.lost_events, "event was", "events were")
            ));
        }
        if report.sample_bytes > 0 {
            reasons.push(format!(
                "sampled, one allocation for every {} on average, so all figures are estimates",
                self.style.bytes(report.sample_bytes)
            ));
        }
        if reasons.is_empty() && report.exact {
            return self.line("Exact: every allocation was seen.");
        }
        if reasons.is_empty() {
            let where_from = if report.notes.is_empty() {
                "no reason is recorded"
            } else {
                "see the notes at the end"
            };
            reasons.push(where_from.into());
        }
        let sentence = format!("NOT EXACT: {}.", reasons.join("; "));
        self.sentence(2, Some(Paint::Alarm), &sentence)
    }

    fn nothing_seen(&mut self) -> io::Result<()> {
        let report = self.report;
        self.line("No allocation was seen: none of the probed functions was called.")?;
        for process in &report.processes {
            let probed = if process.allocators.is_empty() {
                "nothing".into()
            } else {
                process.allocators.join("; ")
            };
            let text = format!("  probed in {}: {}", process.pid, printable(&probed));
            self.sentence(4, None, &text)?;
        }
        self.unmatched()
    }

    fn totals(&mut self) -> io::Result<()> {
        let HeapReport {
            totals,
            duration_ns,
            ..
        } = self.report;
        let style = self.style;
        let rate = |bytes| style.rate(bytes, *duration_ns);
        let outstanding = format!(
            "Outstanding  {} in {}, growing by {}",
            self.style.bytes(totals.outstanding_bytes),
            number(totals.outstanding_count, "block", "blocks"),
            rate(totals.outstanding_bytes),
        );
        if totals.outstanding_count == 0 {
            self.line("Outstanding  nothing")?;
        } else {
            self.sentence(13, Some(Paint::Strong), &outstanding)?;
        }
        if totals.outstanding_mapping_bytes > 0 {
            self.line(&format!(
                "             of which {} mapped by mmap and mremap",
                self.style.bytes(totals.outstanding_mapping_bytes)
            ))?;
        }
        self.line(&format!(
            "Allocated    {} in {}, {}",
            self.style.bytes(totals.allocated_bytes),
            number(totals.allocated_count, "block", "blocks"),
            rate(totals.allocated_bytes),
        ))?;
        self.line(&format!(
            "Freed        {} in {}",
            self.style.bytes(totals.freed_bytes),
            number(totals.freed_count, "block", "blocks"),
        ))?;
        self.unmatched()
    }

    fn unmatched(&mut self) -> io::Result<()> {
        let frees = self.report.totals.unmatched_frees;
        if frees == 0 {
            return Ok(());
        }
        let text = format!(
            "Unmatched    {} of blocks from before the trace, in no other figure",
            number(frees, "free", "frees")
        );
        self.sentence(13, None, &text)
    }

    fn stacks(&mut self) -> io::Result<()> {
        let HeapReport { totals, stacks, .. } = self.report;
        if totals.outstanding_count == 0 {
            self.line("")?;
            return self.line(&no_outstanding(self.report));
        }
        let outstanding = stacks.iter().filter(|stack| stack.count > 0);
        let limit = if self.style.top == 0 {
            usize::MAX
        } else {
            self.style.top
        };
        let shown: Vec<&Stack> = outstanding.take(limit).collect();
        for (index, stack) in shown.iter().enumerate() {
            self.line("")?;
            self.stack(index + 1, stack)?;
        }
        self.rest(&shown)
    }

    fn stack(&mut self, position: usize, stack: &Stack) -> io::Result<()> {
        let head = format!(
            "#{position:<3} {}",
            headline(self.report, stack, self.style)
        );
        self.sentence(5, Some(Paint::Strong), &head)?;
        let about = format!("     {}", about(self.report, stack));
        self.sentence(5, None, &about)?;
        if stack.doubtful_count > 0 {
            let text = format!(
                "     {} of these in {} may have been freed: they are from before events were lost",
                self.style.bytes(stack.doubtful_bytes),
                number(stack.doubtful_count, "block", "blocks"),
            );
            self.sentence(5, Some(Paint::Alarm), &text)?;
        }
        self.frames(stack)
    }

    pub(super) fn frames(&mut self, stack: &Stack) -> io::Result<()> {
        let limit = if self.style.frames == 0 {
            usize::MAX
        } else {
            self.style.frames
        };
        let shown = &stack.frames[..stack.frames.len().min(limit)];
        for (name, place) in rows(shown, self.style.width) {
            let place = self.style.paint(Paint::Faint, &place);
            let line = format!("{:INDENT$}{name}{place}", "");
            self.line(&line)?;
        }
        let more = stack.frames.len() - shown.len();
        if more > 0 {
            let frames = number(more as u64, "more frame", "more frames");
            self.line(&format!("      … {frames} (--format json has all)"))?;
        } else if stack.truncated {
            self.sentence(
                8,
                None,
                "      … the stack was cut here: who called further out is not known",
            )?;
        } else if stack.frames.is_empty() {
            self.line("      (no stack)")?;
        }
        Ok(())
    }

    /// What the list leaves out, and how to see it.
    fn rest(&mut self, shown: &[&Stack]) -> io::Result<()> {
        let report = self.report;
        // A report may come from a file of anybody.
        let sum = |of: fn(&Stack) -> u64| {
            let amounts = shown.iter().map(|stack| of(stack));
            amounts.fold(0, u64::saturating_add)
        };
        let (bytes, count) = (sum(|stack| stack.bytes), sum(|stack| stack.count));
        let bytes = report.totals.outstanding_bytes.saturating_sub(bytes);
        let count = report.totals.outstanding_count.saturating_sub(count);
        let stacks = report.stacks_total.saturating_sub(shown.len() as u64);
        if stacks == 0 || count == 0 {
            return Ok(());
        }
        self.line("")?;
        let text = format!(
            "Not shown: {} with {} ({}) in {}; --top {} shows all.",
            number(stacks, "stack", "stacks"),
            self.style.bytes(bytes),
            percent(bytes, report.totals.outstanding_bytes),
            number(count, "block", "blocks"),
            report.stacks_total,
        );
        self.sentence(2, None, &text)
    }

    fn notes(&mut self) -> io::Result<()> {
        let report = self.report;
        if report.notes.is_empty() {
            return Ok(());
        }
        self.line("")?;
        for note in &report.notes {
            self.sentence(6, None, &format!("Note: {}", printable(note)))?;
        }
        Ok(())
    }
}

/// How much is outstanding of a stack, its share, how it grows, how much of it
/// was ever freed.
pub fn headline(report: &HeapReport, stack: &Stack, style: &Style) -> String {
    let (one, many) = match stack.kind {
        Kind::Heap => ("block", "blocks"),
        Kind::Mapping => ("mapping", "mappings"),
    };
    let average = stack.bytes.checked_div(stack.count).unwrap_or(0);
    let about = if average * stack.count == stack.bytes {
        ""
    } else {
        "~"
    };
    let freed = match stack.allocated_count.saturating_sub(stack.count) {
        0 => format!("none of {} freed", Count(stack.allocated_count)),
        freed => format!(
            "{} of {} freed",
            percent(freed, stack.allocated_count),
            Count(stack.allocated_count)
        ),
    };
    let growth = style.rate(stack.bytes, report.duration_ns);
    format!(
        "{} ({}) in {} of {about}{}, +{growth}, {freed}",
        style.bytes(stack.bytes),
        percent(stack.bytes, report.totals.outstanding_bytes),
        number(stack.count, one, many),
        style.bytes(average),
    )
}

/// By which function a stack allocates, how old that is, and whose it is where
/// there are several processes.
pub fn about(report: &HeapReport, stack: &Stack) -> String {
    let whose = if report.processes.len() > 1 {
        format!(", in {}", whose(report, stack.pid))
    } else {
        String::new()
    };
    format!(
        "by {}, {}{whose}",
        printable(&stack.function),
        ages(stack.newest_ns, stack.oldest_ns)
    )
}

/// `redis-server (pid 12, /usr/bin/redis-server, has exited)`.
pub(super) fn described(process: &Process) -> String {
    let exited = if process.exited { ", has exited" } else { "" };
    let exe = match process.exe.as_str() {
        "" => String::new(),
        exe => format!(", {}", printable(exe)),
    };
    let inside = process
        .namespace_pid
        .map_or_else(String::new, |pid| format!(", {pid} in its container"));
    format!(
        "{} (pid {}{inside}{exe}{exited})",
        printable(&process.comm),
        process.pid
    )
}

/// A process of the report, for people: `leak (pid 12)`.
pub fn whose(report: &HeapReport, pid: u32) -> String {
    let mut processes = report.processes.iter();
    match processes.find(|process| process.pid == pid) {
        Some(process) => format!("{} (pid {pid})", printable(&process.comm)),
        None => format!("pid {pid}"),
    }
}

fn no_outstanding(report: &HeapReport) -> String {
    let totals = report.totals;
    if totals.freed_count == totals.allocated_count {
        format!(
            "No outstanding allocations: all {} allocated since the start have been freed.",
            number(totals.allocated_count, "block", "blocks")
        )
    } else {
        "No outstanding allocations.".into()
    }
}

fn ages(newest_ns: u64, oldest_ns: u64) -> String {
    let (newest, oldest) = (Elapsed(newest_ns), Elapsed(oldest_ns));
    if newest.to_string() == oldest.to_string() {
        format!("{oldest} old")
    } else {
        format!("{newest} to {oldest} old")
    }
}
