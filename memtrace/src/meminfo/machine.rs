//! All that a balance is made from: `/proc/meminfo` and what stands beside it,
//! read from the running system or from a folder with copies of the files.
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    parse::{Meminfo, MeminfoError},
    tables::{self, Cache},
    vmalloc::{self, Vmalloc},
    zoneinfo::{self, Zone},
};

/// Why there is no balance.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The one file that it cannot be made without.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("cannot read {} as /proc/meminfo", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        source: MeminfoError,
    },
}

/// Where the files are.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
}

/// Whether ballooned pages still count in MemTotal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balloon {
    /// They do: VMware's, and virtio's that deflates when memory runs out.
    InTotal,
    /// The driver takes them off MemTotal: virtio's otherwise, Xen's.
    OffTotal,
    /// Which driver it is, is not known.
    #[default]
    Unknown,
}

/// Huge pages of one size (`/sys/kernel/mm/hugepages`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HugePages {
    /// Size of one.
    pub size_kb: u64,
    /// How many there are.
    pub total: u64,
    /// Not in use.
    pub free: u64,
    /// Of these promised to programs.
    pub reserved: u64,
}

/// Memory of a NUMA node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Node {
    /// Its number.
    pub node: u32,
    /// MemTotal.
    pub total_kb: u64,
    /// MemFree.
    pub free_kb: u64,
}

/// A machine at one moment.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// `/proc/meminfo`.
    pub meminfo: Meminfo,
    /// Size of a page.
    pub page_kb: u64,
    /// `/proc/zoneinfo`; empty where not known, as all that follow.
    pub zones: Vec<Zone>,
    /// `/proc/vmstat`.
    pub vmstat: HashMap<String, u64>,
    /// `/proc/vmallocinfo`.
    pub vmalloc: Option<Vmalloc>,
    /// `/proc/slabinfo`.
    pub caches: Vec<Cache>,
    /// `/proc/modules`: names and bytes.
    pub modules: Vec<(String, u64)>,
    /// Huge pages by size.
    pub huge: Vec<HugePages>,
    /// NUMA nodes.
    pub nodes: Vec<Node>,
    /// What the balloon does to MemTotal.
    pub balloon: Balloon,
    /// Pages in VMware's balloon, by its driver's own count.
    pub vmware_balloon_pages: Option<u64>,
    /// `/sys/kernel/mm/transparent_hugepage/enabled`, the chosen word.
    pub transparent_huge_pages: Option<String>,
    /// Pages that sockets account for; some are slab.
    pub socket_pages: Option<u64>,
    /// What could not be read.
    pub notes: Vec<String>,
}

impl Machine {
    /// From `/proc/meminfo` alone.
    ///
    /// # Errors
    /// The text is something else.
    pub fn of_meminfo(text: &str) -> Result<Self, MeminfoError> {
        Ok(Self {
            meminfo: Meminfo::parse(text)?,
            page_kb: 4,
            ..Self::default()
        })
    }

