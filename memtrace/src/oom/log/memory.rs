//! What `show_mem` prints: counters of the machine, nodes and zones, free
//! blocks, huge pages, swap, and unreclaimable slab caches.
use super::{
    super::{FreeBlocks, HugePages, Kill, SlabCache, Zone},
    prefix::all_digits,
};

/// Counters of Mem-Info, in pages, and what `/proc/meminfo` calls them.
const COUNTERS: &[(&str, &str)] = &[
    ("free", "MemFree"),
    ("free_pcp", "FreePerCpu"),
    ("free_cma", "CmaFree"),
    ("active_anon", "Active(anon)"),
    ("inactive_anon", "Inactive(anon)"),
    ("isolated_anon", "Isolated(anon)"),
    ("active_file", "Active(file)"),
    ("inactive_file", "Inactive(file)"),
    ("isolated_file", "Isolated(file)"),
    ("unevictable", "Unevictable"),
    ("dirty", "Dirty"),
    ("writeback", "Writeback"),
    ("slab_reclaimable", "SReclaimable"),
    ("slab_unreclaimable", "SUnreclaim"),
    ("mapped", "Mapped"),
    ("shmem", "Shmem"),
    ("pagetables", "PageTables"),
    ("sec_pagetables", "SecPageTables"),
    ("bounce", "Bounce"),
];

/// Lines of the form `N words`, in pages.
const TOTALS: &[(&str, &str)] = &[
    ("total pagecache pages", "Cached"),
    ("pages in swap cache", "SwapCached"),
    ("pages RAM", RAM),
    ("pages reserved", RESERVED),
    ("pages cma reserved", "CmaTotal"),
    ("pages hwpoisoned", "HardwareCorrupted"),
];
/// Until the end of a report makes `MemTotal` of them.
const RAM: &str = "pages RAM";
const RESERVED: &str = "pages reserved";

/// Figures of zones or nodes that add up to a row of `/proc/meminfo`.
const SUMS: &[(&str, &str)] = &[("kernel_stack", "KernelStack"), ("mlocked", "Mlocked")];

/// Names of zones, `include/linux/mmzone.h`.
const ZONES: &[&str] = &["DMA", "DMA32", "Normal", "HighMem", "Movable", "Device"];

/// Most zones and caches that a log may make memtrace keep.
const MOST: usize = 4096;
/// Most orders of free blocks; kernels have 11 or a few more.
const MOST_ORDERS: usize = 64;

/// What the lines say, in their own units.
#[derive(Default)]
pub(super) struct Memory {
    /// Counters in pages.
    pages: Vec<(&'static str, u64)>,
    /// Whether rows of slab caches may follow, among other lines.
    in_slabs: bool,
}

impl Memory {
    /// Takes a line in. Returns whether it is one of these.
    pub(super) fn line(&mut self, text: &str, kill: &mut Kill) -> bool {
        let text = text.trim();
        if self.in_slabs
            && let Some(slab) = slab(text)
        {
            if kill.slabs.len() < MOST {
                kill.slabs.push(slab);
            }
            return true;
        }
        if text.starts_with("Unreclaimable slab info") {
            self.in_slabs = true;
            return true;
        }
        let (node, rest) = split_node(text);
        huge_pages(node.unwrap_or(0), rest, kill)
            || zone(node.unwrap_or(0), rest, kill)
            || reserve(rest, kill)
            || (node.is_none() && (self.counters(rest) || self.total(rest) || swap(rest, kill)))
    }

    /// ` active_file:1 inactive_file:2`, with or without Mem-Info before it.
    fn counters(&mut self, text: &str) -> bool {
        let pairs: Option<Vec<_>> = text
            .split_whitespace()
            .map(|word| word.split_once(':'))
            .collect();
        let Some(pairs) = pairs.filter(|pairs| !pairs.is_empty()) else {
            return false;
        };
        // Numbers alone: nodes and zones have units.
        if !pairs.iter().all(|(_, value)| all_digits(value)) {
            return false;
        }
        let mut found = false;
        for (name, value) in pairs {
            let row = COUNTERS.iter().find(|(known, _)| *known == name);
            if let (Some((_, name)), Ok(value)) = (row, value.parse()) {
                self.note(name, value);
                found = true;
            }
        }
        found
    }

