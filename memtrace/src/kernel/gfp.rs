//! Allocation flags (`gfp_t`) by name. The bits were renumbered again and again,
//! so a mask alone says nothing: it takes the kernel's version.
//!
//! Bits from `include/linux/gfp.h` and `gfp_types.h`, combinations from
//! `__def_gfpflag_names` of `include/trace/events/mmflags.h`. What lies above
//! the bits here depends on how a kernel was configured and is left a number.
use super::uprobe::Version;

/// Names of single bits with their masks, of the kernels from `since` on up to
/// the next table.
struct Table {
    since: Version,
    bits: &'static [(&'static str, u64)],
}

const TABLES: &[Table] = &[
    Table {
        since: (2, 6),
        bits: &[
            ("__GFP_DMA", 0x1),
            ("__GFP_HIGHMEM", 0x2),
            ("__GFP_DMA32", 0x4),
            ("__GFP_MOVABLE", 0x8),
            ("__GFP_WAIT", 0x10),
            ("__GFP_HIGH", 0x20),
            ("__GFP_IO", 0x40),
            ("__GFP_FS", 0x80),
            ("__GFP_COLD", 0x100),
            ("__GFP_NOWARN", 0x200),
            ("__GFP_REPEAT", 0x400),
            ("__GFP_NOFAIL", 0x800),
            ("__GFP_NORETRY", 0x1000),
            ("__GFP_MEMALLOC", 0x2000),
            ("__GFP_COMP", 0x4000),
            ("__GFP_ZERO", 0x8000),
            ("__GFP_NOMEMALLOC", 0x1_0000),
            ("__GFP_HARDWALL", 0x2_0000),
            ("__GFP_THISNODE", 0x4_0000),
            ("__GFP_RECLAIMABLE", 0x8_0000),
            ("__GFP_NOACCOUNT", 0x10_0000),
            ("__GFP_NOTRACK", 0x20_0000),
            ("__GFP_NO_KSWAPD", 0x40_0000),
            ("__GFP_OTHER_NODE", 0x80_0000),
            ("__GFP_WRITE", 0x100_0000),
        ],
    },
    Table {
        since: (4, 4),
        bits: &[
            ("__GFP_DMA", 0x1),
            ("__GFP_HIGHMEM", 0x2),
            ("__GFP_DMA32", 0x4),
            ("__GFP_MOVABLE", 0x8),
            ("__GFP_RECLAIMABLE", 0x10),
            ("__GFP_HIGH", 0x20),
            ("__GFP_IO", 0x40),
            ("__GFP_FS", 0x80),
            ("__GFP_COLD", 0x100),
            ("__GFP_NOWARN", 0x200),
            ("__GFP_REPEAT", 0x400),
            ("__GFP_NOFAIL", 0x800),
            ("__GFP_NORETRY", 0x1000),
            ("__GFP_MEMALLOC", 0x2000),
            ("__GFP_COMP", 0x4000),
            ("__GFP_ZERO", 0x8000),
            ("__GFP_NOMEMALLOC", 0x1_0000),
            ("__GFP_HARDWALL", 0x2_0000),
            ("__GFP_THISNODE", 0x4_0000),
            ("__GFP_ATOMIC", 0x8_0000),
            ("__GFP_ACCOUNT", 0x10_0000),
            ("__GFP_NOTRACK", 0x20_0000),
            ("__GFP_DIRECT_RECLAIM", 0x40_0000),
            ("__GFP_OTHER_NODE", 0x80_0000),
            ("__GFP_WRITE", 0x100_0000),
            ("__GFP_KSWAPD_RECLAIM", 0x200_0000),
        ],
    },
    Table {
        since: (4, 11),
        bits: &[
            ("__GFP_DMA", 0x1),
            ("__GFP_HIGHMEM", 0x2),
            ("__GFP_DMA32", 0x4),
            ("__GFP_MOVABLE", 0x8),
            ("__GFP_RECLAIMABLE", 0x10),
            ("__GFP_HIGH", 0x20),
            ("__GFP_IO", 0x40),
            ("__GFP_FS", 0x80),
            ("__GFP_COLD", 0x100),
            ("__GFP_NOWARN", 0x200),
            ("__GFP_RETRY_MAYFAIL", 0x400),
            ("__GFP_NOFAIL", 0x800),
            ("__GFP_NORETRY", 0x1000),
            ("__GFP_MEMALLOC", 0x2000),
            ("__GFP_COMP", 0x4000),
            ("__GFP_ZERO", 0x8000),
            ("__GFP_NOMEMALLOC", 0x1_0000),
            ("__GFP_HARDWALL", 0x2_0000),
            ("__GFP_THISNODE", 0x4_0000),
            ("__GFP_ATOMIC", 0x8_0000),
            ("__GFP_ACCOUNT", 0x10_0000),
            ("__GFP_NOTRACK", 0x20_0000),
            ("__GFP_DIRECT_RECLAIM", 0x40_0000),
            ("__GFP_WRITE", 0x80_0000),
            ("__GFP_KSWAPD_RECLAIM", 0x100_0000),
        ],
    },
    Table {
        since: (4, 18),
        bits: &[
            ("__GFP_DMA", 0x1),
            ("__GFP_HIGHMEM", 0x2),
            ("__GFP_DMA32", 0x4),
            ("__GFP_MOVABLE", 0x8),
            ("__GFP_RECLAIMABLE", 0x10),
            ("__GFP_HIGH", 0x20),
            ("__GFP_IO", 0x40),
            ("__GFP_FS", 0x80),
            ("__GFP_WRITE", 0x100),
            ("__GFP_NOWARN", 0x200),
            ("__GFP_RETRY_MAYFAIL", 0x400),
            ("__GFP_NOFAIL", 0x800),
            ("__GFP_NORETRY", 0x1000),
            ("__GFP_MEMALLOC", 0x2000),
            ("__GFP_COMP", 0x4000),
            ("__GFP_ZERO", 0x8000),
            ("__GFP_NOMEMALLOC", 0x1_0000),
            ("__GFP_HARDWALL", 0x2_0000),
            ("__GFP_THISNODE", 0x4_0000),
            ("__GFP_ATOMIC", 0x8_0000),
            ("__GFP_ACCOUNT", 0x10_0000),
            ("__GFP_DIRECT_RECLAIM", 0x20_0000),
            ("__GFP_KSWAPD_RECLAIM", 0x40_0000),
        ],
    },
    Table {
        since: (5, 1),
        bits: FROM_5_1,
    },
    // The same without __GFP_ATOMIC, whose bit stayed free.
    Table {
        since: (6, 4),
        bits: FROM_6_4,
    },
];

