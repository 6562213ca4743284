//! Huge pages of hugetlbfs: in use, promised, idle.
use super::{
    machine::{HugePages, Machine},
    sheet::{Kind, Sheet},
};

/// Name of the row.
pub(super) const HUGETLB: &str = "Hugetlb";
/// Name of the part that nobody uses.
pub(super) const IDLE: &str = "idle huge pages";

/// By size, from the machine's own list, else the default size from meminfo.
pub(super) fn by_size(machine: &Machine) -> Vec<HugePages> {
    if !machine.huge.is_empty() {
        return machine.huge.clone();
    }
    let meminfo = &machine.meminfo;
    let size = meminfo.get("Hugepagesize");
    size.map(|size_kb| HugePages {
        size_kb,
        total: meminfo.kb("HugePages_Total"),
        free: meminfo.kb("HugePages_Free"),
        reserved: meminfo.kb("HugePages_Rsvd"),
    })
    .into_iter()
    .collect()
}

fn total(sizes: &[HugePages], of: impl Fn(&HugePages) -> u64) -> u64 {
    let amounts = sizes
        .iter()
        .map(|size| size.size_kb.saturating_mul(of(size)));
    // Products of foreign figures: kept where sums stay exact.
    amounts.fold(0, u64::saturating_add).min(1 << 52)
}

/// Adds the rows.
pub(super) fn rows(machine: &Machine, sheet: &mut Sheet) {
    let sizes = by_size(machine);
    let known = total(&sizes, |size| size.total);
    let Some(kb) = machine
        .meminfo
        .get(HUGETLB)
        .or((known > 0).then_some(known))
    else {
        return;
    };
    if is_off_total(&sizes, kb, sheet) {
        sheet.notes.push(format!(
            "Hugetlb ({kb} kB) is in no row: before 3.0, gigantic pages that are set aside at boot are not in MemTotal"
        ));
        return;
    }
    sheet.push(
        HUGETLB,
        kb,
        Kind::User,
        "Hugetlb, or HugePages_Total x Hugepagesize",
        "huge pages set aside for programs that ask for them; in no process's RSS",
    );
    if kb == 0 {
        return;
    }
    let used = total(&sizes, |size| size.total.saturating_sub(size.free));
    let reserved = total(&sizes, |size| size.reserved.min(size.free));
    let idle = total(&sizes, |size| size.free.saturating_sub(size.reserved));
    let parts = [
        (
            "huge pages in use",
            used,
            "HugePages_Total - HugePages_Free",
            "mapped by programs",
        ),
        (
            "reserved huge pages",
            reserved,
            "HugePages_Rsvd",
            "promised to programs that have not touched them so far",
        ),
        (
            IDLE,
            idle,
            "HugePages_Free - HugePages_Rsvd",
            "nobody can use them for anything else",
        ),
        (
            "huge pages of other sizes",
            kb.saturating_sub(known),
            "Hugetlb less the default size",
            "not split in this file",
        ),
    ];
    for (name, kb, source, about) in parts {
        sheet.part(HUGETLB, name, kb, source, about);
    }
}

/// Pages larger than the page allocator has can only be set aside at boot;
/// kernels before 3.0 take those off MemTotal (fixed in June 2011). Nothing but the
/// sum tells.
fn is_off_total(sizes: &[HugePages], kb: u64, sheet: &Sheet) -> bool {
    const GIGANTIC_KB: u64 = 1 << 20;
    let gigantic = sizes
        .iter()
        .any(|size| size.size_kb >= GIGANTIC_KB && size.total > 0);
    let room = u64::try_from(sheet.rest()).unwrap_or(0);
    gigantic && kb > room.saturating_add(sheet.total_kb / 100)
}
