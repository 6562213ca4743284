//! What the kernel side keeps of page frames: for each frame one word, and for
//! each way by which pages are asked for one record, sent once.
use crate::{Head, oom::COMM};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Frames of an element of the table: no block of the buddy allocator crosses
/// one, unless it is of a higher order than [`CHUNK_ORDER`].
pub const CHUNK: usize = 1 << CHUNK_ORDER;
/// As a power of two: the highest order of most kernels (`MAX_PAGE_ORDER`).
pub const CHUNK_ORDER: u32 = 10;
/// Frames of a section, as a power of two: the unit in which physical memory
/// has holes (`SECTION_SIZE_BITS`; 128 MiB on x86-64 and with pages of 4 KiB).
pub const SECTION_ORDER: u32 = 15;
/// Elements of the table that a section takes.
pub const SECTION_CHUNKS: u32 = 1 << (SECTION_ORDER - CHUNK_ORDER);
/// The highest order that the kernel side marks.
pub const MOST_ORDER: u32 = 13;

/// Frames of a kernel stack.
pub const DEPTH: usize = 64;

/// Walks of kernel stacks that are remembered, by CPU; a power of two.
pub const WALKS: u32 = 512;

/// [`Head::kind`] of an [`Origin`]; [`crate::EventKind`] leaves it free.
pub const ORIGIN: u16 = 40;

/// The origin of pages for whose own there was no room.
pub const OTHER_ORIGIN: u32 = 1;

/// A page frame's word; 0: nothing was seen of it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Frame(pub u64);

impl Frame {
    /// It was given back, and nobody has it.
    pub const FREED: Self = Self(1 << 63);
    const LIVE: u64 = 1 << 62;
    /// Process ids are below 2²² (`PID_MAX_LIMIT`).
    const PID: u64 = (1 << 22) - 1;

    /// Asked for in this way by this process.
    #[inline(always)]
    pub const fn held(origin: u32, pid: u32) -> Self {
        Self(Self::LIVE | ((pid as u64 & Self::PID) << 32) | origin as u64)
    }

    /// 1 if somebody has it.
    #[inline(always)]
    pub const fn live(self) -> u64 {
        (self.0 >> 62) & 1
    }

    /// 1 if it was given back.
    #[inline(always)]
    pub const fn freed(self) -> u64 {
        self.0 >> 63
    }

    /// Whether somebody has it.
    pub const fn is_live(self) -> bool {
        self.live() != 0
    }

    /// Its [`Origin::id`].
    pub const fn origin(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// Process id of whoever asked for it.
    pub const fn pid(self) -> u32 {
        ((self.0 >> 32) & Self::PID) as u32
    }
}

/// A way by which pages are asked for, when it was seen first: all pages of it
/// have the same stack, flags, order and migratetype. Sent up to
/// [`Self::depth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Origin {
    /// [`ORIGIN`], and who was first.
    pub head: Head,
    /// In the low half of its frames' words.
    pub id: u32,
    /// `gfp_t`.
    pub gfp: u32,
    /// 2 to this power pages each time.
    pub order: u32,
    /// `enum migratetype` of the request.
    pub migratetype: u32,
    /// Frames that the stack has.
    pub depth: u32,
    /// For alignment.
    pub padding: u32,
    /// Name of the thread that was first.
    pub comm: [u8; COMM],
    /// Kernel stack, innermost first.
    pub stack: [u64; DEPTH],
}

/// Bytes of an [`Origin`] without its stack.
pub const ORIGIN_HEAD: usize = size_of::<Origin>() - 8 * DEPTH;

/// What the kernel side adds up; the number is the index in its array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Sum {
    /// Pages that were handed out.
    Allocated = 0,
    /// Pages that were given back.
    Freed = 1,
    /// Of these, pages that were not seen being handed out.
    FreedUnseen = 2,
    /// Of these, pages that had been given back before: they were handed out in
    /// between by a way that is not watched.
    FreedTwice = 3,
    /// Pages that were handed out while somebody had them: they were given back
    /// by a way that is not watched.
    AllocatedTwice = 4,
    /// Pages outside the table, handed out or given back.
    Outside = 5,
    /// Pages whose origin found no room: they have [`OTHER_ORIGIN`].
    NoOrigin = 6,
    /// Origins that found no room in the ring buffer: they come with a later page.
    Delayed = 7,
    /// Times that a second program did what the first one had missed.
    CaughtUp = 8,
}

/// How many [`Sum`]s there is room for.
pub const SUMS: u32 = 16;

/// How the kernel's tracepoints tell a page frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PagesLayout {
    /// Address of the `struct page` of frame 0 (the start of the memory map).
    pub memory_map: u64,
    /// `sizeof(struct page)`.
    pub page_size: u64,
    /// Offsets of the record of `mm_page_alloc`: `pfn`, `order`, `gfp_flags`, `migratetype`.
    pub alloc: [u32; 4],
    /// Offsets of the record of `mm_page_free`: `pfn`, `order`.
    pub free: [u32; 2],
    /// Which argument of the bulk allocator is its array of pages.
    pub bulk_array: u32,
    /// For alignment.
    pub padding: u32,
}

impl PagesLayout {
    /// Nothing is known.
    pub const NONE: Self = Self {
        memory_map: 0,
        page_size: 64,
        alloc: [8, 16, 20, 24],
        free: [8, 16],
        bulk_array: 4,
        padding: 0,
    };
}

/// Pages that a thread was given, for working out where the memory map is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Samples {
    /// How many; the last of them are in [`Self::pages`].
    pub count: u64,
    /// Addresses of their `struct page`; sample n is at n modulo 8.
    pub pages: [u64; 8],
}
