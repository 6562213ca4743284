//! The balance sheet: every kB of MemTotal in one row, and what is in none.
//!
//! Pages of programs and files are taken from the LRU lists, not from the
//! counters by name (`Cached`, `AnonPages`): a page is on one list at most, so
//! nothing is counted twice, whatever it is called. The names then share the
//! lists out. What a name counts beyond the lists (pages that a CPU has not put
//! on one yet) is a known part of `unaccounted`.
use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{huge, machine::Machine, rows};
use crate::kernel::memory::UNACCOUNTED;

/// A machine at one moment, and its balance.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// The figures.
    pub machine: Machine,
    /// The balance.
    pub sheet: Sheet,
}

impl Moment {
    /// Balances a machine.
    pub fn of(machine: Machine) -> Self {
        let sheet = Sheet::of(&machine);
        Self { machine, sheet }
    }
}

/// Name of the row that takes back what was counted twice.
pub const OVERLAP: &str = "counted twice";

/// Whose memory a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The kernel's.
    Kernel,
    /// Programs' and files'.
    User,
    /// Nobody's.
    Free,
    /// Not known.
    Unaccounted,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Stable; a field of `/proc/meminfo` where the row is one.
    pub name: Cow<'static, str>,
    /// How much. Negative in the row [`OVERLAP`] alone.
    pub kb: i64,
    /// Whose.
    pub kind: Kind,
    /// The row that it is a part of; null: a part of MemTotal.
    pub of: Option<Cow<'static, str>>,
    /// The figures that it was made from.
    pub source: Cow<'static, str>,
    /// What it is.
    #[serde(default)]
    pub about: Cow<'static, str>,
    /// Change since the earlier sheet; null without one.
    #[serde(default)]
    pub change_kb: Option<i64>,
    /// The same per second, in bytes; null where no time is known.
    #[serde(default)]
    pub bytes_per_s: Option<i64>,
}

/// The rows of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    /// MemTotal.
    pub total_kb: u64,
    /// Those without a parent add up to MemTotal; those of one parent do not
    /// exceed it.
    pub rows: Vec<Row>,
    /// What is in no counter.
    pub unaccounted_kb: u64,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// No machine has more, in kB; sums of a thousand such rows stay exact.
const MOST: u64 = 1 << 52;

fn signed(kb: u64) -> i64 {
    i64::try_from(kb.min(MOST)).unwrap_or(0)
}

impl Sheet {
    /// Balances a machine.
    pub fn of(machine: &Machine) -> Self {
        let mut sheet = Self {
            total_kb: machine.meminfo.kb("MemTotal"),
            ..Self::default()
        };
        rows::user(machine, &mut sheet);
        rows::kernel(machine, &mut sheet);
        rows::free(machine, &mut sheet);
        huge::rows(machine, &mut sheet);
        rows::balloon(machine, &mut sheet);
        sheet.close();
        rows::parts_of_unaccounted(machine, &mut sheet);
        sheet.cross_check(machine);
        sheet
    }

    /// What MemTotal has more than the rows so far; negative if less.
    pub(super) fn rest(&self) -> i64 {
        let top = self.rows.iter().filter(|row| row.of.is_none());
        signed(self.total_kb) - top.map(|row| row.kb).sum::<i64>()
    }

    /// Adds the last rows, so that the sum is MemTotal.
    fn close(&mut self) {
        let rest = self.rest();
        self.unaccounted_kb = rest.max(0).unsigned_abs();
        let unaccounted = self.unaccounted_kb;
        self.push(
            UNACCOUNTED,
            unaccounted,
            Kind::Unaccounted,
            "MemTotal less all other rows",
            "allocated page by page (drivers, network buffers, graphics, hypervisor) and counted nowhere",
        );
        if rest < 0 {
            self.push(
                OVERLAP,
                0,
                Kind::Unaccounted,
                "MemTotal less all other rows",
                "the rows are more than MemTotal: counters were read at different moments, or overlap on this kernel",
            );
            if let Some(row) = self.rows.last_mut() {
                row.kb = rest;
            }
            self.notes.push(format!(
                "the counters add up to {} kB more than MemTotal; the row `{OVERLAP}` takes that back",
                rest.unsigned_abs()
            ));
        }
    }

