//! The growth report for people: what grows, how fast, how sure, in which kind
//! of memory, and by which code.
use std::io::{self, Write};

use super::{GrowthReport, Process, SourceStack, Total, WayKind};
use crate::{
    growth::{Verdict, signed},
    report::{
        findings,
        frames::{INDENT, rows},
        lines::Lines,
        name::printable,
        spark::spark,
        style::{Paint, Style},
        words::{number, percent},
    },
    unit::{Bytes, Elapsed},
};

/// Columns of a sparkline.
const SPARK: usize = 24;

/// The ways in the order in which they are told.
const WAYS: [WayKind; 3] = [WayKind::Fault, WayKind::Brk, WayKind::Mmap];

/// Writes the whole report.
pub(super) fn render(report: &GrowthReport, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let mut text = Text { report, style, out };
    let is_ranking = report.totals.is_empty()
        && report
            .processes
            .iter()
            .all(|process| process.kinds.is_empty())
        && report.processes_total > 1;
    if is_ranking {
        text.ranking()?;
        return text.notes();
    }
    for (index, process) in report.processes.iter().enumerate() {
        if index > 0 {
            text.line("")?;
        }
        text.process(process)?;
    }
    if !report.findings.is_empty() {
        text.line("")?;
        findings::render(&report.findings, style, text.out)?;
    }
    text.notes()
}

