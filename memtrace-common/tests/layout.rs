//! Holds the layout of every type that crosses the boundary: a change here is
//! a change of the wire format and of recorded captures.
use core::mem::{align_of, offset_of, size_of};

use memtrace_common::{
    Counter, DecodeError, EventKind, Function, Head, Record,
    counter::COUNTERS,
    event::*,
    growth::{GrowthKey, GrowthSum, Way},
    limit::MAX_FRAMES,
    oom::{OomKill, OomLayout, Request},
    pages::{self, Frame, ORIGIN_HEAD, PagesLayout, Samples},
    unwind::{CfaRule, Mapping, ProcessMappings, RowChunk, UnwindRow},
};
use zerocopy::IntoBytes;

#[test]
fn sizes_and_alignments() {
    let sizes = [
        (size_of::<Head>(), 24),
        (size_of::<Alloc>(), 48),
        (size_of::<Free>(), 32),
        (size_of::<ReallocBegin>(), 32),
        (size_of::<ReallocEnd>(), 56),
        (size_of::<Map>(), 48),
        (size_of::<UnmapBegin>(), 40),
        (size_of::<UnmapFailed>(), 40),
        (size_of::<RemapBegin>(), 40),
        (size_of::<RemapEnd>(), 72),
        (size_of::<Exec>(), 24),
        (size_of::<Modules>(), 24),
        (size_of::<StackHead>(), 40),
        (size_of::<StackRecord>(), 40 + 8 * MAX_FRAMES),
        (size_of::<UnwindRow>(), 8),
        (size_of::<RowChunk>(), 4096),
        (size_of::<Mapping>(), 32),
        (size_of::<ProcessMappings>(), 16),
        (size_of::<Request>(), 40),
        (size_of::<OomKill>(), 1088),
        (size_of::<OomLayout>(), 108),
        (size_of::<GrowthKey>(), 16),
        (size_of::<GrowthSum>(), 32),
        (size_of::<Frame>(), 8),
        (size_of::<pages::Origin>(), 64 + 8 * pages::DEPTH),
        (ORIGIN_HEAD, 64),
        (size_of::<PagesLayout>(), 48),
        (size_of::<Samples>(), 72),
    ];
    for (index, (found, expected)) in sizes.into_iter().enumerate() {
        assert_eq!(found, expected, "type number {index}");
    }
    assert_eq!(align_of::<Head>(), 8);
    assert_eq!(align_of::<UnwindRow>(), 4);
}

#[test]
fn words_of_page_frames() {
    let untouched = Frame::default();
    assert_eq!((untouched.live(), untouched.freed()), (0, 0));
    assert_eq!((Frame::FREED.live(), Frame::FREED.freed()), (0, 1));
    let held = Frame::held(u32::MAX, (1 << 22) - 1);
    assert_eq!((held.live(), held.freed()), (1, 0));
    assert_eq!((held.origin(), held.pid()), (u32::MAX, (1 << 22) - 1));
    let held = Frame::held(2, 0);
    assert_eq!((held.origin(), held.pid(), held.is_live()), (2, 0, true));
}

#[test]
fn ways() {
    for way in [Way::Break, Way::Map, Way::Fault] {
        assert_eq!(Way::from_id(way as u32), Some(way));
    }
    assert_eq!(Way::from_id(0), None);
}

#[test]
fn offsets() {
    assert_eq!(offset_of!(Head, kind), 0);
    assert_eq!(offset_of!(Head, function), 2);
    assert_eq!(offset_of!(Head, pid), 4);
    assert_eq!(offset_of!(Head, tid), 8);
    assert_eq!(offset_of!(Head, flags), 12);
    assert_eq!(offset_of!(Head, time_ns), 16);
    assert_eq!(offset_of!(Alloc, address), 24);
    assert_eq!(offset_of!(Alloc, size), 32);
    assert_eq!(offset_of!(Alloc, stack), 40);
    assert_eq!(offset_of!(StackHead, hash), 24);
    assert_eq!(offset_of!(StackHead, depth), 32);
    assert_eq!(offset_of!(StackRecord, frames), 40);
    assert_eq!(offset_of!(UnwindRow, cfa_low), 4);
    assert_eq!(offset_of!(UnwindRow, fp_words_below_cfa), 6);
    assert_eq!(offset_of!(UnwindRow, rule_and_high), 7);
}

