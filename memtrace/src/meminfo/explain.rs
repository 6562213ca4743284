//! What people stumble over in `/proc/meminfo`, told with the machine's own
//! figures.
use serde::{Deserialize, Serialize};

use super::{huge::HUGETLB, machine::Machine, sheet::Sheet};
use crate::unit::Count;

/// One explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Stable: `cached`, `available`, `hugepages`, `modules`, `thp`.
    pub id: String,
    /// The text, one paragraph.
    pub text: String,
}

/// The text, and whether this machine's figures call for it.
type Topic = fn(&Machine, &Sheet) -> Option<(String, bool)>;

const TOPICS: &[(&str, Topic)] = &[
    ("cached", cached),
    ("available", available),
    ("hugepages", hugepages),
    ("thp", transparent),
    ("modules", modules),
];

/// All that can be told of these figures, or only what they call for.
pub fn explanations(machine: &Machine, sheet: &Sheet, all: bool) -> Vec<Explanation> {
    TOPICS
        .iter()
        .filter_map(|(id, topic)| {
            let (text, called_for) = topic(machine, sheet)?;
            (all || called_for).then(|| Explanation {
                id: (*id).to_owned(),
                text,
            })
        })
        .collect()
}

fn kb(figure: u64) -> String {
    format!("{} kB", Count(figure))
}

fn cached(machine: &Machine, _: &Sheet) -> Option<(String, bool)> {
    let figure = |name| machine.meminfo.get(name);
    let (active, inactive) = (figure("Active(file)")?, figure("Inactive(file)")?);
    let (cached, shmem) = (figure("Cached")?, figure("Shmem")?);
    let buffers = machine.meminfo.kb("Buffers");
    let file = active + inactive;
    let text = format!(
        "Cached ({}) is not Active(file) + Inactive(file) ({}): Cached counts shared memory and tmpfs (Shmem {}), which are on the anonymous lists, because only swap could take them; the file lists hold Buffers ({}), which Cached leaves out; and locked file pages are in Unevictable. Cached - Shmem + Buffers is {}",
        kb(cached),
        kb(file),
        kb(shmem),
        kb(buffers),
        kb(cached.saturating_sub(shmem) + buffers),
    );
    Some((text, cached.abs_diff(file) > cached / 10))
}

fn available(machine: &Machine, _: &Sheet) -> Option<(String, bool)> {
    let figure = |name| machine.meminfo.get(name);
    let (available, free) = (figure("MemAvailable")?, figure("MemFree")?);
    let cma = machine.meminfo.kb("CmaFree");
    let at_cma = match cma {
        0 => String::new(),
        cma => format!(
            ": the {} of CmaFree count in it, but no request of the kernel that is not movable can have them",
            kb(cma)
        ),
    };
    let text = format!(
        "MemAvailable ({}) is an estimate of what programs could still get without swapping: MemFree ({}) less the zones' reserves, plus the file lists and reclaimable kernel memory, each less half of it or the low watermarks, whichever is smaller. Shared memory is not in it, and it does not depend on who asks{at_cma}",
        kb(available),
        kb(free),
    );
    Some((text, cma > free / 2))
}

fn hugepages(machine: &Machine, sheet: &Sheet) -> Option<(String, bool)> {
    let held = sheet.row(HUGETLB)?.kb.max(0).unsigned_abs();
    let total = machine.meminfo.kb("HugePages_Total");
    let text = format!(
        "Huge pages ({}, {} of the default size) are taken out of the machine's free memory when they are set aside, used or not. They are on no LRU list, so no process shows them in RSS or PSS (HugetlbPages in /proc/PID/status does), they are not in Cached or AnonPages, and nothing reclaims them",
        kb(held),
        Count(total),
    );
    Some((text, held > 0))
}

fn transparent(machine: &Machine, _: &Sheet) -> Option<(String, bool)> {
    let held = machine.meminfo.get("AnonHugePages")?;
    let mode = machine.transparent_huge_pages.as_deref();
    let mode = mode.map_or_else(String::new, |mode| format!(" (enabled: {mode})"));
    let text = format!(
        "AnonHugePages ({}) are transparent huge pages{mode}: a part of AnonPages that is in RSS as any other page. They have nothing to do with HugePages_Total",
        kb(held),
    );
    Some((text, false))
}

fn modules(machine: &Machine, _: &Sheet) -> Option<(String, bool)> {
    if machine.modules.is_empty() {
        return None;
    }
    let listed = machine
        .modules
        .iter()
        .fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let areas = machine
        .vmalloc
        .as_ref()
        .filter(|areas| areas.module_pages > 0);
    let in_pages = areas.map_or_else(String::new, |areas| {
        format!(
            ". They have {} in {} areas; each area is followed by a guard page ({} in all), which is address space and takes no memory",
            kb(areas.module_pages.saturating_mul(machine.page_kb)),
            Count(areas.module_areas),
            kb(areas.module_areas.saturating_mul(machine.page_kb)),
        )
    });
    let text = format!(
        "lsmod lists {} in {} modules. That is what modules asked for; they get whole pages from vmalloc, so it is a part of VmallocUsed and not to be added to it{in_pages}",
        kb(listed / 1024),
        Count(machine.modules.len() as u64),
    );
    Some((text, false))
}
