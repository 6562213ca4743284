//! Memory cgroups as their file system shows them: what each holds, and which
//! has the limit.
use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use super::CgroupUsage;

/// What a memory cgroup and those in it hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupUse {
    /// Path in the hierarchy.
    pub path: String,
    /// kB.
    pub usage_kb: u64,
}

/// Where a hierarchy may be mounted, and its files.
struct Hierarchy {
    mount: &'static str,
    usage: &'static str,
    limit: &'static str,
    peak: &'static str,
    failures: &'static str,
}

const fn version_2(mount: &'static str) -> Hierarchy {
    Hierarchy {
        mount,
        usage: "memory.current",
        limit: "memory.max",
        peak: "memory.peak",
        // Has events in place of a count.
        failures: "",
    }
}

/// Version 2, both mounted, version 1.
const HIERARCHIES: &[Hierarchy] = &[
    version_2(""),
    version_2("unified"),
    Hierarchy {
        mount: "memory",
        usage: "memory.usage_in_bytes",
        limit: "memory.limit_in_bytes",
        peak: "memory.max_usage_in_bytes",
        failures: "memory.failcnt",
    },
];

/// Levels of groups that are looked at, and groups altogether.
const LEVELS: usize = 3;
const MOST_GROUPS: usize = 256;

/// The groups that hold most.
pub fn largest(root: &Path, top: usize) -> Vec<GroupUse> {
    let mut found = Vec::new();
    for hierarchy in HIERARCHIES {
        descend(
            &root.join(hierarchy.mount),
            "",
            hierarchy,
            LEVELS,
            &mut found,
        );
        if !found.is_empty() {
            break;
        }
    }
    found.sort_by_key(|group| std::cmp::Reverse(group.usage_kb));
    found.truncate(top);
    found
}

fn descend(
    directory: &Path,
    path: &str,
    kind: &Hierarchy,
    levels: usize,
    found: &mut Vec<GroupUse>,
) {
    let Some(deeper) = levels.checked_sub(1) else {
        return;
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        if found.len() >= MOST_GROUPS || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let inner = entry.path();
        let Some(usage_kb) = kilobytes(&inner, kind.usage) else {
            continue;
        };
        let path = format!("{path}/{}", entry.file_name().to_string_lossy());
        found.push(GroupUse {
            path: path.clone(),
            usage_kb,
        });
        descend(&inner, &path, kind, deeper, found);
    }
}

fn number(directory: &Path, file: &str) -> Option<u64> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    text.trim().parse().ok()
}

fn kilobytes(directory: &Path, file: &str) -> Option<u64> {
    number(directory, file).map(|bytes| bytes / 1024)
}

/// Limits from here on are none: version 1 writes 2⁶³ less a page.
pub const UNLIMITED_KB: u64 = 1 << 52;

/// The group of this path, or the nearest above it, that has a limit; with the
/// most that it ever held, since now, after a kill, it holds less.
pub fn limiting(root: &Path, path: &str) -> Option<(String, CgroupUsage)> {
    HIERARCHIES.iter().find_map(|kind| {
        let mut path = path;
        while !path.is_empty() && path != "/" {
            let directory = root.join(kind.mount).join(path.trim_start_matches('/'));
            let limit = kilobytes(&directory, kind.limit);
            if let Some(limit_kb) = limit.filter(|limit| *limit < UNLIMITED_KB) {
                let peak = kilobytes(&directory, kind.peak);
                let usage = CgroupUsage {
                    usage_kb: peak.or_else(|| kilobytes(&directory, kind.usage))?,
                    limit_kb,
                    failures: number(&directory, kind.failures).unwrap_or(0),
                    ..CgroupUsage::default()
                };
                return Some((path.to_owned(), usage));
            }
            path = path.rsplit_once('/')?.0;
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_limit() {
        let root = tempfile::tempdir().expect("there is a place for temporary files");
        let outer = root.path().join("memory/a");
        let inner = outer.join("b");
        fs::create_dir_all(&inner).expect("the folder is ours");
        for (directory, name, text) in [
            (&outer, "memory.limit_in_bytes", "8192\n"),
            (&outer, "memory.max_usage_in_bytes", "8192\n"),
            (&outer, "memory.failcnt", "3\n"),
            (&outer, "memory.usage_in_bytes", "4096\n"),
            (&inner, "memory.limit_in_bytes", "9223372036854771712\n"),
            (&inner, "memory.usage_in_bytes", "2048\n"),
        ] {
            fs::write(directory.join(name), text).expect("the folder is ours");
        }
        let (path, usage) = limiting(root.path(), "/a/b").expect("there is a limit");
        assert_eq!(path, "/a");
        assert_eq!((usage.usage_kb, usage.limit_kb, usage.failures), (8, 8, 3));
        assert_eq!(limiting(root.path(), "/c"), None);
        let paths: Vec<String> = largest(root.path(), 5)
            .into_iter()
            .map(|group| group.path)
            .collect();
        assert_eq!(paths, ["/a", "/a/b"]);
    }
}
