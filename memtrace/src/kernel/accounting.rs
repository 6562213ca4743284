//! Which counters know of a page, and which functions take pages that a counter
//! knows although no flag of the page says so.
//!
//! Without these a page would be called untracked that is not: from the places
//! that call `mod_node_page_state` and its kin in 5.10 to 7.3.
use super::allocator::{matches, plain};
use super::memory::{AreaUse, area_use};

/// What counts a page: a row of `/proc/meminfo`, `/proc/vmstat`, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Accounted {
    /// No counter knows it: the black hole.
    Untracked,
    /// Memory of programs that no file backs: `AnonPages`.
    Anon,
    /// Page cache: Cached and Buffers.
    File,
    /// tmpfs, shared memory: Shmem.
    Shmem,
    /// Kernel objects: Slab.
    Slab,
    /// Page tables of programs, virtual machines and IOMMUs: `PageTables`
    /// and `SecPageTables` (since 6.1).
    PageTable,
    /// Kernel stacks of threads: KernelStack, and VmallocUsed where they are
    /// mapped.
    KernelStack,
    /// VmallocUsed.
    Vmalloc,
    /// Percpu.
    Percpu,
    /// Hugetlb.
    Hugetlb,
    /// Balloon from 6.16 on. Before, nothing counts it, but its flag tells.
    Balloon,
    /// Compressed swap: `nr_zspages` of `/proc/vmstat`.
    Zsmalloc,
    /// `HardwareCorrupted`.
    HardwareCorrupted,
    /// Nobody holds it any more: MemFree.
    Free,
    /// Never given to the page allocator, or taken from it for good: not in
    /// MemTotal.
    Reserved,
    /// There is no memory.
    Absent,
}

/// All, with the names that JSON uses.
const NAMES: &[(Accounted, &str)] = &[
    (Accounted::Untracked, "untracked"),
    (Accounted::Anon, "anon"),
    (Accounted::File, "file"),
    (Accounted::Shmem, "shmem"),
    (Accounted::Slab, "slab"),
    (Accounted::PageTable, "pagetable"),
    (Accounted::KernelStack, "kernel_stack"),
    (Accounted::Vmalloc, "vmalloc"),
    (Accounted::Percpu, "percpu"),
    (Accounted::Hugetlb, "hugetlb"),
    (Accounted::Balloon, "balloon"),
    (Accounted::Zsmalloc, "zsmalloc"),
    (Accounted::HardwareCorrupted, "hardware_corrupted"),
    (Accounted::Free, "free"),
    (Accounted::Reserved, "reserved"),
    (Accounted::Absent, "absent"),
];

impl Accounted {
    /// All that there are.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        NAMES.iter().map(|(accounted, _)| *accounted)
    }

    /// As JSON has it.
    pub fn name(self) -> &'static str {
        let row = NAMES.iter().find(|(accounted, _)| *accounted == self);
        row.map_or("untracked", |(_, name)| name)
    }
}

/// Whether a flag tells the same, once the page is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flag {
    /// No flag does.
    None,
    /// One does, but only after some time: pages wait in batches.
    Late,
    /// One does at once, and where it does not, nothing counts the page: which
    /// tables of pages are counted differs between kernels.
    Always,
}

struct Taker {
    name: &'static str,
    accounted: Accounted,
    flag: Flag,
}

const fn row(name: &'static str, accounted: Accounted, flag: Flag) -> Taker {
    Taker {
        name,
        accounted,
        flag,
    }
}

