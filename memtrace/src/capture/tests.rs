//! Captures made by hand, whole and not.
use memtrace_common::{Function, event::*};
use zerocopy::IntoBytes;

use super::{
    CaptureError, Replay, Shown,
    format::{self, Kind, Module, Names, Process, Progress, Start},
};
use crate::{
    event::batch::BatchBuilder,
    process::modules::{FileFacts, RecordedModule},
    report::heap::HeapReport,
    symbol::{self, Symbol},
    trace::Losses,
};

const PID: u32 = 7;
const CODE: u64 = 0x7f00_0000_0000;

fn block(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut block = format::block_head(kind, payload).to_vec();
    block.extend_from_slice(payload);
    block
}

fn json(kind: Kind, value: &impl serde::Serialize) -> Vec<u8> {
    block(kind, &serde_json::to_vec(value).unwrap())
}

fn head(kind: EventKind, time_ns: u64) -> Head {
    Head {
        kind: kind as u16,
        function: Function::Malloc.id(0),
        pid: PID,
        tid: PID,
        flags: 0,
        time_ns,
    }
}

fn alloc(address: u64, size: u64, time_ns: u64) -> Vec<u8> {
    let head = head(EventKind::Alloc, time_ns);
    let stack = 50;
    Alloc {
        head,
        address,
        size,
        stack,
    }
    .as_bytes()
    .to_vec()
}

fn stack(hash: u64, frames: &[u64]) -> Vec<u8> {
    let start = StackHead {
        head: head(EventKind::Stack, 0),
        hash,
        depth: u32::try_from(frames.len()).unwrap(),
        reserved: 0,
    };
    [start.as_bytes(), frames.as_bytes()].concat()
}

fn events(records: &[Vec<u8>]) -> Vec<u8> {
    let mut batch = BatchBuilder::default();
    for record in records {
        batch.push(record);
    }
    let batch = batch.take();
    block(Kind::Events, &batch.bytes(0..batch.len()))
}

fn start() -> Start {
    Start {
        started_ns: 1000,
        ..Start::default()
    }
}

fn module(id: u32, path: &str) -> Module {
    Module {
        id,
        module: RecordedModule {
            path: path.to_owned(),
            build_id: Some("00112233445566778899".to_owned()),
            file: Some(FileFacts {
                size: 1,
                modified: 1,
            }),
            code: None,
            is_allocator: false,
            functions: Vec::new(),
        },
    }
}

fn process(index: usize, comm: &str) -> Process {
    Process {
        index,
        pid: PID,
        namespace_pid: None,
        parent: None,
        start_time: 1,
        comm: comm.to_owned(),
        exe: "/bin/it".to_owned(),
        exited: false,
        allocators: vec![("libc.so.6".to_owned(), vec!["malloc".to_owned()])],
        missing: Vec::new(),
        remarks: vec!["a remark".to_owned()],
        mapped: vec![(CODE, CODE + 0x1000, CODE, 0)],
    }
}

fn names() -> Names {
    let symbol = Symbol {
        name: Some("leak()".to_owned()),
        line: Some(11),
        ..Symbol::default()
    };
    Names {
        module: 0,
        warnings: vec!["no lines".to_owned()],
        addresses: vec![(0x20, vec![symbol])],
    }
}

fn progress(now_ns: u64, lost: u64) -> Progress {
    Progress {
        now_ns,
        losses: Losses {
            lost,
            last_ns: lost,
            reasons: vec![("ring full".to_owned(), lost)],
        },
    }
}

/// A header and blocks up to the end.
fn blocks() -> Vec<Vec<u8>> {
    vec![
        format::header().to_vec(),
        json(Kind::Start, &start()),
        json(Kind::Module, &module(0, "/bin/it")),
        json(Kind::Process, &process(0, "it")),
        events(&[stack(50, &[CODE + 0x20]), alloc(0x1000, 100, 2000)]),
        json(Kind::Progress, &progress(2500, 0)),
        events(&[alloc(0x2000, 11, 3000)]),
        json(Kind::Stop, &progress(4000, 0)),
        // Too late.
        events(&[alloc(0x3000, 1, 4001)]),
        json(Kind::Names, &names()),
        json(Kind::End, &progress(4000, 0)),
    ]
}

