//! Stacks that lead through code which the kernel side did not know yet, a
//! library that had just been loaded: it sends what was on the stack, and the
//! walk goes on here. The copies may hold anything that the program had on its
//! stack; they are forgotten as soon as they have been walked.
use std::collections::{HashMap, VecDeque};

use memtrace_common::{
    event::StackCopy,
    limit::MAX_FRAMES,
    unwind::{CfaRule, UnwindRow},
};

use crate::elf::{self, Machine, Registers};

/// Copies that may wait for the records that they belong to: each comes right
/// behind its copy, unless the ring buffer was full.
const MOST_WAITING: usize = 64;

/// Copies that have arrived, by their stack's hash.
#[derive(Debug, Default)]
pub struct Copies {
    waiting: HashMap<u64, Copied>,
    order: VecDeque<u64>,
}

/// A stack from where the kernel side could not go on.
#[derive(Clone, Debug)]
pub struct Copied {
    start: Registers,
    /// Frames before that one.
    before: usize,
    /// Address and words of each piece.
    pieces: Vec<(u64, Vec<u64>)>,
}

/// A stack that was walked to its end, or as far as it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkedOn {
    /// Return addresses, innermost first.
    pub frames: Vec<u64>,
    /// Whether the outermost frame was reached, by rules alone.
    pub whole: bool,
    /// Where it came to an address that holds no code, as far as is known.
    pub unknown: Option<u64>,
}

impl Copies {
    /// Takes a piece in.
    pub fn add(&mut self, piece: &StackCopy<'_>) {
        let start = &piece.start;
        if !self.waiting.contains_key(&start.hash) {
            if self.order.len() >= MOST_WAITING
                && let Some(oldest) = self.order.pop_front()
            {
                self.waiting.remove(&oldest);
            }
            self.order.push_back(start.hash);
        }
        let copied = self.waiting.entry(start.hash).or_insert_with(|| Copied {
            start: Registers {
                ip: start.ip,
                sp: start.sp,
                fp: start.fp,
                lr: 0,
                exact: false,
            },
            before: (start.depth as usize).saturating_sub(1),
            pieces: Vec::new(),
        });
        let words = piece.words.iter().map(|word| word.get()).collect();
        copied.pieces.push((start.address, words));
    }

    /// The copy of the stack with this hash, and forgets it.
    pub fn take(&mut self, hash: u64) -> Option<Copied> {
        self.order.retain(|waiting| *waiting != hash);
        self.waiting.remove(&hash)
    }
}

impl Copied {
    fn word(&self, address: u64) -> Option<u64> {
        let mut pieces = self.pieces.iter();
        pieces.find_map(|(start, words)| {
            let offset = address
                .checked_sub(*start)
                .filter(|offset| offset % 8 == 0)?;
            words.get(usize::try_from(offset / 8).ok()?).copied()
        })
    }

    /// Walks on behind the frames that the kernel side has found. `lookup`: the
    /// rule for an address of code; `None`: nothing executable is there.
    pub fn walk_on(
        &self,
        found: &[u64],
        mut lookup: impl FnMut(u64) -> Option<UnwindRow>,
    ) -> WalkedOn {
        let mut frames = found[..self.before.min(found.len())].to_vec();
        let room = MAX_FRAMES.saturating_sub(frames.len());
        let (mut unknown, mut guessed) = (None, false);
        let walk = elf::walk(
            Machine::X86_64,
            self.start,
            room,
            |address| self.word(address),
            |address| {
                let row = lookup(address);
                match row {
                    // Where a signal struck, the kernel side adds one as well.
                    Some(_) => frames.push(address.wrapping_add(1)),
                    None => unknown = Some(address),
                }
                guessed |= row.is_some_and(|row| row.rule() == CfaRule::Stray as u8);
                row
            },
        );
        WalkedOn {
            frames,
            whole: walk.complete && !guessed,
            unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use memtrace_common::event::{EventKind, Head, Record, StackCopyHead};
    use zerocopy::IntoBytes;

    use super::*;

    const STACK: u64 = 0x7ffc_0000_0000;

    fn piece(hash: u64, address: u64, words: &[u64]) -> Vec<u8> {
        let head = Head {
            kind: EventKind::StackCopy as u16,
            function: 0,
            pid: 1,
            tid: 1,
            flags: 0,
            time_ns: 1,
        };
        let start = StackCopyHead {
            head,
            hash,
            ip: 0x5000,
            sp: STACK,
            fp: 0,
            address,
            depth: 2,
            words: u32::try_from(words.len()).unwrap_or(u32::MAX),
        };
        [start.as_bytes(), words.as_bytes()].concat()
    }

    fn add(copies: &mut Copies, bytes: &[u8]) {
        let Ok(Record::StackCopy(copy)) = Record::decode(bytes) else {
            panic!("{:?}", Record::decode(bytes));
        };
        copies.add(&copy);
    }

    /// The code at 0x5000 has a frame of three words, that at 0x6000 of two, and
    /// 0x7000 is where threads begin.
    fn rules(address: u64) -> Option<UnwindRow> {
        match address >> 12 {
            4 | 5 => UnwindRow::new(0, CfaRule::StackPointer, 4, 0),
            6 => UnwindRow::new(0, CfaRule::StackPointer, 3, 0),
            7 => Some(UnwindRow::bare(CfaRule::End)),
            _ => None,
        }
    }

    #[test]
    fn walks_on_across_pieces() {
        let mut copies = Copies::default();
        add(&mut copies, &piece(9, STACK, &[1, 2, 3, 0x6001, 4]));
        add(&mut copies, &piece(9, STACK + 40, &[5, 0x7001]));
        let copied = copies.take(9);
        assert!(copies.take(9).is_none());
        let walked = copied.map(|copied| copied.walk_on(&[0x1001, 0x5000], rules));
        let frames = vec![0x1001, 0x5000, 0x6001, 0x7001];
        let (whole, unknown) = (true, None);
        assert_eq!(
            walked,
            Some(WalkedOn {
                frames,
                whole,
                unknown
            })
        );
    }

    #[test]
    fn says_where_it_cannot_go_on() {
        let mut copies = Copies::default();
        add(&mut copies, &piece(9, STACK, &[1, 2, 3, 0x9001]));
        let walked = copies
            .take(9)
            .map(|copied| copied.walk_on(&[0x1001], rules));
        let expected = WalkedOn {
            frames: vec![0x1001, 0x5000],
            whole: false,
            unknown: Some(0x9000),
        };
        assert_eq!(walked, Some(expected));
        // The copy ends before the stack.
        add(&mut copies, &piece(8, STACK, &[1, 2, 3]));
        let walked = copies
            .take(8)
            .map(|copied| copied.walk_on(&[0x1001], rules));
        assert_eq!(walked.map(|walked| walked.whole), Some(false));
    }

    #[test]
    fn copies_without_a_record_are_forgotten() {
        let mut copies = Copies::default();
        for hash in 0..1000 {
            add(&mut copies, &piece(hash, STACK, &[1]));
        }
        assert_eq!(copies.waiting.len(), MOST_WAITING);
        assert_eq!(copies.order.len(), MOST_WAITING);
    }

    #[test]
    fn damaged_copies_are_refused() {
        let mut bytes = piece(1, STACK, &[1, 2]);
        bytes.truncate(bytes.len() - 1);
        assert!(Record::decode(&bytes).is_err());
    }
}