    /// Reads everything that is there. What moves together is read in one go,
    /// before anything is parsed.
    ///
    /// # Errors
    /// There is no `meminfo`.
    pub fn read(roots: &Roots) -> Result<Self, ReadError> {
        let path = roots.proc.join("meminfo");
        let meminfo = read_text(&path);
        let zoneinfo = read_text(&roots.proc.join("zoneinfo"));
        let vmstat = read_text(&roots.proc.join("vmstat"));
        let meminfo = meminfo.map_err(|source| ReadError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let mut machine =
            Self::of_meminfo(&meminfo).map_err(|source| ReadError::Foreign { path, source })?;
        machine.zones = zoneinfo
            .map(|text| zoneinfo::parse(&text))
            .unwrap_or_default();
        machine.vmstat = vmstat.map(|text| tables::vmstat(&text)).unwrap_or_default();
        machine.page_kb = machine.page_kb();
        machine.read_kernel_lists(&roots.proc);
        machine.read_sys(&roots.sys);
        if machine.zones.is_empty() {
            machine.notes.push(
                "zoneinfo cannot be read: free pages on the lists of the CPUs are part of unaccounted"
                    .to_owned(),
            );
        }
        Ok(machine)
    }

    /// Lists that need root on most systems.
    fn read_kernel_lists(&mut self, proc: &Path) {
        match read_text(&proc.join("vmallocinfo")) {
            Ok(text) => self.vmalloc = Some(vmalloc::parse(&text)),
            Err(error) => self.notes.push(without(
                "vmallocinfo",
                &error,
                "vmalloc is not split by caller",
            )),
        }
        match read_text(&proc.join("slabinfo")) {
            Ok(text) => self.caches = tables::slabinfo(&text, self.page_kb),
            Err(error) => {
                self.notes
                    .push(without("slabinfo", &error, "slab is not split by cache"));
            }
        }
        // A kernel without modules has no such file.
        let modules = read_text(&proc.join("modules")).unwrap_or_default();
        self.modules = tables::modules(&modules);
        let sockets = read_text(&proc.join("net/sockstat")).ok();
        self.socket_pages = sockets.map(|text| tables::sockstat(&text));
    }

    fn read_sys(&mut self, sys: &Path) {
        self.huge = huge_pages(&sys.join("kernel/mm/hugepages"));
        self.nodes = nodes(&sys.join("devices/system/node"));
        self.balloon = balloon(sys);
        self.vmware_balloon_pages = read_text(&sys.join("kernel/debug/vmmemctl"))
            .ok()
            .and_then(|text| vmware_pages(&text));
        let enabled = read_text(&sys.join("kernel/mm/transparent_hugepage/enabled"));
        self.transparent_huge_pages = enabled.ok().and_then(|text| {
            let (_, rest) = text.split_once('[')?;
            Some(rest.split_once(']')?.0.to_owned())
        });
    }

    /// Told by a counter that is in pages in one file and in kB in the other;
    /// they are read one after the other, so the nearest size that there is.
    fn page_kb(&self) -> u64 {
        const SIZES: [u64; 6] = [4, 8, 16, 32, 64, 256];
        const PAIRS: [(&str, &str); 3] = [
            ("AnonPages", "nr_anon_pages"),
            ("Mapped", "nr_mapped"),
            ("MemFree", "nr_free_pages"),
        ];
        let ratios = PAIRS.iter().filter_map(|(field, counter)| {
            let pages = self.vmstat.get(*counter).filter(|pages| **pages > 0)?;
            Some(self.meminfo.get(field)? / pages)
        });
        let ratio = ratios.into_iter().next().unwrap_or(SIZES[0]);
        SIZES
            .into_iter()
            .min_by_key(|size| size.abs_diff(ratio))
            .unwrap_or(SIZES[0])
    }

    /// A counter of vmstat that is in pages, in kB.
    pub fn pages_kb(&self, counter: &str) -> Option<u64> {
        let pages = self.vmstat.get(counter)?;
        Some(pages.saturating_mul(self.page_kb))
    }
}

fn without(file: &str, error: &io::Error, then: &str) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{file} can be read by root alone: {then}")
        }
        io::ErrorKind::NotFound => format!("there is no {file}: {then}"),
        _ => format!("{file} cannot be read ({error}): {then}"),
    }
}

/// Files of the kernel are text, copies of them may be anything.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

fn number(path: &Path) -> Option<u64> {
    read_text(path).ok()?.trim().parse().ok()
}

/// Names in a folder that begin with `prefix`, without it.
fn entries(folder: &Path, prefix: &str) -> Vec<(PathBuf, String)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((entry.path(), name.strip_prefix(prefix)?.to_owned()))
        })
        .collect();
    found.sort();
    found
}

fn huge_pages(folder: &Path) -> Vec<HugePages> {
    let sizes = entries(folder, "hugepages-").into_iter();
    sizes
        .filter_map(|(path, rest)| {
            Some(HugePages {
                size_kb: rest.strip_suffix("kB")?.parse().ok()?,
                total: number(&path.join("nr_hugepages"))?,
                free: number(&path.join("free_hugepages"))?,
                reserved: number(&path.join("resv_hugepages")).unwrap_or(0),
            })
        })
        .collect()
}

fn nodes(folder: &Path) -> Vec<Node> {
    let nodes = entries(folder, "node").into_iter();
    nodes
        .filter_map(|(path, rest)| {
            let text = read_text(&path.join("meminfo")).ok()?;
            let figure = |name: &str| -> Option<u64> {
                let (_, rest) = text.split_once(name)?;
                rest.split_whitespace().next()?.parse().ok()
            };
            Some(Node {
                node: rest.parse().ok()?,
                total_kb: figure("MemTotal:")?,
                free_kb: figure("MemFree:")?,
            })
        })
        .collect()
}

/// `VIRTIO_BALLOON_F_DEFLATE_ON_OOM` (`linux/virtio_balloon.h`): the driver
/// leaves MemTotal alone if the device has it.
const DEFLATE_ON_OOM: usize = 2;

fn balloon(sys: &Path) -> Balloon {
    if sys.join("module/vmw_balloon").exists() {
        return Balloon::InTotal;
    }
    let devices = entries(&sys.join("bus/virtio/drivers/virtio_balloon"), "virtio");
    for (device, _) in devices {
        if let Ok(features) = read_text(&device.join("features")) {
            return if features.as_bytes().get(DEFLATE_ON_OOM) == Some(&b'1') {
                Balloon::InTotal
            } else {
                Balloon::OffTotal
            };
        }
    }
    if sys.join("devices/system/xen_memory").exists() {
        return Balloon::OffTotal;
    }
    Balloon::Unknown
}

/// `current:               1024 pages`.
fn vmware_pages(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("current:"))?;
    line.split_whitespace().next()?.parse().ok()
}
