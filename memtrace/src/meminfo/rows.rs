//! How each row of the sheet is worked out, and the traps on the way.
use super::{
    machine::{Balloon, Machine},
    parse::Meminfo,
    sheet::{Kind, Sheet},
    zoneinfo::sum,
};
use crate::kernel::memory::{FIELDS, PAGE_CACHE, Role, UNACCOUNTED, field_named};

fn meaning(name: &str) -> &'static str {
    field_named(name).map_or("", |field| field.meaning)
}

/// Shares out what is taken, as long as there is something.
struct Share(u64);

impl Share {
    fn take(&mut self, wanted: u64) -> u64 {
        let taken = wanted.min(self.0);
        self.0 -= taken;
        taken
    }
}

/// Pages on the LRU lists, in kB; without lists, what the names say.
fn on_lists(machine: &Machine, sheet: &mut Sheet) -> u64 {
    let meminfo = &machine.meminfo;
    let isolated = ["nr_isolated_anon", "nr_isolated_file"];
    let isolated = isolated.iter().filter_map(|name| machine.pages_kb(name));
    if meminfo.get("Active").is_some() && meminfo.get("Inactive").is_some() {
        // Kernels before 2.6.28 have no Unevictable.
        return isolated.fold(
            meminfo.kb("Active") + meminfo.kb("Inactive") + meminfo.kb("Unevictable"),
            u64::saturating_add,
        );
    }
    sheet.notes.push(
        "Active or Inactive is missing: memory of programs and files is AnonPages + Cached + Buffers + SwapCached, which may count pages of the swap cache twice"
            .to_owned(),
    );
    ["AnonPages", "Cached", "Buffers", "SwapCached"]
        .iter()
        .map(|name| meminfo.kb(name))
        .sum()
}

/// File pages that are not shared memory.
fn named_cache(meminfo: &Meminfo) -> u64 {
    meminfo.kb("Cached").saturating_sub(meminfo.kb("Shmem"))
}

/// Pages of programs and files, and huge pages.
pub(super) fn user(machine: &Machine, sheet: &mut Sheet) {
    const LISTS: &str = "Active + Inactive + Unevictable + isolated pages, less the rows above";
    let meminfo = &machine.meminfo;
    let mut lists = Share(on_lists(machine, sheet));
    let named = ["AnonPages", "Shmem", "Buffers"];
    for (name, kb) in named.map(|name| (name, lists.take(meminfo.kb(name)))) {
        sheet.push(name, kb, Kind::User, name, meaning(name));
    }
    let cache = lists.take(named_cache(meminfo));
    sheet.push(
        PAGE_CACHE,
        cache,
        Kind::User,
        "Cached - Shmem, at most what is on the LRU lists",
        "contents of files, can be reclaimed",
    );
    let swap = lists.take(meminfo.kb("SwapCached"));
    sheet.push(
        "SwapCached",
        swap,
        Kind::User,
        "SwapCached, at most what the rows above leave of the LRU lists",
        "pages that are in swap, too, and that no program has mapped",
    );
    sheet.push(
        "other LRU pages",
        lists.0,
        Kind::User,
        LISTS,
        "on a list and in no counter by name: about to be freed, or of a kernel that does not name them",
    );
    parts_by_field(meminfo, &["AnonPages", "Shmem", PAGE_CACHE], sheet);
    if meminfo.get("Shmem").is_none() {
        sheet.notes.push(
            "this file has no Shmem: shared memory and tmpfs are part of the row `page cache`"
                .to_owned(),
        );
    }
}

/// Fields that are known parts of these rows.
fn parts_by_field(meminfo: &Meminfo, parents: &[&str], sheet: &mut Sheet) {
    for field in FIELDS {
        if let (Role::Part(of), Some(kb)) = (field.role, meminfo.get(field.name))
            && parents.contains(&of)
        {
            sheet.part(of, field.name, kb, field.name, field.meaning);
        }
    }
}

/// Memory of the kernel.
pub(super) fn kernel(machine: &Machine, sheet: &mut Sheet) {
    let meminfo = &machine.meminfo;
    slab(meminfo, sheet);
    vmalloc(machine, sheet);
    for field in FIELDS.iter().filter(|field| field.role == Role::Kernel) {
        if let Some(kb) = meminfo.get(field.name) {
            sheet.push(field.name, kb, Kind::Kernel, field.name, field.meaning);
        }
    }
    compressed(machine, sheet);
}