/// Functions that take pages for themselves, by what counts these.
#[rustfmt::skip]
const TAKERS: &[Taker] = &[
    row("alloc_zspage*", Accounted::Zsmalloc, Flag::None),
    row("alloc_zpdesc", Accounted::Zsmalloc, Flag::None), // Since 6.14
    row("zs_malloc", Accounted::Zsmalloc, Flag::None), // With the former inlined
    row("__kvm_mmu_topup_memory_cache", Accounted::PageTable, Flag::None),
    row("kvm_mmu_topup_memory_cache", Accounted::PageTable, Flag::None),
    row("mmu_topup_memory_caches", Accounted::PageTable, Flag::None),
    row("iommu_alloc_pages*", Accounted::PageTable, Flag::None), // Since 6.11
    row("alloc_balloon_pages", Accounted::Balloon, Flag::Late), // Hyper-V's
    row("vmballoon_*", Accounted::Balloon, Flag::Late),
    row("decrease_reservation", Accounted::Balloon, Flag::Late), // Xen's
    row("cmm_alloc_pages", Accounted::Balloon, Flag::Late), // pSeries'
    row("shmem_*", Accounted::Shmem, Flag::Late),
    row("handle_mm_fault", Accounted::Anon, Flag::Late), // With those below inlined
    row("__handle_mm_fault", Accounted::Anon, Flag::Late),
    row("do_anonymous_page", Accounted::Anon, Flag::Late),
    row("do_huge_pmd_anonymous_page", Accounted::Anon, Flag::Late),
    row("__do_huge_pmd_anonymous_page", Accounted::Anon, Flag::Late),
    row("vma_alloc_anon_folio_pmd", Accounted::Anon, Flag::Late),
    row("do_cow_fault", Accounted::Anon, Flag::Late),
    row("do_fault", Accounted::Anon, Flag::Late), // With the former inlined
    row("wp_page_copy", Accounted::Anon, Flag::Late),
    row("do_wp_page", Accounted::Anon, Flag::Late),
    row("do_swap_page", Accounted::Anon, Flag::Late),
    row("alloc_anon_folio", Accounted::Anon, Flag::Late),
    row("alloc_swap_folio", Accounted::Anon, Flag::Late),
    row("alloc_charge_folio", Accounted::Anon, Flag::Late),
    row("alloc_charge_hpage", Accounted::Anon, Flag::Late),
    row("collapse_huge_page", Accounted::Anon, Flag::Late),
    row("copy_present_page", Accounted::Anon, Flag::Late),
    row("folio_prealloc", Accounted::Anon, Flag::Late),
    row("__read_swap_cache_async", Accounted::Anon, Flag::Late),
    row("swap_cache_alloc_folio", Accounted::Anon, Flag::Late),
    row("pagecache_get_page", Accounted::File, Flag::Late),
    row("__filemap_get_folio*", Accounted::File, Flag::Late),
    row("filemap_*", Accounted::File, Flag::Late),
    row("page_cache_ra_*", Accounted::File, Flag::Late),
    row("ra_alloc_folio", Accounted::File, Flag::Late),
    row("readahead_expand", Accounted::File, Flag::Late),
    row("do_read_cache_*", Accounted::File, Flag::Late),
    row("generic_file_buffered_read", Accounted::File, Flag::Late),
    row("pte_alloc_one", Accounted::PageTable, Flag::Always),
    row("__pte_alloc", Accounted::PageTable, Flag::Always),
    row("__pmd_alloc", Accounted::PageTable, Flag::Always),
    row("__pud_alloc", Accounted::PageTable, Flag::Always),
    row("__p4d_alloc", Accounted::PageTable, Flag::Always),
    row("pgd_alloc", Accounted::PageTable, Flag::Always),
    row("alloc_fresh_huge*", Accounted::Hugetlb, Flag::Always),
    row("alloc_buddy_huge*", Accounted::Hugetlb, Flag::Always),
    row("only_alloc_fresh_huge*", Accounted::Hugetlb, Flag::Always),
    row("alloc_surplus_huge*", Accounted::Hugetlb, Flag::Always),
];

/// What counts pages that a function takes for itself, where nothing but its
/// name tells. `flags_known`: whether the page's flags were seen, and said
/// nothing.
pub fn taken_by(symbol: &str, flags_known: bool) -> Option<Accounted> {
    if area_use(symbol) == AreaUse::Stack {
        return Some(Accounted::KernelStack);
    }
    let name = plain(symbol);
    let mut rows = TAKERS.iter();
    let row = rows.find(|row| matches(row.name, name))?;
    (row.flag != Flag::Always || !flags_known).then_some(row.accounted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_one_has_a_name_of_its_own() {
        for accounted in Accounted::all() {
            let name = accounted.name();
            let same = Accounted::all().filter(|other| other.name() == name);
            assert_eq!(same.count(), 1, "{name}");
        }
        assert_eq!(Accounted::Absent.name(), "absent");
    }

    #[test]
    fn tables_that_no_flag_marks_are_counted_nowhere() {
        assert_eq!(taken_by("__pud_alloc", true), None);
        assert_eq!(taken_by("__pud_alloc", false), Some(Accounted::PageTable));
        assert_eq!(
            taken_by("copy_process.isra.0", true),
            Some(Accounted::KernelStack)
        );
        assert_eq!(taken_by("shmem_alloc_folio", true), Some(Accounted::Shmem));
        assert_eq!(taken_by("pipe_write", false), None);
    }
}
