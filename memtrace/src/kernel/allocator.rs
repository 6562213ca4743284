//! Names of the functions through which kernel memory is handed out, by what
//! they hand out, and of those whose pages the kernel counts somewhere.
//!
//! From `mm/`, `net/core/skbuff.c`, `kernel/dma/` and `kernel/trace/` of 5.10 to
//! 7.3, and from stacks recorded on 5.10, 6.1, 6.12, 6.18 and 7.3. Names are
//! without what compilers and memory allocation profiling append, see [`plain`].

/// What a plumbing function hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Tracing itself: the event's own functions and eBPF's.
    Tracing,
    /// Pages, for whatever purpose.
    Pages,
    /// Pages of the page cache.
    Cache,
    /// Kernel objects.
    Slab,
    /// Kernel objects too large for a slab, which count as slab all the same.
    LargeObject,
    /// Pages mapped side by side.
    Vmalloc,
    /// A copy for each CPU.
    Percpu,
    /// Pages for the hypervisor.
    Balloon,
    /// Buffers for network packets.
    Packet,
    /// Buffers for devices.
    Device,
}

/// A function, or all that begin so where the name ends in `*`.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    name: &'static str,
    layer: Layer,
}

const fn row(name: &'static str, layer: Layer) -> Function {
    Function { name, layer }
}