fn slab(meminfo: &Meminfo, sheet: &mut Sheet) {
    let halves = meminfo.kb("SReclaimable") + meminfo.kb("SUnreclaim");
    let slab = meminfo.get("Slab").unwrap_or(halves);
    sheet.push("Slab", slab, Kind::Kernel, "Slab", meaning("Slab"));
    for name in ["SUnreclaim", "SReclaimable"] {
        if let Some(kb) = meminfo.get(name) {
            sheet.part("Slab", name, kb, name, meaning(name));
        }
    }
    let other = meminfo
        .kb("KReclaimable")
        .saturating_sub(meminfo.kb("SReclaimable"));
    if meminfo.get("KReclaimable").is_some() {
        sheet.push(
            "other KReclaimable",
            other,
            Kind::Kernel,
            "KReclaimable - SReclaimable",
            "page pools of drivers that can be reclaimed",
        );
    }
}

/// What `VmallocUsed` means on the kernel that printed it.
fn vmalloc(machine: &Machine, sheet: &mut Sheet) {
    let meminfo = &machine.meminfo;
    let used = meminfo.kb("VmallocUsed");
    // Only kernels to 4.3 print the largest free piece.
    let address_space = meminfo.kb("VmallocChunk") > 0;
    let counted = machine
        .vmalloc
        .as_ref()
        .map(|areas| areas.pages.saturating_mul(machine.page_kb));
    let (kb, source) = match counted {
        _ if used > 0 && !address_space => (Some(used), "VmallocUsed"),
        Some(kb) => (Some(kb), "pages= of the vmalloc areas in vmallocinfo"),
        None => (None, ""),
    };
    if let Some(kb) = kb {
        sheet.push(
            "VmallocUsed",
            kb,
            Kind::Kernel,
            source,
            "kernel memory that is contiguous by address only",
        );
    } else if address_space {
        sheet.notes.push(format!(
            "VmallocUsed of this kernel ({used} kB) is address space, devices included, not memory: the pages of vmalloc are part of unaccounted (vmallocinfo would tell)"
        ));
    } else if meminfo.get("VmallocUsed").is_some() {
        sheet.notes.push(
            "VmallocUsed is 0, as kernels 4.4 to 5.2 print it: the pages of vmalloc are part of unaccounted (vmallocinfo would tell)"
                .to_owned(),
        );
    }
    stacks(machine, sheet);
    modules(machine, sheet);
    parts_by_field(meminfo, &["VmallocUsed"], sheet);
}

/// Where kernel stacks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stacks {
    /// In vmalloc's pages, so in VmallocUsed as well.
    InVmalloc,
    /// The same, by how kernels are usually built.
    LikelyInVmalloc,
    /// In pages of their own.
    Apart,
}

fn where_stacks_are(machine: &Machine, has_vmalloc: bool) -> Stacks {
    let meminfo = &machine.meminfo;
    if let Some(areas) = &machine.vmalloc {
        return if areas.stack_pages > 0 && has_vmalloc {
            Stacks::InVmalloc
        } else {
            Stacks::Apart
        };
    }
    // A vendor that maps stacks its own way; 32-bit machines with high memory,
    // whose kernels have no room for stacks there.
    let apart = meminfo.get("VmapStack").is_some() || meminfo.kb("HighTotal") > 0;
    if !has_vmalloc || apart {
        Stacks::Apart
    } else {
        Stacks::LikelyInVmalloc
    }
}

fn stacks(machine: &Machine, sheet: &mut Sheet) {
    let Some(kb) = machine.meminfo.get("KernelStack") else {
        return;
    };
    let place = where_stacks_are(machine, sheet.row("VmallocUsed").is_some());
    let about = meaning("KernelStack");
    match place {
        Stacks::Apart => sheet.push("KernelStack", kb, Kind::Kernel, "KernelStack", about),
        Stacks::InVmalloc | Stacks::LikelyInVmalloc => {
            sheet.part("VmallocUsed", "KernelStack", kb, "KernelStack", about);
        }
    }
    if place == Stacks::LikelyInVmalloc {
        sheet.notes.push(format!(
            "KernelStack ({kb} kB) is taken for a part of VmallocUsed, as kernels with CONFIG_VMAP_STACK have it; on one without, unaccounted is that much less"
        ));
    }
}

fn modules(machine: &Machine, sheet: &mut Sheet) {
    if let Some(areas) = machine
        .vmalloc
        .as_ref()
        .filter(|areas| areas.module_pages > 0)
    {
        sheet.part(
            "VmallocUsed",
            "kernel modules",
            areas.module_pages.saturating_mul(machine.page_kb),
            "pages= of the modules' areas in vmallocinfo",
            "code and data of modules, in whole pages",
        );
    }
}

