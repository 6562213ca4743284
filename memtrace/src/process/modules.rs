//! The files that processes have mapped as code: opened once, while they can
//! be, and kept open, so that they can still be read when the process or the
//! file itself is gone.
use std::{
    collections::HashMap,
    fs::File,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use memtrace_common::Function;

use super::{ProcessError, failed, read};
use crate::elf::image::{DefinedFunction, ElfError, Image};

mod recorded;
mod vdso;

pub use recorded::{Code, FileFacts, RecordedModule};

/// Index of a [`Module`] in [`ModuleCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(pub u32);

/// A mapped file. One for all processes that map it.
#[derive(Debug)]
pub struct Module {
    /// Where it is in the list.
    pub id: ModuleId,
    /// Its path as the process sees it.
    pub path: PathBuf,
    /// A path that opens the same file from here, as long as this lives.
    pub open_path: PathBuf,
    /// The linker's hash of its contents, in hexadecimal digits.
    pub build_id: Option<String>,
    /// Where its code lies, if that could be read.
    pub code: Option<Code>,
    /// What could be read of it.
    pub image: Result<Image, ElfError>,
    /// The traced functions that it defines.
    pub functions: Vec<DefinedFunction>,
    /// Whether it is an allocator and nothing else, as libjemalloc is: what it
    /// maps is not the program's.
    pub is_allocator: bool,
    /// Keeps `open_path` valid; none where it is known from a capture alone.
    file: Option<File>,
}

impl Module {
    /// The traced function that holds an ELF virtual address.
    pub fn function_at(&self, vaddr: u64) -> Option<&DefinedFunction> {
        self.functions.iter().find(|function| {
            vaddr
                .checked_sub(function.vaddr)
                .is_some_and(|offset| offset < function.size)
        })
    }

    /// Whether it is the file at `path`, as the process or as memtrace sees it.
    pub fn is_file(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let same = |there: std::fs::Metadata| {
            let here = self.file.as_ref().and_then(|file| file.metadata().ok());
            here.is_some_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
        };
        self.path == path || std::fs::metadata(path).is_ok_and(same)
    }

    /// Bytes of the file; 0 where it is known from a capture alone.
    pub fn file_size(&self) -> u64 {
        let metadata = self.file.as_ref().and_then(|file| file.metadata().ok());
        metadata.map_or(0, |metadata| metadata.len())
    }

    /// Whether it is a library, as far as its name says.
    pub fn is_library(&self) -> bool {
        is_library(&self.path)
    }

    /// The file's name, for people.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or(self.path.as_os_str())
            .to_string_lossy()
            .into_owned()
    }
}

/// One executable mapping.
#[derive(Clone, Debug)]
pub struct MappedModule {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Address in memory less ELF virtual address.
    pub bias: u64,
    /// The file.
    pub module: Arc<Module>,
}

/// The executable file mappings of one process, by address.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    mapped: Vec<MappedModule>,
    /// Executable memory that is no file: code made at run time.
    anonymous: Vec<(u64, u64)>,
}

impl Modules {
    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &MappedModule> {
        self.mapped.iter()
    }

    /// Executable memory that is no file, as (start, end).
    pub fn anonymous(&self) -> &[(u64, u64)] {
        &self.anonymous
    }

    /// Takes a newer reading in. What is not mapped any more stays, where
    /// nothing else took its place: stacks from before may still be on their
    /// way, and a process that has just ended maps nothing at all. Returns
    /// whether other code than before lies at some address now.
    pub fn update(&mut self, newer: Self) -> bool {
        let Self {
            mapped: mut merged,
            anonymous,
        } = newer;
        let mut replaced = false;
        let mut gone = Vec::new();
        for old in std::mem::take(&mut self.mapped) {
            let after = merged.partition_point(|new| new.end <= old.start);
            match merged.get(after).filter(|new| new.start < old.end) {
                None => gone.push(old),
                Some(new) => {
                    replaced |= new.module.id != old.module.id || new.bias != old.bias;
                }
            }
        }
        merged.extend(gone);
        merged.sort_by_key(|mapped| mapped.start);
        self.mapped = merged;
        self.anonymous = anonymous;
        replaced
    }

    /// The mapping that holds `address`.
    pub fn find(&self, address: u64) -> Option<&MappedModule> {
        let after = self
            .mapped
            .partition_point(|mapped| mapped.start <= address);
        self.mapped[..after]
            .last()
            .filter(|mapped| address < mapped.end)
    }

