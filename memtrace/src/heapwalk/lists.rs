//! Free blocks that look as if they were in use, since no chunk says otherwise:
//! those in fast bins and in threads' caches. And which free chunks are not
//! sorted yet.
use std::collections::HashSet;

use super::{
    arena::{Broken, State},
    chunks::{Candidate, FLAGS, FreeChunk, MAPPED},
    layout::{ALIGNMENT, Counts, EXACT_CACHE_BINS, Layout, SMALLEST},
    window::Pages,
};
use crate::process::memory::Memory;

/// A block: address of the chunk, and its size.
pub(super) type Block = (u64, u64);

/// The header, before what the user holds.
const HEADER: u64 = 16;

/// The chunks in the arena's fast bins. `most`: more cannot be.
pub(super) fn fast(
    pages: &mut Pages<'_>,
    layout: &Layout,
    state: &State,
    most: u64,
) -> Result<Vec<Block>, Broken> {
    let mut found = Vec::new();
    for (index, head) in state.fast.iter().enumerate() {
        let size = (index as u64 + 2) * ALIGNMENT;
        let mut chunk = *head;
        while chunk != 0 {
            let right = chunk.is_multiple_of(ALIGNMENT)
                && found.len() as u64 <= most
                && pages.word(chunk.wrapping_add(8))? & !FLAGS == size;
            if !right {
                return Err(Broken::List(chunk));
            }
            found.push((chunk, size));
            let link = chunk.wrapping_add(HEADER);
            chunk = revealed(layout, link, pages.word(link)?);
        }
    }
    Ok(found)
}

/// A link as it was before safe-linking (`REVEAL_PTR`): mixed with the page
/// number of its own address.
fn revealed(layout: &Layout, at: u64, link: u64) -> u64 {
    if layout.mangled {
        link ^ (at >> 12)
    } else {
        link
    }
}

/// Addresses of the chunks in the unsorted bin. `free`: all free chunks of the
/// arena, ascending.
pub(super) fn unsorted(state: &State, free: &[FreeChunk]) -> Result<HashSet<u64>, Broken> {
    let end = state.bin_address(0);
    let mut found = HashSet::new();
    let (mut chunk, _) = state.bins.first().copied().unwrap_or((end, end));
    while chunk != end {
        let known = free.binary_search_by_key(&chunk, |free| free.address);
        let known = known.ok().and_then(|index| free.get(index));
        match known {
            Some(known) if found.insert(chunk) => chunk = known.next,
            _ => return Err(Broken::List(chunk)),
        }
    }
    Ok(found)
}

/// Whether every bin that is not empty begins with a free chunk.
pub(super) fn bins_agree(state: &State, free: &[FreeChunk]) -> Result<(), Broken> {
    for (index, (first, last)) in state.bins.iter().enumerate() {
        let itself = state.bin_address(index);
        for chunk in [first, last].into_iter().filter(|chunk| **chunk != itself) {
            if free
                .binary_search_by_key(chunk, |free| free.address)
                .is_err()
            {
                return Err(Broken::List(*chunk));
            }
        }
    }
    Ok(())
}

/// The most blocks that one bin of a cache may hold (`MAX_TCACHE_COUNT`).
const MOST_CACHED: u64 = 65535;

/// Whether a candidate's first word can be a cache's: counts are small.
pub(super) fn may_be_cache(layout: &Layout, word: u64) -> bool {
    match layout.caches.counts {
        Counts::Bytes => word & 0x8080_8080_8080_8080 == 0,
        Counts::Halves | Counts::Slots => word & 0xf000_f000_f000_f000 == 0,
    }
}

/// The blocks in a thread's cache, if that is what the candidate is: each list
/// must have as many blocks as the cache counts, each of the size that the list
/// is for. No other data looks like this but by design.
pub(super) fn cache(
    memory: &dyn Memory,
    pages: &mut Pages<'_>,
    layout: &Layout,
    candidate: Candidate,
) -> Option<Vec<Block>> {
    let caches = &layout.caches;
    let mut bytes = vec![0; caches.size()];
    memory
        .read(candidate.0.wrapping_add(HEADER), &mut bytes)
        .ok()?;
    let (counts, entries) = bytes.split_at(caches.entries());
    let counts: Vec<u64> = match caches.counts {
        Counts::Bytes => counts.iter().map(|count| u64::from(*count)).collect(),
        Counts::Halves | Counts::Slots => counts
            .chunks_exact(2)
            .map(|pair| u64::from(u16::from_le_bytes([pair[0], pair[1]])))
            .collect(),
    };
    let entries = entries.chunks_exact(8);
    let entries = entries.filter_map(|entry| entry.try_into().ok().map(u64::from_le_bytes));
    let mut found = Vec::new();
    // Slots and blocks together are the same number for all bins.
    let mut together = None;
    for (bin, (count, entry)) in counts.into_iter().zip(entries).enumerate() {
        let most = match caches.counts {
            Counts::Bytes | Counts::Halves => count,
            Counts::Slots => MOST_CACHED.saturating_sub(count),
        };
        let blocks = bin_of_cache(pages, layout, bin, entry, most)?;
        let held = blocks.len() as u64;
        found.extend(blocks);
        match caches.counts {
            Counts::Bytes | Counts::Halves if held != count => return None,
            Counts::Slots if *together.get_or_insert(held + count) != held + count => return None,
            _ => {}
        }
    }
    // One that holds nothing is of no interest, and looks like zeros.
    (!found.is_empty()).then_some(found)
}

fn bin_of_cache(
    pages: &mut Pages<'_>,
    layout: &Layout,
    bin: usize,
    first: u64,
    most: u64,
) -> Option<Vec<Block>> {
    let exact = SMALLEST + bin as u64 * ALIGNMENT;
    let mut blocks: Vec<Block> = Vec::new();
    let mut user = first;
    while user != 0 {
        let chunk = user.checked_sub(HEADER)?;
        if !user.is_multiple_of(ALIGNMENT) || blocks.len() as u64 >= most {
            return None;
        }
        let field = pages.word(chunk + 8).ok()?;
        let size = field & !FLAGS;
        let right = if bin < EXACT_CACHE_BINS {
            size == exact
        } else {
            size >= SMALLEST + EXACT_CACHE_BINS as u64 * ALIGNMENT
        };
        if !right || field & MAPPED != 0 {
            return None;
        }
        blocks.push((chunk, size));
        user = revealed(layout, user, pages.word(user).ok()?);
    }
    Some(blocks)
}
