//! Finds glibc's malloc in a process: which version it is, and where its main
//! arena and its parameters lie. Symbols are not needed, and distributions
//! strip them: an arena is known by its empty bins, which point at themselves,
//! and by the ring of arenas, which leads back to it.
use super::{
    HeapError, Image,
    arena::State,
    layout::{self, BINS, Layout},
};
use crate::process::{Map, memory::Memory};

/// glibc as it was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) layout: &'static Layout,
    /// As the library says; absent where a static program does not.
    pub(super) version: Option<String>,
    /// Address of `main_arena`.
    pub(super) main: u64,
    /// Address of `mp_`.
    pub(super) parameters: Option<u64>,
}

impl Found {
    /// What `mp_` says now.
    pub(super) fn parameters(&self, memory: &dyn Memory) -> Option<Parameters> {
        let mut bytes = vec![0; self.layout.parameters.size()];
        memory.read(self.parameters?, &mut bytes).ok()?;
        Parameters::parse(self.layout, &Data { start: 0, bytes }, 0)
    }
}

/// What `mp_` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) mappings: u64,
    pub(super) mapped_bytes: u64,
    pub(super) start_of_heap: u64,
    pub(super) huge_page: u64,
}

/// What the library calls itself, before its version.
const BANNER: &[u8] = b"GNU C Library (";
const RELEASE: &[u8] = b"release version 2.";
/// What a static program that allocates holds of it.
const TUNABLE: &[u8] = b"glibc.malloc.";
/// Libraries have a few megabytes; programs may have more.
const MOST_CONSTANTS: u64 = 256 << 20;
const MOST_DATA: u64 = 64 << 20;
/// The most that the first mapping threshold may be (`HEAP_MAX_SIZE / 2`).
const MOST_THRESHOLD: u64 = layout::HEAP_MAX / 2;

/// Finds all that could be glibc's malloc: best first, one where its version
/// is known.
pub(super) fn find(image: &Image<'_>) -> Result<Vec<Found>, HeapError> {
    let library = library(image.maps);
    let by_library = library.and_then(|path| Some((path, version_in(image, path)?)));
    let (path, version) = match by_library {
        Some(known) => known,
        // Linked statically.
        None => match version_in(image, image.program) {
            Some(known) => (image.program, known),
            None => return Err(HeapError::NotGlibc(super::what_else(image.maps))),
        },
    };
    let layouts = layout::candidates(minor(&version));
    if layouts.is_empty() {
        return Err(HeapError::TooOld(version));
    }
    let version = Some(version).filter(|version| !version.is_empty());
    let data = data(image, path);
    let mut found = Vec::new();
    for layout in layouts {
        let main = data
            .iter()
            .find_map(|data| main_arena(image.memory, data, layout));
        let Some(main) = main else { continue };
        let heap = image
            .maps
            .iter()
            .filter(|map| map.is_heap())
            .map(|map| map.start)
            .min();
        let parameters = data.iter().find_map(|data| parameters(data, layout, heap));
        found.push(Found {
            layout,
            version: version.clone(),
            main,
            parameters,
        });
    }
    if found.is_empty() {
        return Err(HeapError::Unused(super::what_else(image.maps)));
    }
    Ok(found)
}

/// The C library, by its file's name: `libc.so.6`, `libc-2.31.so`.
fn library(maps: &[Map]) -> Option<&std::path::Path> {
    maps.iter().map(|map| map.path.as_path()).find(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("libc.so.6") || name.starts_with("libc-2."))
    })
}

/// The version of glibc in a file's constants, empty where it does not say;
/// `None`: the file is not glibc's.
fn version_in(image: &Image<'_>, path: &std::path::Path) -> Option<String> {
    let mut is_glibc = false;
    for map in image
        .maps
        .iter()
        .filter(|map| map.path == path && map.readable && !map.writable)
    {
        let bytes = copy(image.memory, map.start, map.end, MOST_CONSTANTS);
        if let Some(version) = banner(&bytes) {
            return Some(version);
        }
        is_glibc |= position(&bytes, TUNABLE).is_some();
    }
    is_glibc.then(String::new)
}

/// The version in `GNU C Library (…) stable release version 2.36.`
fn banner(bytes: &[u8]) -> Option<String> {
    let rest = &bytes[position(bytes, BANNER)?..];
    let rest = &rest[..rest.len().min(200)];
    let rest = &rest[position(rest, RELEASE)? + RELEASE.len()..];
    let digits = rest
        .iter()
        .take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
    let digits: String = digits.map(|byte| char::from(*byte)).collect();
    Some(format!("2.{}", digits.trim_end_matches('.')))
}

/// The version that decides the layout: 2.42.9000 is on its way to 2.43.
fn minor(version: &str) -> Option<u32> {
    let mut parts = version.split('.').skip(1);
    let minor: u32 = parts.next()?.parse().ok()?;
    let patch: u32 = parts
        .next()
        .and_then(|patch| patch.parse().ok())
        .unwrap_or(0);
    minor.checked_add(u32::from(patch >= 9000))
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts
        .map(|(at, _)| at)
        .find(|at| bytes[*at..].starts_with(wanted))
}

