//! The mappings that a program made itself, as ranges: unmapping may cut
//! them, split them, or end several at once.
use std::collections::{BTreeMap, HashMap};

use super::{Item, SiteId, Tally};
use crate::sampling::{ONE, Weight};

/// The kernel maps whole pages of 4 KiB, whatever length was asked for.
const PAGE: u64 = 4096;

/// `length` rounded up to pages.
pub(super) fn whole_pages(length: u64) -> u64 {
    length.checked_next_multiple_of(PAGE).unwrap_or(length)
}

/// A piece of a mapping.
#[derive(Clone, Copy, Debug)]
struct Piece {
    end: u64,
    site: SiteId,
    born_ns: u64,
    /// Which call made it: all pieces of a mapping have the same.
    origin: u64,
}

/// A process's mappings.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    /// By start; they do not overlap.
    pieces: BTreeMap<u64, Piece>,
    /// Pieces there are of each mapping, where more than one.
    split: HashMap<u64, u64>,
    next_origin: u64,
    /// What a thread's last unmapping took away, in case it fails.
    unmapping: HashMap<u32, Vec<(u64, Piece)>>,
}

impl Mappings {
    /// A new mapping; it replaces what was there (`MAP_FIXED`).
    pub(super) fn insert(
        &mut self,
        start: u64,
        length: u64,
        site: SiteId,
        born_ns: u64,
        tally: &mut Tally,
    ) {
        let Some(end) = start.checked_add(length).filter(|end| *end > start) else {
            // No kernel maps nothing, or beyond the last address.
            tally.unmapped(length, 1);
            return;
        };
        self.cut(start, end, tally);
        self.next_origin += 1;
        let origin = self.next_origin;
        self.pieces.insert(
            start,
            Piece {
                end,
                site,
                born_ns,
                origin,
            },
        );
    }

    /// Takes a range away, to be given back if the call fails.
    pub(super) fn begin_unmap(&mut self, tid: u32, start: u64, length: u64, tally: &mut Tally) {
        let end = start.saturating_add(whole_pages(length));
        let taken = self.cut(start, end, tally);
        if taken.is_empty() {
            self.unmapping.remove(&tid);
        } else {
            self.unmapping.insert(tid, taken);
        }
    }

    /// The thread's last unmapping failed: the pages are still there.
    pub(super) fn cancel_unmap(&mut self, tid: u32, tally: &mut Tally) {
        for (start, piece) in self.unmapping.remove(&tid).unwrap_or_default() {
            // Where something else is by now, events were lost in between.
            if self.touched(start, piece.end).next().is_some() {
                continue;
            }
            let back = self.has(piece.origin);
            if back {
                *self.split.entry(piece.origin).or_insert(1) += 1;
            }
            tally.still_mapped(piece.end - start, u64::from(!back));
            self.pieces.insert(start, piece);
        }
    }

    /// The pieces that a range touches.
    fn touched(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, Piece)> {
        let before = self.pieces.range(..start).next_back();
        let first = before.map_or(start, |(at, _)| *at);
        self.pieces
            .range(first..end)
            .filter(move |(_, piece)| piece.end > start)
            .map(|(at, piece)| (*at, *piece))
    }

    /// Whether any piece of a mapping is left.
    fn has(&self, origin: u64) -> bool {
        self.pieces.values().any(|piece| piece.origin == origin)
    }

    /// Cuts a range out of all mappings and returns what was in it.
    fn cut(&mut self, start: u64, end: u64, tally: &mut Tally) -> Vec<(u64, Piece)> {
        if start >= end {
            return Vec::new();
        }
        let touched: Vec<(u64, Piece)> = self.touched(start, end).collect();
        let mut taken = Vec::new();
        for (at, piece) in touched {
            self.pieces.remove(&at);
            let mut left = 0;
            if at < start {
                self.pieces.insert(
                    at,
                    Piece {
                        end: start,
                        ..piece
                    },
                );
                left += 1;
            }
            if piece.end > end {
                self.pieces.insert(end, piece);
                left += 1;
            }
            let (from, to) = (at.max(start), piece.end.min(end));
            tally.unmapped(to - from, 0);
            self.count_pieces(piece.origin, left, tally);
            taken.push((from, Piece { end: to, ..piece }));
        }
        taken
    }

    /// A piece of `origin` became `left` pieces: 0, 1 or 2.
    fn count_pieces(&mut self, origin: u64, left: u64, tally: &mut Tally) {
        let before = self.split.get(&origin).copied().unwrap_or(1);
        let now = before - 1 + left;
        match now {
            0 => tally.unmapped(0, 1),
            1 => {}
            more => {
                self.split.insert(origin, more);
                return;
            }
        }
        self.split.remove(&origin);
    }

    /// All pieces. Only the first of each mapping counts as one.
    pub(super) fn items(&self, now_ns: u64) -> impl Iterator<Item = Item> {
        let mut seen = std::collections::HashSet::new();
        self.pieces.iter().map(move |(start, piece)| Item {
            site: piece.site,
            size: piece.end - start,
            weight: Weight {
                bytes: piece.end - start,
                count: ONE
                    * u64::from(
                        !self.split.contains_key(&piece.origin) || seen.insert(piece.origin),
                    ),
            },
            age_ns: now_ns.saturating_sub(piece.born_ns).max(1),
        })
    }
}
