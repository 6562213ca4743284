//! Masks that kernels print, and the tables' soundness.
use super::*;

fn names(version: Version, mask: u64) -> String {
    Numbering::of(version).names(mask).join("|")
}

/// One mask that each generation of kernels prints most.
#[test]
fn generations() {
    for (version, mask, expected) in [
        ((2, 6), 0x0002_01da, "GFP_HIGHUSER_MOVABLE|__GFP_COLD"),
        ((3, 10), 0x0002_80da, "GFP_HIGHUSER_MOVABLE|__GFP_ZERO"),
        ((3, 10), 0xd0, "GFP_KERNEL"),
        ((4, 3), 0x0002_01da, "GFP_HIGHUSER_MOVABLE|__GFP_COLD"),
        ((4, 4), 0x0242_01ca, "GFP_HIGHUSER_MOVABLE|__GFP_COLD"),
        ((4, 15), 0x0142_00ca, "GFP_HIGHUSER_MOVABLE"),
        ((4, 19), 0x0062_00ca, "GFP_HIGHUSER_MOVABLE"),
        (
            (5, 4),
            0x0040_0dc2,
            "GFP_KERNEL_ACCOUNT|__GFP_HIGHMEM|__GFP_ZERO",
        ),
        ((5, 10), 0x0010_0cca, "GFP_HIGHUSER_MOVABLE"),
        ((6, 1), 0xa20, "GFP_ATOMIC"),
        ((6, 18), 0x820, "GFP_ATOMIC"),
        ((6, 18), 0xcc0, "GFP_KERNEL"),
        ((6, 18), 0xcc4, "GFP_KERNEL|GFP_DMA32"),
        ((6, 18), 0x0100_0cc0, "GFP_KERNEL|0x1000000"),
        ((7, 3), 0, ""),
    ] {
        assert_eq!(names(version, mask), expected, "{version:?} {mask:#x}");
    }
}

#[test]
fn bare_masks_are_old() {
    let bare = |mask| Numbering::of_bare(mask).names(mask).join("|");
    assert_eq!(bare(0x0002_01da), "GFP_HIGHUSER_MOVABLE|__GFP_COLD");
    assert_eq!(bare(0x0242_01ca), "GFP_HIGHUSER_MOVABLE|__GFP_COLD");
}

#[test]
fn combinations_hold_flags() {
    let held = |names: &[&str]| holds(names, "__GFP_MOVABLE");
    assert!(held(&["GFP_HIGHUSER_MOVABLE"]));
    assert!(held(&["GFP_KERNEL", "__GFP_MOVABLE"]));
    assert!(!held(&["GFP_KERNEL_ACCOUNT", "__GFP_HIGHMEM"]));
}

/// Every bit has one name, and every name one bit.
#[test]
fn tables_are_sound() {
    for table in TABLES {
        let mut seen = 0;
        for (name, bit) in table.bits {
            assert_eq!(bit.count_ones(), 1, "{name}");
            assert_eq!(seen & bit, 0, "{name} since {:?}", table.since);
            seen |= bit;
        }
    }
}
