//! `/proc/vmallocinfo`: which areas of the kernel's address space hold pages of
//! their own, and who asked for them.
//!
//! Areas of `ioremap` (devices) and `vmap` (pages that somebody else holds)
//! take address space, not memory. So does the guard page behind each area.
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::kernel::memory::{AreaUse, area_use};

/// All areas with pages of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vmalloc {
    /// By caller, most pages first.
    pub callers: Vec<Caller>,
    /// Pages in them.
    pub pages: u64,
    /// Of these in kernel stacks.
    pub stack_pages: u64,
    /// Of these in kernel modules.
    pub module_pages: u64,
    /// Areas of kernel modules: each takes a guard page of address space.
    pub module_areas: u64,
    /// Bytes of address space that hold no memory of their own (ioremap, vmap).
    pub mapped_bytes: u64,
}

/// The areas of one caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The function that asked.
    pub caller: String,
    /// Its module; null for the kernel itself.
    pub module: Option<String>,
    /// How many.
    pub areas: u64,
    /// Pages in them.
    pub pages: u64,
}

/// One line.
struct Area<'a> {
    bytes: u64,
    caller: &'a str,
    module: Option<&'a str>,
    /// In pages; `None`: no memory of its own.
    pages: Option<u64>,
}

/// Reads the file; lines that are not known are skipped.
pub fn parse(text: &str) -> Vmalloc {
    let mut all = Vmalloc::default();
    let mut callers: HashMap<(&str, Option<&str>), Caller> = HashMap::new();
    for area in text.lines().filter_map(parse_area) {
        let Some(pages) = area.pages else {
            all.mapped_bytes = all.mapped_bytes.saturating_add(area.bytes);
            continue;
        };
        all.pages = all.pages.saturating_add(pages);
        match area_use(area.caller) {
            AreaUse::Stack => all.stack_pages = all.stack_pages.saturating_add(pages),
            AreaUse::Module => {
                all.module_pages = all.module_pages.saturating_add(pages);
                all.module_areas += 1;
            }
            AreaUse::Other => {}
        }
        let caller = callers.entry((area.caller, area.module)).or_default();
        caller.areas += 1;
        caller.pages = caller.pages.saturating_add(pages);
    }
    all.callers = callers
        .into_iter()
        .map(|((function, module), caller)| Caller {
            caller: function.to_owned(),
            module: module.map(str::to_owned),
            ..caller
        })
        .collect();
    all.callers
        .sort_by(|a, b| b.pages.cmp(&a.pages).then_with(|| a.caller.cmp(&b.caller)));
    all
}

/// `0x…-0x…   20480 kernel_clone+0x94/0x3e0 pages=4 vmalloc N0=4`; `[module]`
/// may follow the function.
fn parse_area(line: &str) -> Option<Area<'_>> {
    let mut words = line.split_ascii_whitespace();
    if !words.next()?.starts_with("0x") {
        return None;
    }
    let bytes = words.next()?.parse().ok()?;
    let mut area = Area {
        bytes,
        caller: "",
        module: None,
        pages: None,
    };
    let mut pages = 0;
    let mut own = false;
    for (at, word) in words.enumerate() {
        if let Some(number) = word.strip_prefix("pages=") {
            pages = number.parse().unwrap_or(0);
        } else if word == "vmalloc" {
            own = true;
        } else if at == 0 {
            area.caller = word.split('+').next().unwrap_or(word);
        } else if let Some(module) = word.strip_prefix('[').and_then(|w| w.strip_suffix(']')) {
            area.module = Some(module);
        }
    }
    area.pages = own.then_some(pages);
    Some(area)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_their_own_count() {
        let all = parse(
            "\
0x0000000001-0x0000000002   20480 irq_init_percpu_irqstack+0xca/0x100 vmap
0x0000000001-0x0000000002    8192 acpi_os_map_iomem+0x1bc/0x1e0 phys=0x00000000000a0000 ioremap
0x0000000001-0x0000000002   20480 kernel_clone+0x94/0x3e0 pages=4 vmalloc N0=4
0x0000000001-0x0000000002   20480 kernel_clone+0x94/0x3e0 pages=4 vmalloc N0=4
0x0000000001-0x0000000002   45056 load_module+0x10a/0x20 pages=10 vmalloc N0=10
0x0000000001-0x0000000002    8192 zs_init+0x1/0x2 [zsmalloc] pages=1 vmalloc vpages N0=1
0x0000000001-0x0000000002    8192 unpurged vm_area
nonsense
",
        );
        assert_eq!((all.pages, all.stack_pages, all.module_pages), (19, 8, 10));
        assert_eq!((all.module_areas, all.mapped_bytes), (1, 36_864));
        let first = &all.callers[0];
        assert_eq!((first.caller.as_str(), first.areas), ("load_module", 1));
        assert_eq!(all.callers[2].module.as_deref(), Some("zsmalloc"));
    }
}