/// The bits that all kernels since 5.1 share, then one that some have.
macro_rules! modern {
    ($($extra:expr,)*) => {
        &[
            ("__GFP_DMA", 0x1),
            ("__GFP_HIGHMEM", 0x2),
            ("__GFP_DMA32", 0x4),
            ("__GFP_MOVABLE", 0x8),
            ("__GFP_RECLAIMABLE", 0x10),
            ("__GFP_HIGH", 0x20),
            ("__GFP_IO", 0x40),
            ("__GFP_FS", 0x80),
            ("__GFP_ZERO", 0x100),
            ("__GFP_DIRECT_RECLAIM", 0x400),
            ("__GFP_KSWAPD_RECLAIM", 0x800),
            ("__GFP_WRITE", 0x1000),
            ("__GFP_NOWARN", 0x2000),
            ("__GFP_RETRY_MAYFAIL", 0x4000),
            ("__GFP_NOFAIL", 0x8000),
            ("__GFP_NORETRY", 0x1_0000),
            ("__GFP_MEMALLOC", 0x2_0000),
            ("__GFP_COMP", 0x4_0000),
            ("__GFP_NOMEMALLOC", 0x8_0000),
            ("__GFP_HARDWALL", 0x10_0000),
            ("__GFP_THISNODE", 0x20_0000),
            ("__GFP_ACCOUNT", 0x40_0000),
            $($extra,)*
        ]
    };
}
const FROM_5_1: &[(&str, u64)] = modern![("__GFP_ATOMIC", 0x200),];
const FROM_6_4: &[(&str, u64)] = modern![];

/// Either way of saying that an allocation may sleep and reclaim, as a
/// combination names it.
const RECLAIM: &str = "__GFP_RECLAIM";

/// Combinations in the order in which the kernel tries them, and the bits of each
/// ([`RECLAIM`] stands for the bits of reclaim, of which old kernels have one).
/// A combination with a bit that the kernel does not have is none of its own.
const COMBINATIONS: &[(&str, &[&str])] = &[
    (
        "GFP_TRANSHUGE",
        &[
            "__GFP_DIRECT_RECLAIM",
            "__GFP_IO",
            "__GFP_FS",
            "__GFP_HARDWALL",
            "__GFP_HIGHMEM",
            "__GFP_MOVABLE",
            "__GFP_COMP",
            "__GFP_NOMEMALLOC",
            "__GFP_NOWARN",
        ],
    ),
    (
        "GFP_TRANSHUGE_LIGHT",
        &[
            "__GFP_IO",
            "__GFP_FS",
            "__GFP_HARDWALL",
            "__GFP_HIGHMEM",
            "__GFP_MOVABLE",
            "__GFP_COMP",
            "__GFP_NOMEMALLOC",
            "__GFP_NOWARN",
        ],
    ),
    (
        "GFP_HIGHUSER_MOVABLE",
        &[
            RECLAIM,
            "__GFP_IO",
            "__GFP_FS",
            "__GFP_HARDWALL",
            "__GFP_HIGHMEM",
            "__GFP_MOVABLE",
        ],
    ),
    (
        "GFP_HIGHUSER",
        &[
            RECLAIM,
            "__GFP_IO",
            "__GFP_FS",
            "__GFP_HARDWALL",
            "__GFP_HIGHMEM",
        ],
    ),
    (
        "GFP_USER",
        &[RECLAIM, "__GFP_IO", "__GFP_FS", "__GFP_HARDWALL"],
    ),
    (
        "GFP_KERNEL_ACCOUNT",
        &[RECLAIM, "__GFP_IO", "__GFP_FS", "__GFP_ACCOUNT"],
    ),
    ("GFP_KERNEL", &[RECLAIM, "__GFP_IO", "__GFP_FS"]),
    ("GFP_NOFS", &[RECLAIM, "__GFP_IO"]),
    (
        "GFP_ATOMIC",
        &["__GFP_HIGH", "__GFP_ATOMIC", "__GFP_KSWAPD_RECLAIM"],
    ),
    ("GFP_NOIO", &[RECLAIM]),
    ("GFP_NOWAIT", &["__GFP_KSWAPD_RECLAIM"]),
    ("GFP_DMA", &["__GFP_DMA"]),
    ("GFP_DMA32", &["__GFP_DMA32"]),
];

