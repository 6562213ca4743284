//! Hands unwind tables and processes' mappings to the kernel side.
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use aya::maps::{Array, HashMap as BpfHashMap, MapData, MapError};
use memtrace_common::unwind::{
    CfaRule, Mapping, Method, ProcessMappings, ROWS_PER_CHUNK, RowChunk, STRAY, UnwindRow,
};

use super::{LoadError, Programs, pod::Wire};
use crate::{
    elf::{UnwindTable, frame_pointer::keeps_frame_pointers},
    process::{Module, ModuleId, Modules, modules::MappedModule},
};

/// The tables in the kernel, and what is where.
pub struct Tables {
    method: Method,
    rows: Array<MapData, Wire<RowChunk>>,
    mappings: Array<MapData, Wire<Mapping>>,
    processes: BpfHashMap<MapData, u32, Wire<ProcessMappings>>,
    /// First chunk and number of chunks of each table in the kernel.
    loaded: HashMap<Identity, (u32, u32)>,
    next_chunk: u32,
    /// Index of the first mapping of each process, and how many it has.
    places: HashMap<u32, (u32, u32)>,
    /// Chunks that were read back.
    read: HashMap<u32, Box<RowChunk>>,
}

/// What has one table: a build id and, since some builds give theirs to many
/// files, the file's size; or one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    Build(String, u64),
    File(ModuleId),
}

impl Identity {
    fn of(module: &Module) -> Self {
        match &module.build_id {
            Some(id) => Self::Build(id.clone(), module.file_size()),
            None => Self::File(module.id),
        }
    }
}

/// How to unwind through a module's code.
enum Means {
    Table(UnwindTable),
    /// No table.
    FramePointers,
    /// No table, and code that keeps no frame pointers.
    Nothing,
}

/// Means of unwinding by module.
#[derive(Default)]
pub struct ModuleTables(HashMap<Identity, Means>);

/// Room for modules that are loaded later: two million rows, 16 MiB.
const SPARE_CHUNKS: usize = 4096;

/// Finds the means for all modules, on as many threads as there are
/// processors.
pub fn build<'a>(method: Method, modules: impl Iterator<Item = &'a Module>) -> ModuleTables {
    let mut wanted: HashMap<Identity, &Module> = HashMap::new();
    if matches!(method, Method::Auto | Method::Tables) {
        wanted.extend(modules.map(|module| (Identity::of(module), module)));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // The largest first, so that none of them is left to the end.
    let mut queue: Vec<_> = wanted.into_iter().collect();
    queue.sort_by_key(|(_, module)| module.file_size());
    let queue = Mutex::new(queue);
    let work = || {
        let mut done = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some((identity, module)) = next else {
                return done;
            };
            done.push((identity, means(module)));
        }
    };
    let found = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut found = work();
        for other in others {
            found.extend(other.join().unwrap_or_default());
        }
        found
    });
    ModuleTables(found.into_iter().collect())
}

fn means(module: &Module) -> Means {
    let Ok(image) = &module.image else {
        return Means::FramePointers;
    };
    let error = match UnwindTable::build(image) {
        Ok(table) => return Means::Table(table),
        Err(error) => error,
    };
    let kept = keeps_frame_pointers(image);
    log::debug!(
        "{}: no unwind table ({error}), {}",
        module.path.display(),
        match kept {
            Some(true) => "and its code keeps frame pointers: using these",
            Some(false) => "and its code keeps no frame pointers: stacks through it are cut",
            None => "using frame pointers",
        }
    );
    if kept == Some(false) {
        Means::Nothing
    } else {
        Means::FramePointers
    }
}

impl ModuleTables {
    /// Chunks that these tables need, with room for more.
    pub fn chunks(&self) -> u32 {
        let needed = self.0.values().map(|means| match means {
            Means::Table(table) => table.rows.len().div_ceil(ROWS_PER_CHUNK),
            Means::FramePointers | Means::Nothing => 0,
        });
        u32::try_from(needed.sum::<usize>() + SPARE_CHUNKS).unwrap_or(u32::MAX)
    }
}

impl Tables {
    /// Opens the maps; once.
    pub fn open(programs: &mut Programs, method: Method) -> Result<Self, LoadError> {
        Ok(Self {
            method,
            rows: programs.array("ROWS")?,
            mappings: programs.array("MAPPINGS")?,
            processes: programs.hash("PROCESSES")?,
            loaded: HashMap::new(),
            next_chunk: 0,
            places: HashMap::new(),
            read: HashMap::new(),
        })
    }

    /// How stacks are walked.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Whether it is known how to unwind through a module.
    pub fn has(&self, module: &Module) -> bool {
        self.loaded.contains_key(&Identity::of(module))
    }

    /// Hands tables over that the kernel does not have yet.
    pub fn load(&mut self, tables: &ModuleTables) {
        for (identity, means) in &tables.0 {
            if self.loaded.contains_key(identity) {
                continue;
            }
            let place = match means {
                Means::Table(table) => self.load_one(table).unwrap_or_else(|error| {
                    log::warn!(
                        "no room for the unwind table of a module: stacks through it are cut ({error})"
                    );
                    (0, STRAY)
                }),
                Means::FramePointers => (0, 0),
                Means::Nothing => (0, STRAY),
            };
            self.loaded.insert(identity.clone(), place);
        }
    }