/// Common allocator plumbing: on almost every stack, and never who is looked for.
#[rustfmt::skip]
const PLUMBING: &[Function] = &[
    row("trace_event_raw_event_*", Layer::Tracing),
    row("trace_event_buffer_*", Layer::Tracing),
    row("perf_trace_*", Layer::Tracing),
    row("perf_tp_event", Layer::Tracing),
    row("__traceiter_*", Layer::Tracing), // Since 5.10
    row("__bpf_trace_*", Layer::Tracing),
    row("bpf_trace_run*", Layer::Tracing),
    row("__bpf_trace_run", Layer::Tracing),
    row("trace_call_bpf", Layer::Tracing),
    row("__bpf_prog_run*", Layer::Tracing),
    row("___bpf_prog_run", Layer::Tracing),
    row("bpf_get_stack*", Layer::Tracing),
    row("__bpf_get_stack*", Layer::Tracing),
    row("get_perf_callchain", Layer::Tracing),
    row("perf_callchain*", Layer::Tracing),
    row("stack_trace_save", Layer::Tracing),
    row("save_stack", Layer::Tracing),
    row("__set_page_owner", Layer::Tracing),
    row("post_alloc_hook", Layer::Pages),
    row("prep_new_page", Layer::Pages),
    row("get_page_from_freelist", Layer::Pages),
    row("__alloc_pages", Layer::Pages), // 5.13 to 6.15
    row("__alloc_pages_*", Layer::Pages), // __alloc_pages_nodemask up to 5.12, ..._slowpath, ..._direct_compact
    row("__alloc_frozen_pages", Layer::Pages), // Since 6.14
    row("alloc_frozen_pages*", Layer::Pages), // Since 6.14
    row("alloc_pages", Layer::Pages),
    row("alloc_pages_*", Layer::Pages), // ..._current, ..._vma, ..._mpol (6.8), ..._node, ..._exact, ..._bulk
    row("alloc_page_interleave", Layer::Pages),
    row("alloc_page_preferred_many", Layer::Pages),
    row("alloc_mpol_*", Layer::Pages),
    row("__alloc_folio*", Layer::Pages),
    row("folio_alloc*", Layer::Pages), // Since 5.16
    row("__folio_alloc*", Layer::Pages), // Since 5.18
    row("vma_alloc_folio*", Layer::Pages), // Since 5.18
    row("vma_alloc_zeroed_movable_folio", Layer::Pages), // Since 6.3
    row("alloc_zeroed_user_highpage_movable", Layer::Pages),
    row("__get_free_pages", Layer::Pages), // Up to 6.9
    row("get_free_pages", Layer::Pages), // Since 6.10
    row("get_zeroed_page", Layer::Pages),
    row("mempool_alloc*", Layer::Pages),
    row("__page_cache_alloc", Layer::Cache),
    row("filemap_alloc_folio*", Layer::Cache), // Since 5.16
    row("alloc_slab_page", Layer::Slab),
    row("allocate_slab", Layer::Slab),
    row("new_slab*", Layer::Slab),
    row("___slab_alloc", Layer::Slab),
    row("__slab_alloc*", Layer::Slab),
    row("__slab_build_skb", Layer::Packet),
    row("slab_alloc*", Layer::Slab),
    row("slab_pre_alloc_hook", Layer::Slab),
    row("alloc_slab_obj_exts", Layer::Slab), // Since 6.10
    row("__alloc_tagging_slab_*", Layer::Slab),
    row("refill_objects", Layer::Slab), // Since 7.0
    row("refill_sheaf", Layer::Slab), // Since 6.18
    row("__refill_*", Layer::Slab),
    row("alloc_from_pcs*", Layer::Slab), // Since 6.18
    row("__pcs_replace_empty_main", Layer::Slab), // Since 6.18
    row("alloc_full_sheaf", Layer::Slab),
    row("__alloc_empty_sheaf", Layer::Slab),
    row("cache_grow_begin", Layer::Slab), // The SLAB allocator, up to 6.7
    row("cache_alloc_refill", Layer::Slab),
    row("____cache_alloc*", Layer::Slab),
    row("fallback_alloc", Layer::Slab),
    row("kmem_getpages", Layer::Slab),
    row("kmem_cache_alloc*", Layer::Slab),
    row("__kmem_cache_alloc*", Layer::Slab),
    row("__kmalloc*", Layer::Slab),
    row("__do_kmalloc_node", Layer::Slab),
    row("kmalloc_trace", Layer::Slab), // 6.1 to 6.9
    row("kmalloc_node_trace", Layer::Slab),
    row("kmalloc_nolock", Layer::Slab), // Since 6.18
    row("_kmalloc_nolock*", Layer::Slab),
    row("krealloc*", Layer::Slab),
    row("__do_krealloc", Layer::Slab),
    row("kmemdup*", Layer::Slab),
    row("kstrdup*", Layer::Slab),
    row("kstrndup", Layer::Slab),
    row("__kvmalloc*", Layer::Slab),
    row("kvmalloc*", Layer::Slab),
    row("kvzalloc*", Layer::Slab),
    row("kvrealloc*", Layer::Slab),
    row("kvmemdup", Layer::Slab),
    row("kmem_cache_prefill_sheaf*", Layer::Slab), // Since 6.18
    row("__prefill_sheaf*", Layer::Slab), // Since 7.0
    row("kmalloc_order*", Layer::LargeObject), // Up to 5.19
    row("kmalloc_large*", Layer::LargeObject),
    row("__kmalloc_large*", Layer::LargeObject), // Since 6.0
    row("___kmalloc_large*", Layer::LargeObject), // Since 6.10
    row("vm_area_alloc_pages", Layer::Vmalloc),
    row("__vmalloc*", Layer::Vmalloc), // __vmalloc_area_node, __vmalloc_node_range, ...
    row("vmalloc*", Layer::Vmalloc),
    row("vzalloc*", Layer::Vmalloc),
    row("vcalloc*", Layer::Vmalloc),
    row("vrealloc*", Layer::Vmalloc),
    row("module_alloc", Layer::Vmalloc), // Up to 6.9
    row("execmem_alloc*", Layer::Vmalloc), // Since 6.10
    row("execmem_vmalloc", Layer::Vmalloc),
    row("execmem_cache_*", Layer::Vmalloc),
    row("pcpu_alloc*", Layer::Percpu),
    row("pcpu_populate_chunk", Layer::Percpu),
    row("pcpu_create_chunk", Layer::Percpu),
    row("pcpu_mem_zalloc", Layer::Percpu),
    row("__alloc_percpu*", Layer::Percpu),
    row("alloc_percpu*", Layer::Percpu),
    row("__percpu_counter_init*", Layer::Percpu),
    row("percpu_ref_init", Layer::Percpu),
    row("balloon_page_alloc", Layer::Balloon), // The driver calls it
    row("alloc_skb*", Layer::Packet),
    row("__alloc_skb", Layer::Packet),
    row("__build_skb*", Layer::Packet),
    row("build_skb*", Layer::Packet),
    row("__netdev_alloc_*", Layer::Packet),
    row("netdev_alloc_*", Layer::Packet),
    row("__napi_alloc_*", Layer::Packet),
    row("napi_alloc_*", Layer::Packet),
    row("__napi_build_skb", Layer::Packet),
    row("kmalloc_reserve", Layer::Packet),
    row("pskb_expand_head", Layer::Packet),
    row("page_frag_alloc*", Layer::Packet),
    row("__page_frag_alloc*", Layer::Packet),
    row("__page_frag_cache_refill", Layer::Packet),
    row("__page_frag_cache_prepare", Layer::Packet), // Since 6.13
    row("skb_page_frag_refill", Layer::Packet),
    row("sk_page_frag_refill", Layer::Packet),
    row("page_pool_alloc*", Layer::Packet),
    row("__page_pool_alloc*", Layer::Packet),
    row("page_pool_dev_alloc*", Layer::Packet),
    row("dma_alloc*", Layer::Device),
    row("__dma_alloc*", Layer::Device),
    row("__dma_direct_alloc*", Layer::Device),
    row("dma_direct_alloc*", Layer::Device),
    row("dma_common_alloc_pages", Layer::Device),
    row("dma_pool_alloc", Layer::Device),
    row("dmam_alloc*", Layer::Device),
    row("iommu_dma_alloc*", Layer::Device),
    row("__iommu_dma_alloc*", Layer::Device),
    row("cma_alloc*", Layer::Device),
    row("__cma_alloc*", Layer::Device),
];