#[test]
fn unwind_rows_say_what_they_were_made_of() {
    for words in [0, 1, -1, 32_767, 32_768, 65_536, -65_537, 524_287, -524_288] {
        for rule in [CfaRule::Unknown, CfaRule::Plt, CfaRule::Inexpressible] {
            let row = UnwindRow::new(7, rule, words, -3).expect("it fits");
            assert_eq!((row.rule(), row.cfa_words()), (rule as u8, words));
            assert_eq!((row.pc, row.fp_words_below_cfa), (7, -3));
        }
    }
    for words in [524_288, -524_289, i64::MAX, i64::MIN] {
        assert_eq!(UnwindRow::new(7, CfaRule::StackPointer, words, 0), None);
    }
}

#[test]
fn numbers_are_unique_and_round_trip() {
    for (index, function) in Function::ALL.iter().enumerate() {
        for (name, symbol) in function.names().iter().enumerate() {
            let id = function.id(name);
            assert_eq!(Function::from_id(id), Some(*function));
            assert_eq!(Function::name(id), Some(*symbol));
            let others = Function::ALL[..index].iter();
            assert!(others.flat_map(|f| f.names()).all(|other| other != symbol));
        }
        // Enters and returns are counted at twice the number and one behind.
        assert!((*function as u16) < 128);
    }
    assert_eq!(Function::from_id(0), None);
    assert_eq!(Function::name(Function::Munmap.id(9)), None);
    for (index, counter) in Counter::ALL.iter().enumerate() {
        assert!((*counter as u32) < COUNTERS);
        assert!(
            Counter::ALL[..index]
                .iter()
                .all(|other| *other as u32 != *counter as u32)
        );
    }
}

fn head(kind: u16) -> Head {
    Head {
        kind,
        function: 1,
        pid: 2,
        tid: 3,
        flags: 0,
        time_ns: 4,
    }
}

#[test]
fn records_decode_at_any_alignment() {
    let alloc = Alloc {
        head: head(EventKind::Alloc as u16),
        address: 5,
        size: 6,
        stack: 7,
    };
    let mut bytes = vec![0xff];
    bytes.extend_from_slice(alloc.as_bytes());
    bytes.extend_from_slice(&[0; 8]);
    assert_eq!(Record::decode(&bytes[1..]), Ok(Record::Alloc(alloc)));
}

#[test]
fn what_is_no_record_is_refused() {
    let alloc = Alloc {
        head: head(EventKind::Alloc as u16),
        address: 5,
        size: 6,
        stack: 7,
    };
    let bytes = alloc.as_bytes();
    for length in 0..bytes.len() {
        assert_eq!(
            Record::decode(&bytes[..length]),
            Err(DecodeError::Short { length })
        );
    }
    let unknown = head(999);
    assert_eq!(
        Record::decode(unknown.as_bytes()),
        Err(DecodeError::UnknownKind { kind: 999 })
    );
}

#[test]
fn stacks_carry_as_many_frames_as_they_say() {
    let start = StackHead {
        head: Head {
            flags: StackFlags::TRUNCATED,
            ..head(EventKind::Stack as u16)
        },
        hash: 9,
        depth: 2,
        reserved: 0,
    };
    let mut bytes = start.as_bytes().to_vec();
    bytes.extend_from_slice([10_u64, 11].as_bytes());
    let Ok(Record::Stack(stack)) = Record::decode(&bytes) else {
        panic!("no stack")
    };
    assert_eq!(stack.hash, 9);
    assert!(stack.truncated());
    assert_eq!(
        stack
            .frames
            .iter()
            .map(|frame| frame.get())
            .collect::<Vec<_>>(),
        [10, 11]
    );

    let claims_more = StackHead { depth: 3, ..start };
    bytes[..size_of::<StackHead>()].copy_from_slice(claims_more.as_bytes());
    assert_eq!(
        Record::decode(&bytes),
        Err(DecodeError::BadDepth { depth: 3 })
    );
    let claims_all = StackHead {
        depth: u32::MAX,
        ..start
    };
    bytes[..size_of::<StackHead>()].copy_from_slice(claims_all.as_bytes());
    assert_eq!(
        Record::decode(&bytes),
        Err(DecodeError::BadDepth { depth: u32::MAX })
    );
}
