//! Shared memory in the hands of processes: open files, mappings.
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
};

use nix::sys::{
    stat::makedev,
    statfs::{TMPFS_MAGIC, statfs},
};

use super::{
    FileId, Holder, HolderKind, Search, blocks_kb, namespace, plain, read_text, sysv::Segment,
};
use crate::process::{Map, maps};

/// Processes that are looked at, the oldest first.
const PROCESSES: usize = 20_000;
/// Open files that are looked at, in all.
const OPEN_FILES: usize = 1_000_000;

/// Mappings that are looked at, in all.
const MAPPINGS: usize = 5_000_000;

/// All processes.
pub(super) fn pids(proc_root: &Path, notes: &mut Vec<String>) -> Vec<u32> {
    let entries = fs::read_dir(proc_root).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pids: BTreeSet<u32> = names.collect();
    if pids.len() > PROCESSES {
        notes.push(format!(
            "only {PROCESSES} of {} processes were searched for shared memory",
            pids.len()
        ));
    }
    pids.into_iter().take(PROCESSES).collect()
}

/// What kind of shared memory a name in `/proc/PID/fd` or `maps` stands for;
/// `None` for what has a name in a file system.
fn kind_of(name: &[u8]) -> Option<HolderKind> {
    const KINDS: &[(&[u8], HolderKind)] = &[
        (b"/memfd:", HolderKind::Memfd),
        (b"/SYSV", HolderKind::Sysv),
        (b"/dev/zero (deleted)", HolderKind::SharedAnonymous),
        // Android names such mappings.
        (b"[anon_shmem:", HolderKind::SharedAnonymous),
    ];
    let known = KINDS.iter().find(|(prefix, _)| name.starts_with(prefix));
    known.map(|(_, kind)| *kind).or_else(|| {
        name.ends_with(b" (deleted)")
            .then_some(HolderKind::DeletedFile)
    })
}

fn named(kind: HolderKind, name: &[u8], id: FileId) -> String {
    let text = String::from_utf8_lossy(name);
    let text = text.strip_suffix(" (deleted)").unwrap_or(&text);
    match kind {
        HolderKind::SharedAnonymous => format!("inode {}", id.1),
        HolderKind::Memfd => plain(text.strip_prefix("/memfd:").unwrap_or(text)),
        _ => plain(text),
    }
}

fn holder(kind: HolderKind, name: &[u8], id: FileId, kb: u64) -> Holder {
    Holder {
        kind,
        name: named(kind, name, id),
        kb,
        at_least: false,
        creator: None,
        processes: Vec::new(),
    }
}

/// Looks at every process. `attached` gets the processes of each segment.
pub(super) fn search(
    proc_root: &Path,
    pids: &[u32],
    segments: &[Segment],
    attached: &mut HashMap<u64, Vec<u32>>,
    search: &mut Search,
) {
    let mut open_files = 0;
    let mut mappings = 0_usize;
    let mut unseen = 0_usize;
    let own_ipc = namespace(proc_root, "self", "ipc");
    for pid in pids {
        unseen += usize::from(!open(proc_root, *pid, &mut open_files, search));
        if mappings >= MAPPINGS {
            continue;
        }
        let Ok(maps) = maps(proc_root, *pid) else {
            continue;
        };
        mappings = mappings.saturating_add(maps.len());
        let same_ipc = namespace(proc_root, &pid.to_string(), "ipc") == own_ipc;
        // Costly, and seldom needed.
        let mut smaps = None;
        for map in &maps {
            let segment = segments.iter().find(|segment| segment.id == map.file.1);
            if same_ipc
                && is_sysv(map)
                && let Some(segment) = segment
            {
                let pids = attached.entry(segment.id).or_default();
                if pids.last() != Some(pid) {
                    pids.push(*pid);
                }
                continue;
            }
            mapped(proc_root, *pid, map, &mut smaps, search);
        }
    }
    if unseen > 0 {
        search.notes.push(format!(
            "open files and mappings of {unseen} processes can be seen by root alone: holders of shared memory may be missing"
        ));
    }
    for (seen, most, what) in [
        (open_files, OPEN_FILES, "open files"),
        (mappings, MAPPINGS, "mappings"),
    ] {
        if seen >= most {
            search.notes.push(format!(
                "only the first {most} {what} were searched for shared memory"
            ));
        }
    }
}

fn is_sysv(map: &Map) -> bool {
    kind_of(map.path.as_os_str().as_bytes()) == Some(HolderKind::Sysv)
}

