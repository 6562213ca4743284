//! What kernels and vendors print about memory: the fields of `/proc/meminfo`
//! with what each is part of, and the callers in `/proc/vmallocinfo` that say
//! what an area is for.
//!
//! From `fs/proc/meminfo.c` and `arch/*/mm` of 2.6.32 to 7.1; vendors' fields
//! from their published trees.

/// What a field of `/proc/meminfo` is to a balance of the machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Memory of its own that the kernel takes, in no other counted field.
    Kernel,
    /// Part of another row, by that row's name.
    Part(&'static str),
    /// Worked out together with others.
    Worked,
    /// No memory of its own: a limit, an estimate, another view of the same pages.
    View,
    /// A vendor's, of which it is not published whether it is memory of its own.
    Vendor,
}

/// A known field of `/proc/meminfo`.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As printed.
    pub name: &'static str,
    /// What it is to the balance.
    pub role: Role,
    /// What it counts, for people.
    pub meaning: &'static str,
}

const fn field(name: &'static str, role: Role, meaning: &'static str) -> Field {
    Field {
        name,
        role,
        meaning,
    }
}

/// What is in no counter, which parts may still be known.
pub const UNACCOUNTED: &str = "unaccounted";
/// File pages without shared memory, buffers and swap cache.
pub const PAGE_CACHE: &str = "page cache";

/// All fields that are known, in the order in which kernels print them.
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    field("MemTotal", Role::Worked, "all memory that the kernel manages"),
    field("MemFree", Role::Worked, "free pages"),
    field("MemAvailable", Role::View, "estimate of what programs could still get without swapping"), // Since 3.14
    field("MemShared", Role::View, "0 since 2.6"),
    field("Buffers", Role::Worked, "cached blocks of block devices"),
    field("Cached", Role::Worked, "page cache and shared memory"),
    field("SwapCached", Role::Worked, "pages in memory and in swap"),
    field("Active", Role::Worked, "recently used pages"),
    field("Inactive", Role::Worked, "pages that are reclaimed first"),
    field("Active(anon)", Role::View, "part of Active"),
    field("Inactive(anon)", Role::View, "part of Inactive"),
    field("Active(file)", Role::View, "part of Active"),
    field("Inactive(file)", Role::View, "part of Inactive"),
    field("Unevictable", Role::Worked, "pages that cannot be reclaimed"),
    field("Mlocked", Role::View, "part of Unevictable"),
    field("HighTotal", Role::View, "memory that the kernel of a 32-bit machine cannot address at all times"),
    field("HighFree", Role::View, "part of MemFree"),
    field("LowTotal", Role::View, "memory that it can"),
    field("LowFree", Role::View, "part of MemFree"),
    field("MmapCopy", Role::View, "without MMU: memory of mappings"),
    field("SwapTotal", Role::View, "swap space"),
    field("SwapFree", Role::View, "unused swap space"),
    field("Zswap", Role::Worked, "compressed swap in memory"), // Since 5.19
    field("Zswapped", Role::View, "what Zswap holds, before compression"), // Since 5.19
    field("Dirty", Role::View, "file pages to be written"),
    field("Writeback", Role::View, "file pages being written"),
    field("AnonPages", Role::Worked, "memory of programs that no file backs"),
    field("Mapped", Role::View, "file pages that programs have mapped"),
    field("Shmem", Role::Worked, "tmpfs, memfds, System V segments, shared anonymous memory"), // Since 2.6.32
    field("KReclaimable", Role::Worked, "kernel memory that can be reclaimed, slab's included"), // Since 4.20
    field("Slab", Role::Worked, "kernel objects"),
    field("SReclaimable", Role::Worked, "kernel objects that can be reclaimed"),
    field("SUnreclaim", Role::Worked, "kernel objects that cannot be reclaimed"),
    field("KernelStack", Role::Worked, "kernel stacks of threads"),
    field("ShadowCallStack", Role::View, "shadow stacks of threads: part of Slab, of VmallocUsed from 5.11 on"),
    field("PageTables", Role::Kernel, "page tables of programs"),
    field("SecPageTables", Role::Kernel, "page tables of virtual machines and IOMMUs"), // Since 6.1
    field("Quicklists", Role::Kernel, "free page tables that are kept"), // Up to 5.2
    field("NFS_Unstable", Role::View, "0 since 5.8; part of the page cache before"),
    field("Bounce", Role::Kernel, "copies for devices that cannot reach all memory"),
    field("WritebackTmp", Role::Kernel, "copies that FUSE writes from"), // 0 on new kernels
    field("CommitLimit", Role::View, "limit of promised memory"),
    field("Committed_AS", Role::View, "promised memory"),
    field("VmallocTotal", Role::View, "address space for vmalloc"),
    field("VmallocUsed", Role::Worked, "vmalloc's pages (5.3), 0 (4.4 to 5.2), address space (before)"),
    field("VmallocChunk", Role::View, "largest free piece of that address space"), // Up to 4.3
    field("Percpu", Role::Kernel, "per-CPU allocations"), // Since 4.19
    field("EarlyMemtestBad", Role::View, "bad memory that was left out of MemTotal"),
    field("HardwareCorrupted", Role::Kernel, "pages taken out of use after hardware errors"),
    field("AnonHugePages", Role::Part("AnonPages"), "transparent huge pages of programs"),
    field("ShmemHugePages", Role::Part("Shmem"), "transparent huge pages of shared memory"),
    field("ShmemPmdMapped", Role::View, "part of ShmemHugePages"),
    field("FileHugePages", Role::Part(PAGE_CACHE), "huge pages of files"),
    field("FilePmdMapped", Role::View, "part of FileHugePages"),
    field("CmaTotal", Role::View, "memory set aside for contiguous allocations"),
    field("CmaFree", Role::Part("MemFree"), "free, but only for movable pages and contiguous allocations"),
    field("Unaccepted", Role::Part("MemFree"), "not yet accepted from the hypervisor"), // Since 6.5
    field("Balloon", Role::Worked, "pages given back to the hypervisor"), // Since 6.16
    field("GPUActive", Role::Kernel, "system memory that graphics drivers use"), // Since 7.1
    field("GPUReclaim", Role::Kernel, "system memory that graphics drivers keep for later"), // Since 7.1
    field("HugePages_Total", Role::Worked, "huge pages of the default size"),
    field("HugePages_Free", Role::Worked, "of these not in use"),
    field("HugePages_Rsvd", Role::Worked, "of these promised to programs"),
    field("HugePages_Surp", Role::View, "surplus ones, part of the total"),
    field("Hugepagesize", Role::View, "size of one"),
    field("Hugetlb", Role::Worked, "huge pages of all sizes"), // Since 4.16
    field("DirectMap4k", Role::View, "how the kernel maps all memory"),
    field("DirectMap64k", Role::View, "how the kernel maps all memory"),
    field("DirectMap1M", Role::View, "how the kernel maps all memory"),
    field("DirectMap2M", Role::View, "how the kernel maps all memory"),
    field("DirectMap4M", Role::View, "how the kernel maps all memory"),
    field("DirectMap1G", Role::View, "how the kernel maps all memory"),
    field("DirectMap2G", Role::View, "how the kernel maps all memory"),
    field("CmaAllocated", Role::Part(UNACCOUNTED), "vendors': contiguous memory that drivers hold"),
    field("CmaReleased", Role::View, "vendors': the rest of CmaTotal"),
    field("DriverCma", Role::Part(UNACCOUNTED), "Amlogic: contiguous memory that drivers hold"),
    field("VmapStack", Role::Vendor, "Amlogic's, about kernel stacks that it maps page by page"),
    field("VmapFault", Role::Vendor, "Amlogic's, about kernel stacks that it maps page by page"),
    field("VmapPfault", Role::Vendor, "Amlogic's, about kernel stacks that it maps page by page"),
];

