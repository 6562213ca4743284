//! Which page frames have a word in the kernel side's table: physical memory has
//! holes, and a table with room for these would waste memory.
use std::ops::Range;

use memtrace_common::pages::{SECTION_CHUNKS, SECTION_ORDER};

/// Frames of a section, and words of its part of the table.
pub const SECTION_WORDS: usize = 1 << SECTION_ORDER;
/// The same.
pub const SECTION_FRAMES: u64 = SECTION_WORDS as u64;
/// Bytes of a section's words.
pub const SECTION_BYTES: u64 = SECTION_FRAMES * 8;

/// Highest section with a place: of physical addresses of 52 bits.
const MOST_SECTIONS: u64 = 1 << (52 - 12 - SECTION_ORDER);

/// The sections that have a place in the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    /// Their numbers; the index is the place.
    numbers: Vec<u64>,
    /// One more than the place of each section; 0: none.
    places: Vec<u32>,
    /// Sections that there was no room for.
    pub left_out: u64,
}

impl Sections {
    /// The sections of these ranges of page frames. Where they would take more
    /// than so many bytes, those at low addresses are left out: the page
    /// allocator turns to them last.
    pub fn of(ranges: impl IntoIterator<Item = Range<u64>>, max_bytes: u64) -> Self {
        let mut numbers: Vec<u64> = Vec::new();
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            let last = ((range.end - 1) >> SECTION_ORDER).min(MOST_SECTIONS);
            numbers.extend((range.start >> SECTION_ORDER)..=last);
        }
        numbers.sort_unstable();
        numbers.dedup();
        let room = usize::try_from(max_bytes / SECTION_BYTES).unwrap_or(usize::MAX);
        let left_out = numbers.len().saturating_sub(room);
        numbers.drain(..left_out);
        let length = numbers.last().map_or(0, |last| last.saturating_add(1));
        let mut places = vec![0; usize::try_from(length).unwrap_or(0)];
        for (place, number) in (1..).zip(&numbers) {
            let slot = usize::try_from(*number).ok();
            if let Some(slot) = slot.and_then(|slot| places.get_mut(slot)) {
                *slot = place;
            }
        }
        Self {
            numbers,
            places,
            left_out: left_out as u64,
        }
    }

    /// The place of a section, if it has one.
    pub fn place(&self, section: u64) -> Option<usize> {
        let slot = usize::try_from(section).ok()?;
        let place = self.places.get(slot)?.checked_sub(1)?;
        usize::try_from(place).ok()
    }

    /// All that have a place: `(section, place)`.
    pub fn all(&self) -> impl Iterator<Item = (u64, usize)> {
        self.numbers.iter().copied().zip(0..)
    }

    /// How many have a place.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The number of the highest.
    pub fn last(&self) -> u32 {
        let last = self.numbers.last().copied().unwrap_or(0);
        u32::try_from(last).unwrap_or(u32::MAX)
    }

    /// Elements of the table.
    pub fn chunks(&self) -> u32 {
        let sections = u32::try_from(self.len()).unwrap_or(u32::MAX);
        sections.saturating_mul(SECTION_CHUNKS)
    }

    /// Page frames with a word.
    pub fn frames(&self) -> u64 {
        (self.len() as u64).saturating_mul(SECTION_FRAMES)
    }

    /// Bytes of the table.
    pub fn bytes(&self) -> u64 {
        (self.len() as u64).saturating_mul(SECTION_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;

    #[test]
    fn holes_take_no_room() {
        let ranges = [1..4096, 4096..100_000, 1_048_576..1_048_577];
        let sections = Sections::of(ranges, u64::MAX);
        let all: Vec<_> = sections.all().collect();
        assert_eq!(all, [(0, 0), (1, 1), (2, 2), (3, 3), (32, 4)]);
        assert_eq!(sections.place(32), Some(4));
        assert_eq!(sections.place(4), None);
        assert_eq!(sections.place(33), None);
        assert_eq!((sections.last(), sections.chunks()), (32, 5 * 32));
        assert_eq!(sections.bytes(), 5 * 256 * 1024);
    }

    #[test]
    fn a_limit_keeps_the_high_ones() {
        let sections = Sections::of(iter::once(0..5 * SECTION_FRAMES), 2 * SECTION_BYTES + 1);
        let all: Vec<_> = sections.all().collect();
        assert_eq!(
            (all.as_slice(), sections.left_out),
            (&[(3, 0), (4, 1)][..], 3)
        );
        assert!(Sections::of(iter::once(0..5), 0).is_empty());
    }

    #[test]
    fn nonsense_takes_no_room() {
        let sections = Sections::of([7..7, u64::MAX - 1..u64::MAX], u64::MAX);
        assert!(sections.is_empty(), "{sections:?}");
    }
}
