//! All processes of a machine, ranked by how they grow: one small file for each
//! at each look.
use std::collections::HashMap;

use super::{
    series::{FEW, Series},
    trend::{Trend, trend},
};
use crate::process::Glance;

/// Every process that was there at the last look.
#[derive(Debug, Default)]
pub struct Ranking {
    /// By id and start time: ids are reused.
    processes: HashMap<(u32, u64), Tracked>,
}

#[derive(Debug)]
struct Tracked {
    comm: String,
    held: Series<(u64, u64)>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Process id.
    pub pid: u32,
    /// Clock ticks after boot when it started.
    pub start_time: u64,
    /// The kernel's name for it.
    pub comm: String,
    /// What was resident over time: nanoseconds and bytes.
    pub held: Vec<(u64, u64)>,
    /// What that does.
    pub trend: Trend,
}

impl Ranked {
    /// Bytes now and at first.
    pub fn ends(&self) -> (u64, u64) {
        let bytes = |point: Option<&(u64, u64)>| point.map_or(0, |(_, bytes)| *bytes);
        (bytes(self.held.last()), bytes(self.held.first()))
    }
}

impl Ranking {
    /// Takes a look in: of all processes, at a time, with so many bytes a page.
    /// Processes that are gone are forgotten.
    pub fn look(&mut self, time_ns: u64, page: u64, glances: Vec<Glance>) {
        let mut before = std::mem::take(&mut self.processes);
        for glance in glances {
            let key = (glance.pid, glance.start_time);
            let mut held = match before.remove(&key) {
                Some(tracked) => tracked.held,
                None => Series::keeping(FEW),
            };
            held.push((time_ns, glance.resident.saturating_mul(page)));
            // The program that it runs now may have another name.
            let comm = glance.comm;
            self.processes.insert(key, Tracked { comm, held });
        }
    }

    /// All of them, the fastest growing first, the fastest shrinking last.
    pub fn ranked(&self) -> Vec<Ranked> {
        let mut ranked: Vec<Ranked> = self
            .processes
            .iter()
            .map(|((pid, start_time), Tracked { comm, held })| {
                let held = held.points();
                Ranked {
                    pid: *pid,
                    start_time: *start_time,
                    comm: comm.clone(),
                    trend: trend(&held),
                    held,
                }
            })
            .collect();
        ranked.sort_by(|one, other| {
            let grown = |ranked: &Ranked| {
                let (now, first) = ranked.ends();
                i128::from(now) - i128::from(first)
            };
            let size = |ranked: &Ranked| ranked.ends().0;
            other
                .trend
                .slope
                .total_cmp(&one.trend.slope)
                .then(grown(other).cmp(&grown(one)))
                .then(size(other).cmp(&size(one)))
                .then(one.pid.cmp(&other.pid))
        });
        ranked
    }
}
