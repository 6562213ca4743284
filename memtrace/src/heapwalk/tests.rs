//! Walks of heaps that are made here, word by word: every version's layout,
//! and every way in which memory can be wrong.
use std::{
    cell::Cell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Class, Heap, HeapError, Image, Kind,
    layout::{self, Counts, Layout},
    locate, walk,
};
use crate::process::{
    Map,
    memory::{Memory, ReadError},
};

const LIBC: &str = "/lib/libc.so.6";
const CONSTANTS: u64 = 0x7000_0000_0000;
const DATA: u64 = 0x7000_0010_0000;
const HEAP: u64 = 0x5555_0000_0000;
const MAPPED: u64 = 0x7100_0000_0000;
/// Where in the library's data the arena and the parameters are.
const ARENA: u64 = DATA + 0xc60;
const PARAMETERS: u64 = DATA + 0x1640;

/// Memory in words; what was not written is zero where something is mapped.
struct Words {
    written: BTreeMap<u64, u64>,
    maps: Vec<Map>,
    /// The arena changes at every reading.
    busy: Option<Cell<u64>>,
}

impl Memory for Words {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        for (index, byte) in into.iter_mut().enumerate() {
            let at = address.wrapping_add(index as u64);
            if !self
                .maps
                .iter()
                .any(|map| map.readable && (map.start..map.end).contains(&at))
            {
                return Err(ReadError::Unmapped { address: at });
            }
            let word = self.written.get(&(at - at % 8)).copied().unwrap_or(0);
            let shift = usize::try_from(at % 8).unwrap();
            *byte = word.to_le_bytes()[shift];
        }
        if let Some(busy) = self.busy.as_ref().filter(|_| address == ARENA) {
            busy.set(busy.get() + 1);
            into[0] = u8::try_from(busy.get() % 2).unwrap();
        }
        Ok(())
    }
}

fn map(start: u64, length: u64, writable: bool, path: &str) -> Map {
    Map {
        start,
        end: start + length,
        readable: true,
        writable,
        shared: false,
        executable: false,
        offset: 0,
        file: (String::new(), 1),
        path: PathBuf::from(path),
    }
}

impl Words {
    fn put(&mut self, address: u64, value: u64) {
        self.written.insert(address, value);
    }

    fn text(&mut self, address: u64, text: &str) {
        for (index, bytes) in text.as_bytes().chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.put(address + index as u64 * 8, u64::from_le_bytes(word));
        }
    }

    fn half(&mut self, address: u64, value: u32) {
        let aligned = address - address % 8;
        let old = self.written.get(&aligned).copied().unwrap_or(0);
        let shift = address % 8 * 8;
        self.put(
            aligned,
            old & !(0xffff_ffff << shift) | u64::from(value) << shift,
        );
    }

    fn walk(&self) -> Result<Heap, HeapError> {
        let image = Image {
            memory: self,
            maps: &self.maps,
            program: Path::new("/bin/program"),
        };
        walk(&image, &locate(&image)?)
    }
}

