//! One ELF file: its segments, build id, allocation functions and code.
//!
//! Only headers are read when a file is opened; symbols, code and unwinding
//! information when they are asked for. Addresses are ELF virtual addresses,
//! that is, addresses in memory less the load bias, and are turned into file
//! offsets by program headers alone: files without section headers work.
use super::header::{Headers, Section};
pub use super::header::{Machine, Segment};
pub use super::source::ElfError;
use super::source::{Cursor, Source};
use memtrace_common::Function;
use object::elf::{self, Rela64, Sym64};
use object::read::elf::Sym;
use object::{LittleEndian, ReadCache, pod};
use std::collections::HashMap;
use std::fs::File;
use std::sync::LazyLock;

const ENDIAN: LittleEndian = LittleEndian;

/// An allocation function that a file defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefinedFunction {
    /// Which.
    pub function: Function,
    /// Its number with the name it goes by here.
    pub id: u16,
    /// Where: virtual address.
    pub vaddr: u64,
    /// Bytes of code; 0: the symbol table does not say.
    pub size: u64,
}

/// Every name of the table of functions.
static IDS: LazyLock<HashMap<&'static [u8], (Function, u16)>> = LazyLock::new(|| {
    let names = |function: &'static Function| {
        let names = function.names().iter().enumerate();
        names.map(|(index, name)| (name.as_bytes(), (*function, function.id(index))))
    };
    Function::ALL.iter().flat_map(names).collect()
});

/// One for each address: the first of the table where several names share it.
fn unique(mut found: Vec<DefinedFunction>) -> Vec<DefinedFunction> {
    let rank = |function| Function::ALL.iter().position(|&f| f == function);
    // A larger size is better than none.
    found.sort_by_key(|f| (f.vaddr, rank(f.function), f.id, u64::MAX - f.size));
    found.dedup_by_key(|f| f.vaddr);
    found
}

/// The entries of a table; what is left of a damaged one is dropped.
fn entries<T: pod::Pod>(bytes: &[u8]) -> &[T] {
    let count = bytes.len() / size_of::<T>();
    pod::slice_from_bytes(bytes, count).map_or(&[], |(entries, _)| entries)
}

/// An ELF file.
#[derive(Debug)]
pub struct Image {
    source: Source,
    headers: Headers,
}

impl Image {
    /// Reads the headers of `file`. The image keeps its own handle to the file
    /// and reads by position, so that the caller's cursor stays where it is.
    pub fn open(file: &File) -> Result<Self, ElfError> {
        Self::parse(Source::File(file.try_clone()?))
    }

