//! Who holds shared memory: files in tmpfs, memfds, files that are deleted but
//! open or mapped, System V segments, shared anonymous mappings.
//!
//! The work is bounded, whatever the machine holds; what a bound cut off and
//! what may not be looked at is said in the notes.
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

mod mounts;
mod processes;
mod sysv;

use super::machine::read_text;

/// Largest holders that are kept.
const HOLDERS: usize = 50;

/// What a holder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HolderKind {
    /// A file in a tmpfs that is mounted.
    TmpfsFile,
    /// A file by `memfd_create`.
    Memfd,
    /// A file of a tmpfs that has no name any more, but is open or mapped.
    DeletedFile,
    /// A System V shared memory segment.
    Sysv,
    /// A mapping by `mmap(MAP_SHARED | MAP_ANONYMOUS)`.
    SharedAnonymous,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// In the namespace of memtrace.
    pub pid: u32,
    /// The kernel's name for it; null where it is no more.
    pub comm: Option<String>,
}

/// One piece of shared memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// What it is.
    pub kind: HolderKind,
    /// Path, memfd's name, or key and id of the segment.
    pub name: String,
    /// Pages that it has in memory (and in swap, where the file system does
    /// not tell them apart).
    pub kb: u64,
    /// Whether it may be more: only what a process has mapped could be seen.
    #[serde(default)]
    pub at_least: bool,
    /// Who made it, for a segment.
    #[serde(default)]
    pub creator: Option<Process>,
    /// Who has it open, mapped or attached.
    pub processes: Vec<Process>,
}

/// A tmpfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is mounted, as its mount namespace sees it.
    pub path: String,
    /// What it holds; null where another mount hides it.
    pub kb: Option<u64>,
    /// What it may hold; null without a limit.
    pub limit_kb: Option<u64>,
    /// A process in its mount namespace; null for that of memtrace.
    #[serde(default)]
    pub seen_through_pid: Option<u32>,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holders {
    /// What of Shmem the mounts and the other holders explain.
    pub named_kb: u64,
    /// The largest holders, largest first.
    pub holders: Vec<Holder>,
    /// Mounted tmpfs, the fullest first.
    pub mounts: Vec<Mount>,
    /// What was not looked at.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// A file by device and inode, whatever its names.
type FileId = (u64, u64);

/// A holder, and what tells it from others.
#[derive(Debug)]
struct Found {
    holder: Holder,
    /// Of a mounted tmpfs, which counts it already.
    in_mount: bool,
    pids: BTreeSet<u32>,
}

/// What the search has so far.
#[derive(Debug, Default)]
struct Search {
    found: HashMap<FileId, Found>,
    mounts: Vec<Mount>,
    /// Devices of the mounts.
    devices: Vec<u64>,
    notes: Vec<String>,
}

impl Search {
    fn add(&mut self, id: FileId, pid: Option<u32>, make: impl FnOnce() -> Holder) {
        let in_mount = self.devices.contains(&id.0);
        let found = self.found.entry(id).or_insert_with(|| Found {
            holder: make(),
            in_mount,
            pids: BTreeSet::new(),
        });
        if let Some(pid) = pid {
            found.pids.insert(pid);
        }
    }
}

/// Searches the running system. Takes a moment on machines with many processes
/// or files.
pub fn find(proc_root: &Path) -> Holders {
    let mut search = Search::default();
    let pids = processes::pids(proc_root, &mut search.notes);
    mounts::search(proc_root, &pids, &mut search);
    let segments = sysv::segments(proc_root);
    let mut attached = HashMap::new();
    processes::search(proc_root, &pids, &segments, &mut attached, &mut search);
    let mut holders = search.holders(proc_root);
    let segments = segments.iter().map(|segment| {
        let attached = attached.get(&segment.id).map_or(&[][..], Vec::as_slice);
        segment.holder(proc_root, attached)
    });
    for holder in segments.filter(|holder| holder.kb > 0) {
        holders.named_kb = holders.named_kb.saturating_add(holder.kb);
        holders.holders.push(holder);
    }
    holders
        .holders
        .sort_by(|a, b| b.kb.cmp(&a.kb).then_with(|| a.name.cmp(&b.name)));
    holders.holders.truncate(HOLDERS);
    holders
}

impl Search {
    fn holders(self, proc_root: &Path) -> Holders {
        let mounted = self.mounts.iter().filter_map(|mount| mount.kb);
        let mut named_kb = mounted.fold(0, u64::saturating_add);
        let mut holders = Vec::new();
        for found in self.found.into_values() {
            if !found.in_mount {
                named_kb = named_kb.saturating_add(found.holder.kb);
            }
            let pids = found.pids.into_iter();
            holders.push(Holder {
                processes: pids.map(|pid| process(proc_root, pid)).collect(),
                ..found.holder
            });
        }
        let mut mounts = self.mounts;
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.kb));
        Holders {
            named_kb,
            holders: holders.into_iter().filter(|holder| holder.kb > 0).collect(),
            mounts,
            notes: self.notes,
        }
    }
}

/// Names in a process's hands may be any bytes: control characters go.
fn plain(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

fn process(proc_root: &Path, pid: u32) -> Process {
    let comm = read_text(&proc_root.join(format!("{pid}/comm"))).ok();
    Process {
        pid,
        comm: comm.map(|comm| plain(comm.trim_end_matches('\n'))),
    }
}

/// A namespace of a process, as the kernel names it.
fn namespace(proc_root: &Path, pid: &str, which: &str) -> Option<PathBuf> {
    fs::read_link(proc_root.join(pid).join("ns").join(which)).ok()
}

/// Kilobytes of so many blocks of `stat`(2), which are 512 bytes.
fn blocks_kb(blocks: u64) -> u64 {
    blocks / 2
}
