//! The report on pages for people: what nothing counts first, each with its
//! stack, then everything else by zone and migratetype, and whether the sums
//! agree with the machine's own.
use std::io::{self, Write};

use super::{By, Consumer, PagesReport};
use crate::{
    report::{
        frames::rows,
        lines::Lines,
        name::printable,
        spark::spark,
        style::{Paint, Style},
        words::{number, percent},
    },
    unit::{Bytes, Elapsed},
};

/// Other processes and orders that are named before the rest is counted.
const ORDERS: usize = 6;

/// Columns of a sparkline.
const SPARK: usize = 24;

/// Writes the whole report.
pub(super) fn render(report: &PagesReport, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let mut text = Text { report, style, out };
    text.head()?;
    text.untracked()?;
    text.accounted()?;
    text.rest()?;
    text.before()?;
    text.notes()
}

struct Text<'a> {
    report: &'a PagesReport,
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
    fn size(&self, pages: u64) -> String {
        self.style
            .bytes(pages.saturating_mul(self.report.page_size))
    }

    fn head(&mut self) -> io::Result<()> {
        let report = self.report;
        let totals = &report.totals;
        let exact = if report.exact { "exact" } else { "NOT EXACT" };
        let head = format!(
            "Pages watched for {}, by {} ({exact}): {} handed out, {} given back",
            Elapsed(report.duration_ns),
            report.mechanism,
            self.size(totals.traced_pages),
            self.size(totals.freed_pages),
        );
        self.sentence(2, Some(Paint::Strong), &head)?;
        let share = percent(totals.untracked_pages, totals.outstanding_pages);
        let held = format!(
            "Held now, of what was handed out since the start: {} in {}; counted by nothing: {} ({share})",
            self.size(totals.outstanding_pages),
            number(totals.outstanding_pages, "page", "pages"),
            self.size(totals.untracked_pages),
        );
        self.sentence(2, None, &held)?;
        let mut by: Vec<(&String, &u64)> = totals.accounted.iter().collect();
        by.sort_by_key(|(name, pages)| (std::cmp::Reverse(**pages), *name));
        let by: Vec<String> = by
            .iter()
            .map(|(name, pages)| format!("{name} {}", self.size(**pages)))
            .collect();
        if !by.is_empty() {
            self.sentence(2, None, &format!("By what counts it: {}", by.join(", ")))?;
        }
        self.hole()?;
        self.balance()
    }

    fn hole(&mut self) -> io::Result<()> {
        let Some(hole) = &self.report.hole else {
            return Ok(());
        };
        let kb = |kb: u64| self.style.bytes(kb.saturating_mul(1024));
        let change = i64::try_from(hole.now_kb)
            .unwrap_or(i64::MAX)
            .saturating_sub(i64::try_from(hole.start_kb).unwrap_or(i64::MAX));
        let explained = match hole.explained_percent {
            Some(share) => format!(
                "; untracked pages held since the start explain {share:.0} % of that ({})",
                kb(hole.traced_kb)
            ),
            None => "; too little to explain".to_owned(),
        };
        let text = format!(
            "Unaccounted on the machine's balance sheet: {} at the start, {} now, {}{explained}",
            kb(hole.start_kb),
            kb(hole.now_kb),
            self.style.change(change.saturating_mul(1024)),
        );
        self.sentence(2, None, &text)
    }

    fn balance(&mut self) -> io::Result<()> {
        let balance = &self.report.balance;
        let page = i64::try_from(self.report.page_size).unwrap_or(4096);
        let change = |pages: i64| self.style.change(pages.saturating_mul(page));
        let difference = balance
            .free_change_pages
            .saturating_sub(balance.seen_change_pages);
        let text = format!(
            "Check: free memory changed by {}, what was seen makes {}; difference {}, {} of all that moved",
            change(balance.free_change_pages),
            change(balance.seen_change_pages),
            change(difference),
            percent(difference.unsigned_abs(), balance.moved_pages),
        );
        self.sentence(2, None, &text)
    }

    fn untracked(&mut self) -> io::Result<()> {
        let report = self.report;
        let all = report.consumers.iter();
        let untracked: Vec<&Consumer> = all.filter(|one| one.is_untracked()).collect();
        if untracked.is_empty() {
            return Ok(());
        }
        self.line("")?;
        let title = "Untracked: no line of /proc/meminfo counts these";
        self.sentence(2, Some(Paint::Alarm), title)?;
        for consumer in untracked {
            self.line("")?;
            self.details(consumer)?;
        }
        Ok(())
    }

    fn details(&mut self, consumer: &Consumer) -> io::Result<()> {
        let head = format!(
            "{:>11}  {}  {}",
            self.size(consumer.pages),
            name(self.report.by, consumer),
            self.trend(consumer),
        );
        self.sentence(13, Some(Paint::Strong), &head)?;
        let about = format!(
            "{:13}{}, {}, zone {}, {}, {}",
            "",
            number(consumer.pages, "page", "pages"),
            orders(consumer),
            consumer.zone,
            consumer.migratetype,
            consumer.gfp,
        );
        self.sentence(13, None, &about)?;
        self.sentence(13, None, &format!("{:13}{}", "", process(consumer)))?;
        self.frames(consumer)
    }

    /// How it went, and how fast.
    fn trend(&self, consumer: &Consumer) -> String {
        let (Some(first), Some(last)) = (consumer.trend.first(), consumer.trend.last()) else {
            return String::new();
        };
        let looks = &self.report.looks_ns;
        let time = match (looks.first(), looks.last()) {
            (Some(start), Some(end)) => end.saturating_sub(*start),
            _ => 0,
        };
        let size = |pages: u64| pages.saturating_mul(self.report.page_size);
        let sign = if last < first { "-" } else { "+" };
        let rate = self.style.rate(size(last.abs_diff(*first)), time);
        format!("{} {sign}{rate}", spark(&consumer.trend, SPARK))
    }

    fn frames(&mut self, consumer: &Consumer) -> io::Result<()> {
        let limit = match self.style.frames {
            0 => usize::MAX,
            limit => limit,
        };
        let shown = &consumer.frames[..consumer.frames.len().min(limit)];
        for (name, place) in rows(shown, self.style.width) {
            let place = self.style.paint(Paint::Faint, &place);
            self.line(&format!("{:15}{name}{place}", ""))?;
        }
        let more = consumer.frames.len() - shown.len();
        if more > 0 {
            let frames = number(more as u64, "more frame", "more frames");
            self.line(&format!("{:15}… {frames} (--format json has all)", ""))?;
        }
        let others = consumer.other_stacks.len() as u64;
        if others > 0 {
            let stacks = number(others, "other stack", "other stacks");
            let pages = consumer.pages.saturating_sub(consumer.frames_pages);
            let text = format!("{:15}… and {stacks} with {}", "", self.size(pages));
            self.line(&text)?;
        }
        Ok(())
    }

    /// By zone and migratetype, as a page trace has them.
    fn accounted(&mut self) -> io::Result<()> {
        let report = self.report;
        let all = report.consumers.iter();
        let counted: Vec<&Consumer> = all.filter(|one| !one.is_untracked()).collect();
        let mut places: Vec<Place<'_>> = Vec::new();
        for consumer in &counted {
            let place = place(consumer);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        for place in places {
            let here = counted.iter().filter(|one| self::place(one) == place);
            self.line("")?;
            let (node, zone, migratetype) = place;
            let node = if report.consumers.iter().any(|one| one.node != 0) {
                format!("Node {node}, zone")
            } else {
                "Zone".to_owned()
            };
            let title = format!("{node} {zone}, {migratetype}");
            self.sentence(2, Some(Paint::Strong), &title)?;
            self.line("       SIZE     PAGES  COUNTED AS    CALLER")?;
            for consumer in here {
                let line = format!(
                    "{:>11} {:>9}  {:<12}  {}  {}",
                    self.size(consumer.pages),
                    consumer.pages,
                    consumer.accounted_as,
                    name(report.by, consumer),
                    self.style.paint(Paint::Faint, &process(consumer)),
                );
                self.line(&line)?;
                if report.by == By::Stack {
                    self.frames(consumer)?;
                }
            }
        }
        Ok(())
    }

    fn rest(&mut self) -> io::Result<()> {
        let report = self.report;
        let shown = report.consumers.len() as u64;
        let more = report.consumers_total.saturating_sub(shown);
        if more > 0 {
            let more = number(more, "more consumer", "more consumers");
            self.line("")?;
            self.line(&format!("… and {more}; --top 0 shows all"))?;
        } else if shown == 0 {
            self.line("")?;
            self.line("Nobody holds a page that was handed out since the start and that the options ask for")?;
        }
        Ok(())
    }

    fn before(&mut self) -> io::Result<()> {
        let Some(before) = &self.report.before else {
            return Ok(());
        };
        let mut kinds: Vec<(&String, &u64)> = before
            .iter()
            .filter(|(name, pages)| !matches!(name.as_str(), "free" | "absent") && **pages > 0)
            .collect();
        kinds.sort_by_key(|(name, pages)| (std::cmp::Reverse(**pages), *name));
        let kinds: Vec<String> = kinds
            .iter()
            .map(|(name, pages)| format!("{name} {}", self.size(**pages)))
            .collect();
        self.line("")?;
        let text = format!(
            "In use before the start, by what flags say: {}",
            kinds.join(", ")
        );
        self.sentence(2, None, &text)
    }

    fn notes(&mut self) -> io::Result<()> {
        let report = self.report;
        let losses = report.losses.iter();
        let losses = losses.map(|loss| format!("{} {}", loss.count, loss.reason));
        let notes: Vec<String> = losses.chain(report.notes.iter().cloned()).collect();
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

/// Node, zone, migratetype.
type Place<'a> = (u32, &'a str, &'a str);

fn place(consumer: &Consumer) -> Place<'_> {
    (consumer.node, &consumer.zone, &consumer.migratetype)
}

/// Who it is: a function with its module, or a module.
fn name(by: By, consumer: &Consumer) -> String {
    let module = consumer.module.as_deref();
    match (by, module) {
        (By::Module, Some(module)) => format!("[{}]", printable(module)),
        (By::Module, None) => format!("the kernel itself ({}, …)", printable(&consumer.caller)),
        (_, Some(module)) => format!("{} [{}]", printable(&consumer.caller), printable(module)),
        (_, None) => printable(&consumer.caller).into_owned(),
    }
}

/// Which process asked for them, or for most.
fn process(consumer: &Consumer) -> String {
    let who = format!("{} (pid {})", printable(&consumer.comm), consumer.pid);
    match consumer.processes.saturating_sub(1) {
        0 => format!("by {who}"),
        others => {
            let share = percent(consumer.pid_pages, consumer.pages);
            let others = number(others, "other process", "other processes");
            format!("by {who} {share}, and {others}")
        }
    }
}

/// `order 0`, or the orders with their pages.
fn orders(consumer: &Consumer) -> String {
    let shown = consumer.orders.iter().take(ORDERS);
    let mut orders: Vec<String> = match consumer.orders.len() {
        1 => shown.map(|(order, _)| format!("order {order}")).collect(),
        _ => shown
            .map(|(order, pages)| format!("order {order}: {pages}"))
            .collect(),
    };
    if consumer.orders.len() > ORDERS {
        orders.push("…".to_owned());
    }
    orders.join(", ")
}

/// Only for people: what a table costs.
pub fn announcement(bytes: u64, frames: u64, page_size: u64) -> String {
    format!(
        "tracing the pages of {} of memory; the table of page frames takes {}",
        Bytes(frames.saturating_mul(page_size)),
        Bytes(bytes),
    )
}
