//! Hands unwind tables and processes' mappings to the kernel side.
use std::collections::HashMap;

use aya::maps::{Array, HashMap as BpfHashMap, MapData, MapError};
use memtrace_common::unwind::{Mapping, ProcessMappings, ROWS_PER_CHUNK, RowChunk, UnwindRow};

use super::{
    object::{LoadError, Programs},
    pod::Wire,
};
use crate::{
    elf::UnwindTable,
    process::{Module, ModuleId, Modules, modules::MappedModule},
};

/// The tables in the kernel, and what is where.
pub struct Tables {
    rows: Array<MapData, Wire<RowChunk>>,
    mappings: Array<MapData, Wire<Mapping>>,
    processes: BpfHashMap<MapData, u32, Wire<ProcessMappings>>,
    /// First chunk and number of chunks of each module in the kernel.
    loaded: HashMap<ModuleId, (u32, u32)>,
    next_chunk: u32,
    /// Index of the first mapping of each process, and how many it has.
    places: HashMap<u32, (u32, u32)>,
}

/// Unwind tables by module.
pub type ModuleTables = HashMap<ModuleId, UnwindTable>;

/// Room for modules that are loaded later: two million rows, 16 MiB.
const SPARE_CHUNKS: usize = 4096;

/// Builds the tables of all modules that have one.
pub fn build<'a>(modules: impl Iterator<Item = &'a Module>) -> ModuleTables {
    let mut tables = ModuleTables::new();
    for module in modules {
        let Ok(image) = &module.image else { continue };
        match UnwindTable::build(image) {
            Ok(table) => {
                tables.insert(module.id, table);
            }
            Err(error) => log::debug!(
                "{}: no unwind table, using frame pointers: {error}",
                module.path.display()
            ),
        }
    }
    tables
}

/// Chunks that these tables need, with room for more.
pub fn chunks_for(tables: &ModuleTables) -> u32 {
    let needed: usize = tables
        .values()
        .map(|table| table.rows.len().div_ceil(ROWS_PER_CHUNK))
        .sum();
    u32::try_from(needed + SPARE_CHUNKS).unwrap_or(u32::MAX)
}

impl Tables {
    /// Opens the maps; once.
    pub fn open(programs: &mut Programs) -> Result<Self, LoadError> {
        Ok(Self {
            rows: programs.array("ROWS")?,
            mappings: programs.array("MAPPINGS")?,
            processes: programs.hash("PROCESSES")?,
            loaded: HashMap::new(),
            next_chunk: 0,
            places: HashMap::new(),
        })
    }

    /// Whether a module's table is there already.
    pub fn has(&self, id: ModuleId) -> bool {
        self.loaded.contains_key(&id)
    }

    /// Hands tables over that the kernel does not have yet.
    pub fn load(&mut self, tables: &ModuleTables) {
        for (id, table) in tables {
            if !self.loaded.contains_key(id)
                && let Err(error) = self.load_one(*id, table)
            {
                log::warn!(
                    "no room for the unwind table of a module, using frame pointers: {error}"
                );
            }
        }
    }

    fn load_one(&mut self, id: ModuleId, table: &UnwindTable) -> Result<(), MapError> {
        let Some(last) = table.rows.last() else {
            return Ok(());
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
        self.loaded.insert(id, (first, next - first));
        Ok(())
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
        let loaded = self.loaded.get(&mapped.module.id).copied();
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

    /// The process is not traced any more.
    pub fn remove_process(&mut self, pid: u32) {
        // Not there: it was never traced.
        let _ = self.processes.remove(&pid);
        self.places.remove(&pid);
    }
}