/// As much as can be read, in pieces: a page may be missing.
fn copy(memory: &dyn Memory, start: u64, end: u64, most: u64) -> Vec<u8> {
    let length = end.saturating_sub(start).min(most);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    if memory.read(start, &mut bytes).is_err() {
        let mut at = start;
        for page in bytes.chunks_mut(4096) {
            // What cannot be read stays zero.
            let _ = memory.read(at, page);
            at = at.saturating_add(4096);
        }
    }
    bytes
}

/// Writable memory of a file, `.data` and `.bss`.
struct Data {
    start: u64,
    bytes: Vec<u8>,
}

impl Data {
    fn word(&self, offset: usize) -> Option<u64> {
        let bytes = self.bytes.get(offset..offset.checked_add(8)?)?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    }

    fn half(&self, offset: usize) -> Option<u64> {
        let bytes = self.bytes.get(offset..offset.checked_add(4)?)?;
        bytes
            .try_into()
            .ok()
            .map(|bytes| u64::from(u32::from_le_bytes(bytes)))
    }
}

fn data(image: &Image<'_>, path: &std::path::Path) -> Vec<Data> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for map in image.maps.iter().filter(|map| map.readable && map.writable) {
        let is_bss = map.path.as_os_str().is_empty()
            && ranges.last().is_some_and(|(_, end)| *end == map.start);
        match ranges.last_mut() {
            Some((_, end)) if *end == map.start && (map.path == path || is_bss) => *end = map.end,
            _ if map.path == path => ranges.push((map.start, map.end)),
            _ => {}
        }
    }
    let read = |(start, end)| Data {
        start,
        bytes: copy(image.memory, start, end, MOST_DATA),
    };
    ranges.into_iter().map(read).collect()
}

/// Looks for an empty bin, and then for the arena around it.
fn main_arena(memory: &dyn Memory, data: &Data, layout: &Layout) -> Option<u64> {
    let last = data.bytes.len().checked_sub(16)?;
    for at in (0..=last).step_by(8) {
        // An empty bin's links lead to 16 bytes before themselves.
        let address = data.start.wrapping_add(at as u64);
        let itself = Some(address.wrapping_sub(16));
        if data.word(at) != itself || data.word(at + 8) != itself {
            continue;
        }
        let starts = (0..BINS).filter_map(|bin| at.checked_sub(bin * 16 + layout.arena.bins));
        let arenas = starts.filter_map(|start| {
            let bytes = data
                .bytes
                .get(start..start.checked_add(layout.arena.size())?)?;
            let address = data.start.wrapping_add(start as u64);
            State::parse(layout, address, bytes)
        });
        // The bins before this one are in use, so few are to be tried.
        for state in arenas {
            if state.is_plausible() && super::arena::ring(memory, layout, state.address).is_ok() {
                return Some(state.address);
            }
        }
    }
    None
}

/// Looks for parameters that agree with each other and with the heap's start.
fn parameters(data: &Data, layout: &Layout, heap: Option<u64>) -> Option<u64> {
    let last = data.bytes.len().checked_sub(layout.parameters.size())?;
    let is_there = |at: &usize| {
        let Some(found) = Parameters::parse(layout, data, *at) else {
            return false;
        };
        // What foreign calls of sbrk took before lies in between.
        match heap {
            Some(heap) => (heap..heap.saturating_add(1 << 30)).contains(&found.start_of_heap),
            None => found.start_of_heap == 0,
        }
    };
    let at = (0..=last).step_by(8).find(is_there)?;
    Some(data.start.wrapping_add(at as u64))
}

impl Parameters {
    /// `None` where the values cannot be those of `mp_`.
    fn parse(layout: &Layout, data: &Data, at: usize) -> Option<Self> {
        let offsets = &layout.parameters;
        let word = |offset: usize| data.word(at + offset).unwrap_or(u64::MAX);
        let half = |index: usize| {
            let offset = at + offsets.mappings + index * 4;
            data.half(offset).unwrap_or(u64::MAX)
        };
        let mapped = |index: usize| word(offsets.mapped + index * 8);
        let [threshold, test, most] = [16, 24, 32].map(word);
        let sensible = (1..=MOST_THRESHOLD).contains(&threshold)
            && test <= 1 << 20
            && most <= 1 << 20
            && half(0) <= half(2)
            && half(1) <= 1 << 31
            && half(3) <= 1
            && mapped(0) <= mapped(1)
            && mapped(0).is_multiple_of(4096)
            && (half(0) == 0) == (mapped(0) == 0)
            && (1..=76).contains(&mapped(3))
            && u16::try_from(mapped(5)).is_ok();
        sensible.then(|| Self {
            mappings: half(0),
            mapped_bytes: mapped(0),
            start_of_heap: mapped(2),
            huge_page: offsets.huge_page.map_or(0, word),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_the_version() {
        let text = b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36.\n";
        assert_eq!(banner(text).as_deref(), Some("2.36"));
        let text = b"GNU C Library (GNU libc) development release version 2.42.9000.\n";
        assert_eq!(banner(text).as_deref(), Some("2.42.9000"));
        assert_eq!(banner(b"GNU C Library (truncated"), None);
        assert_eq!(banner(b""), None);
        assert_eq!(minor("2.31"), Some(31));
        assert_eq!(minor("2.42.9000"), Some(43));
        assert_eq!(minor("2.x"), None);
    }
}
