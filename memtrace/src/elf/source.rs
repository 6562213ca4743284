//! Where the bytes of an ELF file come from, and what can be wrong with them.
use object::ReadCacheOps;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// More than any section of a real file that memtrace reads: a hostile file
/// must not make it allocate without bounds.
const LARGEST_READ: u64 = 1 << 30;

/// Why a file is of no use to memtrace.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The file could not be read.
    #[error("reading the ELF file")]
    Read(#[from] io::Error),
    /// Not an ELF file at all, or a damaged one.
    #[error("parsing the ELF file: {0}")]
    Format(#[from] object::read::Error),
    /// A 32-bit program or library.
    #[error("this is a 32-bit ELF file; memtrace traces 64-bit programs only")]
    Bits32,
    /// Big-endian.
    #[error("this is a big-endian ELF file; memtrace traces little-endian programs only")]
    BigEndian,
    /// Another processor.
    #[error("this ELF file is for machine {0}; memtrace knows x86-64 (62) and aarch64 (183)")]
    Machine(u16),
    /// Neither program nor library: an object file, a core dump.
    #[error("this ELF file is of type {0}; memtrace reads programs (2) and shared objects (3)")]
    Type(u16),
}

/// Random access to the bytes of an ELF file.
#[derive(Debug)]
pub(crate) enum Source {
    /// An open file, read by position: its cursor is neither used nor moved.
    File(File),
    /// A copy in memory, such as the vDSO's.
    Memory(Vec<u8>),
}

impl Source {
    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Fills `buffer` from `offset` on.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(buffer, offset),
            Self::Memory(bytes) => {
                let found = usize::try_from(offset)
                    .ok()
                    .and_then(|start| bytes.get(start..start.checked_add(buffer.len())?));
                buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// `size` bytes from `offset` on; `None` if the file does not have them
    /// all or they are too many.
    pub(crate) fn bytes(&self, offset: u64, size: u64) -> Option<Vec<u8>> {
        let end = offset.checked_add(size)?;
        if size > LARGEST_READ || end > self.len().ok()? {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        self.read_at(offset, &mut bytes).ok()?;
        Some(bytes)
    }
}

/// [`Source`] with the cursor that `object` wants.
pub(crate) struct Cursor<'source> {
    source: &'source Source,
    position: u64,
}

impl<'source> Cursor<'source> {
    pub(crate) fn new(source: &'source Source) -> Self {
        Self {
            source,
            position: 0,
        }
    }
}

impl ReadCacheOps for Cursor<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        self.source.len().map_err(drop)
    }

    fn seek(&mut self, position: u64) -> Result<u64, ()> {
        self.position = position;
        Ok(position)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ()> {
        let rest = self.len()?.saturating_sub(self.position);
        let length = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        let buffer = buffer.get_mut(..length).ok_or(())?;
        self.read_exact(buffer)?;
        Ok(length)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ()> {
        self.source.read_at(self.position, buffer).map_err(drop)?;
        self.position += buffer.len() as u64;
        Ok(())
    }
}