fn read(bytes: &[u8]) -> Result<Replay, CaptureError> {
    // No names but those in the capture.
    let options = symbol::Options {
        debug_dirs: Vec::new(),
        debug_info: false,
    };
    Replay::read(bytes, options)
}

fn report(bytes: &[u8]) -> HeapReport {
    let mut replay = read(bytes).unwrap();
    let shown = Shown::default();
    let mut report = replay.report(&shown.choice(10));
    assert_eq!(replay.ends_early().is_none(), report.exact, "{report:?}");
    report.notes.retain(|note| note != "a remark");
    report
}

#[test]
fn a_whole_capture_is_an_exact_report() {
    let report = report(&blocks().concat());
    let totals = report.totals;
    assert_eq!(
        (totals.outstanding_bytes, totals.outstanding_count),
        (111, 2)
    );
    assert_eq!((report.duration_ns, report.lost_events), (3000, 0));
    assert_eq!(report.notes, ["no lines"]);
    assert_eq!(report.processes[0].allocators, ["libc.so.6: malloc"]);
    let frame = &report.stacks[0].frames[0];
    assert_eq!(frame.symbol.as_deref(), Some("leak()"));
    assert_eq!(frame.module.as_deref(), Some("/bin/it"));
    assert_eq!(
        (frame.offset.as_deref(), frame.line),
        (Some("0x20"), Some(11))
    );
}

#[test]
fn losses_are_told() {
    let mut blocks = blocks();
    *blocks.last_mut().unwrap() = json(Kind::End, &progress(4000, 3));
    let mut replay = read(&blocks.concat()).unwrap();
    let report = replay.report(&Shown::default().choice(10));
    assert!(!report.exact && report.lost_events == 3);
    assert!(report.notes.contains(&"ring full: 3".to_owned()));
}

/// Whatever is cut off, what comes before counts.
#[test]
fn any_beginning_can_be_read() {
    let blocks = blocks();
    let whole = blocks.concat();
    let needed = blocks[0].len() + blocks[1].len();
    let mut most = 0;
    for length in 0..whole.len() {
        let part = &whole[..length];
        if length < needed {
            assert!(
                matches!(read(part), Err(CaptureError::Empty(_))),
                "{length}"
            );
            continue;
        }
        let report = report(part);
        assert!(report.notes.iter().any(|note| note.contains("ends early")));
        let bytes = report.totals.outstanding_bytes;
        assert!(bytes >= most && [0, 100, 111, 112].contains(&bytes));
        most = bytes.min(111);
    }
    assert_eq!(most, 111);
}

/// Without the names at the end, and without the file: offsets.
#[test]
fn code_without_names_is_shown_as_offsets() {
    let blocks = blocks();
    let report = report(&blocks[..blocks.len() - 1].concat());
    let frame = &report.stacks[0].frames[0];
    assert_eq!(
        (&frame.symbol, frame.offset.as_deref()),
        (&None, Some("0x20"))
    );
    assert!(report.notes.iter().any(|note| note.contains("is not here")));
}

/// Every byte of it: what comes before is used, or it is refused.
#[test]
fn any_damage_is_noticed() {
    let whole = blocks().concat();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x20;
        match read(&damaged) {
            Err(_) => assert!(at < format::HEADER + blocks()[1].len(), "{at}"),
            // Not looked at: the format's minor version and what is reserved.
            Ok(replay) => assert_eq!(
                replay.ends_early().is_none(),
                (10..16).contains(&at),
                "{at}"
            ),
        }
    }
}