/// A heap of that version: a thread's cache with one block of 32 bytes, a block
/// in a fast bin (up to 2.42), one in the unsorted bin, one in use, and the
/// last chunk; and one block with a mapping of its own.
fn heap(minor: u32) -> Words {
    let layout: &Layout = layout::candidates(Some(minor))[0];
    let mut memory = Words {
        written: BTreeMap::new(),
        maps: vec![
            map(HEAP, 0x21000, true, "[heap]"),
            map(CONSTANTS, 0x1000, false, LIBC),
            map(DATA, 0x3000, true, LIBC),
            map(MAPPED, 0x43000, true, ""),
        ],
        busy: None,
    };
    let banner = format!("GNU C Library (test) stable release version 2.{minor}.\n");
    memory.text(CONSTANTS + 0x100, &banner);
    let mangle = |at: u64, to: u64| if layout.mangled { to ^ (at >> 12) } else { to };
    let mut at = HEAP;
    let mut chunk = |memory: &mut Words, size: u64, in_use_before: bool| {
        let address = at;
        memory.put(address + 8, size | u64::from(in_use_before));
        at += size;
        address
    };
    let cache = chunk(&mut memory, layout.caches.chunk(), true);
    let cached = chunk(&mut memory, 32, true);
    let fast = chunk(&mut memory, 48, true);
    let free = chunk(&mut memory, 0x2100, true);
    memory.put(free + 0x2100, 0x2100);
    let used = chunk(&mut memory, 0x400, false);
    let top = chunk(&mut memory, HEAP + 0x21000 - used - 0x400, true);
    assert_eq!(top, used + 0x400);
    // The arena.
    let arena = &layout.arena;
    memory.put(ARENA + arena.top() as u64, top);
    for bin in 0..layout::BINS as u64 {
        let pair = ARENA + arena.bins as u64 + bin * 16;
        let first = if bin == 0 { free } else { pair - 16 };
        memory.put(pair, first);
        memory.put(pair + 8, first);
    }
    let unsorted = ARENA + arena.bins as u64 - 16;
    memory.put(free + 16, unsorted);
    memory.put(free + 24, unsorted);
    memory.put(ARENA + arena.next() as u64, ARENA);
    memory.put(ARENA + arena.system() as u64, 0x21000);
    if let Some(bins) = arena.fast {
        memory.put(ARENA + bins as u64 + 8, fast);
        memory.put(fast + 16, mangle(fast + 16, 0));
    }
    // The cache.
    let user = cache + 16;
    match layout.caches.counts {
        Counts::Bytes | Counts::Halves => memory.put(user, 1),
        Counts::Slots => {
            for bin in 0..layout.caches.bins as u64 {
                let slots = if bin == 0 { 6 } else { 7 };
                let shift = bin % 4 * 16;
                let word = user + bin / 4 * 8;
                let old = memory.written.get(&word).copied().unwrap_or(0);
                memory.put(word, old | slots << shift);
            }
        }
    }
    memory.put(user + layout.caches.entries() as u64, cached + 16);
    memory.put(cached + 16, mangle(cached + 16, 0));
    // The parameters.
    let offsets = &layout.parameters;
    memory.put(PARAMETERS, 128 << 10);
    memory.put(PARAMETERS + 16, 128 << 10);
    memory.put(PARAMETERS + 24, 8);
    for (index, value) in [1, 65536, 1].into_iter().enumerate() {
        memory.half(PARAMETERS + (offsets.mappings + index * 4) as u64, value);
    }
    let words = [0x43000, 0x43000, HEAP, 64, 1032, 7, 0];
    for (index, value) in words.into_iter().enumerate() {
        memory.put(PARAMETERS + (offsets.mapped + index * 8) as u64, value);
    }
    memory.put(MAPPED + 8, (0x43000 - layout.mapped_tail) | 2);
    memory
}

#[test]
fn every_layout_is_walked() {
    for layout in layout::LAYOUTS {
        let minor = layout.since;
        let heap = heap(minor).walk().unwrap();
        assert!(heap.consistent, "2.{minor}: {heap:?}");
        assert_eq!(heap.version, Some(format!("2.{minor}")));
        assert_eq!(heap.thread_caches, 1, "2.{minor}");
        let main = &heap.arenas[0];
        assert_eq!((main.kind, main.address), (Kind::Main, ARENA));
        assert_eq!(main.class(Class::ThreadCache), (32, 1), "2.{minor}");
        let fast = if layout.arena.fast.is_some() {
            (48, 1)
        } else {
            (0, 0)
        };
        assert_eq!(main.class(Class::Fast), fast, "2.{minor}");
        assert_eq!(main.class(Class::Unsorted), (0x2100, 1));
        assert_eq!(main.largest_free(), 0x2100);
        let pin = main.pinned_by.unwrap();
        assert_eq!((pin.size, pin.free_below), (0x400, 0x2100));
        assert_eq!(main.overhead_bytes, 0);
        assert_eq!(main.holes[0].blocks_above, 1);
        assert_eq!(heap.arenas[1].kind, Kind::Mapped);
        assert_eq!(heap.arenas[1].in_use.bytes, 0x43000);
        let info = heap.mallinfo();
        assert_eq!((info.hblks, info.hblkhd, info.arena), (1, 0x43000, 0x21000));
        assert_eq!(info.uordblks + info.fordblks, info.arena);
        assert_eq!((info.smblks, info.fsmblks), (fast.1, fast.0));
    }
}

/// Older kernels call it `[heap]`, too.
#[test]
fn a_guard_page_behind_the_heap_is_none_of_it() {
    let mut memory = heap(36);
    let mut guard = map(HEAP + 0x21000, 0x1000, false, "[heap]");
    guard.readable = false;
    memory.maps.insert(1, guard);
    let heap = memory.walk().unwrap();
    assert!(heap.consistent, "{heap:?}");
    assert_eq!(heap.arenas[0].class(Class::Unsorted), (0x2100, 1));
}

