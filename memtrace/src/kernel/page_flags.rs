//! The bits of `/proc/kpageflags`, from `linux/kernel-page-flags.h` and
//! `stable_page_flags()` of `fs/proc/page.c`, 2.6.25 to 7.3. Bits below 32 are
//! an interface and stay; those from 32 on are "kernel hacking assistances",
//! which have stayed so far.
//!
//! A bit that a kernel does not have yet is never set there.

/// Up to date with its file, or filled.
pub const UPTODATE: u64 = 1 << 3;
/// On a list of those that can be reclaimed.
pub const LRU: u64 = 1 << 5;
/// Holds kernel objects. All pages of a slab say so.
pub const SLAB: u64 = 1 << 7;
/// Free, on a list of the page allocator. All pages of a free block say so since
/// 4.6, only the first before. Pages on the lists of CPUs do not.
pub const BUDDY: u64 = 1 << 10;
/// Mapped by a process; a driver's memory may be, too. Since 2.6.31, as those
/// that follow.
pub const MMAP: u64 = 1 << 11;
/// A program's memory that no file backs.
pub const ANON: u64 = 1 << 12;
/// Anonymous and in swap as well.
pub const SWAPCACHE: u64 = 1 << 13;
/// Backed by swap: anonymous or shared memory.
pub const SWAPBACKED: u64 = 1 << 14;
/// The first of several pages that belong together.
pub const COMPOUND_HEAD: u64 = 1 << 15;
/// Not the first of them. Up to 6.9 it has of its head's bits only some.
pub const COMPOUND_TAIL: u64 = 1 << 16;
/// Of hugetlb.
pub const HUGE: u64 = 1 << 17;
/// On the list of those that cannot be reclaimed.
pub const UNEVICTABLE: u64 = 1 << 18;
/// Taken out of use after a hardware error.
pub const HWPOISON: u64 = 1 << 19;
/// There is no memory, or none that is online.
pub const NOPAGE: u64 = 1 << 20;
/// A balloon's, or memory that is taken away from the machine. Since 5.1;
/// before, the bit was for balloons alone.
pub const OFFLINE: u64 = 1 << 23;
/// The page of zeros that read-only mappings share. Since 4.0.
pub const ZERO: u64 = 1 << 24;
/// A page table, if the kernel counts it. Since 4.18.
pub const PGTABLE: u64 = 1 << 26;
/// Not given to the page allocator, or taken from it for good: the kernel's
/// image, firmware's, and some drivers' buffers.
pub const RESERVED: u64 = 1 << 32;

/// What a tail has of its head: what the kernel counts, it counts for all
/// pages of a block.
pub const SHARED_BY_BLOCK: u64 =
    UPTODATE | LRU | SLAB | ANON | SWAPCACHE | SWAPBACKED | HUGE | UNEVICTABLE | OFFLINE | PGTABLE;
