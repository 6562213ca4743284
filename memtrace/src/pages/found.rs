//! What a run of `memtrace pages` has found, before anything of it has a name.
use hashbrown::HashMap;

use super::{
    kpageflags::Census,
    ledger::{Looks, Origin, Tallies},
    zones::Zones,
};
use crate::{
    kernel::{modules::ModuleMap, pages::Way},
    meminfo::Machine,
};

/// What the kernel side has added up, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Handed out.
    pub allocated: u64,
    /// Given back.
    pub freed: u64,
    /// Given back without having been seen handed out.
    pub freed_unseen: u64,
    /// Given back twice.
    pub freed_twice: u64,
    /// Handed out twice.
    pub allocated_twice: u64,
    /// Outside the table.
    pub outside: u64,
    /// Handed out to somebody for whose stack there was no room.
    pub no_origin: u64,
    /// Times that a program was left out since one was at work.
    pub misses: u64,
}

impl Found {
    /// The module that an address was of.
    pub fn module(&self, address: u64) -> Option<&str> {
        let [before, now] = &self.modules;
        now.of(address).or_else(|| before.of(address))
    }

    /// Whether the module that an address was of is not there any more.
    pub fn is_unloaded(&self, address: u64) -> bool {
        let [before, now] = &self.modules;
        now.of(address).is_none() && before.of(address).is_some()
    }
}

impl Sums {
    /// Pages about which something went wrong: the kernel side does not know who
    /// has them, or knows it wrongly.
    pub fn lost(&self) -> u64 {
        let sums = [
            self.outside,
            self.no_origin,
            self.misses,
            self.freed_twice,
            self.allocated_twice,
        ];
        sums.into_iter().fold(0, u64::saturating_add)
    }
}

/// What a run has found.
pub struct Found {
    /// How long it ran.
    pub duration_ns: u64,
    /// How pages were seen.
    pub way: &'static Way,
    /// What the kernel side added up.
    pub sums: Sums,
    /// Pages handed out and given back between the two looks at the machine.
    pub moved: [u64; 2],
    /// Who asked, by id.
    pub origins: HashMap<u32, Origin>,
    /// Who has pages now.
    pub tallies: Tallies,
    /// Who had them over time.
    pub looks: Looks,
    /// Where frames lie.
    pub zones: Zones,
    /// The machine at the start, and now.
    pub machines: [Machine; 2],
    /// What page frames were at the start; `None`: not known.
    pub census: Option<Census>,
    /// Names of processes.
    pub comms: HashMap<u32, String>,
    /// Modules of kernel addresses at the start, and now: they come and go.
    pub modules: [ModuleMap; 2],
    /// What a reader must know; sentences.
    pub notes: Vec<String>,
}
