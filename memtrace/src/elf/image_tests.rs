//! Tests of [`super`], on the files of this machine.
use super::*;

/// The C library that this test runs on.
pub(crate) fn libc() -> std::path::PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().find_map(|line| {
        let path = line.split_whitespace().nth(5)?;
        let name = path.rsplit('/').next()?;
        (name.starts_with("libc.so") || name.starts_with("libc-")).then(|| path.into())
    });
    path.expect("this test runs on a dynamically linked libc")
}

fn open(path: impl AsRef<std::path::Path>) -> Image {
    Image::open(&File::open(path).unwrap()).unwrap()
}

#[test]
fn the_c_library_defines_the_allocation_functions_once_each() {
    let image = open(libc());
    let functions = image.functions();
    for wanted in [
        Function::Malloc,
        Function::Calloc,
        Function::Realloc,
        Function::Free,
    ] {
        assert_eq!(
            functions.iter().filter(|f| f.function == wanted).count(),
            1,
            "{wanted:?}"
        );
    }
    // memalign and aligned_alloc share an address, and so do mmap and mmap64:
    // the first in the table stays.
    let mmaps = functions.iter().filter(|f| f.function == Function::Mmap);
    assert_eq!(
        mmaps.map(|f| f.id).collect::<Vec<_>>(),
        [Function::Mmap.id(0)]
    );
    assert!(
        functions
            .windows(2)
            .all(|pair| pair[0].vaddr < pair[1].vaddr)
    );
    assert!(functions.iter().all(|f| f.size > 0));
}

#[test]
fn addresses_and_offsets_convert_both_ways() {
    let image = open(libc());
    for function in image.functions() {
        let offset = image.file_offset(function.vaddr).unwrap();
        assert_eq!(image.vaddr(offset), Some(function.vaddr));
        let code = image.code(function.vaddr, function.size).unwrap();
        assert_eq!(code.len() as u64, function.size);
    }
    assert_eq!(image.file_offset(u64::MAX), None);
    assert_eq!(image.vaddr(u64::MAX), None);
    assert_eq!(image.code(0, 16), None, "headers are no code");
}

#[test]
fn the_load_bias_leads_to_the_function_that_runs() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let exe = std::fs::read_link("/proc/self/exe").unwrap();
    let image = open(&exe);
    let biases: Vec<u64> = maps
        .lines()
        .filter(|line| line.ends_with(exe.to_str().unwrap()))
        .map(|line| {
            let field = |n| line.split_whitespace().nth(n).unwrap();
            let start = field(0).split('-').next().unwrap();
            let parse = |hex| u64::from_str_radix(hex, 16).unwrap();
            (field(1), parse(start), parse(field(2)))
        })
        .filter(|(protection, ..)| protection.contains('x'))
        .map(|(_, start, offset)| image.load_bias(start, offset).unwrap())
        .collect();
    let here = the_load_bias_leads_to_the_function_that_runs as fn() as usize as u64;
    assert!(!biases.is_empty());
    assert!(
        biases
            .iter()
            .all(|bias| image.code(here.wrapping_sub(*bias), 1).is_some())
    );
}

#[test]
fn the_dynamic_linker_has_its_breakpoint() {
    let linker = "/lib64/ld-linux-x86-64.so.2";
    if std::path::Path::new(linker).exists() {
        let image = open(linker);
        assert!(image.symbol("_dl_debug_state").is_some());
        assert!(!image.has_interpreter());
        assert!(image.symbol("no such function").is_none());
    }
}

#[test]
fn facts_of_this_program() {
    let image = open("/proc/self/exe");
    assert!(image.has_interpreter() && image.has_dynsym() && image.has_symtab());
    assert!(!image.is_go());
    assert!(image.executable_segments().count() >= 1);
    let hex = open(libc()).build_id_hex().unwrap();
    assert!(hex.len() >= 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn other_files_are_refused_in_words() {
    let refuse = |bytes: &[u8]| Image::from_bytes(bytes.to_vec()).unwrap_err().to_string();
    let mut header = std::fs::read("/proc/self/exe").unwrap();
    header.truncate(64);
    let with = |at: usize, byte: u8| {
        let mut changed = header.clone();
        changed[at] = byte;
        refuse(&changed)
    };
    assert!(with(4, 1).contains("32-bit"));
    assert!(with(5, 2).contains("big-endian"));
    assert!(with(18, 243).contains("machine 243"));
    assert!(with(16, 4).contains("type 4"));
    assert!(with(0, 0).contains("parsing"));
    assert!(refuse(b"").contains("parsing"));
    assert!(refuse(b"#!/bin/sh\n").contains("parsing"));
}

#[test]
fn damaged_headers_do_no_harm() {
    let bytes = std::fs::read(libc()).unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    let sections = bytes.len() - 64 * 70;
    for _ in 0..200 {
        let mut damaged = bytes.clone();
        for _ in 0..8 {
            let at = if next(2) == 0 {
                next(1024)
            } else {
                sections + next(64 * 70)
            };
            damaged[at] = u8::try_from(next(256)).unwrap();
        }
        if let Ok(image) = Image::from_bytes(damaged) {
            for function in image.functions() {
                let _ = image.code(function.vaddr, function.size);
            }
            let _ = (
                image.eh_frame_header(),
                image.section(".eh_frame"),
                image.load_bias(0, 0),
            );
        }
    }
}

/// A file of one segment with `code` at `vaddr`, a multiple of a page.
pub(crate) fn image_of_code(vaddr: u64, code: &[u8]) -> Image {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let put16 = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    let put32 = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    let put64 = |file: &mut Vec<u8>, value: u64| file.extend(value.to_le_bytes());
    // ET_DYN, EM_X86_64, EV_CURRENT.
    put16(&mut file, 3);
    put16(&mut file, 62);
    put32(&mut file, 1);
    // Entry; program headers behind this one; no section headers; flags.
    for value in [vaddr, 64, 0] {
        put64(&mut file, value);
    }
    put32(&mut file, 0);
    // Sizes and numbers of headers.
    for value in [64, 56, 1, 64, 0, 0] {
        put16(&mut file, value);
    }
    // PT_LOAD, readable and executable: offset, addresses, sizes, alignment.
    put32(&mut file, 1);
    put32(&mut file, 5);
    let size = code.len() as u64;
    for value in [0x1000, vaddr, vaddr, size, size, 0x1000] {
        put64(&mut file, value);
    }
    file.resize(0x1000, 0);
    file.extend(code);
    Image::from_bytes(file).unwrap()
}
