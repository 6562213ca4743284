//! What the kernel side adds up about growing memory: sums by process, way and
//! call stack, read by user space whenever it likes. No event for each.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The ways in which memory grows that are looked at. The numbers are
/// [`GrowthKey::way`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Way {
    /// The program break moved: `brk`.
    Break = 1,
    /// Address space came or went: `mmap`, `munmap`, `mremap`.
    Map = 2,
    /// A page was touched that was not there.
    Fault = 3,
}

impl Way {
    /// The way with this number.
    pub const fn from_id(id: u32) -> Option<Self> {
        match id {
            1 => Some(Self::Break),
            2 => Some(Self::Map),
            3 => Some(Self::Fault),
            _ => None,
        }
    }
}

/// Whose sum it is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GrowthKey {
    /// The stack's hash.
    pub stack: u64,
    /// Process id.
    pub pid: u32,
    /// A [`Way`].
    pub way: u32,
}

/// What happened there since the start.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GrowthSum {
    /// Bytes that came.
    pub grown_bytes: u64,
    /// How many times some came.
    pub grown_count: u64,
    /// Bytes that were given back.
    pub returned_bytes: u64,
    /// How many times some were.
    pub returned_count: u64,
}
