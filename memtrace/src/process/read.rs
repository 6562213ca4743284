//! The files of `/proc/PID` that a traced process has a say in: names in them
//! may be any bytes, so they are read as bytes.
use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// What `stat` says (`proc_pid_stat`(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Field 2, with what no terminal should get replaced.
    pub(super) comm: String,
    /// Field 3.
    pub(super) state: u8,
    /// Field 9.
    pub(super) flags: u64,
    /// Field 20.
    pub(super) threads: u64,
    /// Field 22, clock ticks after boot.
    pub(super) start_time: u64,
    /// Field 24, pages. A little off: the kernel counts by CPU.
    pub(super) resident: u64,
    /// Field 47: where the heap begins; 0 where that is not for us to know.
    pub(super) heap_start: u64,
}

/// One line of `maps` (`proc_pid_maps`(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the four permissions of a mapping"
)]
pub struct Map {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Whether it may be read.
    pub readable: bool,
    /// Whether it may be written to.
    pub writable: bool,
    /// Whether it holds code.
    pub executable: bool,
    /// Whether what is written is seen by others.
    pub shared: bool,
    /// Where in the file it begins.
    pub offset: u64,
    /// Device as printed, and inode: what tells files apart.
    pub file: (String, u64),
    /// Empty for anonymous memory; `[…]` for the kernel's own.
    pub path: PathBuf,
}

impl Map {
    /// Whether anything may be done with it at all.
    pub fn is_accessible(&self) -> bool {
        self.readable || self.writable || self.executable
    }

    /// Whether it is memory of the program break. Older kernels (5.10, 6.1) give that
    /// name to what lies next to it, too, which may be a page that nobody may read.
    pub fn is_heap(&self) -> bool {
        self.path.as_os_str() == "[heap]" && self.readable && self.writable
    }

    /// Whether a file is mapped.
    pub fn is_file(&self) -> bool {
        self.path.as_os_str().as_bytes().starts_with(b"/")
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what} is not as expected"),
    )
}

pub(super) fn stat(root: &Path, pid: u32) -> io::Result<Stat> {
    parse_stat(&fs::read(root.join(format!("{pid}/stat")))?).ok_or_else(|| invalid("stat"))
}

fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    // The name may hold parentheses, too: the last one ends it.
    let open = bytes.iter().position(|&byte| byte == b'(')?;
    let close = bytes.iter().rposition(|&byte| byte == b')')?;
    let comm = String::from_utf8_lossy(bytes.get(open + 1..close)?);
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first field of the rest is number 3.
    let number = |field: usize| fields.get(field - 3)?.parse().ok();
    Some(Stat {
        comm: comm
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect(),
        state: *fields.first()?.as_bytes().first()?,
        flags: number(9)?,
        threads: number(20)?,
        start_time: number(22)?,
        resident: number(24)?,
        heap_start: number(47).unwrap_or(0),
    })
}

/// The numbers behind a key of `status`.
pub(super) fn status_numbers(root: &Path, pid: u32, key: &str) -> io::Result<Vec<u32>> {
    let bytes = fs::read(root.join(format!("{pid}/status")))?;
    parse_status(&bytes, key).ok_or_else(|| invalid(key))
}

fn parse_status(bytes: &[u8], key: &str) -> Option<Vec<u32>> {
    bytes.split(|&byte| byte == b'\n').find_map(|line| {
        let values = line.strip_prefix(key.as_bytes())?.strip_prefix(b":")?;
        let values = std::str::from_utf8(values).ok()?;
        values
            .split_ascii_whitespace()
            .map(|value| value.parse().ok())
            .collect()
    })
}

pub(crate) fn maps(root: &Path, pid: u32) -> io::Result<Vec<Map>> {
    parse_maps(&fs::read(root.join(format!("{pid}/maps")))?)
}

pub(super) fn parse_maps(bytes: &[u8]) -> io::Result<Vec<Map>> {
    let lines = bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| parse_map(line).ok_or_else(|| invalid("a line of maps")))
        .collect()
}

fn parse_map(line: &[u8]) -> Option<Map> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (start, end) = text()?.split_once('-')?;
    let permissions = text()?;
    let offset = u64::from_str_radix(text()?, 16).ok()?;
    let device = text()?.to_owned();
    let inode = text()?.parse().ok()?;
    // The path is the rest of the line, spaces and all; newlines in it are
    // written as \012.
    let path = fields.next().unwrap_or_default();
    let path = path.trim_ascii_start();
    Some(Map {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        readable: permissions.as_bytes().first() == Some(&b'r'),
        writable: permissions.as_bytes().get(1) == Some(&b'w'),
        executable: permissions.as_bytes().get(2) == Some(&b'x'),
        shared: permissions.as_bytes().get(3) == Some(&b's'),
        offset,
        file: (device, inode),
        path: PathBuf::from(OsStr::from_bytes(path)),
    })
}

/// For the target of that name in `fuzz/`.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Reads `bytes` as each of the files.
    pub fn parse(bytes: &[u8]) {
        let _ = super::parse_stat(bytes);
        let _ = super::parse_status(bytes, "Tgid");
        for map in super::parse_maps(bytes).iter().flatten() {
            let _ = map.is_file();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_be_any_bytes() {
        let mut line =
            b"7 (a) \xff\n(b) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 99 ".to_vec();
        line.extend_from_slice(b"1000 10 18446744073709551615\n");
        let stat = parse_stat(&line).unwrap();
        assert_eq!(stat.comm, "a) \u{fffd}?(b");
        assert_eq!(
            (stat.state, stat.flags, stat.threads, stat.start_time),
            (b'S', 4_194_304, 3, 99)
        );
        assert_eq!(parse_stat(b"7 (a"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn paths_are_the_rest_of_the_line() {
        let map =
            parse_map(b"7f00-8000 r-xp 00001000 fe:01 42                 /a b/\xe9 (deleted)")
                .unwrap();
        assert_eq!((map.start, map.end, map.offset), (0x7f00, 0x8000, 0x1000));
        assert!(map.executable && map.is_file());
        assert_eq!(map.path.as_os_str().as_bytes(), b"/a b/\xe9 (deleted)");
        let anonymous = parse_map(b"7f00-8000 rwxp 00000000 00:00 0 ").unwrap();
        assert!(anonymous.executable && !anonymous.is_file());
        assert!(
            parse_map(b"7f00-8000 r-xp 0 00:00 0 /SYSV")
                .unwrap()
                .is_file()
        );
        assert_eq!(parse_map(b"nonsense"), None);
    }
}
