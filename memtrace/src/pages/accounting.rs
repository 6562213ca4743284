//! What counts a page: its flags say, and where they say nothing, the stack
//! that it was taken from.
use super::plumbing::{KernelFrame, consumer};
use crate::kernel::accounting::taken_by;
use crate::kernel::allocator::{Layer, plumbing};
use crate::kernel::page_flags as flag;

pub use crate::kernel::accounting::Accounted;

/// Which flag, in this order, says what.
const BY_FLAG: &[(u64, Accounted)] = &[
    (flag::NOPAGE, Accounted::Absent),
    (flag::BUDDY, Accounted::Free),
    (flag::HWPOISON, Accounted::HardwareCorrupted),
    (flag::HUGE, Accounted::Hugetlb),
    (flag::SLAB, Accounted::Slab),
    (flag::PGTABLE, Accounted::PageTable),
    (flag::OFFLINE, Accounted::Balloon),
    (flag::ANON | flag::SWAPCACHE, Accounted::Anon),
    (flag::SWAPBACKED, Accounted::Shmem),
    (flag::LRU | flag::UNEVICTABLE, Accounted::File),
    (flag::RESERVED, Accounted::Reserved),
];

/// What an allocator says about the pages that it hands out, where their flags
/// do not. Others hand on what they get.
const BY_LAYER: &[(Layer, Accounted)] = &[
    (Layer::Slab, Accounted::Slab),
    (Layer::LargeObject, Accounted::Slab),
    (Layer::Vmalloc, Accounted::Vmalloc),
    (Layer::Percpu, Accounted::Percpu),
    (Layer::Balloon, Accounted::Balloon),
    (Layer::Cache, Accounted::File),
];

/// What counts a page with these bits of `/proc/kpageflags`, which was taken
/// from this stack, the innermost function first.
pub fn account(flags: u64, symbols: &[&str]) -> Accounted {
    match by_flags(flags) {
        // Drivers mark pages so that they took from the page allocator: these
        // are in MemTotal.
        Some(Accounted::Reserved) if !symbols.is_empty() => {}
        Some(accounted) => return accounted,
        None => {}
    }
    by_stack(symbols, true).unwrap_or(Accounted::Untracked)
}

/// The same where flags cannot be read: a guess, since a page may have become
/// something else than what it was taken for.
pub fn account_by_stack(symbols: &[&str]) -> Accounted {
    by_stack(symbols, false).unwrap_or(Accounted::Untracked)
}

/// What the flags alone tell; `None` where they say nothing: the page is in use,
/// and vmalloc, per-CPU memory, kernel stacks, large kernel objects, or nobody
/// counts it. So look the pages on the lists of the CPUs.
pub fn by_flags(flags: u64) -> Option<Accounted> {
    let row = BY_FLAG.iter().find(|(bits, _)| flags & bits != 0);
    row.map(|(_, accounted)| *accounted)
}

