//! The table of traced functions: one row for each shape of call, with what it
//! does to memory, where its arguments are, and the names it goes by.
//! Everything that needs a list of allocation functions is made from it, and a
//! new allocator is a few more names (or rows) here.
use crate::cookie::Arguments;

/// What a function does to memory, and so how its events are accounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Returns a new block.
    Allocate,
    /// The same, or throws a C++ exception, which must not meet a return probe.
    AllocateOrThrow,
    /// Ends a block.
    Free,
    /// Ends a block and returns another one in its place, or fails and leaves
    /// the old one.
    Reallocate,
    /// Maps pages.
    Map,
    /// Unmaps pages, part of a mapping or several at once.
    Unmap,
    /// Moves or resizes a mapping.
    Remap,
    /// Moves the program break: the C library's own business in a trace of its
    /// blocks, and what `memtrace growth` looks at.
    Break,
}

impl Role {
    /// Whether it is about pages and not about an allocator's blocks.
    pub const fn is_mapping(self) -> bool {
        matches!(self, Self::Map | Self::Unmap | Self::Remap | Self::Break)
    }
}

/// Bits of a function's number on the wire that say which row of the table;
/// those above say which of the row's names.
const ROW_BITS: u32 = 8;

macro_rules! functions {
    ($($(#[$doc:meta])* $row:ident = $id:literal, $role:ident, $arguments:expr, [$($name:literal),* $(,)?];)*) => {
        /// A traced function: a row of the table. The numbers are the wire
        /// format: never reused, below 128.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Function { $($(#[$doc])* $row = $id,)* }

        impl Function {
            /// Every function, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$row,)*];

            /// The function with this number, whichever of its names it says.
            pub const fn from_id(id: u16) -> Option<Self> {
                match id & ((1 << ROW_BITS) - 1) { $($id => Some(Self::$row),)* _ => None }
            }

            /// The names of its ELF symbols.
            pub const fn names(self) -> &'static [&'static str] {
                match self { $(Self::$row => &[$($name),*],)* }
            }

            /// What it does to memory.
            pub const fn role(self) -> Role {
                match self { $(Self::$row => Role::$role,)* }
            }

            /// Where its arguments are.
            pub const fn arguments(self) -> Arguments {
                match self { $(Self::$row => $arguments,)* }
            }
        }
    };
}

impl Function {
    /// Its number on the wire under one of its names, by index.
    pub const fn id(self, name: usize) -> u16 {
        self as u16 | ((name as u16) << ROW_BITS)
    }

    /// The name that a number says: an ELF symbol.
    pub fn name(id: u16) -> Option<&'static str> {
        let names = Self::from_id(id)?.names();
        names.get((id >> ROW_BITS) as usize).copied()
    }
}

const A: Arguments = Arguments::NONE;

