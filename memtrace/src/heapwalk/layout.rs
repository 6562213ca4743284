//! How glibc's malloc lays its state out, by version: offsets in bytes, on
//! 64-bit machines, from malloc/malloc.c and malloc/arena.c of each release.

/// A header and its alignment: `SIZE_SZ` is 8, `MALLOC_ALIGNMENT` 16.
pub(super) const ALIGNMENT: u64 = 16;
/// `MINSIZE`: no chunk is smaller.
pub(super) const SMALLEST: u64 = 32;
/// `MIN_LARGE_SIZE`: chunks from this size on are in bins for ranges of sizes.
pub(super) const LARGE: u64 = 1024;
/// `NFASTBINS`.
pub(super) const FAST_BINS: usize = 10;
/// Pairs of pointers in `bins`: `NBINS - 1`, the first for unsorted chunks.
pub(super) const BINS: usize = 127;
/// `HEAP_MAX_SIZE`: heaps of threads' arenas begin at multiples of this.
pub(super) const HEAP_MAX: u64 = 64 << 20;
/// `NONCONTIGUOUS_BIT` in `malloc_state.flags`.
pub(super) const NONCONTIGUOUS: u32 = 2;

/// What differs between versions of glibc.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The minor version (2.x) that brought it.
    pub(super) since: u32,
    /// `struct malloc_state`: an arena.
    pub(super) arena: ArenaLayout,
    /// `sizeof (heap_info)`: what a heap of a thread's arena begins with.
    pub(super) heap_info: u64,
    /// `struct malloc_par`: parameters and sums.
    pub(super) parameters: ParameterLayout,
    /// `struct tcache_perthread_struct`.
    pub(super) caches: CacheLayout,
    /// Whether links of fast bins and thread caches are mangled (safe-linking).
    pub(super) mangled: bool,
    /// What a chunk with a mapping of its own leaves free at the mapping's end.
    pub(super) mapped_tail: u64,
}

/// Offsets in `struct malloc_state`. The mutex is at 0, the flags at 4; two
/// pointers lie before `bins`: `top` and `last_remainder`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ArenaLayout {
    pub(super) fast: Option<usize>,
    pub(super) bins: usize,
}

impl ArenaLayout {
    pub(super) const fn top(&self) -> usize {
        self.bins - 16
    }

    /// Behind `bins` and the 16 bytes of `binmap`.
    pub(super) const fn next(&self) -> usize {
        self.bins + BINS * 16 + 16
    }

    pub(super) const fn system(&self) -> usize {
        self.next() + 24
    }

    pub(super) const fn size(&self) -> usize {
        self.next() + 40
    }
}

/// Offsets in `struct malloc_par`. `trim_threshold`, `top_pad`,
/// `mmap_threshold`, `arena_test` and `arena_max` are its first words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParameterLayout {
    pub(super) huge_page: Option<usize>,
    /// Four `int`: now, the most allowed, the most ever, `no_dyn_threshold`.
    pub(super) mappings: usize,
    /// Three words: mapped bytes now, the most ever, `sbrk_base`; then the
    /// thread caches' four.
    pub(super) mapped: usize,
}

impl ParameterLayout {
    pub(super) const fn size(&self) -> usize {
        self.mapped + 56
    }
}

/// How a thread's cache counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// Blocks of each bin, one byte.
    Bytes,
    /// Blocks of each bin, two bytes.
    Halves,
    /// Blocks that may still be put into each bin, two bytes.
    Slots,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct CacheLayout {
    pub(super) counts: Counts,
    pub(super) bins: usize,
}

/// Bins for one size each; others hold ranges of sizes, ascending.
pub(super) const EXACT_CACHE_BINS: usize = 64;

impl CacheLayout {
    /// Offset of the bins' first blocks.
    pub(super) const fn entries(&self) -> usize {
        self.bins
            * match self.counts {
                Counts::Bytes => 1,
                Counts::Halves | Counts::Slots => 2,
            }
    }

    pub(super) const fn size(&self) -> usize {
        self.entries() + self.bins * 8
    }

    /// The size of the chunk that it is in (`request2size`).
    pub(super) const fn chunk(&self) -> u64 {
        (self.size() as u64 + 8).next_multiple_of(ALIGNMENT)
    }
}