/// What the mappings say may have been given back since they were read.
#[test]
fn memory_behind_the_last_chunk_need_not_be_there() {
    let mut memory = heap(36);
    let there = memory.maps[0].clone();
    memory.maps[0].end += 0x10000;
    let image = Image {
        memory: &Words {
            written: memory.written.clone(),
            maps: memory.maps.iter().skip(1).cloned().chain([there]).collect(),
            busy: None,
        },
        maps: &memory.maps,
        program: Path::new("/bin/program"),
    };
    let heap = walk(&image, &locate(&image).unwrap()).unwrap();
    assert!(heap.consistent, "{heap:?}");
}

#[test]
fn a_heap_that_changes_is_said_to() {
    let mut memory = heap(36);
    memory.busy = Some(Cell::new(0));
    let heap = memory.walk().unwrap();
    assert!(!heap.consistent);
    assert!(heap.arenas[0].problem.is_some());
    assert_eq!(heap.arenas[0].class(Class::Unsorted), (0x2100, 1));
}

#[test]
fn damage_is_told_from_change() {
    // Sizes, the size behind a free chunk, and links of every kind of list.
    let cache = layout::candidates(Some(36))[0].caches.chunk();
    let free = HEAP + cache + 32 + 48;
    let cases = [
        (HEAP + 8, 0x4141_4141_4141_4141),
        (HEAP + 8, 0),
        (free + 8, 0x2200 | 1),
        (free + 0x2100, 0x2000),
        (free + 16, free),
        (free + 16, 0x4141_4141_4141_4140),
        (ARENA + 24, HEAP + cache + 8),
        (ARENA + 24, u64::MAX),
        (ARENA + 96, 0x6000_0000_0000),
    ];
    for (address, value) in cases {
        let mut memory = heap(36);
        memory.put(address, value);
        let error = memory.walk().unwrap_err();
        assert!(
            matches!(error, HeapError::Damaged { .. }),
            "{address:#x}: {error}"
        );
        assert!(error.to_string().contains("2.36"), "{error}");
    }
}

#[test]
fn a_fast_bin_that_leads_in_a_circle_ends() {
    let mut memory = heap(31);
    let fast = HEAP + layout::candidates(Some(31))[0].caches.chunk() + 32;
    memory.put(fast + 16, fast);
    assert!(matches!(memory.walk(), Err(HeapError::Damaged { .. })));
}

#[test]
fn a_cache_whose_counts_are_wrong_is_none() {
    let mut memory = heap(36);
    memory.put(HEAP + 16, 2);
    let heap = memory.walk().unwrap();
    assert_eq!(heap.thread_caches, 0);
    assert_eq!(heap.arenas[0].class(Class::ThreadCache), (0, 0));
}

#[test]
fn what_is_not_glibc_is_refused() {
    let mut memory = heap(36);
    memory.written.retain(|address, _| *address >= DATA);
    memory
        .maps
        .push(map(0x7200_0000_0000, 4096, false, "/lib/libjemalloc.so.2"));
    let error = memory.walk().unwrap_err().to_string();
    assert!(
        error.contains("not glibc") && error.contains("jemalloc"),
        "{error}"
    );

    let mut memory = heap(36);
    memory.text(
        CONSTANTS + 0x100,
        "GNU C Library (old) stable release version 2.17.",
    );
    assert!(matches!(memory.walk(), Err(HeapError::TooOld(version)) if version == "2.17"));

    let mut memory = heap(36);
    memory.written.retain(|address, _| *address < DATA);
    assert!(matches!(memory.walk(), Err(HeapError::Unused(_))));

    let mut memory = heap(36);
    memory
        .maps
        .push(map(0x40_0000, 4096, false, "/bin/program"));
    memory.text(0x40_0000, "\x7fELF\x01");
    assert!(matches!(memory.walk(), Err(HeapError::Bits32)));
}

#[test]
fn a_static_program_need_not_tell_its_version() {
    for minor in [31, 36, 43] {
        let mut memory = heap(minor);
        memory.text(CONSTANTS + 0x100, "glibc.malloc.check\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        for map in &mut memory.maps {
            if map.path == Path::new(LIBC) {
                map.path = PathBuf::from("/bin/program");
            }
        }
        let heap = memory.walk().unwrap();
        assert_eq!((heap.version, heap.thread_caches), (None, 1), "2.{minor}");
        assert!(heap.consistent);
    }
}
