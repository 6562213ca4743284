//! Takes samples of one process. What is dear (the kernel walks all page tables
//! for `smaps_rollup`, and holds up `mmap` meanwhile) is read only as often as
//! its own cost allows.
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Instant,
};

use super::sample::{Kind, Sample, Size, kib, sizes, status};
use crate::process;

/// At most this part of the time is spent on a file whose price depends on the
/// process: one part in so many.
const SHARE: u32 = 500;

/// What `smaps_rollup` says, bytes: exact at the time of reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollup {
    /// Resident.
    pub rss: u64,
    /// Resident, with shared pages divided by those who share them.
    pub pss: u64,
    /// Anonymous pages that are in huge ones.
    pub huge: u64,
}

/// Takes the samples of one process.
#[derive(Debug)]
pub struct Sampler {
    directory: PathBuf,
    pid: u32,
    /// When `maps` may be read again.
    maps_from: Option<Instant>,
    /// Whether it may be read at all.
    pub may_read_maps: bool,
}

impl Sampler {
    /// Nothing is read yet.
    pub fn new(proc_root: &Path, pid: u32) -> Self {
        Self {
            directory: proc_root.to_owned(),
            pid,
            maps_from: None,
            may_read_maps: true,
        }
    }

    /// Looks now, which is `time_ns`; `None`: the process is gone. `thorough`:
    /// whatever it costs.
    pub fn sample(&mut self, time_ns: u64, thorough: bool) -> Option<Sample> {
        let text = fs::read(self.file("status")).ok()?;
        let reading = status(&String::from_utf8_lossy(&text))?;
        Some(Sample {
            time_ns,
            reading,
            sizes: self.sizes(thorough),
        })
    }

    fn sizes(&mut self, thorough: bool) -> Option<[Size; Kind::ALL.len()]> {
        let begin = Instant::now();
        let due = thorough || self.maps_from.is_none_or(|from| begin >= from);
        if !due || !self.may_read_maps {
            return None;
        }
        match process::maps(&self.directory, self.pid) {
            Ok(maps) => {
                self.maps_from = Some(begin + begin.elapsed() * SHARE);
                (!maps.is_empty()).then(|| sizes(&maps))
            }
            Err(process::ProcessError::NotPermitted { .. }) => {
                self.may_read_maps = false;
                None
            }
            Err(_) => None,
        }
    }

    /// Exact figures, where they may be read; since Linux 4.14.
    pub fn rollup(&self) -> Option<Rollup> {
        let text = fs::read(self.file("smaps_rollup"))
            .inspect_err(|error| {
                if error.kind() != ErrorKind::NotFound {
                    log::debug!("smaps_rollup of {}: {error}", self.pid);
                }
            })
            .ok()?;
        let text = String::from_utf8_lossy(&text);
        Some(Rollup {
            rss: kib(&text, "Rss")?,
            pss: kib(&text, "Pss")?,
            huge: kib(&text, "AnonHugePages").unwrap_or(0),
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(self.pid.to_string()).join(name)
    }
}
