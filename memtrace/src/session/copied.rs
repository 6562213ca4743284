//! Completes stacks that the kernel side could not walk to their end. What
//! others get to see, a capture too, is a record like any other.
use memtrace_common::{
    Record,
    event::{Stack, StackFlags, StackHead},
};
use zerocopy::IntoBytes;

use super::{Session, traced::find};
use crate::{event::batch::BatchBuilder, stack::WalkedOn};

/// Mappings are read so often in a row for nothing, for the sake of a stack that
/// leads to no code that is known.
const MOST_FRUITLESS: u32 = 64;

/// Whether a record belongs to a stack that was copied.
pub(super) fn is_of_copy(record: &Record<'_>) -> bool {
    match record {
        Record::StackCopy(_) => true,
        Record::Stack(stack) => stack.copied(),
        _ => false,
    }
}

impl Session {
    /// Takes in what [`is_of_copy`].
    pub(super) fn apply_copied(&mut self, record: &Record<'_>) {
        match record {
            Record::StackCopy(piece) => self.copies.add(piece),
            Record::Stack(stack) => self.complete(stack),
            _ => {}
        }
    }

    /// Takes a stack in whose copy has come before it.
    fn complete(&mut self, stack: &Stack<'_>) {
        let found: Vec<u64> = stack.frames.iter().map(|frame| frame.get()).collect();
        let (mut flags, mut frames) = (StackFlags::TRUNCATED, found);
        if let Some(walked) = self.walk_on(stack, &frames) {
            if walked.whole {
                flags = 0;
            }
            if walked.whole || walked.frames.len() > frames.len() {
                frames = walked.frames;
            }
        }
        let mut head = stack.head;
        head.flags = flags;
        let start = StackHead {
            head,
            hash: stack.hash,
            depth: u32::try_from(frames.len()).unwrap_or(u32::MAX),
            reserved: 0,
        };
        let mut record = BatchBuilder::default();
        record.push(&[start.as_bytes(), frames.as_bytes()].concat());
        let record = record.take();
        for (_, record) in record.records() {
            let traced = &mut self.traced;
            self.trace.apply(record, |pid| find(traced, pid));
        }
        self.record_events(&record, 0..record.len());
    }

    /// Walks on in the copy, by what the process has mapped now if need be.
    fn walk_on(&mut self, stack: &Stack<'_>, found: &[u64]) -> Option<WalkedOn> {
        let pid = stack.head.pid;
        let copied = self.copies.take(stack.hash)?;
        let tables = &mut self.tables;
        let modules = &find(&mut self.traced, pid)?.modules;
        let walked = copied.walk_on(found, |address| tables.rule(modules, address));
        if walked.unknown.is_none() || self.fruitless >= MOST_FRUITLESS {
            return Some(walked);
        }
        self.refresh(pid, true);
        let tables = &mut self.tables;
        let modules = &find(&mut self.traced, pid)?.modules;
        let again = copied.walk_on(found, |address| tables.rule(modules, address));
        if again == walked {
            self.fruitless += 1;
        } else {
            self.fruitless = 0;
        }
        Some(again)
    }
}