/// What a function hands out, if it is plumbing.
pub fn plumbing(symbol: &str) -> Option<Layer> {
    let name = plain(symbol);
    if is_generated(name) {
        return Some(Layer::Tracing);
    }
    // Of several, the longest says most: kmalloc_large* is more than kmalloc*.
    let rows = PLUMBING.iter().filter(|row| matches(row.name, name));
    rows.max_by_key(|row| row.name.len()).map(|row| row.layer)
}

/// The start of names that eBPF's compiler makes up, followed by a tag of
/// hexadecimal digits or by a key. Functions that the kernel itself has under
/// such names (`bpf_prog_alloc`) go on with words.
const GENERATED: &[(&str, usize)] = &[("bpf_prog_", 16), ("bpf_trampoline_", 5)];

/// Whether the code was made by eBPF's compiler, not by the kernel's.
fn is_generated(name: &str) -> bool {
    GENERATED.iter().any(|(start, digits)| {
        let tag = name
            .strip_prefix(start)
            .and_then(|rest| rest.get(..*digits));
        tag.is_some_and(|tag| tag.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

/// A function's name as it stands in the source: without the parts that
/// compilers append to copies (`.isra.0`, `.constprop.0`, `.part.0`, `.cold`),
/// and without the `_noprof` of memory allocation profiling (6.10).
pub fn plain(symbol: &str) -> &str {
    let end = symbol.find(['.', '+']).unwrap_or(symbol.len());
    let name = symbol.get(..end).unwrap_or(symbol);
    name.strip_suffix("_noprof").unwrap_or(name)
}

/// Whether a name is the one of a table, or begins with it where it ends in `*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_what_is_appended() {
        for name in [
            "new_slab",
            "new_slab.isra.0",
            "new_slab.constprop.0.part.3",
            "new_slab_noprof",
            "new_slab_noprof.cold",
            "new_slab+0x12/0x40",
        ] {
            assert_eq!(plain(name), "new_slab", "{name}");
        }
    }

    #[test]
    fn the_longest_row_says_what_it_is() {
        assert_eq!(plumbing("__kmalloc"), Some(Layer::Slab));
        assert_eq!(plumbing("__kmalloc_large_node"), Some(Layer::LargeObject));
        assert_eq!(plumbing("__slab_alloc.isra.0"), Some(Layer::Slab));
        assert_eq!(plumbing("pte_alloc_one"), None);
        assert_eq!(plumbing("bpf_prog_alloc"), None);
        assert_eq!(plumbing("bpf_trampoline_attach"), None);
        let program = "bpf_prog_6deef7357e7b4530_pages";
        assert_eq!(plumbing(program), Some(Layer::Tracing));
        assert_eq!(plumbing(""), None);
    }

    #[test]
    fn rows_are_unique() {
        for (at, row) in PLUMBING.iter().enumerate() {
            let first = PLUMBING.iter().position(|other| other.name == row.name);
            assert_eq!(first, Some(at), "{}", row.name);
        }
    }
}
