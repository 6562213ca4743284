//! The table of page frames: [`maps::PAGE_FRAMES`], a word for each frame of the
//! sections that have a place there.
use core::hint::black_box;

use memtrace_common::pages::{
    CHUNK, CHUNK_ORDER, Frame, MOST_ORDER, SECTION_CHUNKS, SECTION_ORDER,
};

use crate::{config, maps};

/// The number of a page's frame.
#[inline(always)]
pub fn frame_of(page: u64) -> u64 {
    let layout = config::PAGES.load();
    let distance = page.wrapping_sub(layout.memory_map);
    distance.checked_div(layout.page_size).unwrap_or(u64::MAX)
}

/// What frames were before they were marked; pages.
pub struct Before {
    pub live: u64,
    pub freed: u64,
    pub outside: u64,
}

/// Marks the frames of a block.
#[inline(always)]
pub fn mark(pfn: u64, order: u32, word: Frame) -> Before {
    let mut before = Before {
        live: 0,
        freed: 0,
        outside: 0,
    };
    let (chunks, pages) = if order > CHUNK_ORDER {
        (
            1_u64 << (order - CHUNK_ORDER).min(MOST_ORDER - CHUNK_ORDER),
            CHUNK as u64,
        )
    } else {
        (1, 1 << order)
    };
    for index in 0..1_u64 << (MOST_ORDER - CHUNK_ORDER) {
        if index >= chunks {
            break;
        }
        let found = pages_mark(pfn.wrapping_add(index << CHUNK_ORDER), pages, word.0);
        if found == OUTSIDE {
            before.outside += pages;
        } else {
            before.live += found & 0xffff_ffff;
            before.freed += found >> 32;
        }
    }
    before
}

/// What [`pages_mark`] says of frames that the table has no room for.
const OUTSIDE: u64 = u64::MAX;

/// Marks frames of one chunk. Returns how many somebody had in the low half,
/// and how many were given back in the high half.
///
/// Of global linkage and with scalar arguments, so that the verifier checks it
/// once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn pages_mark(pfn: u64, pages: u64, word: u64) -> u64 {
    let Some(chunk) = chunk(pfn) else {
        return OUTSIDE;
    };
    let mut found = 0;
    for index in 0..CHUNK as u64 {
        if index >= pages {
            break;
        }
        let at = black_box(pfn.wrapping_add(index)) as usize & (CHUNK - 1);
        // SAFETY: the map's memory; the index is below its length.
        let slot = unsafe { &mut (*chunk)[at] };
        let before = Frame(*slot);
        *slot = word;
        found += before.live() + (before.freed() << 32);
    }
    found
}

/// The part of the table in which a frame is.
#[inline(always)]
fn chunk(pfn: u64) -> Option<*mut [u64; CHUNK]> {
    let section = pfn >> SECTION_ORDER;
    if section > u64::from(u32::MAX) {
        return None;
    }
    let place = *maps::PAGE_SECTIONS.get(section as u32)?;
    let first = place.checked_sub(1)?;
    let within = (pfn >> CHUNK_ORDER) as u32 & (SECTION_CHUNKS - 1);
    maps::PAGE_FRAMES.get_ptr_mut(first.wrapping_mul(SECTION_CHUNKS).wrapping_add(within))
}

/// What is known of a frame; nothing, where the table has no room for it.
#[inline(always)]
pub fn word_of(pfn: u64) -> Frame {
    let Some(chunk) = chunk(pfn) else {
        return Frame::default();
    };
    let index = black_box(pfn) as usize & (CHUNK - 1);
    // SAFETY: the map's memory; the index is below its length.
    Frame(unsafe { (*chunk)[index] })
}

/// Marks one frame unless somebody has it; whether it was marked.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn pages_mark_if_new(pfn: u64, word: u64) -> u64 {
    let Some(chunk) = chunk(pfn) else {
        return 0;
    };
    let index = black_box(pfn) as usize & (CHUNK - 1);
    // SAFETY: the map's memory; the index is below its length.
    let slot = unsafe { &mut (*chunk)[index] };
    if Frame(*slot).is_live() {
        return 0;
    }
    *slot = word;
    1
}
