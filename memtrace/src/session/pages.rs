//! A run of `memtrace pages`: the table of page frames in the kernel, what it is
//! read together with, and what is needed to name who asked for pages.
use std::{
    fs,
    path::{Path, PathBuf},
};

use aya::maps::{MapData, RingBuf};
use hashbrown::HashMap;
use memtrace_common::pages::{Frame, SECTION_ORDER, Sum};

use super::{SessionError, monotonic_ns};
use crate::{
    kernel::{self, btf::Btf, modules::ModuleMap, pages::Way},
    meminfo::{Machine, Roots},
    pages::{
        found::{Found, Sums},
        kpageflags::{self, Census},
        ledger::{ByOrigin, Looks, Origin, Tallies, decode},
        sections::Sections,
        zones::{self, Zones},
    },
    probe::PageProbes,
};

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct PageOptions {
    /// Root of `/proc`.
    pub proc_root: PathBuf,
    /// Root of `/sys`.
    pub sys_root: PathBuf,
    /// By this way and no other.
    pub way: Option<&'static Way>,
    /// Whether walks of kernel stacks are remembered.
    pub recall: bool,
    /// Most bytes of the table.
    pub max_memory: u64,
}

/// A run.
pub struct PageSession {
    options: PageOptions,
    probes: PageProbes,
    ring: RingBuf<MapData>,
    zones: Zones,
    origins: HashMap<u32, Origin>,
    looks: Looks,
    started_ns: u64,
    sums: Sums,
    before: Machine,
    census: Option<Census>,
    modules: ModuleMap,
    notes: Vec<String>,
}

impl PageSession {
    /// Loads the kernel side and attaches it.
    ///
    /// # Errors
    /// Pages cannot be watched.
    pub fn start(options: PageOptions) -> Result<Self, SessionError> {
        let zones = read_zones(&options.proc_root)?;
        let sections = Sections::of(zones.all().iter().map(zones::frames), options.max_memory);
        let mut notes = Vec::new();
        if sections.left_out > 0 {
            notes.push(format!(
                "{} of {} sections of 2^{SECTION_ORDER} page frames have no room in the table: their pages are not seen; --max-memory allows for more",
                sections.left_out,
                sections.left_out + sections.len() as u64,
            ));
        }
        let types = kernel::oom::type_information().ok();
        let btf = types.as_ref().and_then(|bytes| Btf::parse(bytes).ok());
        let layout = kernel::pages::layout(btf.as_ref());
        let bulk = btf.as_ref().and_then(kernel::pages::bulk_allocator);
        let way = options.way;
        let (probes, ring) = PageProbes::start(
            &options.proc_root,
            layout,
            &sections,
            bulk,
            way,
            options.recall,
        )?;
        notes.extend(probes.missing.iter().cloned());
        let mut session = Self {
            ring,
            zones,
            origins: HashMap::new(),
            looks: Looks::default(),
            started_ns: monotonic_ns(),
            sums: sums(&probes),
            before: machine(&options)?,
            census: None,
            modules: ModuleMap::read(&options.proc_root).unwrap_or_default(),
            notes,
            probes,
            options,
        };
        session.take_census();
        session.look();
        Ok(session)
    }

    /// What page frames are now, before much has happened.
    fn take_census(&mut self) {
        let path = self.options.proc_root.join("kpageflags");
        match Census::take(&path, &self.zones) {
            Ok(census) => self.census = Some(census),
            Err(error) => self.notes.push(format!(
                "{error} ({}): what pages are is told by their stacks alone, and what was there before the start is not known",
                error.source
            )),
        }
    }