#[test]
fn what_is_unknown_is_skipped() {
    let mut blocks = blocks();
    let payload = [1, 2, 3];
    let mut later = 77_u32.to_le_bytes().to_vec();
    later.extend_from_slice(&3_u32.to_le_bytes());
    later.extend_from_slice(&format::checksum(77, &payload).to_le_bytes());
    later.extend_from_slice(&payload);
    blocks.insert(4, later);
    assert_eq!(report(&blocks.concat()).totals.outstanding_bytes, 111);
}

#[test]
fn other_files_are_refused() {
    assert!(matches!(read(b"memory"), Err(CaptureError::Foreign)));
    assert!(matches!(
        read(b"\x7fELF\x02\x01\x01 and so on"),
        Err(CaptureError::Foreign)
    ));
    let mut newer = blocks().concat();
    newer[8] = 2;
    assert!(matches!(
        read(&newer),
        Err(CaptureError::Newer { major: 2 })
    ));
    let blocks = blocks();
    // No start; nothing at all.
    let headless = [blocks[0].clone(), blocks[2].clone()].concat();
    assert!(matches!(read(&headless), Err(CaptureError::Empty(_))));
    assert!(matches!(read(&blocks[0]), Err(CaptureError::Empty(_))));
}

/// Whole blocks that contradict others.
#[test]
fn nonsense_ends_it() {
    let strange = [
        json(Kind::Start, &start()),
        json(Kind::Module, &module(5, "/bin/other")),
        json(Kind::Process, &process(9, "it")),
        json(
            Kind::Process,
            &Process {
                mapped: vec![(0, u64::MAX, 1, 9)],
                ..process(0, "it")
            },
        ),
        block(Kind::Process, b"{}"),
        block(Kind::End, b"\xff"),
    ];
    for block in strange {
        let mut blocks = blocks();
        blocks.insert(5, block);
        assert_eq!(report(&blocks.concat()).totals.outstanding_bytes, 100);
    }
}

/// A process that is new under an id that another had: what that one held is
/// gone, and stacks are looked up in the new one's mappings.
#[test]
fn ids_are_reused() {
    let mut blocks = blocks();
    blocks.splice(
        7..7,
        [
            json(
                Kind::Process,
                &Process {
                    exited: true,
                    ..process(0, "it")
                },
            ),
            json(Kind::Module, &module(1, "/bin/new")),
            json(
                Kind::Process,
                &Process {
                    mapped: vec![(CODE, CODE + 0x1000, CODE, 1)],
                    ..process(1, "new")
                },
            ),
            events(&[stack(51, &[CODE + 0x30]), alloc(0x9000, 5, 3500)]),
        ],
    );
    let mut replay = read(&blocks.concat()).unwrap();
    let report = replay.report(&Shown::default().choice(10));
    assert_eq!(report.totals.outstanding_bytes, 5);
    assert_eq!(report.processes.len(), 2);
    assert!(report.processes[0].exited);
}

/// Whatever a program may ask of a writer, the file is whole.
#[test]
fn what_is_written_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("capture");
    std::fs::write(&path, vec![b'x'; 100_000]).unwrap();
    let mut recorder = super::Recorder::create(&path).unwrap();
    recorder.put_json(Kind::Start, &start());
    recorder.put_json(Kind::Module, &module(0, "/bin/it"));
    recorder.put_json(Kind::Process, &process(0, "it"));
    let records = events(&[stack(50, &[CODE + 0x20]), alloc(0x1000, 100, 2000)]);
    let payload = records[format::BLOCK_HEAD..].to_vec();
    recorder.put(Kind::Events, payload.into());
    recorder.put_json(Kind::End, &progress(4000, 0));
    recorder.close().unwrap();
    let report = report(&std::fs::read(&path).unwrap());
    assert_eq!(report.totals.outstanding_bytes, 100);
}

#[test]
fn a_full_disk_is_told() {
    let mut recorder = super::Recorder::create("/dev/full".as_ref()).unwrap();
    recorder.put_json(Kind::Start, &start());
    let error = recorder.close().unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    let nowhere = super::Recorder::create("/nonexistent/capture".as_ref());
    assert!(nowhere.is_err());
}