/// `GFP_ATOMIC` where there is no bit of that name (before 4.4 and since 6.4).
const ATOMIC_WITHOUT_BIT: &[(&str, &[&str])] = &[
    ("GFP_ATOMIC", &["__GFP_HIGH", "__GFP_KSWAPD_RECLAIM"]),
    ("GFP_ATOMIC", &["__GFP_HIGH"]),
];

/// The bits of reclaim: one until 4.3, two since.
const RECLAIM_BITS: &[&[&str]] = &[
    &["__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM"],
    &["__GFP_WAIT"],
];

/// How the flags of one kernel are numbered.
#[derive(Clone, Copy)]
pub struct Numbering(&'static Table);

impl Numbering {
    /// Of the kernels of this version.
    pub fn of(version: Version) -> Self {
        let known = TABLES.iter().rev().find(|table| version >= table.since);
        Self(known.unwrap_or(&TABLES[0]))
    }

    /// Of a log that gives a mask without names and tells no version: kernels
    /// print names since 4.6, so it is older, and 4.4 added the bit of waking
    /// kswapd, which nearly every request has that can end in a kill.
    pub fn of_bare(mask: u64) -> Self {
        let since_4_4 = Self::of((4, 4));
        let wakes_kswapd = since_4_4
            .bit("__GFP_KSWAPD_RECLAIM")
            .is_some_and(|bit| mask & bit != 0);
        if wakes_kswapd {
            since_4_4
        } else {
            Self(&TABLES[0])
        }
    }

    fn bit(self, name: &str) -> Option<u64> {
        let found = self.0.bits.iter().find(|(known, _)| *known == name);
        found.map(|(_, bit)| *bit)
    }

    fn reclaim(self) -> Option<u64> {
        RECLAIM_BITS.iter().find_map(|names| self.mask(names))
    }

    /// All of these bits, if this kernel has all.
    fn mask(self, names: &[&str]) -> Option<u64> {
        names.iter().try_fold(0, |mask, name| {
            let bit = if *name == RECLAIM {
                self.reclaim()
            } else {
                self.bit(name)
            };
            Some(mask | bit?)
        })
    }

    /// The names of a mask's flags as the kernel prints them: combinations
    /// first, then single bits, then what has no name as one number.
    pub fn names(self, mask: u64) -> Vec<String> {
        let mut rest = mask;
        let mut names = Vec::new();
        let mut take = |name: &str, bits: u64, rest: &mut u64| {
            if bits != 0 && *rest & bits == bits {
                names.push(name.to_owned());
                *rest &= !bits;
            }
        };
        for (name, bits) in COMBINATIONS {
            let bits = self.mask(bits).or_else(|| self.without_bit(name));
            take(name, bits.unwrap_or(0), &mut rest);
        }
        for (name, bit) in self.0.bits {
            take(name, *bit, &mut rest);
        }
        if rest != 0 {
            names.push(format!("{rest:#x}"));
        }
        names
    }

    fn without_bit(self, name: &str) -> Option<u64> {
        if self.bit("__GFP_ATOMIC").is_some() {
            return None;
        }
        let mut kinds = ATOMIC_WITHOUT_BIT.iter().filter(|(of, _)| *of == name);
        kinds.find_map(|(_, bits)| self.mask(bits))
    }
}

/// Whether one of the names is this single flag, or a combination that holds it.
pub fn holds<S: AsRef<str>>(names: &[S], flag: &str) -> bool {
    names.iter().map(AsRef::as_ref).any(|name| {
        let combination = COMBINATIONS.iter().find(|(known, _)| *known == name);
        name == flag || combination.is_some_and(|(_, bits)| bits.contains(&flag))
    })
}

#[cfg(test)]
mod tests;
