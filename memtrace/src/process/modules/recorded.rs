//! Modules and mappings without the files themselves: as a capture tells of
//! them.
use std::{
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use memtrace_common::Function;
use serde::{Deserialize, Serialize};

use super::{MappedModule, Module, ModuleCache, ModuleId, Modules};
use crate::elf::{DefinedFunction, ElfError, Image};

/// What tells two states of a file without a build id apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970 of its last change.
    pub modified: i64,
}

/// Where the first segment of code lies: what else looks code up in a file
/// wants to know how addresses and offsets go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// ELF virtual address of its first byte.
    pub vaddr: u64,
    /// File offset of its first byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Code {
    pub(super) fn of(image: &Image) -> Option<Self> {
        image.executable_segments().next().map(|segment| Self {
            vaddr: segment.vaddr,
            offset: segment.offset,
            size: segment.file_size,
        })
    }
}

/// A module as a capture describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedModule {
    /// Its path as the process saw it; what is not UTF-8 in it is replaced.
    pub path: String,
    /// The linker's hash of its contents, in hexadecimal digits.
    pub build_id: Option<String>,
    /// The file.
    pub file: Option<FileFacts>,
    /// Where its code lies; absent before format 1.1.
    #[serde(default)]
    pub code: Option<Code>,
    /// Whether it is an allocator and nothing else.
    pub is_allocator: bool,
    /// The traced functions that it defines: number, address and size.
    pub functions: Vec<(u16, u64, u64)>,
}

impl FileFacts {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified: metadata.mtime(),
        }
    }
}

impl Module {
    /// For a capture.
    pub fn to_record(&self) -> RecordedModule {
        let metadata = self.file.as_ref().and_then(|file| file.metadata().ok());
        let functions = self.functions.iter();
        RecordedModule {
            path: self.path.to_string_lossy().into_owned(),
            build_id: self.build_id.clone(),
            file: metadata.as_ref().map(FileFacts::of),
            code: self.code,
            is_allocator: self.is_allocator,
            functions: functions
                .map(|defined| (defined.id, defined.vaddr, defined.size))
                .collect(),
        }
    }
}

impl RecordedModule {
    /// Whether the file at its path, here, is the one that was traced.
    pub fn is_here(&self) -> bool {
        let path = Path::new(&self.path);
        // Whatever is there now: it may be a pipe, whose opening would wait.
        let Some(metadata) = path.metadata().ok().filter(Metadata::is_file) else {
            return false;
        };
        let here = std::fs::File::open(path)
            .ok()
            .and_then(|file| Image::open(&file).ok());
        match &self.build_id {
            None => self.file == Some(FileFacts::of(&metadata)),
            id => here.is_some_and(|image| image.build_id_hex() == *id),
        }
    }
}

impl ModuleCache {
    /// Adds a module that only a capture knows. Returns its id.
    pub fn add_recorded(&mut self, record: &RecordedModule) -> ModuleId {
        let id = ModuleId(u32::try_from(self.modules.len()).unwrap_or(u32::MAX));
        let functions = record.functions.iter();
        let functions = functions
            .filter_map(|&(id, vaddr, size)| {
                Function::from_id(id).map(|function| DefinedFunction {
                    function,
                    id,
                    vaddr,
                    size,
                })
            })
            .collect();
        self.modules.push(Arc::new(Module {
            id,
            path: PathBuf::from(&record.path),
            open_path: PathBuf::from(&record.path),
            build_id: record.build_id.clone(),
            code: record.code,
            image: Err(ElfError::Read(io::ErrorKind::NotFound.into())),
            functions,
            is_allocator: record.is_allocator,
            file: None,
        }));
        id
    }
}

impl Modules {
    /// Mappings as (start, end, bias, number of the module); `None` where one
    /// is of a module that `cache` does not have.
    pub fn from_record(cache: &ModuleCache, mapped: &[(u64, u64, u64, u32)]) -> Option<Self> {
        let mapped = mapped.iter().map(|&(start, end, bias, module)| {
            let module = Arc::clone(cache.modules.get(module as usize)?);
            Some(MappedModule {
                start,
                end,
                bias,
                module,
            })
        });
        let mut mapped: Vec<_> = mapped.collect::<Option<_>>()?;
        mapped.sort_by_key(|mapped| mapped.start);
        Some(Self {
            mapped,
            anonymous: Vec::new(),
        })
    }

    /// The reverse of [`Self::from_record`].
    pub fn to_record(&self) -> Vec<(u64, u64, u64, u32)> {
        let mapped = self.mapped.iter();
        mapped
            .map(|mapped| {
                let MappedModule {
                    start, end, bias, ..
                } = *mapped;
                (start, end, bias, mapped.module.id.0)
            })
            .collect()
    }
}