    /// Adds a row without a parent.
    pub(super) fn push(
        &mut self,
        name: &'static str,
        kb: u64,
        kind: Kind,
        source: impl Into<Cow<'static, str>>,
        about: &'static str,
    ) {
        self.rows.push(Row {
            name: name.into(),
            kb: signed(kb),
            kind,
            of: None,
            source: source.into(),
            about: about.into(),
            change_kb: None,
            bytes_per_s: None,
        });
    }

    /// Adds a part of a row, as much as that row has left. Without the row,
    /// nothing.
    pub(super) fn part(
        &mut self,
        of: &'static str,
        name: impl Into<Cow<'static, str>>,
        kb: u64,
        source: impl Into<Cow<'static, str>>,
        about: &'static str,
    ) {
        let Some(parent) = self.row(of) else {
            return;
        };
        let (kind, whole) = (parent.kind, parent.kb);
        let siblings: i64 = self.parts(of).map(|row| row.kb).sum();
        self.rows.push(Row {
            name: name.into(),
            kb: signed(kb).min(whole - siblings).max(0),
            kind,
            of: Some(of.into()),
            source: source.into(),
            about: about.into(),
            change_kb: None,
            bytes_per_s: None,
        });
    }

    /// The row of that name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Its figure, 0 where there is none.
    pub fn kb(&self, name: &str) -> u64 {
        self.row(name).map_or(0, |row| row.kb.max(0).unsigned_abs())
    }

    /// The parts of a row.
    pub fn parts<'a>(&'a self, of: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows
            .iter()
            .filter(move |row| row.of.as_deref() == Some(of))
    }

    /// The zones must have the memory that MemTotal says.
    fn cross_check(&mut self, machine: &Machine) {
        let managed = super::zoneinfo::sum(&machine.zones, |zone| zone.managed.unwrap_or(0));
        let managed = managed.saturating_mul(machine.page_kb);
        let difference = self.total_kb.abs_diff(managed);
        if managed > 0 && difference > self.total_kb / 100 {
            let relation = if self.total_kb > managed {
                "more"
            } else {
                "less"
            };
            self.notes.push(format!(
                "MemTotal is {difference} kB {relation} than the zones manage ({managed} kB in zoneinfo): the hypervisor or a driver changes one and not the other, so MemTotal and MemFree may both be off by that"
            ));
        }
    }

    /// Notes in each row what changed since an earlier sheet. Rows that are no
    /// more come back with 0, so that the changes add up, too.
    pub fn compare(&mut self, old: &Self, interval_ns: Option<u64>) {
        for row in &mut self.rows {
            let before = old.rows.iter().find(|other| row.is_same(other));
            row.changed(before.map_or(0, |before| before.kb), interval_ns);
        }
        for before in &old.rows {
            if !self.rows.iter().any(|row| row.is_same(before)) {
                let mut row = Row {
                    kb: 0,
                    ..before.clone()
                };
                row.changed(before.kb, interval_ns);
                self.rows.push(row);
            }
        }
        if old.total_kb != self.total_kb {
            self.notes.push(format!(
                "MemTotal changed from {} to {} kB",
                old.total_kb, self.total_kb
            ));
        }
    }
}

impl Row {
    fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.of == other.of
    }

    fn changed(&mut self, before_kb: i64, interval_ns: Option<u64>) {
        let change = self.kb.saturating_sub(before_kb);
        self.change_kb = Some(change);
        self.bytes_per_s = interval_ns.filter(|ns| *ns > 0).and_then(|ns| {
            let rate = i128::from(change) * 1024 * 1_000_000_000 / i128::from(ns);
            i64::try_from(rate).ok()
        });
    }
}