    fn total(&mut self, text: &str) -> bool {
        let Some((number, words)) = text.split_once(' ') else {
            return false;
        };
        let row = TOTALS.iter().find(|(known, _)| *known == words);
        let (Some((_, name)), Ok(value)) = (row, number.parse()) else {
            return false;
        };
        self.note(name, value);
        true
    }

    fn note(&mut self, name: &'static str, pages: u64) {
        // The first of two is the report's own.
        if !self.pages.iter().any(|(known, _)| *known == name) {
            self.pages.push((name, pages));
        }
    }

    /// Turns pages into kB and adds up what the log leaves to be added.
    pub(super) fn finish(&self, kill: &mut Kill) {
        let page_kb = page_kb(kill);
        let kb = |name: &str| {
            let found = self.pages.iter().find(|(known, _)| *known == name);
            found.map(|(_, pages)| pages.saturating_mul(page_kb))
        };
        let mut rows = Vec::new();
        for (name, _) in &self.pages {
            if *name != RAM && *name != RESERVED {
                rows.push((*name, kb(name).unwrap_or(0)));
            }
        }
        if let Some(ram) = kb(RAM) {
            rows.push(("MemTotal", ram.saturating_sub(kb(RESERVED).unwrap_or(0))));
        }
        for (name, parts) in ADDED {
            let parts: Vec<u64> = parts.iter().filter_map(|part| kb(part)).collect();
            if !parts.is_empty() {
                rows.push((
                    name,
                    parts.iter().fold(0, |sum, kb| sum.saturating_add(*kb)),
                ));
            }
        }
        for (zone_name, name) in SUMS {
            let parts: Vec<u64> = kill
                .zones
                .iter()
                .filter_map(|zone| zone.get(zone_name))
                .collect();
            if !parts.is_empty() {
                rows.push((
                    name,
                    parts.iter().fold(0, |sum, kb| sum.saturating_add(*kb)),
                ));
            }
        }
        for (name, kb) in rows {
            kill.meminfo.entry(name.to_owned()).or_insert(kb);
        }
        // What the log calls page cache holds the swap cache, /proc/meminfo's
        // line does not.
        let swapped = kill.meminfo.get("SwapCached").copied().unwrap_or(0);
        if let Some(cached) = kill
            .meminfo
            .get_mut("Cached")
            .filter(|_| kb("Cached").is_some())
        {
            *cached = cached.saturating_sub(swapped);
        }
    }
}

/// Rows of `/proc/meminfo` that are sums of others.
const ADDED: &[(&str, &[&str])] = &[
    ("Active", &["Active(anon)", "Active(file)"]),
    ("Inactive", &["Inactive(anon)", "Inactive(file)"]),
    ("Slab", &["SReclaimable", "SUnreclaim"]),
];

/// Size of a page: of the smallest free blocks, or the usual one.
pub(super) fn page_kb(kill: &Kill) -> u64 {
    let smallest = kill.zones.iter().find_map(|zone| zone.buddy.first());
    smallest.map_or(4, |blocks| blocks.kb.max(1))
}

/// `Node 0 DMA free:…`; kernels without NUMA leave the node out.
fn split_node(text: &str) -> (Option<u32>, &str) {
    let split = || {
        let (node, rest) = text.strip_prefix("Node ")?.split_once(' ')?;
        Some((node.parse().ok()?, rest))
    };
    split().map_or((None, text), |(node, rest)| (Some(node), rest))
}

/// `DMA free:15900kB min:…` or `DMA: 1*4kB (U) 0*8kB = 4kB`.
fn zone(node: u32, text: &str, kill: &mut Kill) -> bool {
    let end = text.find([' ', ':']).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    if !ZONES.contains(&name) {
        return false;
    }
    if let Some(blocks) = rest
        .strip_prefix(": ")
        .filter(|blocks| blocks.contains('*'))
    {
        let buddy = buddy(blocks);
        if let Some(zone) = zone_of(node, name, kill) {
            zone.buddy = buddy;
        }
        return true;
    }
    if !rest.trim_start().starts_with("free:") {
        return false;
    }
    let figures = rest.split_whitespace().filter_map(|word| {
        let (name, value) = word.split_once(':')?;
        let kb = value.strip_suffix("kB")?.parse().ok()?;
        Some((name.to_owned(), kb))
    });
    let figures = figures.collect();
    if let Some(zone) = zone_of(node, name, kill) {
        zone.kb = figures;
    }
    true
}

fn zone_of<'a>(node: u32, name: &str, kill: &'a mut Kill) -> Option<&'a mut Zone> {
    let is_it = |zone: &Zone| zone.node == node && zone.name == name;
    let at = match kill.zones.iter().position(is_it) {
        Some(at) => at,
        None if kill.zones.len() < MOST => {
            kill.zones.push(Zone {
                node,
                name: name.to_owned(),
                ..Zone::default()
            });
            kill.zones.len() - 1
        }
        None => return None,
    };
    kill.zones.get_mut(at)
}