    /// How pages are seen.
    pub fn way(&self) -> &'static Way {
        self.probes.way()
    }

    /// Whether there is a zone of this name.
    pub fn has_zone(&self, name: &str) -> bool {
        self.zones.all().iter().any(|zone| zone.name == name)
    }

    /// The names of all zones, each once.
    pub fn zone_names(&self) -> Vec<&str> {
        let names = self.zones.all().iter().map(|zone| zone.name.as_str());
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Bytes of the table, and the page frames with a place in it.
    pub fn table(&self) -> (u64, u64) {
        let sections = self.probes.sections();
        (sections.bytes(), sections.frames())
    }

    /// Takes in who asked for pages for the first time.
    pub fn drain(&mut self) {
        while let Some(record) = self.ring.next() {
            if let Some((id, origin)) = decode(&record) {
                self.origins.insert(id, origin);
            }
        }
    }

    /// Notes who has how many pages now.
    pub fn look(&mut self) {
        self.drain();
        let mut pages = ByOrigin::new();
        let mut zones = kpageflags::Places::new(&self.zones);
        self.probes.live(|pfn, frame| {
            let count = pages.entry((frame.origin(), zones.at(pfn))).or_insert(0);
            *count += 1;
        });
        let time = monotonic_ns().saturating_sub(self.started_ns);
        self.looks.push(time, pages);
    }

    /// Ends the run.
    ///
    /// # Errors
    /// `/proc/meminfo` cannot be read any more.
    pub fn end(mut self) -> Result<Found, SessionError> {
        self.look();
        let duration_ns = monotonic_ns().saturating_sub(self.started_ns);
        // Together, so that they can be compared.
        let now = machine(&self.options)?;
        let sums = sums(&self.probes);
        let moved = [
            sums.allocated.saturating_sub(self.sums.allocated),
            sums.freed.saturating_sub(self.sums.freed),
        ];
        let tallies = self.tallies();
        // Again: reading took its time.
        let sums = self::sums(&self.probes);
        self.drain();
        let mut comms = HashMap::new();
        for tally in tallies.all() {
            comms
                .entry(tally.pid)
                .or_insert_with(|| self.comm(tally.pid, tally.origin));
        }
        let modules = ModuleMap::read(&self.options.proc_root).unwrap_or_default();
        Ok(Found {
            duration_ns,
            way: self.probes.way(),
            sums,
            moved,
            origins: self.origins,
            tallies,
            looks: self.looks,
            zones: self.zones,
            machines: [self.before, now],
            census: self.census,
            comms,
            modules: [self.modules, modules],
            notes: self.notes,
        })
    }

    /// Who has which pages now, and what these are.
    fn tallies(&self) -> Tallies {
        let mut tallies = Tallies::default();
        let mut zones = kpageflags::Places::new(&self.zones);
        let path = self.options.proc_root.join("kpageflags");
        let read = kpageflags::scan(&path, self.zones.frames(), |pfn, flags| {
            let frame: Frame = self.probes.frame(pfn);
            if frame.is_live() {
                tallies.add(frame, zones.at(pfn), Some(flags));
            }
        });
        if read.is_err() {
            // Said at the start.
            tallies = Tallies::default();
            let mut zones = kpageflags::Places::new(&self.zones);
            self.probes
                .live(|pfn, frame| tallies.add(frame, zones.at(pfn), None));
        }
        tallies
    }

    /// The name of a process: as it is called now, or was when it ended.
    fn comm(&self, pid: u32, origin: u32) -> String {
        if pid == 0 {
            return "swapper".to_owned();
        }
        let path = self.options.proc_root.join(pid.to_string()).join("comm");
        if let Ok(name) = fs::read(path) {
            return String::from_utf8_lossy(&name).trim_end().to_owned();
        }
        if let Some(name) = self.probes.exited(pid) {
            return kernel::text(&name);
        }
        let origin = self.origins.get(&origin);
        let first = origin.filter(|origin| origin.pid == pid);
        first.map_or_else(|| "?".to_owned(), |origin| origin.comm.clone())
    }
}

fn sums(probes: &PageProbes) -> Sums {
    Sums {
        allocated: probes.sum(Sum::Allocated),
        freed: probes.sum(Sum::Freed),
        freed_unseen: probes.sum(Sum::FreedUnseen),
        freed_twice: probes.sum(Sum::FreedTwice),
        allocated_twice: probes.sum(Sum::AllocatedTwice),
        outside: probes.sum(Sum::Outside),
        no_origin: probes.sum(Sum::NoOrigin),
        misses: probes.misses(),
    }
}

fn read_zones(proc_root: &Path) -> Result<Zones, SessionError> {
    let path = proc_root.join("zoneinfo");
    let text = fs::read_to_string(path).map_err(|source| SessionError::System {
        what: "read /proc/zoneinfo, which tells where memory is",
        source,
    })?;
    Ok(Zones::parse(&text))
}

fn machine(options: &PageOptions) -> Result<Machine, SessionError> {
    let roots = Roots {
        proc: options.proc_root.clone(),
        sys: options.sys_root.clone(),
    };
    Machine::read(&roots).map_err(SessionError::Machine)
}
