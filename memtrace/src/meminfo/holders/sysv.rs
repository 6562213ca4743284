//! System V segments (`/proc/sysvipc/shm`), those of memtrace's own namespace.
use std::path::Path;

use super::{Holder, HolderKind, process, read_text};

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// `shmid`; the inode of its mappings is the same.
    pub(super) id: u64,
    key: i64,
    creator: u32,
    /// In bytes: what is in memory (2.6.36), else the size.
    bytes: u64,
    attached: u64,
}

pub(super) fn segments(proc_root: &Path) -> Vec<Segment> {
    // A kernel without System V IPC has no such file.
    let text = read_text(&proc_root.join("sysvipc/shm")).unwrap_or_default();
    parse(&text)
}

/// Columns by their names in the first line.
fn parse(text: &str) -> Vec<Segment> {
    let mut lines = text.lines();
    let head: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .collect();
    let column = |name: &str| head.iter().position(|found| *found == name);
    lines
        .filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let word = |name| words.get(column(name)?).copied();
            let bytes = word("rss").or_else(|| word("size"));
            Some(Segment {
                id: word("shmid")?.parse().ok()?,
                key: word("key")?.parse().ok()?,
                creator: word("cpid")?.parse().ok()?,
                bytes: bytes?.parse().ok()?,
                attached: word("nattch")?.parse().ok()?,
            })
        })
        .collect()
}

impl Segment {
    pub(super) fn holder(&self, proc_root: &Path, attached: &[u32]) -> Holder {
        let key = match self.key {
            0 => "private".to_owned(),
            // Printed signed, and written as ipcs writes it.
            key => format!("key 0x{:08x}", key & 0xffff_ffff),
        };
        let nobody = if self.attached == 0 {
            ", attached by nobody"
        } else {
            ""
        };
        Holder {
            kind: HolderKind::Sysv,
            name: format!("shmid {} ({key}{nobody})", self.id),
            kb: self.bytes / 1024,
            at_least: false,
            creator: Some(process(proc_root, self.creator)),
            processes: attached
                .iter()
                .map(|pid| process(proc_root, *pid))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_go_by_name() {
        let new = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n\
            -559038737          3   600               1048576   111   222      1     0     0     0     0          1          2          3                524288                     0\n";
        let segments = parse(new);
        assert_eq!(segments.len(), 1);
        assert_eq!(
            (segments[0].id, segments[0].creator, segments[0].bytes),
            (3, 111, 524_288)
        );
        let holder = segments[0].holder(Path::new("/nonexistent"), &[]);
        assert_eq!(
            (holder.name.as_str(), holder.kb),
            ("shmid 3 (key 0xdeadbeef)", 512)
        );
        let old = "key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime\n\
            0 0 600 4096 7 7 0 0 0 0 0 1 2 3\ncut 1\n";
        let segments = parse(old);
        let name = segments[0].holder(Path::new("/nonexistent"), &[]).name;
        assert_eq!(
            (segments.len(), name.as_str()),
            (1, "shmid 0 (private, attached by nobody)")
        );
        assert!(parse("").is_empty());
    }
}
