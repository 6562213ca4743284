//! Mounted tmpfs, in every mount namespace, and the largest files in them.
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::sys::{stat::makedev, statvfs::statvfs};

use super::{
    FileId, HOLDERS, Holder, HolderKind, Mount, Search, blocks_kb, namespace, plain, read_text,
};

/// Files and directories that are looked at in all, before the search gives up.
const ENTRIES: usize = 300_000;

/// A tmpfs as mountinfo lists it.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    device: u64,
    /// As its namespace sees it.
    point: String,
}

pub(super) fn search(proc_root: &Path, pids: &[u32], search: &mut Search) {
    let mut files = Files::default();
    let mut hidden: Vec<(u64, Mount)> = Vec::new();
    for (pid, listed) in listed(proc_root, pids) {
        // The same tmpfs may be mounted in many places.
        if search.devices.contains(&listed.device) {
            continue;
        }
        let root = match pid {
            None => PathBuf::from("/"),
            Some(pid) => proc_root.join(format!("{pid}/root")),
        };
        let path = root.join(listed.point.trim_start_matches('/'));
        let mut mount = Mount {
            path: plain(&listed.point),
            kb: None,
            limit_kb: None,
            seen_through_pid: pid,
        };
        let visible = fs::metadata(&path).is_ok_and(|found| found.dev() == listed.device);
        match statvfs(&path) {
            Ok(found) if visible => {
                let kb = |blocks: u64| blocks.saturating_mul(found.fragment_size()) / 1024;
                mount.kb = Some(kb(found.blocks().saturating_sub(found.blocks_free())));
                mount.limit_kb = Some(kb(found.blocks())).filter(|limit| *limit > 0);
                search.devices.push(listed.device);
                search.mounts.push(mount);
                files.walk(&path, &root, listed.device);
            }
            _ => hidden.push((listed.device, mount)),
        }
    }
    files.hand_over(search);
    hidden.sort_by_key(|(device, _)| *device);
    hidden.dedup_by_key(|(device, _)| *device);
    // What is out of sight in one namespace may be visible in another.
    hidden.retain(|(device, _)| !search.devices.contains(device));
    for (_, mount) in hidden {
        search.notes.push(format!(
            "what the tmpfs at {} holds cannot be listed: another mount lies on top of it, or it is out of reach",
            mount.path
        ));
        search.mounts.push(mount);
    }
}

/// All tmpfs of memtrace's mount namespace, then those that only others have,
/// each through one process that is in it.
fn listed(proc_root: &Path, pids: &[u32]) -> Vec<(Option<u32>, Listed)> {
    let read =
        |pid: &str| parse(&read_text(&proc_root.join(pid).join("mountinfo")).unwrap_or_default());
    let mut all: Vec<_> = read("self")
        .into_iter()
        .map(|listed| (None, listed))
        .collect();
    let mut namespaces: HashSet<_> = namespace(proc_root, "self", "mnt").into_iter().collect();
    for pid in pids {
        let other = namespace(proc_root, &pid.to_string(), "mnt");
        if other.is_some_and(|other| namespaces.insert(other)) {
            let listed = read(&pid.to_string()).into_iter();
            all.extend(listed.map(|listed| (Some(*pid), listed)));
        }
    }
    all
}

/// `36 35 0:23 / /dev/shm rw,relatime shared:1 - tmpfs tmpfs rw` (`proc_pid_mountinfo`(5)).
fn parse(text: &str) -> Vec<Listed> {
    text.lines()
        .filter_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let words: Vec<&str> = mount.split(' ').collect();
            if !matches!(kind.split(' ').next()?, "tmpfs" | "devtmpfs") {
                return None;
            }
            let (major, minor) = words.get(2)?.split_once(':')?;
            Some(Listed {
                device: makedev(major.parse().ok()?, minor.parse().ok()?),
                point: unescaped(words.get(4)?),
            })
        })
        .collect()
}

/// Spaces and such are written as octal numbers: `\040`.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        if let Some(code) = code {
            bytes.push(code);
            bytes.extend_from_slice(&part.as_bytes()[3..]);
        } else {
            bytes.push(b'\\');
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The largest files so far.
#[derive(Default)]
struct Files {
    largest: BinaryHeap<Reverse<(u64, FileId, String)>>,
    entries: usize,
}

impl Files {
    fn walk(&mut self, start: &Path, root: &Path, device: u64) {
        let mut folders = vec![start.to_path_buf()];
        // Files with several names.
        let mut seen = HashSet::new();
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                if self.entries >= ENTRIES {
                    return;
                }
                self.entries += 1;
                let Ok(found) = entry.metadata() else {
                    continue;
                };
                if found.dev() != device {
                    continue;
                }
                if found.is_dir() {
                    folders.push(entry.path());
                } else if found.nlink() == 1 || seen.insert(found.ino()) {
                    let path = entry.path();
                    let name = path.strip_prefix(root).unwrap_or(&path);
                    let name = format!("/{}", plain(&name.to_string_lossy()));
                    self.add(blocks_kb(found.blocks()), (device, found.ino()), name);
                }
            }
        }
    }

    fn add(&mut self, kb: u64, id: FileId, name: String) {
        if kb == 0 {
            return;
        }
        self.largest.push(Reverse((kb, id, name)));
        if self.largest.len() > HOLDERS {
            self.largest.pop();
        }
    }

    fn hand_over(self, search: &mut Search) {
        if self.entries >= ENTRIES {
            search.notes.push(format!(
                "only the first {ENTRIES} files in tmpfs were looked at: there may be larger ones"
            ));
        }
        for Reverse((kb, id, name)) in self.largest {
            search.add(id, None, || Holder {
                kind: HolderKind::TmpfsFile,
                name,
                kb,
                at_least: false,
                creator: None,
                processes: Vec::new(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_in_mountinfo() {
        let text = "24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw,size=12334460k\n\
            25 24 0:23 / /dev/shm\\040x rw,relatime shared:3 - tmpfs tmpfs rw\n\
            27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\nnonsense\n";
        let listed = parse(text);
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[1].device, makedev(0, 23));
        assert_eq!(listed[1].point, "/dev/shm x");
        assert_eq!(unescaped("a\\9"), "a\\9");
        assert_eq!(unescaped("\\0é"), "\\0é");
    }

    #[test]
    fn the_largest_files_stay() {
        let mut files = Files::default();
        for kb in 0..200 {
            files.add(kb, (1, kb), format!("/{kb}"));
        }
        assert_eq!(files.largest.len(), HOLDERS);
        assert_eq!(files.largest.peek().map(|file| file.0.0), Some(150));
    }
}
