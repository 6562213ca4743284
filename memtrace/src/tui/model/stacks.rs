//! The tab of stacks: what is outstanding in the traced processes, by stack.
use std::collections::HashMap;

use super::{
    baseline::Baseline,
    scroll::Scroll,
    stack_row::{BY_BYTES, BY_COUNT, COLUMNS, StackRow, identity},
    table::{Row as _, Table},
};
use crate::{
    growth::Series,
    report::{
        assemble::Order,
        heap::{HeapReport, Stack},
        name::printable,
    },
    unit::{Bytes, Count, Elapsed},
};

/// Points of one stack that are kept: more than a column of bars shows apart.
const POINTS: usize = 64;

/// News of a trace.
#[derive(Debug)]
pub enum News {
    /// The probes are in.
    Began,
    /// What is outstanding.
    Report(Box<HeapReport>),
    /// The probes are out.
    Ended,
    /// It could not begin: what, why, and what to do.
    Failed(String),
}

/// How far the trace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none.
    Idle,
    /// The kernel side is being loaded.
    Starting,
    /// Events come.
    Tracing,
    /// The probes are being taken out.
    Ending,
    /// The figures are the last ones.
    Ended,
    /// It could not begin.
    Failed(String),
}

/// What the tab shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The list.
    List,
    /// One stack.
    Stack(u64),
    /// The report as text.
    Text,
}

/// The tab.
pub struct Stacks {
    /// The processes that are traced, or were.
    pub pids: Vec<u32>,
    /// How far that is.
    pub state: State,
    /// Its list.
    pub table: Table<StackRow>,
    /// What is shown.
    pub page: Page,
    /// Where a page that is not the list is looked at.
    pub scroll: Scroll,
    /// The latest.
    pub report: Option<HeapReport>,
    history: HashMap<u64, Series<(u64, u64)>>,
    baseline: Baseline,
}

impl Default for Stacks {
    fn default() -> Self {
        Self {
            pids: Vec::new(),
            state: State::Idle,
            table: Table::new(COLUMNS, BY_BYTES),
            page: Page::List,
            scroll: Scroll::default(),
            report: None,
            history: HashMap::new(),
            baseline: Baseline::default(),
        }
    }
}

impl Stacks {
    /// Sorts by this.
    pub fn sort_by(&mut self, order: Order) {
        self.table.sort = match order {
            Order::Bytes => BY_BYTES,
            Order::Count => BY_COUNT,
        };
    }

    /// Forgets the trace before for one of these processes.
    pub fn begin(&mut self, pids: &[u32]) {
        let (sort, inverted) = (self.table.sort, self.table.inverted);
        *self = Self {
            pids: pids.to_vec(),
            state: State::Starting,
            ..Self::default()
        };
        self.table.sort = sort;
        self.table.inverted = inverted;
    }

    /// Whether these processes are being traced.
    pub fn traces(&self, pids: &[u32]) -> bool {
        self.pids == pids && matches!(self.state, State::Starting | State::Tracing)
    }

    /// Takes a report in.
    pub fn take(&mut self, report: HeapReport) {
        let time = report.duration_ns;
        let before = self.report.as_ref().map_or(0, |report| report.duration_ns);
        let mut seen = HashMap::with_capacity(report.stacks.len());
        self.table.rows = Vec::with_capacity(report.stacks.len());
        for (index, stack) in report.stacks.iter().enumerate() {
            let key = identity(stack);
            let mut points = self.history.remove(&key).unwrap_or_else(|| {
                let mut points = Series::keeping(POINTS);
                // A moment ago it had nothing.
                points.push((before, 0));
                points
            });
            points.push((time, stack.bytes));
            let history = points.points().iter().map(|(_, bytes)| *bytes).collect();
            seen.insert(key, points);
            let row = StackRow::new(key, index, &report, history);
            self.table.rows.push(row);
        }
        // Of others nothing is outstanding any more: they begin anew.
        self.history = seen;
        self.report = Some(report);
        self.compare();
    }

    /// Tells growth from now on.
    pub fn mark(&mut self) {
        let rows = self.table.rows.iter();
        let held = rows.map(|row| (row.key(), row.bytes));
        self.baseline.set(self.duration_ns(), held);
        self.compare();
    }

    /// Tells growth from the beginning of the trace on.
    pub fn unmark(&mut self) {
        self.baseline.clear();
        self.compare();
    }

    /// How long ago the baseline was set.
    pub fn marked_ago_ns(&self) -> Option<u64> {
        self.baseline.age_ns(self.duration_ns())
    }

    fn duration_ns(&self) -> u64 {
        self.report.as_ref().map_or(0, |report| report.duration_ns)
    }

    fn compare(&mut self) {
        self.table.only_grown = self.marked_ago_ns().is_some();
        let over_ns = self.marked_ago_ns().unwrap_or(self.duration_ns());
        for row in &mut self.table.rows {
            row.compare(self.baseline.held(row.key()), over_ns);
        }
    }

    /// The stack with this key, and its row.
    pub fn stack(&self, key: u64) -> Option<(&StackRow, &Stack)> {
        let row = self.table.rows.iter().find(|row| row.key() == key)?;
        let stack = self.report.as_ref()?.stacks.get(row.index)?;
        Some((row, stack))
    }

    /// What there is, in a line.
    pub fn summary(&self) -> String {
        let whose = self.whose();
        let Some(report) = &self.report else {
            return match &self.state {
                State::Idle => "no process is traced".to_owned(),
                State::Starting => format!("{whose}: placing probes …"),
                State::Tracing => format!("{whose}: tracing …"),
                State::Ending => format!("{whose}: taking the probes out …"),
                State::Ended => format!("{whose}: ended before anything was seen"),
                State::Failed(_) => format!("{whose}: not traced"),
            };
        };
        let exact = match (report.exact, report.sample_bytes, report.lost_events) {
            (true, ..) => "exact".to_owned(),
            (_, _, lost @ 1..) => format!("NOT EXACT, {} events lost", Count(lost)),
            (_, 1.., _) => "estimated from a sample".to_owned(),
            _ => "NOT EXACT (i says why)".to_owned(),
        };
        let ended = match self.state {
            State::Ending | State::Ended => "; ended",
            _ => "",
        };
        format!(
            "{whose}: {} in {} blocks after {}, {exact}{ended}",
            Bytes(report.totals.outstanding_bytes),
            Count(report.totals.outstanding_count),
            Elapsed(report.duration_ns),
        )
    }

    fn whose(&self) -> String {
        let processes = self.report.as_ref().map(|report| &*report.processes);
        match (processes, &*self.pids) {
            (Some([one]), _) => {
                let exited = if one.exited { ", has exited" } else { "" };
                format!("{} ({}{exited})", printable(&one.comm), one.pid)
            }
            (Some(several), _) => format!("{} processes", several.len()),
            (None, [pid]) => format!("process {pid}"),
            (None, pids) => format!("{} processes", pids.len()),
        }
    }
}
