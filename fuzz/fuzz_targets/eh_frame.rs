//! Any bytes as an ELF file, or as the `.eh_frame` of one: unwinding tables,
//! functions and code.
#![no_main]
use libfuzzer_sys::fuzz_target;
use memtrace::elf::{Image, UnwindTable};
use memtrace_fuzz::{provide, seeds};

fuzz_target!(
    init: provide("eh_frame", &seeds::unwinding()),
    |data: &[u8]| {
        let file = match data.split_first() {
            Some((0, file)) => file.to_vec(),
            Some((_, eh_frame)) => seeds::image(eh_frame),
            None => return,
        };
        let Ok(image) = Image::from_bytes(file) else {
            return;
        };
        if let Ok(table) = UnwindTable::build(&image) {
            assert_eq!(table.rows.first().map(|row| row.pc), Some(0));
            assert!(table.rows.is_sorted_by(|a, b| a.pc < b.pc));
            for row in &table.rows {
                assert_eq!(table.rule_at(row.pc), *row);
            }
        }
        for function in image.functions().iter().chain(&image.prefixed_functions()) {
            let _ = image.code(function.vaddr, function.size.min(4096));
        }
        let _ = (
            image.build_id_hex(),
            image.symbol("malloc"),
            image.imports("malloc"),
            image.load_bias(0x1000, 0),
            image.is_go(),
        );
    }
);