functions! {
    /// `void *malloc(size_t size)`, and what else takes a size first
    Malloc = 1, Allocate, A.size(0), [
        "malloc", "mallocx", "je_malloc", "je_mallocx", "_rjem_malloc", "_rjem_mallocx",
        "tc_malloc", "tc_malloc_skip_new_handler",
        "mi_malloc", "mi_zalloc", "mi_malloc_small", "mi_zalloc_small",
        "mi_malloc_aligned", "mi_zalloc_aligned", "mi_malloc_aligned_at", "mi_zalloc_aligned_at",
        "mi_new_nothrow", "mi_new_aligned_nothrow",
        "scalable_malloc", "scalable_aligned_malloc", "rpmalloc", "rpzalloc",
    ];
    /// `void *calloc(size_t count, size_t size)`
    Calloc = 2, Allocate, A.count(0).size(1), [
        "calloc", "je_calloc", "_rjem_calloc", "tc_calloc", "mi_calloc", "mi_mallocn",
        "mi_calloc_aligned", "mi_calloc_aligned_at", "scalable_calloc", "rpcalloc",
    ];
    /// `void *realloc(void *old, size_t size)`
    Realloc = 3, Reallocate, A.old(0).size(1), [
        "realloc", "rallocx", "je_realloc", "je_rallocx", "_rjem_realloc", "_rjem_rallocx",
        "tc_realloc", "mi_realloc", "mi_rezalloc", "mi_realloc_aligned", "mi_realloc_aligned_at",
        "mi_rezalloc_aligned", "mi_rezalloc_aligned_at",
        "scalable_realloc", "scalable_aligned_realloc", "rprealloc",
    ];
    /// `void *reallocarray(void *old, size_t count, size_t size)`
    Reallocarray = 4, Reallocate, A.old(0).count(1).size(2), [
        "reallocarray", "mi_reallocarray", "mi_reallocn", "mi_recalloc",
        "mi_recalloc_aligned", "mi_recalloc_aligned_at",
    ];
    /// `int posix_memalign(void **out, size_t align, size_t size)`
    PosixMemalign = 5, Allocate, A.out(0).size(2), [
        "posix_memalign", "je_posix_memalign", "_rjem_posix_memalign", "tc_posix_memalign",
        "mi_posix_memalign", "scalable_posix_memalign", "rpposix_memalign",
    ];
    /// `void *aligned_alloc(size_t align, size_t size)`
    AlignedAlloc = 6, Allocate, A.size(1), [
        "aligned_alloc", "je_aligned_alloc", "_rjem_aligned_alloc", "mi_aligned_alloc",
        "rpaligned_alloc",
    ];
    /// `void *memalign(size_t align, size_t size)`
    Memalign = 7, Allocate, A.size(1), [
        "memalign", "je_memalign", "_rjem_memalign", "tc_memalign", "mi_memalign", "rpmemalign",
    ];
    /// `void *valloc(size_t size)`
    Valloc = 8, Allocate, A.size(0), [
        "valloc", "je_valloc", "_rjem_valloc", "tc_valloc", "mi_valloc",
    ];
    /// `void *pvalloc(size_t size)`
    Pvalloc = 9, Allocate, A.size(0), ["pvalloc", "tc_pvalloc", "mi_pvalloc"];
    /// C++ `operator new` in its forms (Itanium C++ ABI, `size_t` is
    /// `unsigned long`), and functions that act like it
    New = 10, AllocateOrThrow, A.size(0), [
        "_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t",
        "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t",
        "_ZnwmSt11align_val_tRKSt9nothrow_t", "_ZnamSt11align_val_tRKSt9nothrow_t",
        "tc_new", "tc_newarray", "tc_new_nothrow", "tc_newarray_nothrow",
        "tc_new_aligned", "tc_newarray_aligned", "tc_new_aligned_nothrow",
        "tc_newarray_aligned_nothrow", "mi_new", "mi_new_aligned",
    ];
    /// `void *mi_heap_malloc(mi_heap_t *heap, size_t size)`
    HeapMalloc = 11, Allocate, A.size(1), [
        "mi_heap_malloc", "mi_heap_zalloc", "mi_heap_malloc_small",
        "mi_heap_malloc_aligned", "mi_heap_malloc_aligned_at",
        "mi_heap_zalloc_aligned", "mi_heap_zalloc_aligned_at",
    ];
    /// `void *mi_heap_calloc(mi_heap_t *heap, size_t count, size_t size)`
    HeapCalloc = 12, Allocate, A.count(1).size(2), [
        "mi_heap_calloc", "mi_heap_mallocn", "mi_heap_calloc_aligned", "mi_heap_calloc_aligned_at",
    ];
    /// `void *mi_heap_realloc(mi_heap_t *heap, void *old, size_t size)`
    HeapRealloc = 13, Reallocate, A.old(1).size(2), [
        "mi_heap_realloc", "mi_heap_rezalloc", "mi_heap_realloc_aligned", "mi_heap_rezalloc_aligned",
    ];
    /// `void *mi_new_n(size_t count, size_t size)`
    NewArray = 14, AllocateOrThrow, A.count(0).size(1), ["mi_new_n"];
    /// `void free(void *block)`, and what else takes the block first
    Free = 16, Free, A.old(0), [
        "free", "free_sized", "free_aligned_sized", "dallocx", "sdallocx", "cfree", "vfree",
        "je_free", "je_dallocx", "je_sdallocx", "_rjem_free", "_rjem_dallocx", "_rjem_sdallocx",
        "tc_free", "tc_free_sized", "tc_cfree",
        "mi_free", "mi_free_size", "mi_free_size_aligned", "mi_free_aligned", "mi_cfree",
        "scalable_free", "scalable_aligned_free", "rpfree",
    ];
    /// C++ `operator delete` in its forms
    Delete = 17, Free, A.old(0), [
        "_ZdlPv", "_ZdaPv", "_ZdlPvm", "_ZdaPvm", "_ZdlPvRKSt9nothrow_t", "_ZdaPvRKSt9nothrow_t",
        "_ZdlPvSt11align_val_t", "_ZdaPvSt11align_val_t",
        "_ZdlPvmSt11align_val_t", "_ZdaPvmSt11align_val_t",
        "_ZdlPvSt11align_val_tRKSt9nothrow_t", "_ZdaPvSt11align_val_tRKSt9nothrow_t",
        "tc_delete", "tc_deletearray", "tc_delete_sized", "tc_deletearray_sized",
        "tc_delete_nothrow", "tc_deletearray_nothrow", "tc_delete_aligned", "tc_deletearray_aligned",
        "tc_delete_sized_aligned", "tc_deletearray_sized_aligned",
        "tc_delete_aligned_nothrow", "tc_deletearray_aligned_nothrow",
    ];
    /// `void *mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset)`
    Mmap = 32, Map, A, ["mmap", "mmap64"];
    /// `int munmap(void *at, size_t length)`
    Munmap = 34, Unmap, A, ["munmap"];
    /// `void *mremap(void *old, size_t old_length, size_t length, int flags, …)`
    Mremap = 35, Remap, A, ["mremap"];
    /// `int brk(void *end)`; `sbrk` and malloc call it
    Brk = 36, Break, A, ["brk"];
}