    /// The files, each once, in the order of their first mapping.
    pub fn files(&self) -> impl Iterator<Item = &Arc<Module>> {
        let mut seen = Vec::new();
        self.mapped
            .iter()
            .map(|mapped| &mapped.module)
            .filter(move |module| {
                let new = !seen.contains(&module.id);
                seen.push(module.id);
                new
            })
    }
}

/// Every file met so far, by device and inode.
#[derive(Debug, Default)]
pub struct ModuleCache {
    modules: Vec<Arc<Module>>,
    by_file: HashMap<(String, u64), Option<ModuleId>>,
}

impl ModuleCache {
    /// The module with this id.
    fn get(&self, id: ModuleId) -> &Arc<Module> {
        &self.modules[id.0 as usize]
    }

    /// All modules, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Module>> {
        self.modules.iter()
    }

    /// Reads a process's mappings, opening files not met before.
    pub fn read(&mut self, proc_root: &Path, pid: u32) -> Result<Modules, ProcessError> {
        let maps = read::maps(proc_root, pid).map_err(|source| failed(pid, source))?;
        let mut mapped = Vec::new();
        let mut anonymous = Vec::new();
        for map in maps.into_iter().filter(|map| map.executable) {
            let (start, end) = (map.start, map.end);
            let is_vdso = map.path.as_os_str() == vdso::NAME;
            if !map.is_file() && !is_vdso {
                // The kernel's own for uprobes holds return trampolines, which
                // no stack should lead through.
                if map.path.as_os_str() != "[uprobes]" {
                    anonymous.push((start, end));
                }
                continue;
            }
            let path = &map.path;
            // The kernel has one for each of its ABIs.
            let key = if is_vdso {
                (vdso::NAME.to_owned(), end.wrapping_sub(start))
            } else {
                map.file
            };
            let range = format!("{pid}/map_files/{start:x}-{end:x}");
            let candidates = [
                proc_root.join(range),
                proc_root
                    .join(format!("{pid}/root"))
                    .join(path.strip_prefix("/").unwrap_or(path)),
            ];
            let id = if let Some(known) = self.by_file.get(&key) {
                *known
            } else {
                let file = if is_vdso {
                    vdso::copy(proc_root, pid, start, end).ok()
                } else {
                    candidates.iter().find_map(|path| File::open(path).ok())
                };
                let opened = self.open(path, file);
                self.by_file.insert(key, opened);
                opened
            };
            let Some(module) = id.map(|id| self.get(id)) else {
                if is_vdso {
                    anonymous.push((start, end));
                }
                continue;
            };
            let bias = module
                .image
                .as_ref()
                .ok()
                .and_then(|image| image.load_bias(start, map.offset));
            mapped.push(MappedModule {
                start,
                end,
                bias: bias.unwrap_or(start.wrapping_sub(map.offset)),
                module: Arc::clone(module),
            });
        }
        mapped.sort_by_key(|mapped| mapped.start);
        Ok(Modules { mapped, anonymous })
    }

    fn open(&mut self, path: &Path, file: Option<File>) -> Option<ModuleId> {
        let Some(file) = file else {
            log::info!(
                "cannot open {}: its code is shown as addresses",
                path.display()
            );
            return None;
        };
        let image = Image::open(&file);
        if let Err(error) = &image {
            log::debug!("{}: {error}", path.display());
        }
        let id = ModuleId(u32::try_from(self.modules.len()).unwrap_or(u32::MAX));
        let functions = image.as_ref().map(Image::functions).unwrap_or_default();
        self.modules.push(Arc::new(Module {
            id,
            is_allocator: is_allocator(path, &image, &functions),
            path: path.to_owned(),
            open_path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
            functions,
            build_id: image.as_ref().ok().and_then(Image::build_id_hex),
            code: image.as_ref().ok().and_then(Code::of),
            image,
            file: Some(file),
        }));
        Some(id)
    }
}

fn is_library(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().contains(".so"))
}

/// A library with a malloc that is no C library. Executables are left out:
/// their own code may map as well.
fn is_allocator(
    path: &Path,
    image: &Result<Image, ElfError>,
    functions: &[DefinedFunction],
) -> bool {
    is_library(path)
        && functions
            .iter()
            .any(|defined| defined.function == Function::Malloc)
        && image
            .as_ref()
            .is_ok_and(|image| image.symbol("printf").is_none())
}