struct Text<'a> {
    report: &'a GrowthReport,
    style: &'a Style,
    out: &'a mut dyn Write,
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
    fn ranking(&mut self) -> io::Result<()> {
        let report = self.report;
        let head = format!(
            "{}, watched for {}, the fastest growing first:",
            number(report.processes_total, "process", "processes"),
            Elapsed(report.duration_ns),
        );
        self.sentence(2, Some(Paint::Strong), &head)?;
        self.line("")?;
        self.line(&format!(
            "{:>12} {:>11} {:>11}  {:<21} {:<SPARK$} {:>8} COMMAND",
            "SLOPE", "GROWN", "RESIDENT", "VERDICT", "", "PID"
        ))?;
        for process in &report.processes {
            let resident: Vec<u64> = process.samples.iter().map(|p| p.rss_bytes).collect();
            let line = format!(
                "{:>12} {:>11} {:>11}  {:<21} {:<SPARK$} {:>8} {}",
                format!("{}/s", signed(process.rss_slope_bytes_per_s as f64)),
                signed(process.rss_growth_bytes as f64),
                Bytes(process.rss_bytes).to_string(),
                process.judgement(),
                spark(&resident, SPARK),
                process.pid,
                printable(&process.comm),
            );
            let line = match process.verdict {
                Verdict::Growing => self.style.paint(Paint::Strong, &line).into_owned(),
                _ => line,
            };
            self.line(&line)?;
        }
        let more = report
            .processes_total
            .saturating_sub(report.processes.len() as u64);
        if more > 0 {
            let more = number(more, "more process", "more processes");
            self.line(&format!("… and {more}; --top 0 shows all"))?;
        }
        self.line("")?;
        let hint =
            "`memtrace growth -p PID` tells which memory of a process grows, and by which code";
        self.sentence(2, None, hint)
    }

    fn process(&mut self, process: &Process) -> io::Result<()> {
        let ended = if process.exited { ", has ended" } else { "" };
        let head = format!(
            "{} (pid {}), watched for {}, {}{ended}",
            printable(&process.comm),
            process.pid,
            Elapsed(self.report.duration_ns),
            number(process.samples_total, "sample", "samples"),
        );
        self.sentence(2, Some(Paint::Strong), &head)?;
        let paint = (process.verdict == Verdict::Growing).then_some(Paint::Alarm);
        let slope = |bytes: i64| format!("{}/s", signed(bytes as f64));
        let grows = process.verdict == Verdict::Growing;
        let source = process.source.filter(|_| grows);
        let of_what = source.map_or(String::new(), |source| {
            format!("; most of it is {}", source.label())
        });
        let line = format!(
            "{}: {} (95 %: {} to {}){of_what}",
            process.judgement(),
            slope(process.rss_slope_bytes_per_s),
            slope(process.rss_slope_low),
            slope(process.rss_slope_high),
        );
        self.sentence(2, paint, &line)?;
        self.line("")?;
        self.curves(process)?;
        self.kinds(process)?;
        for way in WAYS {
            self.way(process, way)?;
        }
        Ok(())
    }

    fn curves(&mut self, process: &Process) -> io::Result<()> {
        let resident: Vec<u64> = process.samples.iter().map(|p| p.rss_bytes).collect();
        self.curve(
            "resident",
            &resident,
            process.rss_bytes,
            process.rss_growth_bytes,
        )?;
        if let (Some(bytes), Some(growth)) = (process.brk_bytes, process.brk_growth_bytes) {
            let heap: Vec<u64> = process.samples.iter().filter_map(|p| p.brk_bytes).collect();
            self.curve("heap (brk)", &heap, bytes, growth)?;
        }
        if let (Some(bytes), Some(growth)) = (process.mmap_bytes, process.mmap_growth_bytes) {
            let mapped: Vec<u64> = process
                .samples
                .iter()
                .filter_map(|p| p.mmap_bytes)
                .collect();
            self.curve("anonymous", &mapped, bytes, growth)?;
        }
        if let Some(pss) = process.pss_bytes {
            self.line(&format!(
                "{:<12} {:>11}  its share of what is shared",
                "PSS",
                Bytes(pss).to_string()
            ))?;
        }
        if process.swap_bytes > 0 {
            self.line(&format!(
                "{:<12} {:>11}",
                "swapped out",
                Bytes(process.swap_bytes).to_string()
            ))?;
        }
        Ok(())
    }

    fn curve(&mut self, what: &str, points: &[u64], now: u64, growth: i64) -> io::Result<()> {
        let line = format!(
            "{what:<12} {:>11}  {:>11}  {}",
            Bytes(now).to_string(),
            signed(growth as f64),
            spark(points, SPARK)
        );
        self.line(&line)
    }

    fn kinds(&mut self, process: &Process) -> io::Result<()> {
        if process.kinds.is_empty() {
            return Ok(());
        }
        self.line("")?;
        self.line("Address space    now       change  mappings")?;
        for size in &process.kinds {
            let line = format!(
                "  {:<13} {:>9} {:>9}  {:>8}",
                size.kind.label(),
                Bytes(size.bytes).to_string(),
                signed(size.growth_bytes as f64),
                size.mappings
            );
            self.line(&line)?;
        }
        Ok(())
    }

    fn way(&mut self, process: &Process, way: WayKind) -> io::Result<()> {
        let mine = |total: &&Total| (total.pid, total.kind) == (process.pid, way);
        let Some(total) = self.report.totals.iter().find(mine) else {
            return Ok(());
        };
        self.line("")?;
        let (title, one, many) = way.words();
        let returned = if total.returned_bytes > 0 {
            format!(
                "; {} given back in {}",
                Bytes(total.returned_bytes),
                number(total.returned_count, one, many)
            )
        } else {
            String::new()
        };
        let head = format!(
            "{title}: {} in {} from {}{returned}",
            Bytes(total.bytes),
            number(total.count, one, many),
            number(total.stacks, "stack", "stacks"),
        );
        self.sentence(2, Some(Paint::Strong), &head)?;
        let report = self.report;
        let stacks = report
            .sources
            .iter()
            .filter(|stack| (stack.pid, stack.kind) == (process.pid, way));
        let stacks: Vec<&SourceStack> = stacks.collect();
        for stack in &stacks {
            self.stack(stack, total)?;
        }
        let more = total.stacks.saturating_sub(stacks.len() as u64);
        if more > 0 {
            let more = number(more, "more stack", "more stacks");
            self.line(&format!("  … and {more}; --top 0 shows all"))?;
        }
        Ok(())
    }

    fn stack(&mut self, stack: &SourceStack, total: &Total) -> io::Result<()> {
        let (_, one, many) = stack.kind.words();
        let mut parts = Vec::new();
        if stack.bytes > 0 {
            parts.push(format!(
                "{} ({}) in {}",
                Bytes(stack.bytes),
                percent(stack.bytes, total.bytes),
                number(stack.count, one, many)
            ));
        }
        if stack.returned_bytes > 0 {
            parts.push(format!(
                "{} given back in {}",
                Bytes(stack.returned_bytes),
                number(stack.returned_count, one, many)
            ));
        }
        self.sentence(4, None, &format!("  {}", parts.join("; ")))?;
        let limit = match self.style.frames {
            0 => usize::MAX,
            limit => limit,
        };
        let shown = &stack.frames[..stack.frames.len().min(limit)];
        for (name, place) in rows(shown, self.style.width) {
            let place = self.style.paint(Paint::Faint, &place);
            self.line(&format!("{:INDENT$}{name}{place}", ""))?;
        }
        let more = stack.frames.len() - shown.len();
        if more > 0 {
            let frames = number(more as u64, "more frame", "more frames");
            self.line(&format!("      … {frames} (--format json has all)"))?;
        } else if stack.frames.is_empty() {
            self.line("      (no stack)")?;
        } else if stack.truncated {
            self.line("      … the stack was cut here")?;
        }
        Ok(())
    }

    fn notes(&mut self) -> io::Result<()> {
        let report = self.report;
        let lost = (report.lost_events > 0).then(|| {
            format!(
                "{} lost: sums are too small",
                number(report.lost_events, "event was", "events were")
            )
        });
        let unseen = report.hooks.iter().filter_map(|hook| {
            let loses = hook
                .loses
                .as_ref()
                .filter(|loses| hook.fallback && !loses.is_empty())?;
            Some(format!("{} not seen: {loses}", hook.hook))
        });
        let notes: Vec<String> = lost
            .into_iter()
            .chain(report.notes.iter().cloned())
            .chain(unseen)
            .collect();
        if notes.is_empty() {
            return Ok(());
        }
        self.line("")?;
        self.line("Notes")?;
        for note in notes {
            self.sentence(4, None, &format!("  {}", printable(&note)))?;
        }
        Ok(())
    }
}

impl WayKind {
    /// A title, and what one is called, and many.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Fault => ("Touched first", "page fault", "page faults"),
            Self::Brk => ("Program break raised", "call of brk", "calls of brk"),
            Self::Mmap => ("Address space mapped", "call", "calls"),
        }
    }
}
