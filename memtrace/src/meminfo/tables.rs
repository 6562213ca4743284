//! The smaller files beside `/proc/meminfo`: slabinfo, vmstat, modules,
//! sockstat.
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// A cache of kernel objects (`/proc/slabinfo`, version 2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Of the cache.
    pub name: String,
    /// In kB, whole slabs.
    pub kb: u64,
    /// Objects in use.
    pub active: u64,
    /// Objects there is room for.
    pub objects: u64,
    /// Size of an object in bytes.
    pub object_bytes: u64,
    /// Change since an earlier moment; null without one.
    #[serde(default)]
    pub change_kb: Option<i64>,
}

/// Reads `/proc/slabinfo`: the caches that hold memory, largest first.
pub fn slabinfo(text: &str, page_kb: u64) -> Vec<Cache> {
    let mut caches: Vec<Cache> = text
        .lines()
        .filter_map(|line| cache(line, page_kb))
        .filter(|cache| cache.kb > 0)
        .collect();
    caches.sort_by(|a, b| b.kb.cmp(&a.kb).then_with(|| a.name.cmp(&b.name)));
    caches
}

/// `name active objects size per-slab pages-per-slab : tunables … : slabdata
/// active-slabs slabs shared`.
fn cache(line: &str, page_kb: u64) -> Option<Cache> {
    if line.starts_with('#') {
        return None;
    }
    let mut parts = line.split(" : ");
    let mut words = parts.next()?.split_ascii_whitespace();
    let name = words.next()?;
    let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
    let [active, objects, object_bytes, _, pages_per_slab] = numbers[..] else {
        return None;
    };
    let slabs = parts.find_map(|part| part.trim_start().strip_prefix("slabdata"))?;
    let slabs: u64 = slabs.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Cache {
        name: name.to_owned(),
        kb: slabs.saturating_mul(pages_per_slab).saturating_mul(page_kb),
        active,
        objects,
        object_bytes,
        change_kb: None,
    })
}

/// The caches with what changed since an earlier moment, the largest change
/// first. Those that hold nothing any more are among them.
pub fn compared(now: &[Cache], before: &[Cache]) -> Vec<Cache> {
    let mut old: HashMap<&str, u64> = before
        .iter()
        .map(|cache| (cache.name.as_str(), cache.kb))
        .collect();
    let mut all: Vec<Cache> = now
        .iter()
        .map(|cache| Cache {
            change_kb: Some(change(
                cache.kb,
                old.remove(cache.name.as_str()).unwrap_or(0),
            )),
            ..cache.clone()
        })
        .collect();
    all.extend(old.into_iter().map(|(name, kb)| Cache {
        name: name.to_owned(),
        change_kb: Some(change(0, kb)),
        ..Cache::default()
    }));
    all.sort_by(|a, b| {
        let size = |cache: &Cache| cache.change_kb.map(i64::unsigned_abs);
        size(b).cmp(&size(a)).then_with(|| a.name.cmp(&b.name))
    });
    all
}

/// From one figure to the other.
pub fn change(now: u64, before: u64) -> i64 {
    let signed = |figure: u64| i64::try_from(figure).unwrap_or(i64::MAX);
    signed(now).saturating_sub(signed(before))
}

/// Reads `/proc/vmstat`, or any file of names and numbers.
pub fn vmstat(text: &str) -> HashMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.trim().split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// Kernel modules by the kernel's own list (`/proc/modules`, what lsmod prints):
/// names and bytes.
pub fn modules(text: &str) -> Vec<(String, u64)> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        })
        .collect()
}

/// Pages that sockets account for (`/proc/net/sockstat`: `TCP: … mem 12`).
pub fn sockstat(text: &str) -> u64 {
    let pages = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" mem ")?;
        rest.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    pages.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_whole_slabs() {
        let text = "\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit>
btrfs_delayed_node      0      0    312   13    1 : tunables    0    0    0 : slabdata      0      0      0
dentry             17000  21000    192   21    1 : tunables    0    0    0 : slabdata   1000   1000      0
kmalloc-8k            12     16   8192    4    8 : tunables    0    0    0 : slabdata      4      4      0
cut              12     16   8192
";
        let caches = slabinfo(text, 4);
        assert_eq!(caches.len(), 2);
        assert_eq!((caches[0].name.as_str(), caches[0].kb), ("dentry", 4000));
        assert_eq!((caches[1].kb, caches[1].active), (128, 12));
    }

    #[test]
    fn caches_by_their_change() {
        let cache = |name: &str, kb| Cache {
            name: name.to_owned(),
            kb,
            ..Cache::default()
        };
        let old = [cache("gone", 7), cache("grown", 10), cache("same", 90)];
        let now = [cache("same", 90), cache("grown", 30), cache("new", 5)];
        let compared = compared(&now, &old);
        let changes: Vec<_> = compared
            .iter()
            .map(|cache| (cache.name.as_str(), cache.kb, cache.change_kb))
            .collect();
        let expected = [
            ("grown", 30, Some(20)),
            ("gone", 0, Some(-7)),
            ("new", 5, Some(5)),
            ("same", 90, Some(0)),
        ];
        assert_eq!(changes, expected);
        assert_eq!(change(0, u64::MAX), -i64::MAX);
    }

    #[test]
    fn names_and_numbers() {
        let vmstat = vmstat("nr_free_pages 12\nnr_isolated_anon x\n\n");
        assert_eq!(vmstat.get("nr_free_pages"), Some(&12));
        assert_eq!(vmstat.len(), 1);
        let modules =
            modules("zram 40960 1 - Live 0x0000000000000000\nzsmalloc 36864 1 zram, Live 0x0\n");
        assert_eq!(modules[1], ("zsmalloc".to_owned(), 36_864));
    }
    #[test]
    fn pages_of_sockets() {
        let text = "sockets: used 61\nTCP: inuse 5 orphan 0 tw 0 alloc 6 mem 7\nUDP: inuse 0 mem 2\n\
            RAW: inuse 0\nFRAG: inuse 0 memory 4096\n";
        assert_eq!(sockstat(text), 9);
        assert_eq!(sockstat("TCP: mem \n"), 0);
    }
}
