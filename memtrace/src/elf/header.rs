//! The headers of an ELF file, as far as memtrace looks at them.
use super::source::{Cursor, ElfError};
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{LittleEndian, ReadCache, ReadRef};

/// Linked files have dozens of sections; a header that claims more than this
/// is damaged, or hostile.
const MOST_SECTIONS: usize = 1 << 16;

type Header = FileHeader64<LittleEndian>;
const ENDIAN: LittleEndian = LittleEndian;

/// The processors that memtrace knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Intel and AMD, 64 bits.
    X86_64,
    /// ARM, 64 bits.
    Aarch64,
}

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address of its first byte.
    pub vaddr: u64,
    /// File offset of its first byte.
    pub offset: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Bytes in memory.
    pub memory_size: u64,
    /// Whether it holds code.
    pub executable: bool,
}

/// A section as far as memtrace looks at it.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: elf::SectionType,
    pub(crate) flags: elf::SectionFlags,
    pub(crate) address: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) link: usize,
}

/// What is read when a file is opened.
#[derive(Debug)]
pub(crate) struct Headers {
    pub(crate) machine: Machine,
    pub(crate) segments: Vec<Segment>,
    pub(crate) sections: Vec<Section>,
    pub(crate) build_id: Option<Vec<u8>>,
    pub(crate) interpreter: bool,
    /// Virtual address and size of the binary search table over `.eh_frame`.
    pub(crate) eh_frame_header: Option<(u64, u64)>,
}

impl Headers {
    pub(crate) fn parse(cache: &ReadCache<Cursor<'_>>) -> Result<Self, ElfError> {
        let ident = cache.read_bytes_at(0, 16).unwrap_or_default();
        match ident.get(4..6) {
            Some([1, _]) if ident.starts_with(b"\x7fELF") => return Err(ElfError::Bits32),
            Some([2, 2]) if ident.starts_with(b"\x7fELF") => return Err(ElfError::BigEndian),
            _ => {}
        }
        let header = Header::parse(cache)?;
        let machine = match header.e_machine(ENDIAN) {
            elf::EM_X86_64 => Machine::X86_64,
            elf::EM_AARCH64 => Machine::Aarch64,
            other => return Err(ElfError::Machine(other.0)),
        };
        if !matches!(header.e_type(ENDIAN), elf::ET_EXEC | elf::ET_DYN) {
            return Err(ElfError::Type(header.e_type(ENDIAN).0));
        }
        let mut headers = Self {
            machine,
            segments: Vec::new(),
            // Section headers are not needed to run a program: damage is no error.
            sections: sections(header, cache).unwrap_or_default(),
            build_id: None,
            interpreter: false,
            eh_frame_header: None,
        };
        for program in header.program_headers(ENDIAN, cache)? {
            let vaddr = program.p_vaddr(ENDIAN);
            match program.p_type(ENDIAN) {
                elf::PT_LOAD => headers.segments.push(Segment {
                    vaddr,
                    offset: program.p_offset(ENDIAN),
                    file_size: program.p_filesz(ENDIAN),
                    memory_size: program.p_memsz(ENDIAN),
                    executable: program.p_flags(ENDIAN).0 & elf::PF_X.0 != 0,
                }),
                elf::PT_INTERP => headers.interpreter = true,
                elf::PT_GNU_EH_FRAME => {
                    headers.eh_frame_header = Some((vaddr, program.p_filesz(ENDIAN)));
                }
                elf::PT_NOTE if headers.build_id.is_none() => {
                    headers.build_id = program
                        .notes(ENDIAN, cache)
                        .ok()
                        .flatten()
                        .and_then(build_id);
                }
                _ => {}
            }
        }
        Ok(headers)
    }
}

fn build_id(mut notes: object::read::elf::NoteIterator<'_, Header>) -> Option<Vec<u8>> {
    while let Ok(Some(note)) = notes.next() {
        if note.name() == elf::ELF_NOTE_GNU && note.n_type(ENDIAN) == elf::NT_GNU_BUILD_ID {
            return Some(note.desc().to_vec());
        }
    }
    None
}

fn sections(header: &Header, cache: &ReadCache<Cursor<'_>>) -> Option<Vec<Section>> {
    let headers = header.section_headers(ENDIAN, cache).ok()?;
    if headers.len() > MOST_SECTIONS {
        return None;
    }
    let names = header.section_strings(ENDIAN, cache, headers).ok()?;
    let section = |section: &elf::SectionHeader64<LittleEndian>| Section {
        name: section.name(ENDIAN, names).unwrap_or_default().to_vec(),
        kind: section.sh_type(ENDIAN),
        flags: section.sh_flags(ENDIAN),
        address: section.sh_addr(ENDIAN),
        offset: section.sh_offset(ENDIAN),
        size: section.sh_size(ENDIAN),
        link: section.sh_link(ENDIAN) as usize,
    };
    Some(headers.iter().map(section).collect())
}