    fn load_one(&mut self, table: &UnwindTable) -> Result<(u32, u32), MapError> {
        let Some(last) = table.rows.last() else {
            return Ok((0, 0));
        };
        let first = self.next_chunk;
        let mut next = first;
        for part in table.rows.chunks(ROWS_PER_CHUNK) {
            let mut chunk = RowChunk {
                rows: [*last; ROWS_PER_CHUNK],
            };
            chunk.rows[..part.len()].copy_from_slice(part);
            // Rows behind the last must not begin before it.
            let end = part.last().copied().unwrap_or(*last);
            chunk.rows[part.len()..].fill(UnwindRow { ..end });
            self.rows.set(next, Wire(chunk), 0)?;
            next += 1;
        }
        self.next_chunk = next;
        Ok((first, next - first))
    }

    /// Tells the kernel side what a process has mapped now. It is one of the
    /// traced processes from here on. `generation`: see [`ProcessMappings`].
    ///
    /// # Errors
    /// The kernel refuses, or there are more mappings than the table holds.
    pub fn set_process(
        &mut self,
        pid: u32,
        generation: u32,
        modules: &Modules,
    ) -> Result<(), MapError> {
        let mut mappings: Vec<Mapping> =
            modules.iter().map(|mapped| self.mapping(mapped)).collect();
        mappings.extend(modules.anonymous().iter().map(|(start, end)| Mapping {
            start: *start,
            end: *end,
            bias: 0,
            first_chunk: 0,
            chunks: 0,
        }));
        mappings.sort_by_key(|mapping| mapping.start);
        let count = u32::try_from(mappings.len()).unwrap_or(u32::MAX);
        let first = self.room_for(count);
        for (index, mapping) in (first..).zip(mappings) {
            self.mappings.set(index, Wire(mapping), 0)?;
        }
        let mappings = ProcessMappings {
            first,
            count,
            generation,
            reserved: 0,
        };
        self.processes.insert(pid, Wire(mappings), 0)?;
        self.places.insert(pid, (first, count));
        Ok(())
    }

    fn mapping(&self, mapped: &MappedModule) -> Mapping {
        let loaded = self.loaded.get(&Identity::of(&mapped.module)).copied();
        let (first_chunk, chunks) = loaded.unwrap_or((0, 0));
        Mapping {
            start: mapped.start,
            end: mapped.end,
            bias: mapped.bias,
            first_chunk,
            chunks,
        }
    }

    /// Where `count` mappings have a place that no process uses: also not the
    /// one whose list is being replaced, since walks go on in it. Behind the
    /// table's end where there is none.
    fn room_for(&self, count: u32) -> u32 {
        let mut used: Vec<(u32, u32)> = self.places.values().copied().collect();
        used.sort_unstable();
        let mut first: u32 = 0;
        for (start, length) in used {
            if start >= first.saturating_add(count) {
                break;
            }
            first = first.max(start + length);
        }
        first
    }

    /// The rule for an address of code of a process that has these mapped, as
    /// the kernel side finds it once it knows them; `None`: nothing executable is
    /// there.
    pub fn rule(&mut self, modules: &Modules, address: u64) -> Option<UnwindRow> {
        let Some(mapped) = modules.find(address) else {
            let mut anonymous = modules.anonymous().iter();
            let generated = anonymous.any(|(start, end)| (*start..*end).contains(&address));
            return generated.then(|| self.no_row());
        };
        let mapping = self.mapping(mapped);
        if mapping.chunks == STRAY {
            return Some(UnwindRow::bare(CfaRule::Stray));
        }
        let pc = u32::try_from(address.wrapping_sub(mapping.bias)).unwrap_or(u32::MAX);
        let (mut low, mut high) = (mapping.first_chunk, mapping.first_chunk + mapping.chunks);
        while high.saturating_sub(low) > 1 {
            let middle = low + (high - low) / 2;
            match self.chunk(middle) {
                Some(chunk) if chunk.rows[0].pc <= pc => low = middle,
                _ => high = middle,
            }
        }
        let rows = match self.chunk(low) {
            Some(chunk) if mapping.chunks > 0 => &chunk.rows[..],
            _ => &[],
        };
        let behind = rows.partition_point(|row| row.pc <= pc);
        let row = behind.checked_sub(1).map(|index| rows[index]);
        let known = row.filter(|row| row.rule() != CfaRule::Unknown as u8);
        Some(known.unwrap_or_else(|| self.no_row()))
    }

    /// Where there is no rule.
    fn no_row(&self) -> UnwindRow {
        UnwindRow::bare(match self.method {
            Method::Tables => CfaRule::Inexpressible,
            _ => CfaRule::Unknown,
        })
    }

    fn chunk(&mut self, index: u32) -> Option<&RowChunk> {
        use std::collections::hash_map::Entry;
        match self.read.entry(index) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(entry) => {
                let Wire(chunk) = self.rows.get(&index, 0).ok()?;
                Some(entry.insert(Box::new(chunk)))
            }
        }
    }

    /// The process is not traced any more.
    pub fn remove_process(&mut self, pid: u32) {
        // Not there: it was never traced.
        let _ = self.processes.remove(&pid);
        self.places.remove(&pid);
    }
}