/// `1*4kB (U) 0*8kB 3*16kB (UM)`; letters since 3.7.
fn buddy(text: &str) -> Vec<FreeBlocks> {
    let mut blocks: Vec<FreeBlocks> = Vec::new();
    for word in text.split_whitespace() {
        let block = word.split_once('*').and_then(|(count, size)| {
            Some((count.parse().ok()?, size.strip_suffix("kB")?.parse().ok()?))
        });
        if let Some((count, kb)) = block
            && blocks.len() < MOST_ORDERS
        {
            blocks.push(FreeBlocks {
                count,
                kb,
                types: String::new(),
            });
        } else if let Some(last) = blocks.last_mut()
            && word.starts_with('(')
        {
            word.trim_matches(['(', ')']).clone_into(&mut last.types);
        } else if word == "=" {
            break;
        }
    }
    blocks
}

/// `lowmem_reserve[]: 0 1938 1938 1938`, about the zone before it.
fn reserve(text: &str, kill: &mut Kill) -> bool {
    let Some(pages) = text.strip_prefix("lowmem_reserve[]:") else {
        return false;
    };
    if let Some(zone) = kill.zones.last_mut() {
        let pages = pages.split_whitespace().map_while(|word| word.parse().ok());
        zone.lowmem_reserve = pages.take(16).collect();
    }
    true
}

/// `hugepages_total=0 hugepages_free=0 hugepages_surp=0 hugepages_size=2048kB`.
fn huge_pages(node: u32, text: &str, kill: &mut Kill) -> bool {
    if !text.starts_with("hugepages_total=") {
        return false;
    }
    let value = |name: &str| {
        let words = text.split_whitespace();
        let mut values = words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        values.next()?.trim_end_matches("kB").parse::<u64>().ok()
    };
    if kill.huge_pages.len() < MOST {
        kill.huge_pages.push(HugePages {
            node,
            total: value("hugepages_total").unwrap_or(0),
            free: value("hugepages_free").unwrap_or(0),
            size_kb: value("hugepages_size").unwrap_or(0),
        });
    }
    true
}

/// `Free swap  = 0kB`.
fn swap(text: &str, kill: &mut Kill) -> bool {
    let names = [("Free swap", "SwapFree"), ("Total swap", "SwapTotal")];
    let Some((words, value)) = text.split_once('=') else {
        return false;
    };
    let row = names.iter().find(|(known, _)| *known == words.trim());
    let kb = value
        .trim()
        .strip_suffix("kB")
        .and_then(|kb| kb.parse().ok());
    let (Some((_, name)), Some(kb)) = (row, kb) else {
        return false;
    };
    kill.meminfo.entry((*name).to_owned()).or_insert(kb);
    true
}

/// `kmalloc-64    1024KB   2048KB`.
fn slab(text: &str) -> Option<SlabCache> {
    let mut words = text.split_whitespace().rev();
    let mut kb = || words.next()?.strip_suffix("KB")?.parse().ok();
    let (total_kb, used_kb) = (kb()?, kb()?);
    let name: Vec<&str> = words.collect();
    let name: Vec<&str> = name.into_iter().rev().collect();
    Some(SlabCache {
        name: name.join(" "),
        used_kb,
        total_kb,
    })
}
