//! Who asked for a page: the first function on its stack that is not common
//! allocator plumbing.
use crate::kernel::allocator;

/// A kernel function on a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFrame<'a> {
    /// The function, as the kernel's list of symbols has it.
    pub symbol: &'a str,
    /// Its module; `None` for the kernel itself.
    pub module: Option<&'a str>,
}

/// The index of the first frame, counted from the innermost, that is not
/// plumbing; `None` where all are, or where there is none.
///
/// A module's function is always somebody: drivers call theirs like the
/// kernel's own.
pub fn consumer(frames: &[KernelFrame<'_>]) -> Option<usize> {
    frames.iter().position(|frame| {
        let generated = frame.module == Some("bpf");
        let own = frame.module.is_none() || generated;
        !(own && allocator::plumbing(frame.symbol).is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(stack: &str) -> Option<&str> {
        let frames: Vec<_> = stack
            .split_whitespace()
            .map(|word| match word.split_once('@') {
                Some((symbol, module)) => KernelFrame {
                    symbol,
                    module: Some(module),
                },
                None => KernelFrame {
                    symbol: word,
                    module: None,
                },
            })
            .collect();
        consumer(&frames).map(|at| frames[at].symbol)
    }

    /// As recorded in virtual machines, the innermost function first.
    const RECORDED: &[(&str, &str)] = &[
        // 5.10
        (
            "__alloc_pages_nodemask alloc_pages_vma handle_mm_fault do_user_addr_fault",
            "handle_mm_fault",
        ),
        (
            "__alloc_pages_nodemask allocate_slab ___slab_alloc __slab_alloc kmem_cache_alloc __d_alloc",
            "__d_alloc",
        ),
        (
            "__alloc_pages_nodemask alloc_pages_vma shmem_alloc_page shmem_alloc_and_acct_page",
            "shmem_alloc_page",
        ),
        (
            "__alloc_pages_nodemask get_zeroed_page __pud_alloc copy_page_range",
            "__pud_alloc",
        ),
        (
            "__alloc_pages_nodemask __get_free_pages pgd_alloc mm_init",
            "pgd_alloc",
        ),
        (
            "__alloc_pages_nodemask __vmalloc_area_node __vmalloc_node_range copy_process",
            "copy_process",
        ),
        (
            "__alloc_pages_nodemask skb_page_frag_refill sk_page_frag_refill tcp_sendmsg_locked",
            "tcp_sendmsg_locked",
        ),
        // 6.1
        (
            "__alloc_pages __folio_alloc vma_alloc_folio wp_page_copy",
            "wp_page_copy",
        ),
        (
            "__alloc_pages allocate_slab ___slab_alloc kmem_cache_alloc_lru alloc_inode",
            "alloc_inode",
        ),
        (
            "__alloc_pages allocate_slab ___slab_alloc kmem_cache_alloc_node __alloc_skb alloc_skb_with_frags sock_alloc_send_pskb",
            "sock_alloc_send_pskb",
        ),
        // 6.12
        (
            "__alloc_pages_noprof alloc_pages_mpol_noprof folio_alloc_mpol_noprof shmem_alloc_folio",
            "shmem_alloc_folio",
        ),
        (
            "__alloc_pages_noprof alloc_pages_mpol_noprof get_free_pages_noprof tlb_next_batch",
            "tlb_next_batch",
        ),
        // 6.18
        (
            "__alloc_frozen_pages_noprof alloc_pages_mpol allocate_slab ___slab_alloc __slab_alloc.isra.0 __kmem_cache_alloc_bulk kmem_cache_prefill_sheaf mas_preallocate",
            "mas_preallocate",
        ),
        (
            "__alloc_frozen_pages_noprof alloc_pages_mpol alloc_pages_noprof anon_pipe_write",
            "anon_pipe_write",
        ),
        // 7.3
        (
            "__alloc_frozen_pages_noprof allocate_slab refill_objects __pcs_replace_empty_main kmem_cache_alloc_lru_noprof alloc_inode",
            "alloc_inode",
        ),
        (
            "__alloc_frozen_pages_noprof allocate_slab refill_objects __prefill_sheaf_pfmemalloc kmem_cache_prefill_sheaf mas_preallocate",
            "mas_preallocate",
        ),
        (
            "__alloc_frozen_pages_noprof alloc_pages_mpol alloc_pages_noprof __vmalloc_node_range_noprof __vmalloc_node_noprof copy_process",
            "copy_process",
        ),
    ];

    #[test]
    fn recorded_stacks() {
        for (stack, expected) in RECORDED {
            let with_event = format!("trace_event_raw_event_mm_page_alloc {stack}");
            assert_eq!(of(&with_event), Some(*expected));
        }
    }

    #[test]
    fn the_tracer_is_not_who_asked() {
        let stack = "bpf_prog_6deef7357e7b4530_page_alloc@bpf bpf_trace_run4 \
            __bpf_trace_mm_page_alloc __traceiter_mm_page_alloc __alloc_pages driver_fill@driver";
        assert_eq!(of(stack), Some("driver_fill"));
    }

    #[test]
    fn a_module_is_somebody_whatever_its_functions_are_called() {
        assert_eq!(
            of("__alloc_pages alloc_pages_mine@driver f"),
            Some("alloc_pages_mine")
        );
        assert_eq!(of("__alloc_pages alloc_pages_mine f"), Some("f"));
    }

    #[test]
    fn nobody() {
        assert_eq!(of(""), None);
        assert_eq!(of("__alloc_pages alloc_pages"), None);
    }
}