const FAST_AT_8: ArenaLayout = ArenaLayout {
    fast: Some(8),
    bins: 104,
};
/// With `have_fastchunks`.
const FAST_AT_16: ArenaLayout = ArenaLayout {
    fast: Some(16),
    bins: 112,
};
const NO_FAST: ArenaLayout = ArenaLayout {
    fast: None,
    bins: 24,
};

const PLAIN: ParameterLayout = ParameterLayout {
    huge_page: None,
    mappings: 40,
    mapped: 56,
};
const HUGE_PAGES: ParameterLayout = ParameterLayout {
    huge_page: Some(48),
    mappings: 60,
    mapped: 80,
};
const HUGE_PAGE_MODE: ParameterLayout = ParameterLayout {
    huge_page: Some(56),
    mappings: 68,
    mapped: 88,
};

const fn caches(counts: Counts, bins: usize) -> CacheLayout {
    CacheLayout { counts, bins }
}

/// Every layout, oldest first.
pub(super) const LAYOUTS: &[Layout] = &[
    Layout {
        since: 26,
        arena: FAST_AT_8,
        heap_info: 32,
        parameters: PLAIN,
        caches: caches(Counts::Bytes, 64),
        mangled: false,
        mapped_tail: 0,
    },
    Layout {
        since: 27,
        arena: FAST_AT_16,
        heap_info: 32,
        parameters: PLAIN,
        caches: caches(Counts::Bytes, 64),
        mangled: false,
        mapped_tail: 0,
    },
    Layout {
        since: 30,
        arena: FAST_AT_16,
        heap_info: 32,
        parameters: PLAIN,
        caches: caches(Counts::Halves, 64),
        mangled: false,
        mapped_tail: 0,
    },
    Layout {
        since: 32,
        arena: FAST_AT_16,
        heap_info: 32,
        parameters: PLAIN,
        caches: caches(Counts::Halves, 64),
        mangled: true,
        mapped_tail: 0,
    },
    Layout {
        since: 35,
        arena: FAST_AT_16,
        heap_info: 48,
        parameters: HUGE_PAGES,
        caches: caches(Counts::Halves, 64),
        mangled: true,
        mapped_tail: 0,
    },
    Layout {
        since: 42,
        arena: FAST_AT_16,
        heap_info: 48,
        parameters: HUGE_PAGES,
        caches: caches(Counts::Slots, 76),
        mangled: true,
        mapped_tail: 0,
    },
    Layout {
        since: 43,
        arena: NO_FAST,
        heap_info: 48,
        parameters: HUGE_PAGE_MODE,
        caches: caches(Counts::Slots, 76),
        mangled: true,
        mapped_tail: 16,
    },
];

/// The layouts to try for a version: its own, or all, newest first, where it
/// is not known. Empty: older than all.
pub(super) fn candidates(minor: Option<u32>) -> Vec<&'static Layout> {
    let mut known: Vec<_> = LAYOUTS
        .iter()
        .filter(|layout| minor.is_none_or(|minor| layout.since <= minor))
        .collect();
    known.reverse();
    if minor.is_some() {
        known.truncate(1);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_debuggers() {
        let of = |minor| candidates(Some(minor))[0];
        // `ptype /o struct malloc_state` of 2.36 with debug information.
        let now = of(36);
        assert_eq!((now.arena.top(), now.arena.next()), (96, 2160));
        assert_eq!((now.arena.system(), now.arena.size()), (2184, 2200));
        assert_eq!((now.parameters.size(), now.caches.chunk()), (136, 0x290));
        assert_eq!((of(26).arena.size(), of(26).caches.chunk()), (2192, 0x250));
        assert_eq!(of(42).caches.chunk(), 0x300);
    }

    #[test]
    fn versions_choose_layouts() {
        let since = |minor| {
            candidates(minor)
                .iter()
                .map(|l| l.since)
                .collect::<Vec<_>>()
        };
        assert_eq!(since(Some(31)), [30]);
        assert_eq!(since(Some(99)), [43]);
        assert_eq!(since(None), [43, 42, 35, 32, 30, 27, 26]);
        assert!(since(Some(25)).is_empty());
    }
}
