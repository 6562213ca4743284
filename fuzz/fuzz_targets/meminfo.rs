//! Any bytes as `/proc/meminfo` and the files beside it: whatever they say, the
//! sheet adds up.
#![no_main]
use libfuzzer_sys::fuzz_target;
use memtrace::meminfo::{
    Case, Machine, Moment, Sheet, explain, findings, tables, vmalloc, zoneinfo,
};
use memtrace_fuzz::{provide, seeds};

fuzz_target!(
    init: provide("meminfo", &seeds::memory_files()),
    |data: &[u8]| {
        let text = String::from_utf8_lossy(data);
        // The files in one, each behind a line of its own.
        let mut parts = text.split("\n--\n");
        let Ok(mut machine) = Machine::of_meminfo(parts.next().unwrap_or_default()) else {
            return;
        };
        machine.zones = zoneinfo::parse(parts.next().unwrap_or_default());
        machine.vmstat = tables::vmstat(parts.next().unwrap_or_default());
        machine.vmalloc = parts.next().map(vmalloc::parse);
        machine.caches = tables::slabinfo(parts.next().unwrap_or_default(), machine.page_kb);
        machine.modules = tables::modules(parts.next().unwrap_or_default());
        let mut sheet = Sheet::of(&machine);
        let top = sheet.rows.iter().filter(|row| row.of.is_none());
        assert_eq!(u64::try_from(top.map(|row| row.kb).sum::<i64>()), Ok(sheet.total_kb));
        let old = Moment::of(machine.clone());
        let case = Case { machine: &machine, sheet: &sheet, holders: None, before: Some(&old) };
        let _ = findings(&case);
        let _ = explain::explanations(&machine, &sheet, true);
        sheet.compare(&old.sheet, Some(1));
    }
);
