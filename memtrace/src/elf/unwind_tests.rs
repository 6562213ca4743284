//! Tests of [`super`], on the files of this machine and damaged copies of them.
use super::*;
use crate::elf::image::tests::libc;
use std::fs::File;
use std::path::Path;

fn image(path: impl AsRef<Path>) -> Image {
    Image::open(&File::open(path).unwrap()).unwrap()
}

fn count(table: &UnwindTable, rule: CfaRule) -> usize {
    table
        .rows
        .iter()
        .filter(|row| row.rule() == rule as u8)
        .count()
}

fn check(table: &UnwindTable) {
    assert_eq!(table.rows[0].pc, 0);
    for pair in table.rows.windows(2) {
        assert!(pair[0].pc < pair[1].pc);
        assert!(UnwindRow { pc: 0, ..pair[0] } != UnwindRow { pc: 0, ..pair[1] });
    }
    assert_eq!(table.rows.last().unwrap().rule(), CfaRule::Unknown as u8);
}

/// A generator with a fixed seed (xorshift).
fn random(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).unwrap()
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_c_library_has_every_kind_of_row() {
    let image = image(libc());
    let table = UnwindTable::build(&image).unwrap();
    check(&table);
    assert_eq!(table.damaged, 0);
    for rule in [
        CfaRule::StackPointer,
        CfaRule::FramePointer,
        CfaRule::End,
        CfaRule::Signal,
    ] {
        assert!(count(&table, rule) > 0, "{rule:?}");
    }
    // Code that has no information, which is little.
    let unknown = count(&table, CfaRule::Unknown);
    assert!(unknown * 100 < table.rows.len(), "{unknown}");
    // At its first instruction nothing is pushed but the return address.
    for function in image.functions() {
        let row = table.rule_at(u32::try_from(function.vaddr).unwrap());
        assert_eq!(
            (row.rule(), row.cfa_words(), row.fp_words_below_cfa),
            (2, 1, 0),
            "{function:?}"
        );
    }
    assert_eq!(table.rule_at(0).rule(), CfaRule::Unknown as u8);
    assert_eq!(table.rule_at(u32::MAX).rule(), CfaRule::Unknown as u8);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_program_begins_with_its_outermost_frame() {
    let image = image("/proc/self/exe");
    let bytes = std::fs::read("/proc/self/exe").unwrap();
    let entry = u32::from_le_bytes(bytes[24..28].try_into().unwrap());
    let table = UnwindTable::build(&image).unwrap();
    check(&table);
    assert_eq!(table.rule_at(entry).rule(), CfaRule::End as u8);
}

#[test]
fn section_headers_are_not_needed() {
    let mut bytes = std::fs::read(libc()).unwrap();
    let whole = UnwindTable::build(&Image::from_bytes(bytes.clone()).unwrap()).unwrap();
    bytes[0x28..0x30].fill(0); // e_shoff
    bytes[0x3c..0x40].fill(0); // e_shnum, e_shstrndx
    let image = Image::from_bytes(bytes).unwrap();
    assert!(!image.has_dynsym() && image.section(".eh_frame").is_none());
    assert_eq!(UnwindTable::build(&image).unwrap(), whole);
}

#[test]
fn overlaps_and_gaps() {
    let rules = |words| Rules::new(CfaRule::StackPointer, words, 0).unwrap();
    let spans = [
        (16, 32, 1),
        (16, 24, 9),
        (40, 64, 1),
        (48, 56, 2),
        (80, 96, 3),
    ];
    let collector = Collector {
        machine: Machine::X86_64,
        code: Vec::new(),
        spans: spans
            .map(|(start, end, words)| Span {
                start,
                end,
                rules: rules(words),
            })
            .into(),
        damaged: 0,
    };
    let table = collector.finish();
    check(&table);
    let found: Vec<_> = table
        .rows
        .iter()
        .map(|row| (row.pc, row.rule(), row.cfa_words()))
        .collect();
    // 8 bytes from 32 on are padding, 24 from 56 on are not.
    let (unknown, padding) = (CfaRule::Unknown as u8, CfaRule::Inexpressible as u8);
    let by = CfaRule::StackPointer as u8;
    let expected = [
        (0, unknown, 0),
        (16, by, 1),
        (32, padding, 0),
        (40, by, 1),
        (48, by, 2),
        (56, unknown, 0),
        (80, by, 3),
        (96, unknown, 0),
    ];
    assert_eq!(found, expected);
    assert_eq!(table.rule_at(79).rule(), CfaRule::Unknown as u8);
    assert_eq!(table.rule_at(95).cfa_words(), 3);
}

#[test]
fn code_beyond_four_gibibytes_is_refused() {
    let mut bytes = std::fs::read("/bin/true").unwrap();
    let table = usize::try_from(u64::from_le_bytes(bytes[0x20..0x28].try_into().unwrap())).unwrap();
    for program in 0..usize::from(bytes[0x38]) {
        // p_vaddr, the byte above the lower 32 bits.
        bytes[table + program * 56 + 20] = 1;
    }
    let error = UnwindTable::build(&Image::from_bytes(bytes).unwrap()).unwrap_err();
    assert!(matches!(error, UnwindError::TooHigh(_)), "{error}");
}

/// `.eh_frame` of one function of 64 bytes at 0x100, and the table made of it. `rules`: from which byte on, what.
fn aarch64(rules: &[(u32, gimli::write::CallFrameInstruction)]) -> UnwindTable {
    use gimli::write::{
        Address, CallFrameInstruction, CommonInformationEntry, EhFrame as Written, EndianVec,
        FrameDescriptionEntry, FrameTable,
    };
    let encoding = gimli::Encoding {
        format: gimli::Format::Dwarf32,
        version: 1,
        address_size: 8,
    };
    let mut common = CommonInformationEntry::new(encoding, 4, -8, gimli::AArch64::X30);
    common.add_instruction(CallFrameInstruction::Cfa(gimli::AArch64::SP, 0));
    let mut frames = FrameTable::default();
    let common = frames.add_cie(common);
    let mut function = FrameDescriptionEntry::new(Address::Constant(0x100), 64);
    for (offset, instruction) in rules {
        function.add_instruction(*offset, instruction.clone());
    }
    frames.add_fde(common, function);
    let mut section = Written(EndianVec::new(LittleEndian));
    frames.write_eh_frame(&mut section).unwrap();
    let mut read = EhFrame::new(section.0.slice(), LittleEndian);
    read.set_address_size(8);
    read.set_vendor(Vendor::AArch64);
    let mut collector = Collector {
        machine: Machine::Aarch64,
        code: vec![(0x100, 0x1000)],
        spans: Vec::new(),
        damaged: 0,
    };
    let bases = BaseAddresses::default().set_eh_frame(0);
    collector.collect(&read, &bases).unwrap();
    let table = collector.finish();
    check(&table);
    assert_eq!(table.damaged, 0);
    table
}

/// Where the frame address, the frame pointer and the return address are: rule, words, words.
fn at(table: &UnwindTable, pc: u32) -> (u8, i64, i8) {
    let row = table.rule_at(pc);
    (row.rule(), row.cfa_words(), row.fp_words_below_cfa)
}

#[test]
fn frame_records_of_aarch64() {
    const SP: gimli::Register = gimli::AArch64::SP;
    const X29: gimli::Register = gimli::AArch64::X29;
    const X30: gimli::Register = gimli::AArch64::X30;
    use gimli::write::CallFrameInstruction::{Cfa, CfaOffset, NegateRaState, Offset, Restore};
    let (sp, fp) = (CfaRule::StackPointer as u8, CfaRule::FramePointer as u8);
    // paciasp; stp x29, x30, [sp, -32]!; mov x29, sp; …; ldp x29, x30, [sp], 32; retaa
    let table = aarch64(&[
        (4, NegateRaState),
        (8, CfaOffset(32)),
        (8, Offset(X29, -32)),
        (8, Offset(X30, -24)),
        (16, Cfa(X29, 48)),
        (40, Cfa(SP, 0)),
        (40, Restore(X29)),
        (40, Restore(X30)),
        (44, NegateRaState),
    ]);
    // Signing a return address does not move it.
    assert_eq!(at(&table, 0x100), (sp, 0, 0));
    assert_eq!(at(&table, 0x104), (sp, 0, 0));
    assert_eq!(at(&table, 0x108), (sp, 4, 4));
    assert_eq!(at(&table, 0x110), (fp, 6, 4));
    assert_eq!(at(&table, 0x128), (sp, 0, 0));
    assert_eq!(at(&table, 0x140).0, CfaRule::Unknown as u8);
    // A large frame, whose record is at its lower end, too far away for a row to say how far.
    let table = aarch64(&[
        (8, CfaOffset(4096)),
        (8, Offset(X29, -4096)),
        (8, Offset(X30, -4088)),
        (12, Cfa(X29, 4096)),
        (16, Cfa(SP, 4112)),
    ]);
    assert_eq!(at(&table, 0x108), (CfaRule::StackRecord as u8, 512, 0));
    assert_eq!(at(&table, 0x10c), (CfaRule::FrameRecord as u8, 512, 0));
    assert_eq!(at(&table, 0x110).0, CfaRule::Inexpressible as u8);
}

#[test]
fn return_addresses_of_aarch64_without_a_frame_record() {
    const X19: gimli::Register = gimli::AArch64::X19;
    const X29: gimli::Register = gimli::AArch64::X29;
    const X30: gimli::Register = gimli::AArch64::X30;
    use gimli::write::CallFrameInstruction::{CfaOffset, Offset, Register, Undefined};
    let sp = CfaRule::StackPointer as u8;
    // str x30, [sp, -16]!
    let table = aarch64(&[(4, CfaOffset(16)), (4, Offset(X30, -16))]);
    assert_eq!(at(&table, 0x104), (sp, 2, -2));
    let inexpressible = CfaRule::Inexpressible as u8;
    let apart = aarch64(&[
        (0, CfaOffset(64)),
        (0, Offset(X29, -64)),
        (0, Offset(X30, -16)),
    ]);
    assert_eq!(at(&apart, 0x100).0, inexpressible);
    let elsewhere = aarch64(&[(4, Register(X30, X19))]);
    assert_eq!(at(&elsewhere, 0x104).0, inexpressible);
    let outermost = aarch64(&[(0, Undefined(X30))]);
    assert_eq!(at(&outermost, 0x100).0, CfaRule::End as u8);
}

/// Where `.eh_frame` is in a file.
fn eh_frame_range(image: &Image) -> std::ops::Range<usize> {
    let (address, bytes) = image.section(".eh_frame").unwrap();
    let start = usize::try_from(image.file_offset(address).unwrap()).unwrap();
    start..start + bytes.len()
}

#[test]
fn damaged_information_does_no_harm() {
    let bytes = std::fs::read("/bin/true").unwrap();
    let intact = Image::from_bytes(bytes.clone()).unwrap();
    let range = eh_frame_range(&intact);
    let mut next = random(0x9e37_79b9_7f4a_7c15);
    let mut damaged = 0;
    for round in 0..4000 {
        let mut bytes = bytes.clone();
        for _ in 0..=round % 16 {
            bytes[range.start + next(range.len())] = u8::try_from(next(256)).unwrap();
        }
        let table = UnwindTable::build(&Image::from_bytes(bytes).unwrap()).unwrap();
        check(&table);
        damaged += table.damaged;
    }
    assert!(damaged > 0);
}

#[test]
fn random_information_does_no_harm() {
    let bytes = std::fs::read("/bin/true").unwrap();
    let range = eh_frame_range(&Image::from_bytes(bytes.clone()).unwrap());
    let mut next = random(0x2545_f491_4f6c_dd1d);
    for _ in 0..2000 {
        let mut bytes = bytes.clone();
        bytes[range.clone()].fill_with(|| u8::try_from(next(256)).unwrap());
        // A first length and version that let the rest be looked at.
        let length = u32::try_from(next(64)).unwrap().to_le_bytes();
        bytes[range.start..range.start + 4].copy_from_slice(&length);
        bytes[range.start + 4..range.start + 10].copy_from_slice(&[0, 0, 0, 0, 1, 0]);
        if let Ok(table) = UnwindTable::build(&Image::from_bytes(bytes).unwrap()) {
            check(&table);
        }
    }
}
