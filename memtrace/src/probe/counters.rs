//! The kernel side's counters.
use aya::maps::{Array, MapData, PerCpuArray};
use memtrace_common::{Counter, Function};

use super::{LoadError, Programs};

/// Reads the kernel side's counters.
pub struct Counters {
    reasons: PerCpuArray<MapData, u64>,
    calls: PerCpuArray<MapData, u64>,
    last_loss: Array<MapData, u64>,
}

impl Counters {
    /// Opens the maps; once.
    pub fn open(programs: &mut Programs) -> Result<Self, LoadError> {
        Ok(Self {
            reasons: programs.per_cpu("COUNTERS")?,
            calls: programs.per_cpu("CALLS")?,
            last_loss: programs.array("LAST_LOSS")?,
        })
    }

    /// One counter, over all CPUs.
    pub fn get(&self, counter: Counter) -> u64 {
        sum(&self.reasons, counter as u32)
    }

    /// Events that were dropped for any reason.
    pub fn lost(&self) -> u64 {
        self.losses().map(|(_, count)| count).sum()
    }

    /// The reasons for which events were dropped, with how many.
    pub fn losses(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::ALL
            .iter()
            .filter(|counter| counter.is_loss())
            .map(|counter| (*counter, self.get(*counter)))
            .filter(|(_, count)| *count > 0)
    }

    /// When an event was lost last, on the events' clock; 0: never.
    pub fn last_loss_ns(&self) -> u64 {
        self.last_loss.get(&0, 0).unwrap_or(0)
    }

    /// Enters and returns of each function that was called.
    pub fn calls(&self) -> impl Iterator<Item = (Function, u64, u64)> {
        Function::ALL.iter().filter_map(|function| {
            let index = u32::from(*function as u16) * 2;
            let (enters, returns) = (sum(&self.calls, index), sum(&self.calls, index + 1));
            (enters > 0 || returns > 0).then_some((*function, enters, returns))
        })
    }
}

fn sum(array: &PerCpuArray<MapData, u64>, index: u32) -> u64 {
    array.get(&index, 0).map_or(0, |values| values.iter().sum())
}
