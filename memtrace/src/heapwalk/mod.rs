//! What is inside a heap of glibc's malloc, read from outside: no probes, no
//! symbols, and the process runs on. Arenas are found in the library's data
//! (`find`); every chunk is visited in the order of addresses
//! (`chunks`); blocks that are free and look used are taken from their lists
//! (`lists`); blocks with mappings of their own are known by their headers
//! (`mapped`).
//!
//! A process that runs changes its heap meanwhile. An arena counts as
//! consistent where its state is the same before and after, and the chunks
//! agree with its lists. Whatever the memory holds, each walk ends: addresses
//! only grow, and lists are bounded by what was walked.
mod arena;
mod chunks;
mod find;
mod layout;
mod lists;
mod mapped;
mod spans;
mod summary;
#[cfg(test)]
mod tests;
mod walk;
mod window;

use std::path::Path;

use thiserror::Error;

pub use summary::{Arena, Class, Heap, Hole, Kind, Mallinfo, Pin, Range, Sizes};

use crate::process::{
    Map,
    memory::{Memory, ReadError},
};

/// A process, as far as a walk looks at it.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    /// Its memory.
    pub memory: &'a dyn Memory,
    /// What is mapped there, ascending.
    pub maps: &'a [Map],
    /// Its executable, as `maps` names it.
    pub program: &'a Path,
}

/// Why there is no heap to look into.
#[derive(Debug, Error)]
pub enum HeapError {
    /// Another allocator, or none.
    #[error("its C library is not glibc, and only glibc's heap can be looked into{0}")]
    NotGlibc(String),
    /// glibc is there and its malloc was never called.
    #[error("it has not allocated anything with glibc's malloc{0}")]
    Unused(String),
    /// Arenas of that version are not known.
    #[error("its C library is glibc {0}; heaps of 2.26 and later can be looked into")]
    TooOld(String),
    /// Pointers of 4 bytes.
    #[error("it is a 32-bit program; only heaps of 64-bit programs can be looked into")]
    Bits32,
    /// What is there is not a heap any more.
    #[error("its heap is damaged, or not laid out as glibc {version} does: {what}")]
    Damaged {
        /// glibc's.
        version: String,
        /// Where, and what is there.
        what: String,
    },
    /// Its memory cannot be read.
    #[error("{0}")]
    Read(#[from] ReadError),
}

/// Other allocators and languages, by what their files' names begin with.
const OTHERS: &[(&str, &str)] = &[
    ("libjemalloc", "jemalloc"),
    ("libtcmalloc", "tcmalloc"),
    ("libmimalloc", "mimalloc"),
    ("libsnmalloc", "snmalloc"),
    ("libhoard", "Hoard"),
    ("ld-musl-", "musl"),
];

/// What else allocates, as the end of a sentence.
fn what_else(maps: &[Map]) -> String {
    let names = maps.iter().filter_map(|map| map.path.file_name()?.to_str());
    let known = |name: &str| OTHERS.iter().find(|(prefix, _)| name.starts_with(prefix));
    let other = names.filter_map(known).map(|(_, other)| *other).next();
    other.map_or_else(String::new, |other| {
        format!(" (it has mapped {other}); `memtrace -p PID` traces what it allocates")
    })
}

/// Where glibc's malloc keeps its state in a process. It stays there as long
/// as the process runs the same program.
#[derive(Clone, Debug)]
pub struct Place(
    // More than one only where a static program does not tell its version.
    Vec<find::Found>,
);

/// Finds glibc's malloc.
pub fn locate(image: &Image<'_>) -> Result<Place, HeapError> {
    if is_32_bit(image) {
        return Err(HeapError::Bits32);
    }
    find::find(image).map(Place)
}

/// Whether a thread of a program with several is in the middle of changing an
/// arena, so that a walk of the process stopped like that would find half a
/// change. Cheap: nothing but the arenas' own state is read.
pub fn is_busy(image: &Image<'_>, place: &Place) -> bool {
    place.0.iter().any(|found| walk::is_busy(image, found))
}

/// Walks the heap. Arenas that change meanwhile are tried again a few times;
/// [`Heap::consistent`] says how that went.
pub fn walk(image: &Image<'_>, place: &Place) -> Result<Heap, HeapError> {
    let mut best: Option<Heap> = None;
    let mut failed = None;
    for found in &place.0 {
        match walk::all(image, found) {
            Ok(heap) if heap.thread_caches > 0 => return Ok(heap),
            Ok(heap) => {
                best.get_or_insert(heap);
            }
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    match (best, failed) {
        (Some(heap), _) => Ok(heap),
        (None, Some(error)) => Err(error),
        (None, None) => Err(HeapError::Unused(what_else(image.maps))),
    }
}

/// Whether the program's ELF header says so (`EI_CLASS` is `ELFCLASS32`).
fn is_32_bit(image: &Image<'_>) -> bool {
    let mut maps = image.maps.iter();
    let start = maps.find(|map| map.path == image.program && map.offset == 0);
    let mut bytes = [0; 5];
    start.is_some_and(|map| {
        image.memory.read(map.start, &mut bytes).is_ok() && bytes == *b"\x7fELF\x01"
    })
}
