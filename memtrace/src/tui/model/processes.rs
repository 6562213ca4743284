//! The tab of processes: all of the machine, by how they grow.
use std::collections::HashMap;

use super::{
    baseline::{Baseline, grown},
    table::{Column, Row, Table},
};
use crate::{
    growth::{Confidence, Verdict, signed},
    report::{
        Style,
        growth::{GrowthReport, Process},
        name::printable,
        spark::spark,
    },
    unit::Bytes,
};

/// A look at all processes.
#[derive(Debug)]
pub struct Look {
    /// What `memtrace growth --all` says.
    pub report: GrowthReport,
    /// When each process started, clock ticks after boot: ids are reused.
    pub started: HashMap<u32, u64>,
}

/// One of them.
#[derive(Debug)]
pub struct ProcessRow {
    /// As in the report.
    pub process: Process,
    started: u64,
    /// Bytes since the baseline, or since the first look.
    pub grown: i64,
    marked: bool,
}

impl Row for ProcessRow {
    fn key(&self) -> u64 {
        key(self.process.pid, self.started)
    }

    fn contains(&self, text: &str) -> bool {
        let Process { pid, comm, .. } = &self.process;
        comm.to_lowercase().contains(text) || pid.to_string().contains(text)
    }

    fn grew(&self) -> bool {
        !self.marked || self.grown > 0
    }
}

/// Process ids have 22 bits.
fn key(pid: u32, started: u64) -> u64 {
    u64::from(pid) | started << 22
}

/// A size of which there may be less than before.
fn change(style: &Style, bytes: i64) -> String {
    match bytes {
        0 => style.bytes(0),
        _ if style.raw => style.change(bytes),
        _ => signed(bytes as f64),
    }
}

const COLUMNS: &[Column<ProcessRow>] = &[
    Column {
        title: "PID",
        width: 7,
        grows: false,
        from: 0,
        left: false,
        cell: |row, _, _| row.process.pid.to_string(),
        order: |one, other| one.process.pid.cmp(&other.process.pid),
    },
    Column {
        title: "RESIDENT",
        width: 9,
        grows: false,
        from: 0,
        left: false,
        cell: |row, style, _| style.bytes(row.process.rss_bytes),
        order: |one, other| other.process.rss_bytes.cmp(&one.process.rss_bytes),
    },
    Column {
        title: "GROWN",
        width: 10,
        grows: false,
        from: 60,
        left: false,
        cell: |row, style, _| change(style, row.grown),
        order: |one, other| other.grown.cmp(&one.grown),
    },
    Column {
        title: "PER SECOND",
        width: 12,
        grows: false,
        from: 0,
        left: false,
        cell: |row, style, _| match row.process.rss_slope_bytes_per_s {
            0 => "–".to_owned(),
            slope => format!("{}/s", change(style, slope)),
        },
        order: |one, other| {
            let slope = |row: &ProcessRow| row.process.rss_slope_bytes_per_s;
            let size = |row: &ProcessRow| row.process.rss_bytes;
            (slope(other).cmp(&slope(one)))
                .then(other.grown.cmp(&one.grown))
                .then(size(other).cmp(&size(one)))
        },
    },
    Column {
        title: "VERDICT",
        width: 10,
        grows: false,
        from: 80,
        left: true,
        cell: |row, _, _| row.verdict(),
        order: |one, other| {
            let rank = |row: &ProcessRow| match row.process.verdict {
                Verdict::Growing => 0,
                Verdict::Shrinking => 1,
                Verdict::Steady => 2,
            };
            let sure = |row: &ProcessRow| row.process.confidence;
            (rank(one).cmp(&rank(other))).then(sure(other).cmp(&sure(one)))
        },
    },
    Column {
        title: "TREND",
        width: 10,
        grows: true,
        from: 80,
        left: true,
        cell: |row, _, width| spark(&row.held(), width),
        order: |one, other| other.grown.cmp(&one.grown),
    },
    Column {
        title: "COMMAND",
        width: 15,
        grows: true,
        from: 0,
        left: true,
        cell: |row, _, _| printable(&row.process.comm).into_owned(),
        order: |one, other| one.process.comm.cmp(&other.process.comm),
    },
];

/// The index of PER SECOND.
const BY_GROWTH: usize = 3;

impl ProcessRow {
    fn held(&self) -> Vec<u64> {
        let samples = self.process.samples.iter();
        samples.map(|sample| sample.rss_bytes).collect()
    }

    /// In a word; one that is not sure is a question.
    fn verdict(&self) -> String {
        let words = self.process.judgement();
        let word = words.split(',').next().unwrap_or_default();
        let doubt = match self.process.confidence {
            Confidence::Low => "?",
            Confidence::Medium | Confidence::High => "",
        };
        format!("{word}{doubt}")
    }
}

/// The tab.
pub struct Processes {
    /// Its list.
    pub table: Table<ProcessRow>,
    /// The latest look.
    pub report: Option<GrowthReport>,
    baseline: Baseline,
}

impl Default for Processes {
    fn default() -> Self {
        Self {
            table: Table::new(COLUMNS, BY_GROWTH),
            report: None,
            baseline: Baseline::default(),
        }
    }
}

impl Processes {
    /// Takes a look in.
    pub fn take(&mut self, look: Look) {
        let Look { report, started } = look;
        let started = |pid| started.get(&pid).copied().unwrap_or(0);
        let rows = report.processes.iter();
        self.table.rows = rows
            .map(|process| ProcessRow {
                started: started(process.pid),
                grown: process.rss_growth_bytes,
                marked: false,
                process: process.clone(),
            })
            .collect();
        self.report = Some(report);
        self.compare();
    }

    /// Tells growth from now on.
    pub fn mark(&mut self) {
        let rows = self.table.rows.iter();
        let held = rows.map(|row| (row.key(), row.process.rss_bytes));
        self.baseline.set(self.duration_ns(), held);
        self.compare();
    }

    /// Tells growth from the first look on.
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
        for row in &mut self.table.rows {
            let before = self.baseline.held(row.key());
            let process = &row.process;
            row.marked = before.is_some();
            row.grown = before.map_or(process.rss_growth_bytes, |before| {
                grown(before, process.rss_bytes)
            });
        }
    }

    /// What there is, in a line.
    pub fn summary(&self) -> String {
        let Some(report) = &self.report else {
            return "looking at all processes …".to_owned();
        };
        let resident = report.processes.iter().map(|process| process.rss_bytes);
        let resident = Bytes(resident.fold(0, u64::saturating_add));
        let growing = report.processes.iter().filter(|process| {
            process.verdict == Verdict::Growing && process.confidence > Confidence::Low
        });
        format!(
            "{} processes, {resident} resident, {} growing; watched for {}",
            report.processes_total,
            growing.count(),
            crate::unit::Elapsed(report.duration_ns)
        )
    }
}