/// Returns whether the open files of the process may be looked at; those of
/// one that has ended may.
fn open(proc_root: &Path, pid: u32, open_files: &mut usize, search: &mut Search) -> bool {
    let folder = proc_root.join(format!("{pid}/fd"));
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) => return error.kind() != std::io::ErrorKind::PermissionDenied,
    };
    for entry in entries.flatten() {
        if *open_files >= OPEN_FILES {
            break;
        }
        *open_files += 1;
        let path = entry.path();
        let Ok(link) = fs::read_link(&path) else {
            continue;
        };
        let name = link.as_os_str().as_bytes();
        let Some(kind) = kind_of(name) else {
            opened(&path, name, pid, search);
            continue;
        };
        if let Some((id, kb)) = shared_memory(&path) {
            search.add(id, Some(pid), || holder(kind, name, id, kb));
        }
    }
    true
}

/// Notes who has a large tmpfs file open. Only these are asked for: to ask for
/// every open file takes long.
fn opened(path: &Path, name: &[u8], pid: u32, search: &mut Search) {
    let is_large = |found: &super::Found| found.holder.name.as_bytes() == name;
    if search.found.values().any(is_large)
        && let Ok(file) = fs::metadata(path)
        && let Some(found) = search.found.get_mut(&(file.dev(), file.ino()))
    {
        found.pids.insert(pid);
    }
}

/// The file behind a link of `/proc`, if it is in a tmpfs, and its memory.
fn shared_memory(link: &Path) -> Option<(FileId, u64)> {
    let file = fs::metadata(link).ok()?;
    let is_tmpfs = statfs(link).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
    is_tmpfs.then(|| ((file.dev(), file.ino()), blocks_kb(file.blocks())))
}

fn mapped(proc_root: &Path, pid: u32, map: &Map, smaps: &mut Option<String>, search: &mut Search) {
    let Some(device) = device(&map.file.0) else {
        return;
    };
    let id = (device, map.file.1);
    // Mapped in parts, or open as well.
    if let Some(found) = search.found.get_mut(&id) {
        found.pids.insert(pid);
        return;
    }
    let name = map.path.as_os_str().as_bytes();
    let Some(kind) = kind_of(name) else {
        return;
    };
    let link = format!("{pid}/map_files/{:x}-{:x}", map.start, map.end);
    if let Some((id, kb)) = shared_memory(&proc_root.join(link)) {
        search.add(id, Some(pid), || holder(kind, name, id, kb));
    } else if kind != HolderKind::DeletedFile {
        // Others' deleted files may be of any file system.
        let smaps = smaps.get_or_insert_with(|| {
            read_text(&proc_root.join(format!("{pid}/smaps"))).unwrap_or_default()
        });
        // What the process itself has of it.
        let kb = rss(smaps, map.start).unwrap_or(0);
        search.add(id, Some(pid), || Holder {
            at_least: true,
            ..holder(kind, name, id, kb)
        });
    }
}

/// `00:1a`, as maps prints devices.
fn device(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(makedev(number(major)?, number(minor)?))
}

/// The resident part of the mapping at `start`, in kB.
fn rss(smaps: &str, start: u64) -> Option<u64> {
    let mut lines = smaps.lines();
    lines.find(|line| {
        let first = line.split('-').next().unwrap_or_default();
        u64::from_str_radix(first, 16) == Ok(start)
    })?;
    let figure = lines.find_map(|line| line.strip_prefix("Rss:"))?;
    figure.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_kind() {
        for (name, kind) in [
            ("/memfd:pool (deleted)", Some(HolderKind::Memfd)),
            ("/SYSV0000abcd (deleted)", Some(HolderKind::Sysv)),
            ("/dev/zero (deleted)", Some(HolderKind::SharedAnonymous)),
            ("[anon_shmem:x]", Some(HolderKind::SharedAnonymous)),
            ("/dev/shm/x (deleted)", Some(HolderKind::DeletedFile)),
            ("/dev/shm/x", None),
            ("socket:[1]", None),
        ] {
            assert_eq!(kind_of(name.as_bytes()), kind, "{name}");
        }
        assert_eq!(
            named(HolderKind::Memfd, b"/memfd:a\tb (deleted)", (1, 2)),
            "a\u{fffd}b"
        );
        assert_eq!(
            named(HolderKind::SharedAnonymous, b"/dev/zero (deleted)", (1, 2)),
            "inode 2"
        );
        assert_eq!(device("00:1a"), Some(makedev(0, 26)));
        assert_eq!(device("x"), None);
    }

    #[test]
    fn resident_part_of_one_mapping() {
        let smaps = "1000-2000 rw-s 0 00:01 5 /dev/zero (deleted)\nSize: 4 kB\nRss: 4 kB\n\
            3000-9000 rw-s 0 00:01 6 /dev/zero (deleted)\nSize: 24 kB\nRss: 12 kB\n";
        assert_eq!(rss(smaps, 0x3000), Some(12));
        assert_eq!(rss(smaps, 0x4000), None);
    }
}
