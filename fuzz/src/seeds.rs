//! Small inputs that are right.
use memtrace::capture::format::{self, Kind, Module, Names, Process, Progress, Start};
use memtrace::event::batch::BatchBuilder;
use memtrace::process::modules::RecordedModule;
use memtrace::symbol::Symbol;
use memtrace_common::Function;
use memtrace_common::event::*;
use serde::Serialize;
use zerocopy::{Immutable, IntoBytes};

const PID: u32 = 7;
const CODE: u64 = 0x7f00_0000_0000;

fn head(kind: EventKind, function: Function, time_ns: u64) -> Head {
    Head {
        kind: kind as u16,
        function: function.id(0),
        pid: PID,
        tid: PID,
        flags: 0,
        time_ns,
    }
}

fn bytes(record: &(impl IntoBytes + Immutable)) -> Vec<u8> {
    record.as_bytes().to_vec()
}

/// A stack, and a record of each kind that leads to it.
fn blocks() -> Vec<Vec<u8>> {
    let (old, address, size, stack) = (0x1000, 0x1000, 100, 50);
    let start = StackHead {
        head: head(EventKind::Stack, Function::Malloc, 1),
        hash: stack,
        depth: 2,
        reserved: 0,
    };
    let frames = [CODE + 0x20, CODE + 0x40];
    let head = |kind, function| head(kind, function, 2000);
    let malloc = head(EventKind::Alloc, Function::Malloc);
    let begin = head(EventKind::ReallocBegin, Function::Realloc);
    let end = head(EventKind::ReallocEnd, Function::Realloc);
    let free = head(EventKind::Free, Function::Free);
    vec![
        [bytes(&start), bytes(&frames)].concat(),
        bytes(&Alloc {
            head: malloc,
            address,
            size,
            stack,
        }),
        bytes(&ReallocBegin { head: begin, old }),
        bytes(&ReallocEnd {
            head: end,
            old,
            address,
            size,
            stack,
        }),
        bytes(&Free {
            head: free,
            address,
        }),
    ]
}

/// A record of each kind about mappings, and about programs.
fn mappings() -> Vec<Vec<u8>> {
    let (old, address, stack) = (0x1000, 0x1000, 50);
    let (old_length, length) = (4096, 4096);
    let head = |kind, function| head(kind, function, 2000);
    let map = head(EventKind::Map, Function::Mmap);
    let unmap = head(EventKind::UnmapBegin, Function::Munmap);
    let failed = head(EventKind::UnmapFailed, Function::Munmap);
    let begin = head(EventKind::RemapBegin, Function::Mremap);
    let end = RemapEnd {
        head: head(EventKind::RemapEnd, Function::Mremap),
        old,
        old_length,
        address,
        length,
        stack,
        keeps_old: 0,
    };
    let modules = head(EventKind::Modules, Function::Malloc);
    let exec = head(EventKind::Exec, Function::Malloc);
    vec![
        bytes(&Map {
            head: map,
            address,
            length,
            stack,
        }),
        bytes(&UnmapBegin {
            head: unmap,
            address,
            length,
        }),
        bytes(&UnmapFailed {
            head: failed,
            address,
            length,
        }),
        bytes(&RemapBegin {
            head: begin,
            old,
            old_length,
        }),
        bytes(&end),
        bytes(&Modules { head: modules }),
        bytes(&Exec { head: exec }),
    ]
}

fn records() -> Vec<Vec<u8>> {
    [blocks(), mappings()].concat()
}

fn batch(records: &[Vec<u8>]) -> Vec<u8> {
    let mut batch = BatchBuilder::default();
    for record in records {
        batch.push(record);
    }
    let batch = batch.take();
    batch.bytes(0..batch.len()).to_vec()
}

/// For `event_decoder`: how it samples, and batches.
pub fn events() -> Vec<Vec<u8>> {
    let records = records();
    let one = |part: &[Vec<u8>]| [vec![0], batch(part)].concat();
    let mut seeds = vec![one(&records), one(&records[..2]), one(&records[4..])];
    seeds.push([vec![20], batch(&records)].concat());
    seeds
}

fn block(kind: Kind, payload: &[u8]) -> Vec<u8> {
    [&format::block_head(kind, payload), payload].concat()
}

fn json(kind: Kind, value: &impl Serialize) -> Vec<u8> {
    block(kind, &serde_json::to_vec(value).expect("plain structures"))
}

/// For `capture_reader`: a whole one, one without an end, and a header.
pub fn captures() -> Vec<Vec<u8>> {
    let module = RecordedModule {
        path: "/bin/it".to_owned(),
        build_id: Some("00112233445566778899".to_owned()),
        file: None,
        code: None,
        is_allocator: false,
        functions: vec![(Function::Free.id(0), 0x10, 0x20)],
    };
    let process = Process {
        pid: PID,
        comm: "it".to_owned(),
        exe: "/bin/it".to_owned(),
        allocators: vec![("libc.so.6".to_owned(), vec!["malloc".to_owned()])],
        mapped: vec![(CODE, CODE + 0x1000, CODE, 0)],
        ..Process::default()
    };
    let symbol = Symbol {
        name: Some("leak".to_owned()),
        file: Some("leak.c".to_owned()),
        line: Some(1),
        inlined: false,
    };
    let names = Names {
        module: 0,
        warnings: Vec::new(),
        addresses: vec![(0x20, vec![symbol])],
    };
    let whole = [
        format::header().to_vec(),
        json(Kind::Start, &Start::default()),
        json(Kind::Module, &Module { id: 0, module }),
        json(Kind::Process, &process),
        block(Kind::Events, &batch(&blocks())),
        json(Kind::Progress, &Progress::default()),
        json(
            Kind::Stop,
            &Progress {
                now_ns: 4000,
                ..Progress::default()
            },
        ),
        json(Kind::Names, &names),
        json(
            Kind::End,
            &Progress {
                now_ns: 4000,
                ..Progress::default()
            },
        ),
    ];
    vec![whole.concat(), whole[..5].concat(), whole[0].clone()]
}

