//! The table of traced functions: one row for each, with its role. Everything
//! that needs a list of allocation functions is made from this table.

/// What a function does to memory, and so how its events are accounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Returns a new block.
    Allocate,
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
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $symbol:literal, $role:ident, $arguments:literal, $enter:literal;)*) => {
        /// A traced function. The numbers are the wire format: never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Function { $($(#[$doc])* $name = $id,)* }

        impl Function {
            /// Every function, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The function with this number.
            pub const fn from_id(id: u16) -> Option<Self> {
                match id { $($id => Some(Self::$name),)* _ => None }
            }

            /// The name of the ELF symbol, which is also what reports show.
            pub const fn symbol(self) -> &'static str {
                match self { $(Self::$name => $symbol,)* }
            }

            /// What it does to memory.
            pub const fn role(self) -> Role {
                match self { $(Self::$name => Role::$role,)* }
            }

            /// How many of its leading arguments the entry program reads.
            pub const fn arguments(self) -> usize {
                match self { $(Self::$name => $arguments,)* }
            }

            /// The eBPF program for its entry.
            pub const fn enter_program(self) -> &'static str {
                match self { $(Self::$name => $enter,)* }
            }
        }
    };
}

functions! {
    /// `void *malloc(size_t size)`
    Malloc = 1, "malloc", Allocate, 1, "malloc_enter";
    /// `void *calloc(size_t count, size_t size)`
    Calloc = 2, "calloc", Allocate, 2, "calloc_enter";
    /// `void *realloc(void *old, size_t size)`
    Realloc = 3, "realloc", Reallocate, 2, "realloc_enter";
    /// `void *reallocarray(void *old, size_t count, size_t size)`
    Reallocarray = 4, "reallocarray", Reallocate, 3, "reallocarray_enter";
    /// `int posix_memalign(void **out, size_t align, size_t size)`
    PosixMemalign = 5, "posix_memalign", Allocate, 3, "posix_memalign_enter";
    /// `void *aligned_alloc(size_t align, size_t size)`
    AlignedAlloc = 6, "aligned_alloc", Allocate, 2, "aligned_alloc_enter";
    /// `void *memalign(size_t align, size_t size)`
    Memalign = 7, "memalign", Allocate, 2, "memalign_enter";
    /// `void *valloc(size_t size)`
    Valloc = 8, "valloc", Allocate, 1, "valloc_enter";
    /// `void *pvalloc(size_t size)`
    Pvalloc = 9, "pvalloc", Allocate, 1, "pvalloc_enter";
    /// `void free(void *block)`
    Free = 16, "free", Free, 1, "free_enter";
    /// `void cfree(void *block)`, gone from glibc in 2.26
    Cfree = 17, "cfree", Free, 1, "free_enter";
    /// `void free_sized(void *block, size_t size)`, C23
    FreeSized = 18, "free_sized", Free, 1, "free_enter";
    /// `void free_aligned_sized(void *block, size_t align, size_t size)`, C23
    FreeAlignedSized = 19, "free_aligned_sized", Free, 1, "free_enter";
    /// `void *mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset)`
    Mmap = 32, "mmap", Map, 4, "mmap_enter";
    /// `mmap` where `off_t` is always 64 bits wide
    Mmap64 = 33, "mmap64", Map, 4, "mmap_enter";
    /// `int munmap(void *at, size_t length)`
    Munmap = 34, "munmap", Unmap, 2, "munmap_enter";
    /// `void *mremap(void *old, size_t old_length, size_t length, int flags, …)`
    Mremap = 35, "mremap", Remap, 4, "mremap_enter";
}
