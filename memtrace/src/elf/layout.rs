//! What helps to follow code from function to function without symbols.
use std::collections::HashMap;

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection as _};
use object::elf;

use super::{Image, unwind::eh_frame};

/// Where a file's functions begin and end, and where its jumps through memory
/// lead.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Start and end of every function, ascending, by `.eh_frame`.
    pub functions: Vec<(u64, u64)>,
    /// Virtual addresses of functions of this file, by that of the word that
    /// dynamic linking writes their address to. Another file's function of the
    /// same name may be linked instead; then this file's is not called at all.
    pub slots: HashMap<u64, u64>,
}

impl Layout {
    /// Reads both, as far as they can be read.
    pub fn read(image: &Image) -> Self {
        let mut slots = HashMap::new();
        image.each_relocation(|relocation, symbol| {
            let target = match relocation.r_type(object::LittleEndian, false) {
                elf::R_X86_64_RELATIVE => {
                    u64::try_from(relocation.r_addend.get(object::LittleEndian)).ok()
                }
                elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_GLOB_DAT => symbol,
                _ => None,
            };
            let slot = relocation.r_offset.get(object::LittleEndian);
            slots.extend(target.map(|target| (slot, target)));
        });
        Self {
            functions: functions(image),
            slots,
        }
    }

    /// Whether a function ends at `vaddr`.
    pub(super) fn ends_function(&self, vaddr: u64) -> bool {
        let after = self.functions.partition_point(|(start, _)| *start < vaddr);
        let (before, behind) = self.functions.split_at(after);
        before.last().is_some_and(|(_, end)| *end == vaddr)
            || behind.first().is_some_and(|(start, _)| *start == vaddr)
    }
}

fn functions(image: &Image) -> Vec<(u64, u64)> {
    let Some((address, bytes)) = eh_frame(image) else {
        return Vec::new();
    };
    let mut section = EhFrame::new(&bytes, LittleEndian);
    section.set_address_size(8);
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut bounds = Vec::new();
    let mut entries = section.entries(&bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(function) = entry else {
            continue;
        };
        if let Ok(function) = function.parse(gimli::EhFrame::cie_from_offset) {
            let start = function.initial_address();
            bounds.push((start, start.saturating_add(function.len())));
        }
    }
    bounds.sort_unstable();
    bounds
}