/// An ELF file of one segment with code everywhere, a header that leads to
/// `.eh_frame`, and that.
pub fn image(eh_frame: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 2 * 56;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let put = |file: &mut Vec<u8>, bytes: usize, values: &[u64]| {
        for value in values {
            file.extend_from_slice(&value.to_le_bytes()[..bytes]);
        }
    };
    let size = HEADERS + 8 + eh_frame.len() as u64;
    // ET_DYN, EM_X86_64, EV_CURRENT; entry, headers, no sections; flags; sizes.
    put(&mut file, 2, &[3, 62]);
    put(&mut file, 4, &[1]);
    put(&mut file, 8, &[0, 64, 0]);
    put(&mut file, 4, &[0]);
    put(&mut file, 2, &[64, 56, 2, 64, 0, 0]);
    // PT_LOAD, readable and executable; 1 MiB in memory.
    put(&mut file, 4, &[1, 5]);
    put(&mut file, 8, &[0, 0, 0, size, 1 << 20, 0x1000]);
    // PT_GNU_EH_FRAME, readable.
    put(&mut file, 4, &[0x6474_e550, 4]);
    put(&mut file, 8, &[HEADERS, HEADERS, HEADERS, 8, 8, 4]);
    // Version; a pointer relative to its place; no count, no table.
    file.extend_from_slice(&[1, 0x1b, 0xff, 0xff]);
    put(&mut file, 4, &[4]);
    file.extend_from_slice(eh_frame);
    file
}

/// For `eh_frame`: 0 and a whole file, or 1 and `.eh_frame` alone.
pub fn unwinding() -> Vec<Vec<u8>> {
    #[rustfmt::skip]
    let eh_frame = [
        // A common entry: version 1, "zR", steps of 1 and -8, return address 16,
        // addresses relative; at rsp + 8, return address there.
        20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b,
        0x0c, 7, 8, 0x90, 1, 0, 0,
        // A function of 0x20 bytes: push rbp; mov rbp, rsp; …; leave.
        28, 0, 0, 0, 28, 0, 0, 0, 0, 1, 0, 0, 0x20, 0, 0, 0, 0,
        0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6, 0x5c, 0x0c, 7, 8, 0, 0, 0,
        // The end.
        0, 0, 0, 0,
    ];
    // A frame address by expression, as in realigning functions.
    #[rustfmt::skip]
    let expression = [
        20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b,
        0x0c, 7, 8, 0x90, 1, 0, 0,
        28, 0, 0, 0, 28, 0, 0, 0, 0, 1, 0, 0, 0x20, 0, 0, 0, 0,
        0x41, 0x0f, 3, 0x76, 0x78, 6, 0x10, 6, 2, 0x76, 0, 0, 0, 0, 0,
        0, 0, 0, 0,
    ];
    let alone = |bytes: &[u8]| [&[1], bytes].concat();
    vec![
        alone(&eh_frame),
        alone(&expression),
        [vec![0], image(&eh_frame)].concat(),
    ]
}

/// For `maps_and_stat`: lines of `/proc/PID/maps`, `stat` and `status`.
pub fn proc_files() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 3] = [
        b"7f00000000-7f00001000 r-xp 00001000 fe:01 42                 /a b/\xe9 (deleted)\n\
          7f00002000-7f00003000 rwxp 00000000 00:00 0 \n",
        b"7 (a) \xff\n(b) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 99 1000 10 18446744073709551615\n",
        b"Name:\tit\nTgid:\t7\nNSpid:\t7\t1\n",
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}

/// For `meminfo`: /proc/meminfo alone, and with the files beside it.
pub fn memory_files() -> Vec<Vec<u8>> {
    let meminfo = include_str!("../../tests/data/meminfo/made-7.1-x86_64.txt");
    let beside = [
        "Node 0, zone   Normal\n  pages free     40\n        managed  900\n              count:    7",
        "nr_free_pages 40\nnr_isolated_anon 2\nnr_zspages 3\nballoon_inflate 9\nballoon_deflate 1",
        "0x1-0x2 20480 kernel_clone+0x94/0x3e0 pages=4 vmalloc N0=4\n0x1-0x2 8192 f+0x1/0x2 [m] pages=1 vmalloc",
        "dentry 17 21 192 21 1 : tunables 0 0 0 : slabdata 1 1 0",
        "zram 40960 1 - Live 0x0",
    ];
    let all = [&[meminfo], &beside[..]].concat().join("\n--\n");
    let android = include_str!("../../tests/data/meminfo/meminfo-1g-oom.txt");
    vec![all.into_bytes(), meminfo.into(), android.into()]
}

/// For `oom_log`: reports of kills in the formats of several kernels.
pub fn kernel_logs() -> Vec<Vec<u8>> {
    const LOGS: &[&str] = &[
        include_str!("../../tests/data/oom/recorded-6.18-memcg.txt"),
        include_str!("../../tests/data/oom/made-2.6.32-global.txt"),
        include_str!("../../tests/data/oom/made-3.10-memcg.txt"),
        include_str!("../../tests/data/oom/made-4.15-fragmented.txt"),
        include_str!("../../tests/data/oom/made-5.10-protected.txt"),
        include_str!("../../tests/data/oom/made-7.2-slab.txt"),
    ];
    LOGS.iter().map(|log| log.as_bytes().to_vec()).collect()
}
