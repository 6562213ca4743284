//! What a tracer may have left behind: eBPF programs in the kernel, breakpoints in the target.
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::patience;

/// The kernel frees programs some time after their last user has gone.
const GRACE: Duration = Duration::from_secs(5);

/// The eBPF programs in the kernel, each with the processes that hold it open.
pub struct Programs(BTreeMap<u64, BTreeSet<u32>>);

impl Programs {
    /// As they are now: all that bpftool lists, and who holds each by what the file descriptors of all processes say
    /// (bpftool's own `pids` are missing on some kernels). Without bpftool, programs that nobody holds cannot be seen;
    /// those are pinned, so each pinned file counts as a program held by pid 0.
    pub fn now() -> Result<Self> {
        let mut programs = match Command::new("bpftool")
            .args(["-j", "prog", "show"])
            .output()
        {
            Ok(output) if output.status.success() => listed(&output.stdout)?,
            _ => pinned(Path::new("/sys/fs/bpf")),
        };
        for process in fs::read_dir("/proc").context("reading /proc")?.flatten() {
            let Some(pid) = process
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // Processes end while we look; other users' are not ours to look at.
            let Ok(descriptors) = fs::read_dir(process.path().join("fdinfo")) else {
                continue;
            };
            for descriptor in descriptors.flatten() {
                let info = fs::read_to_string(descriptor.path()).unwrap_or_default();
                let id = info
                    .lines()
                    .find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u64>().ok());
                if let Some(id) = id {
                    programs.entry(id).or_default().insert(pid);
                }
            }
        }
        Ok(Self(programs))
    }

    /// Fails where there is a program that was not there before and that is held by nobody, or by one of `targets`.
    /// Programs that other processes hold are theirs: tests are not alone on a machine.
    pub fn nothing_new(&self, targets: &[u32]) -> Result<()> {
        let deadline = Instant::now() + patience(GRACE);
        loop {
            let mut left = Self::now()?.0;
            left.retain(|id, pids| {
                let ours = pids.is_empty()
                    || pids.contains(&0)
                    || pids.iter().any(|pid| targets.contains(pid));
                ours && !self.0.contains_key(id)
            });
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("eBPF programs left behind (id: held by): {left:?}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// How many a process holds: to see that a tracer has any at all.
    pub fn held_by(&self, pid: u32) -> usize {
        self.0.values().filter(|pids| pids.contains(&pid)).count()
    }
}

/// The ids in bpftool's list.
fn listed(json: &[u8]) -> Result<BTreeMap<u64, BTreeSet<u32>>> {
    let list: Vec<Value> = serde_json::from_slice(json).context("bpftool's JSON")?;
    let ids = list
        .iter()
        .filter_map(|program| program.get("id")?.as_u64());
    Ok(ids.map(|id| (id, BTreeSet::new())).collect())
}

/// The files in the BPF file system, under numbers that no program has.
fn pinned(directory: &Path) -> BTreeMap<u64, BTreeSet<u32>> {
    let mut pending = vec![directory.to_path_buf()];
    let mut found = BTreeMap::new();
    while let Some(directory) = pending.pop() {
        // Not mounted, or not ours to see: nothing is pinned there by us.
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let mut hasher = DefaultHasher::new();
            entry.path().hash(&mut hasher);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(entry.path()),
                // The kernel's own.
                _ if entry.file_name() == "maps.debug" || entry.file_name() == "progs.debug" => {}
                _ => {
                    found.insert(hasher.finish() | 1 << 63, BTreeSet::from([0]));
                }
            }
        }
    }
    found
}

/// Fails where code in a process's memory differs from the file that it was mapped from: a uprobe is a breakpoint
/// instruction (0xcc) in the process's private copy of the page. A process that has ended has none.
pub fn no_breakpoints(pid: u32) -> Result<()> {
    let deadline = Instant::now() + patience(GRACE);
    loop {
        let found = breakpoints(pid)?;
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("breakpoints left behind: {found:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Where a process's code holds breakpoints that its file does not: `path+offset`.
pub fn breakpoints(pid: u32) -> Result<Vec<String>> {
    let maps = match fs::read_to_string(format!("/proc/{pid}/maps")) {
        Ok(maps) => maps,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("reading maps"),
    };
    if maps.is_empty() {
        return Ok(Vec::new()); // A zombie.
    }
    let memory = File::open(format!("/proc/{pid}/mem")).context("opening the target's memory")?;
    let mut found = Vec::new();
    let mut compared = 0;
    for line in maps.lines() {
        let fields: Vec<&str> = line.splitn(6, ' ').collect();
        let [range, permissions, offset, _, _, path] = fields.as_slice() else {
            continue;
        };
        let path = path.trim_start();
        if !permissions.contains('x') || !path.starts_with('/') || path.ends_with("(deleted)") {
            continue;
        }
        let (start, end) = range.split_once('-').context("a range in maps")?;
        let (start, end) = (
            u64::from_str_radix(start, 16)?,
            u64::from_str_radix(end, 16)?,
        );
        let offset = u64::from_str_radix(offset, 16)?;
        let file = File::open(path).with_context(|| format!("opening {path}"))?;
        let length = usize::try_from(end - start)?;
        let mut on_disk = vec![0; length];
        let read = file
            .read_at(&mut on_disk, offset)
            .with_context(|| format!("reading {path}"))?;
        let mut in_memory = vec![0; read];
        if memory.read_exact_at(&mut in_memory, start).is_err() {
            return Ok(Vec::new()); // It has ended meanwhile.
        }
        compared += read;
        let places = in_memory.iter().zip(&on_disk).enumerate();
        let changed = places.filter(|(_, (now, then))| now != then && **now == 0xcc);
        found.extend(changed.map(|(at, _)| format!("{path}+{:#x}", offset + at as u64)));
    }
    ensure!(compared > 0, "pid {pid} maps no code from any file");
    Ok(found)
}