/// The known field of that name.
pub fn field_named(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

/// Who allocates kernel stacks, as `/proc/vmallocinfo` names callers. Where
/// there are such areas (`CONFIG_VMAP_STACK`), stacks are part of vmalloc.
const STACK_CALLERS: &[&str] = &[
    "kernel_clone",
    "_do_fork",
    "do_fork",
    "copy_process",
    "dup_task_struct",
    "alloc_thread_stack_node",
    "create_io_thread",
    "vhost_task_create",
    "fork_idle",
];

/// Who allocates the memory of kernel modules.
const MODULE_CALLERS: &[&str] = &[
    "load_module",
    "layout_and_allocate",
    "move_module",
    "module_alloc",
    "module_memory_alloc",
    "execmem_alloc",
    "execmem_vmalloc",
];

/// What a vmalloc area is for, where its caller tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaUse {
    /// A kernel stack.
    Stack,
    /// Code or data of a kernel module.
    Module,
    /// Anything else.
    Other,
}

/// What an area of this caller is for; `caller` as printed, with or without
/// `+0x…/0x…`.
pub fn area_use(caller: &str) -> AreaUse {
    // Compilers' clones: copy_process.part.0
    let end = caller.find(['+', '.']).unwrap_or(caller.len());
    let function = &caller[..end];
    if STACK_CALLERS.contains(&function) {
        AreaUse::Stack
    } else if MODULE_CALLERS.contains(&function) {
        AreaUse::Module
    } else {
        AreaUse::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (at, field) in FIELDS.iter().enumerate() {
            let first = FIELDS.iter().position(|other| other.name == field.name);
            assert_eq!(first, Some(at), "{}", field.name);
        }
    }

    #[test]
    fn areas_by_caller() {
        assert_eq!(area_use("kernel_clone+0x94/0x3e0"), AreaUse::Stack);
        assert_eq!(area_use("copy_process.part.0+0x1/0x2"), AreaUse::Stack);
        assert_eq!(area_use("move_module.isra.0+0x1/0x2"), AreaUse::Module);
        assert_eq!(area_use("pcpu_create_chunk+0x56/0x230"), AreaUse::Other);
        assert_eq!(area_use(""), AreaUse::Other);
    }
}