    /// Reads the headers of a file in memory, such as the vDSO.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ElfError> {
        Self::parse(Source::Memory(bytes))
    }

    fn parse(source: Source) -> Result<Self, ElfError> {
        let headers = Headers::parse(&ReadCache::new(Cursor::new(&source)))?;
        Ok(Self { source, headers })
    }

    /// The processor it is for.
    pub fn machine(&self) -> Machine {
        self.headers.machine
    }

    /// The linker's hash of the file's contents.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.headers.build_id.as_deref()
    }

    /// [`Self::build_id`] as people write it.
    pub fn build_id_hex(&self) -> Option<String> {
        use std::fmt::Write;
        self.build_id().map(|id| {
            id.iter().fold(String::new(), |mut hex, byte| {
                // Writing to a string cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            })
        })
    }

    /// Segments that hold code.
    pub fn executable_segments(&self) -> impl Iterator<Item = &Segment> {
        self.headers
            .segments
            .iter()
            .filter(|segment| segment.executable)
    }

    /// The file offset of the byte at `vaddr`; `None` where no segment has it
    /// or the file does not (`.bss`).
    pub fn file_offset(&self, vaddr: u64) -> Option<u64> {
        let segment = self.segment_at(vaddr)?;
        segment.offset.checked_add(vaddr - segment.vaddr)
    }

    fn segment_at(&self, vaddr: u64) -> Option<&Segment> {
        self.headers.segments.iter().find(|segment| {
            vaddr
                .checked_sub(segment.vaddr)
                .is_some_and(|rest| rest < segment.file_size)
        })
    }

    /// The virtual address of the byte at `offset` of the file. Where segments
    /// overlap in the file, the one with code counts.
    pub fn vaddr(&self, offset: u64) -> Option<u64> {
        self.code_first(|segment| {
            let rest = offset.checked_sub(segment.offset)?;
            (rest < segment.file_size).then(|| segment.vaddr.checked_add(rest))?
        })
    }

    /// The load bias (address in memory − virtual address, modulo 2⁶⁴) that
    /// follows from one mapping of the file: its first address and the file
    /// offset of that address. Both are multiples of the page size, so they
    /// may lie before the segment's first byte.
    pub fn load_bias(&self, start: u64, offset: u64) -> Option<u64> {
        const LARGEST_PAGE: u64 = 1 << 16;
        self.code_first(|segment| {
            let end = segment.offset.checked_add(segment.file_size)?;
            // The page that the segment begins in is mapped from its start.
            let begin = segment.offset - segment.offset % LARGEST_PAGE;
            let vaddr = segment
                .vaddr
                .wrapping_add(offset)
                .wrapping_sub(segment.offset);
            (begin <= offset && offset < end).then(|| start.wrapping_sub(vaddr))
        })
    }

    fn code_first<T>(&self, of: impl Fn(&Segment) -> Option<T>) -> Option<T> {
        let (code, data): (Vec<_>, Vec<_>) = self
            .headers
            .segments
            .iter()
            .partition(|segment| segment.executable);
        code.into_iter().chain(data).find_map(of)
    }

    /// The allocation functions that the file defines, sorted by address; one
    /// for each address, the first of [`Function::ALL`] where several names
    /// share it. Indirect functions (`STT_GNU_IFUNC`) are skipped: their
    /// address is that of the resolver.
    pub fn functions(&self) -> Vec<DefinedFunction> {
        let mut found = Vec::new();
        self.each_symbol(|name, vaddr, size| {
            found.extend(IDS.get(name).map(|&(function, id)| DefinedFunction {
                function,
                id,
                vaddr,
                size,
            }));
        });
        unique(found)
    }

    /// The same, and functions whose names are a prefix and a name of the
    /// table, for every prefix that both a `malloc` and a `free` have.
    pub fn prefixed_functions(&self) -> Vec<DefinedFunction> {
        let mut prefixes: HashMap<Vec<u8>, Vec<DefinedFunction>> = HashMap::new();
        self.each_symbol(|name, vaddr, size| {
            if IDS.contains_key(name) {
                return;
            }
            for function in Function::ALL.iter().filter(|f| !f.role().is_mapping()) {
                for (index, known) in function.names().iter().enumerate() {
                    // Later names of a row have prefixes of their own.
                    let plain = index == 0 || !known.contains('_');
                    let prefix = name.strip_suffix(known.as_bytes());
                    let Some(prefix) = prefix.filter(|_| plain) else {
                        continue;
                    };
                    prefixes
                        .entry(prefix.to_vec())
                        .or_default()
                        .push(DefinedFunction {
                            function: *function,
                            id: function.id(index),
                            vaddr,
                            size,
                        });
                }
            }
        });
        let is_family = |found: &Vec<DefinedFunction>| {
            [Function::Malloc, Function::Free]
                .iter()
                .all(|wanted| found.iter().any(|f| f.function == *wanted))
        };
        let families = prefixes.into_values().filter(is_family).flatten();
        unique(self.functions().into_iter().chain(families).collect())
    }

    /// The virtual address of the function `name`.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        let mut found = None;
        self.each_symbol(|other, vaddr, _| {
            if other == name.as_bytes() {
                found = found.or(Some(vaddr));
            }
        });
        found
    }

    /// Calls `visit` with name, virtual address and size of every function
    /// defined in `.dynsym` and `.symtab`.
    pub(super) fn each_symbol(&self, mut visit: impl FnMut(&[u8], u64, u64)) {
        self.each_entry(|name, symbol| {
            let vaddr = symbol.st_value(ENDIAN);
            let defined = symbol.st_shndx(ENDIAN) != elf::SHN_UNDEF;
            if defined && symbol.st_type() == elf::STT_FUNC && self.is_code(vaddr) {
                visit(name, vaddr, symbol.st_size(ENDIAN));
            }
        });
    }

    /// Whether a symbol of this name is looked for in other files.
    pub fn imports(&self, name: &str) -> bool {
        let mut found = false;
        self.each_entry(|other, symbol| {
            found |= symbol.st_shndx(ENDIAN) == elf::SHN_UNDEF && other == name.as_bytes();
        });
        found
    }

    /// Calls `visit` with name and entry of everything in both symbol tables.
    fn each_entry(&self, mut visit: impl FnMut(&[u8], &Sym64<LittleEndian>)) {
        for section in self.symbol_tables() {
            let strings = self
                .headers
                .sections
                .get(section.link)
                .and_then(|table| self.contents(table));
            let symbols = self.contents(section);
            let (Some(strings), Some(symbols)) = (strings, symbols) else {
                continue;
            };
            for symbol in entries::<Sym64<LittleEndian>>(&symbols) {
                let rest = strings
                    .get(symbol.st_name(ENDIAN) as usize..)
                    .unwrap_or_default();
                // Longer than any name that is looked for.
                let rest = &rest[..rest.len().min(64)];
                if let Some(length) = rest.iter().position(|&byte| byte == 0) {
                    // Static tables of some linkers keep `malloc@@VERSION`.
                    let name = rest[..length].split(|&byte| byte == b'@').next();
                    visit(name.unwrap_or_default(), symbol);
                }
            }
        }
    }

    /// Calls `visit` with every relocation of dynamic linking, and the symbol
    /// that it is for where that is defined here.
    pub(super) fn each_relocation(
        &self,
        mut visit: impl FnMut(&Rela64<LittleEndian>, Option<u64>),
    ) {
        let tables = self.headers.sections.iter().filter(|section| {
            section.kind == elf::SHT_RELA && section.flags.0 & elf::SHF_ALLOC.0 != 0
        });
        for table in tables {
            let symbols = self.headers.sections.get(table.link);
            let symbols = symbols.and_then(|section| self.contents(section));
            let symbols = symbols.unwrap_or_default();
            let symbols = entries::<Sym64<LittleEndian>>(&symbols);
            let relocations = self.contents(table).unwrap_or_default();
            for relocation in entries::<Rela64<LittleEndian>>(&relocations) {
                let index = relocation.r_sym(ENDIAN, false) as usize;
                let symbol = symbols
                    .get(index)
                    .filter(|symbol| index != 0 && symbol.st_shndx(ENDIAN) != elf::SHN_UNDEF);
                visit(relocation, symbol.map(|symbol| symbol.st_value(ENDIAN)));
            }
        }
    }

    fn symbol_tables(&self) -> impl Iterator<Item = &Section> {
        [elf::SHT_DYNSYM, elf::SHT_SYMTAB]
            .into_iter()
            .flat_map(|kind| {
                self.headers
                    .sections
                    .iter()
                    .filter(move |section| section.kind == kind)
            })
    }

    fn is_code(&self, vaddr: u64) -> bool {
        self.segment_at(vaddr)
            .is_some_and(|segment| segment.executable)
    }

    /// `length` bytes of code at `vaddr`, or fewer where the segment ends.
    pub fn code(&self, vaddr: u64, length: u64) -> Option<Vec<u8>> {
        let segment = self
            .segment_at(vaddr)
            .filter(|segment| segment.executable)?;
        let rest = segment.file_size - (vaddr - segment.vaddr);
        self.source
            .bytes(self.file_offset(vaddr)?, length.min(rest))
    }

    /// Address and contents of the section `name`; `None` also where it is
    /// compressed or left out of the file (separate debug files).
    pub fn section(&self, name: &str) -> Option<(u64, Vec<u8>)> {
        let section = self
            .headers
            .sections
            .iter()
            .find(|section| section.name == name.as_bytes())?;
        Some((section.address, self.contents(section)?))
    }

    fn contents(&self, section: &Section) -> Option<Vec<u8>> {
        let absent =
            section.kind == elf::SHT_NOBITS || section.flags.0 & elf::SHF_COMPRESSED.0 != 0;
        if absent {
            None
        } else {
            self.source.bytes(section.offset, section.size)
        }
    }

    /// Address and contents of the segment `PT_GNU_EH_FRAME`, by which
    /// `.eh_frame` is found in files without section headers.
    pub fn eh_frame_header(&self) -> Option<(u64, Vec<u8>)> {
        let (vaddr, size) = self.headers.eh_frame_header?;
        Some((vaddr, self.source.bytes(self.file_offset(vaddr)?, size)?))
    }

    /// All that the file has of the segment at `vaddr`, from `vaddr` on.
    pub fn rest_of_segment(&self, vaddr: u64) -> Option<Vec<u8>> {
        let segment = self.segment_at(vaddr)?;
        self.source.bytes(
            self.file_offset(vaddr)?,
            segment.file_size - (vaddr - segment.vaddr),
        )
    }

    /// Whether a dynamic linker loads it: a program, not static.
    pub fn has_interpreter(&self) -> bool {
        self.headers.interpreter
    }

    /// Whether it has the symbol table that `strip` removes.
    pub fn has_symtab(&self) -> bool {
        self.headers
            .sections
            .iter()
            .any(|section| section.kind == elf::SHT_SYMTAB)
    }

    /// Whether it has the symbol table of dynamic linking.
    pub fn has_dynsym(&self) -> bool {
        self.headers
            .sections
            .iter()
            .any(|section| section.kind == elf::SHT_DYNSYM)
    }

    /// Whether the Go tool chain made it (Go has its own heap).
    pub fn is_go(&self) -> bool {
        let names: [&[u8]; 2] = [b".go.buildinfo", b".gopclntab"];
        self.headers
            .sections
            .iter()
            .any(|section| names.contains(&section.name.as_slice()))
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
pub(crate) mod tests;