fn by_stack(symbols: &[&str], flags_known: bool) -> Option<Accounted> {
    let frames: Vec<_> = symbols
        .iter()
        .map(|symbol| KernelFrame {
            symbol,
            module: None,
        })
        .collect();
    let end = consumer(&frames);
    let (inner, outer) = symbols.split_at(end.unwrap_or(symbols.len()));
    let taker = outer
        .first()
        .and_then(|symbol| taken_by(symbol, flags_known));
    // The innermost allocator holds the page, whoever called it for whom.
    let layer = inner.iter().find_map(|symbol| {
        let layer = plumbing(symbol)?;
        let row = BY_LAYER.iter().find(|(known, _)| *known == layer);
        row.map(|(_, accounted)| *accounted)
    });
    // Mapped stacks are both.
    let stack = taker == Some(Accounted::KernelStack);
    match layer {
        Some(Accounted::Vmalloc) if stack => taker,
        Some(_) => layer,
        None => taker,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(flags: u64, stack: &str) -> &'static str {
        account(flags, &stack.split_whitespace().collect::<Vec<_>>()).name()
    }

    #[test]
    fn flags_come_first() {
        let driver = "__alloc_pages alloc_pages driver_fill";
        assert_eq!(
            of(flag::ANON | flag::LRU | flag::SWAPBACKED, driver),
            "anon"
        );
        assert_eq!(of(flag::LRU | flag::SWAPBACKED, driver), "shmem");
        assert_eq!(of(flag::LRU | flag::UPTODATE, driver), "file");
        assert_eq!(of(flag::UNEVICTABLE, driver), "file");
        assert_eq!(of(flag::SLAB | flag::COMPOUND_HEAD, driver), "slab");
        assert_eq!(of(flag::PGTABLE | flag::MMAP, driver), "pagetable");
        assert_eq!(of(flag::HUGE | flag::ANON, driver), "hugetlb");
        assert_eq!(of(flag::OFFLINE, driver), "balloon");
        assert_eq!(of(flag::BUDDY, driver), "free");
        assert_eq!(of(flag::NOPAGE, driver), "absent");
    }

    #[test]
    fn nothing_counts_what_drivers_take() {
        assert_eq!(
            of(0, "__alloc_pages alloc_pages driver_fill do_one_initcall"),
            "untracked"
        );
        // Mapped to user space, or marked as the driver's own.
        assert_eq!(
            of(flag::MMAP, "__alloc_pages rb_alloc perf_mmap"),
            "untracked"
        );
        assert_eq!(
            of(flag::RESERVED, "__alloc_pages __get_free_pages snd_fill"),
            "untracked"
        );
        assert_eq!(of(flag::RESERVED, ""), "reserved");
        assert_eq!(of(0, ""), "untracked");
        let packets = "__alloc_pages skb_page_frag_refill sk_page_frag_refill tcp_sendmsg_locked";
        assert_eq!(of(0, packets), "untracked");
    }

    #[test]
    fn the_stack_says_what_no_flag_does() {
        let cases = [
            (
                "__alloc_pages __vmalloc_area_node __vmalloc_node_range vmalloc driver_fill",
                "vmalloc",
            ),
            (
                "__alloc_pages_noprof alloc_pages_bulk_noprof __vmalloc_node_range_noprof vmalloc_noprof f",
                "vmalloc",
            ),
            (
                "__alloc_pages_nodemask __vmalloc_area_node __vmalloc_node_range copy_process kernel_clone",
                "kernel_stack",
            ),
            (
                "__alloc_pages __vmalloc_node_range dup_task_struct copy_process",
                "kernel_stack",
            ),
            (
                "__alloc_pages alloc_pages alloc_thread_stack_node dup_task_struct",
                "kernel_stack",
            ),
            (
                "__alloc_pages allocate_slab ___slab_alloc kmem_cache_alloc_node dup_task_struct",
                "slab",
            ),
            (
                "__alloc_pages kmalloc_large_node __kmalloc driver_fill",
                "slab",
            ),
            (
                "__alloc_pages kmalloc_order kmalloc_order_trace driver_fill",
                "slab",
            ),
            (
                "__alloc_frozen_pages_noprof alloc_pages_mpol ___kmalloc_large_node __kmalloc_large_noprof f",
                "slab",
            ),
            (
                "__alloc_pages pcpu_populate_chunk pcpu_alloc __alloc_percpu mm_init",
                "percpu",
            ),
            (
                "__alloc_pages __vmalloc_node_range pcpu_mem_zalloc pcpu_create_chunk pcpu_alloc f",
                "vmalloc",
            ),
            (
                "__alloc_pages balloon_page_alloc update_balloon_size_func process_one_work",
                "balloon",
            ),
            (
                "__alloc_pages alloc_zspage.isra.0 zs_malloc zram_write_page",
                "zsmalloc",
            ),
            (
                "__alloc_pages mempool_alloc_pages mempool_alloc bio_copy",
                "untracked",
            ),
            (
                "__alloc_pages kmalloc_large_node kmalloc_reserve __alloc_skb f",
                "slab",
            ),
            (
                "__alloc_pages get_zeroed_page __pud_alloc copy_page_range",
                "untracked",
            ),
            // For vmalloc, but a table: of the kernel's own, which nothing counts.
            (
                "__alloc_pages __get_free_pages __pte_alloc_kernel __vmalloc_node_range vmalloc f",
                "untracked",
            ),
        ];
        for (stack, expected) in cases {
            assert_eq!(of(0, stack), expected, "{stack}");
        }
    }

    #[test]
    fn pages_on_their_way_to_a_list() {
        let read = "__alloc_pages __folio_alloc filemap_alloc_folio page_cache_ra_unbounded";
        assert_eq!(of(flag::UPTODATE, read), "file");
        assert_eq!(
            of(0, "__alloc_pages vma_alloc_folio do_anonymous_page"),
            "anon"
        );
    }

    #[test]
    fn without_flags_the_stack_is_all_there_is() {
        let table = ["__alloc_pages", "pte_alloc_one", "__pte_alloc"];
        assert_eq!(account_by_stack(&table), Accounted::PageTable);
        assert_eq!(account(0, &table), Accounted::Untracked);
        assert_eq!(
            account_by_stack(&["__alloc_pages", "driver_fill"]),
            Accounted::Untracked
        );
    }
}