/// Compressed memory: zsmalloc's pages, of zram and zswap.
fn compressed(machine: &Machine, sheet: &mut Sheet) {
    let zswap = machine.meminfo.get("Zswap");
    let pages = machine.pages_kb("nr_zspages");
    // Zswap in another allocator's pages than zsmalloc's is not in nr_zspages.
    let Some(kb) = pages.max(zswap) else {
        return;
    };
    let source = if pages.is_some() {
        "nr_zspages (vmstat), or Zswap if that is more"
    } else {
        "Zswap"
    };
    sheet.push(
        "compressed memory",
        kb,
        Kind::Kernel,
        source,
        "pages that zram and zswap hold, compressed",
    );
    if let Some(kb) = zswap {
        sheet.part("compressed memory", "Zswap", kb, "Zswap", meaning("Zswap"));
    }
}

/// Free memory, and who may have it.
pub(super) fn free(machine: &Machine, sheet: &mut Sheet) {
    let meminfo = &machine.meminfo;
    if meminfo.get("MemFree").is_none() {
        sheet
            .notes
            .push("MemFree is missing: what is free is part of unaccounted".to_owned());
    }
    sheet.push(
        "MemFree",
        meminfo.kb("MemFree"),
        Kind::Free,
        "MemFree",
        meaning("MemFree"),
    );
    parts_by_field(meminfo, &["MemFree"], sheet);
    let special: i64 = sheet.parts("MemFree").map(|row| row.kb).sum();
    if special > 0 {
        let usable = meminfo.kb("MemFree").saturating_sub(special.unsigned_abs());
        sheet.part(
            "MemFree",
            "free for any request",
            usable,
            "MemFree - CmaFree - Unaccepted",
            "what the kernel and drivers can get at once",
        );
    }
    if !machine.zones.is_empty() {
        let pages = sum(&machine.zones, |zone| zone.on_cpus);
        sheet.push(
            "per-CPU free lists",
            pages.saturating_mul(machine.page_kb),
            Kind::Free,
            "count: of all CPUs (zoneinfo)",
            "free pages that CPUs keep at hand, in no field of meminfo",
        );
    }
}

/// Pages in a balloon, in kB, by whoever counts them.
pub(super) fn balloon_kb(machine: &Machine) -> Option<u64> {
    let counter = |name| machine.pages_kb(name);
    machine
        .meminfo
        .get("Balloon")
        .filter(|kb| *kb > 0)
        .or_else(|| {
            Some(
                machine
                    .vmware_balloon_pages?
                    .saturating_mul(machine.page_kb),
            )
        })
        .or_else(|| {
            let inflated = counter("balloon_inflate")?;
            Some(inflated.saturating_sub(counter("balloon_deflate")?))
        })
        .filter(|kb| *kb > 0)
}

/// A balloon is a row only where its pages are still in MemTotal. Where nothing
/// says which driver it is, that is where it fits.
pub(super) fn balloon(machine: &Machine, sheet: &mut Sheet) {
    let Some(kb) = balloon_kb(machine) else {
        return;
    };
    let fits = i64::try_from(kb).is_ok_and(|kb| kb <= sheet.rest());
    let counts = match machine.balloon {
        Balloon::InTotal => true,
        Balloon::OffTotal => false,
        Balloon::Unknown => fits,
    };
    if counts {
        sheet.push(
            "Balloon",
            kb,
            Kind::Kernel,
            "Balloon, or what the driver counts",
            "pages given back to the hypervisor",
        );
    } else {
        sheet.notes.push(format!(
            "the balloon ({kb} kB) is in no row: its driver takes its pages off MemTotal"
        ));
    }
}

/// What is known of pages that no counter of the sheet has.
pub(super) fn parts_of_unaccounted(machine: &Machine, sheet: &mut Sheet) {
    let meminfo = &machine.meminfo;
    parts_by_field(meminfo, &[UNACCOUNTED], sheet);
    let named = ["AnonPages", "Shmem", "Buffers"].map(|name| (name, meminfo.kb(name)));
    let named = named
        .into_iter()
        .chain([(PAGE_CACHE, named_cache(meminfo))]);
    let beyond: u64 = named
        .map(|(name, kb)| kb.saturating_sub(sheet.kb(name)))
        .fold(0, u64::saturating_add);
    if beyond > 0 {
        sheet.part(
            UNACCOUNTED,
            "not on a list yet",
            beyond,
            "AnonPages + Cached + Buffers, less what is on the LRU lists",
            "pages of files and programs that a CPU has just taken and put on no list so far",
        );
    }
}
