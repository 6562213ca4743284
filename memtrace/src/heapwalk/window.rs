//! Reading ahead: chunk headers in the order of addresses, and links in any.
use crate::process::memory::{Memory, ReadError};

/// Pages, as far as reading is concerned.
const PAGE: u64 = 4096;
/// The most that is read at once. More was not faster.
const MOST: u64 = 1 << 20;

/// A chunk's first words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Size of the chunk before it, where that is free.
    pub(super) previous: u64,
    /// Its own size and three flags.
    pub(super) size: u64,
    /// Its user's first word; the next one in its list where it is free.
    pub(super) link: u64,
}

const HEAD: u64 = 24;

/// Reads headers at ascending addresses up to a limit. What lies close
/// together is read in ever larger pieces; what lies far apart, page by page.
pub(super) struct Window<'m> {
    memory: &'m dyn Memory,
    buffer: Vec<u8>,
    start: u64,
    filled: usize,
    limit: u64,
    piece: u64,
}

impl<'m> Window<'m> {
    pub(super) fn new(memory: &'m dyn Memory, limit: u64) -> Self {
        Self {
            memory,
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            limit,
            piece: PAGE,
        }
    }

    /// The header at `address`. What would lie behind the limit is zero.
    pub(super) fn head(&mut self, address: u64) -> Result<Head, ReadError> {
        let unmapped = Err(ReadError::Unmapped { address });
        let wanted = HEAD.min(self.limit.saturating_sub(address));
        if wanted < 16 {
            return unmapped;
        }
        if !self.holds(address, wanted) {
            self.fill(address, wanted)?;
        }
        let Ok(offset) = usize::try_from(address.wrapping_sub(self.start)) else {
            return unmapped;
        };
        let word = |at: usize| {
            let bytes = self.buffer[..self.filled].get(offset + at..offset + at + 8);
            bytes.and_then(|bytes| bytes.try_into().ok().map(u64::from_le_bytes))
        };
        match (word(0), word(8)) {
            (Some(previous), Some(size)) => Ok(Head {
                previous,
                size,
                link: word(16).unwrap_or(0),
            }),
            _ => unmapped,
        }
    }

    fn holds(&self, address: u64, wanted: u64) -> bool {
        let end = self.start.saturating_add(self.filled as u64);
        address >= self.start && address.saturating_add(wanted) <= end
    }

    fn fill(&mut self, address: u64, wanted: u64) -> Result<(), ReadError> {
        let end = self.start.saturating_add(self.filled as u64);
        let near = address >= self.start && address <= end.saturating_add(PAGE);
        self.piece = if near && self.filled > 0 {
            (self.piece * 2).min(MOST)
        } else {
            (self.piece / 4).max(PAGE)
        };
        let whole = address
            .saturating_add(wanted)
            .checked_next_multiple_of(PAGE)
            .unwrap_or(u64::MAX);
        let ahead = whole.saturating_add(self.piece - PAGE).min(self.limit);
        self.filled = 0;
        // What lies further on than what is asked for need not be there (any more).
        self.read(address, ahead).or_else(|_| {
            self.piece = PAGE;
            self.read(address, whole.min(self.limit))
        })
    }

    fn read(&mut self, address: u64, end: u64) -> Result<(), ReadError> {
        let length = usize::try_from(end - address).unwrap_or(usize::MAX);
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        self.memory.read(address, &mut self.buffer[..length])?;
        (self.start, self.filled) = (address, length);
        Ok(())
    }
}

/// Pages that were read lately, for lists whose members lie anywhere.
pub(super) struct Pages<'m> {
    memory: &'m dyn Memory,
    kept: Vec<Option<(u64, Vec<u8>)>>,
}

/// How many: 4 MiB.
const KEPT: u64 = 1024;

impl<'m> Pages<'m> {
    pub(super) fn new(memory: &'m dyn Memory) -> Self {
        Self {
            memory,
            kept: (0..KEPT).map(|_| None).collect(),
        }
    }

    /// The word at an address that is a multiple of 8.
    pub(super) fn word(&mut self, address: u64) -> Result<u64, ReadError> {
        let page = address - address % PAGE;
        let unmapped = ReadError::Unmapped { address };
        let slot = usize::try_from(page / PAGE % KEPT).ok();
        let slot = slot
            .and_then(|slot| self.kept.get_mut(slot))
            .ok_or(unmapped)?;
        if slot.as_ref().is_none_or(|(kept, _)| *kept != page) {
            let mut bytes = slot.take().map_or_else(Vec::new, |(_, bytes)| bytes);
            bytes.resize(usize::try_from(PAGE).unwrap_or_default(), 0);
            self.memory.read(page, &mut bytes)?;
            *slot = Some((page, bytes));
        }
        let offset = usize::try_from(address % PAGE).unwrap_or_default();
        slot.as_ref()
            .and_then(|(_, bytes)| bytes.get(offset..offset + 8))
            .and_then(|bytes| bytes.try_into().ok().map(u64::from_le_bytes))
            .ok_or(unmapped)
    }
}
