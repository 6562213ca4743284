//! `/proc/kpageflags`: what every page frame is now, in one pass.
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::accounting::{Accounted, by_flags};
use super::zones::Zones;
use crate::kernel::page_flags::{COMPOUND_TAIL, SHARED_BY_BLOCK};

/// Bytes of a page frame's entry.
const ENTRY: usize = 8;
/// Read at a time. The kernel fills it entry by entry, so larger gains nothing.
const PIECE: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct ScanError {
    /// The file.
    pub path: PathBuf,
    /// Why: permission is for root alone, and kernels without
    /// `CONFIG_PROC_PAGE_MONITOR` have no such file.
    pub source: io::Error,
}

/// Hands on `(page frame, flags)` for the frames of a range, in order, and says
/// behind which it ended: the file may end before the range does. Of a block of
/// several pages, each has what its head has to say for all.
///
/// # Errors
/// The file cannot be opened or read.
pub fn scan(path: &Path, range: Range<u64>, each: impl FnMut(u64, u64)) -> Result<u64, ScanError> {
    read(path, range, each).map_err(|source| ScanError {
        path: path.to_path_buf(),
        source,
    })
}

fn read(path: &Path, range: Range<u64>, mut each: impl FnMut(u64, u64)) -> io::Result<u64> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start.saturating_mul(ENTRY as u64)))?;
    let mut buffer = vec![0; PIECE];
    let mut pfn = range.start;
    let mut head = 0;
    while pfn < range.end {
        let left = usize::try_from(range.end - pfn).unwrap_or(usize::MAX);
        let wanted = PIECE.min(left.saturating_mul(ENTRY));
        let (piece, _) = buffer.split_at_mut(wanted);
        let length = fill(&mut file, piece)?;
        let (entries, _) = piece.split_at(length).0.as_chunks::<ENTRY>();
        for entry in entries {
            let flags = u64::from_ne_bytes(*entry);
            each(pfn, of_block(flags, &mut head));
            pfn += 1;
        }
        if length < wanted {
            break;
        }
    }
    Ok(pfn)
}

/// A tail with what its head has; remembers heads.
fn of_block(flags: u64, head: &mut u64) -> u64 {
    if flags & COMPOUND_TAIL == 0 {
        *head = flags;
        return flags;
    }
    flags | *head & SHARED_BY_BLOCK
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest @ [_, ..]) = buffer.get_mut(length..) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Pages by what their flags say, zone by zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// One a zone, in the order of [`Zones::all`]; the last is for frames outside
    /// all zones.
    rows: Vec<Counts>,
}

/// Pages by what their flags say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    by: Vec<u64>,
    silent: u64,
}

impl Counts {
    fn add(&mut self, accounted: Option<Accounted>) {
        let Some(accounted) = accounted else {
            self.silent += 1;
            return;
        };
        let at = accounted as usize;
        if self.by.len() <= at {
            self.by.resize(at + 1, 0);
        }
        if let Some(count) = self.by.get_mut(at) {
            *count += 1;
        }
    }

    /// Pages whose flags say this.
    pub fn of(&self, accounted: Accounted) -> u64 {
        self.by.get(accounted as usize).copied().unwrap_or(0)
    }

    /// Pages in use whose flags say nothing about what counts them: vmalloc's,
    /// per-CPU memory, kernel stacks, large kernel objects, what nobody counts.
    /// Free pages on the lists of the CPUs are among them.
    pub fn silent(&self) -> u64 {
        self.silent
    }

    /// All with a count, and what they are.
    pub fn all(&self) -> impl Iterator<Item = (Accounted, u64)> {
        Accounted::all()
            .map(|accounted| (accounted, self.of(accounted)))
            .filter(|(_, pages)| *pages > 0)
    }
}

impl Census {
    /// For these zones.
    pub fn new(zones: &Zones) -> Self {
        Self {
            rows: vec![Counts::default(); zones.all().len() + 1],
        }
    }

    /// Reads them all.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub fn take(path: &Path, zones: &Zones) -> Result<Self, ScanError> {
        let mut census = Self::new(zones);
        let mut places = Places::new(zones);
        scan(path, zones.frames(), |pfn, flags| {
            census.add(places.at(pfn), flags);
        })?;
        Ok(census)
    }

    /// Counts a page frame of a zone of that index.
    pub fn add(&mut self, zone: Option<usize>, flags: u64) {
        let last = self.rows.len().saturating_sub(1);
        if let Some(row) = self.rows.get_mut(zone.unwrap_or(last)) {
            row.add(by_flags(flags));
        }
    }

    /// By zone, in the order of [`Zones::all`].
    pub fn by_zone(&self) -> &[Counts] {
        self.rows.split_last().map_or(&[], |(_, zones)| zones)
    }

    /// Over all.
    pub fn of(&self, accounted: Accounted) -> u64 {
        self.rows.iter().map(|row| row.of(accounted)).sum()
    }

    /// See [`Counts::silent`].
    pub fn silent(&self) -> u64 {
        self.rows.iter().map(Counts::silent).sum()
    }
}

/// The zone of frames that are asked for in order: searched once for many.
pub struct Places<'a> {
    zones: &'a Zones,
    /// Where zones begin and end, in order: between two of these all frames lie in
    /// the same.
    edges: Vec<u64>,
    /// Frames below this lie in `zone`.
    until: u64,
    zone: Option<usize>,
}

impl<'a> Places<'a> {
    /// For these zones.
    pub fn new(zones: &'a Zones) -> Self {
        let spans = zones.all().iter().map(super::zones::frames);
        let mut edges: Vec<u64> = spans.flat_map(|span| [span.start, span.end]).collect();
        edges.sort_unstable();
        Self {
            zones,
            edges,
            until: 0,
            zone: None,
        }
    }

    /// The index of the zone of a frame.
    pub fn at(&mut self, pfn: u64) -> Option<usize> {
        if pfn >= self.until {
            self.zone = self.zones.index(pfn);
            let next = self.edges.partition_point(|edge| *edge <= pfn);
            self.until = self.edges.get(next).copied().unwrap_or(u64::MAX);
        }
        self.zone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::page_flags as flag;
    use crate::meminfo::zoneinfo::Zone;
    use std::io::Write as _;

    fn file(entries: &[u64]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for entry in entries {
            file.write_all(&entry.to_ne_bytes()).unwrap();
        }
        file
    }

    fn zone(name: &str, start_frame: u64, spanned: u64) -> Zone {
        Zone {
            name: name.to_owned(),
            start_frame,
            spanned,
            present: spanned,
            ..Zone::default()
        }
    }

    #[test]
    fn tails_say_what_their_head_does() {
        const HEAD: u64 = flag::COMPOUND_HEAD | flag::LRU | flag::SWAPBACKED;
        let file = file(&[
            HEAD,
            flag::COMPOUND_TAIL,
            flag::COMPOUND_TAIL,
            0,
            flag::BUDDY,
        ]);
        let mut seen = Vec::new();
        let end = scan(file.path(), 0..9, |pfn, flags| {
            seen.push((pfn, by_flags(flags)));
        });
        assert_eq!(end.unwrap(), 5);
        let shmem = Some(Accounted::Shmem);
        let expected = [
            (0, shmem),
            (1, shmem),
            (2, shmem),
            (3, None),
            (4, Some(Accounted::Free)),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_range_in_pieces() {
        let count = u64::try_from(2 * PIECE / ENTRY + 7).unwrap();
        let entries: Vec<u64> = (0..count).map(|pfn| pfn << 33).collect();
        let file = file(&entries);
        let mut next = 5;
        let end = scan(file.path(), 5..count - 1, |pfn, flags| {
            assert_eq!((pfn, flags), (next, pfn << 33));
            next += 1;
        });
        assert_eq!((end.unwrap(), next), (count - 1, count - 1));
    }

    #[test]
    fn a_census_by_zone() {
        let zones = Zones::new(vec![zone("DMA", 1, 2), zone("DMA32", 4, 3)]);
        let file = file(&[
            flag::NOPAGE,
            flag::RESERVED,
            flag::SLAB,
            flag::NOPAGE,
            0,
            flag::ANON,
            flag::MMAP,
            flag::LRU,
        ]);
        let census = Census::take(file.path(), &zones).unwrap();
        let [dma, dma32] = census.by_zone() else {
            panic!()
        };
        let counts: Vec<_> = dma.all().collect();
        assert_eq!(counts, [(Accounted::Slab, 1), (Accounted::Reserved, 1)]);
        assert_eq!((dma32.of(Accounted::Anon), dma32.silent()), (1, 2));
        assert_eq!((census.silent(), census.of(Accounted::Absent)), (2, 1));
        // Not part of any zone.
        assert_eq!(census.of(Accounted::File), 0);
    }

    #[test]
    fn no_such_file() {
        let error = scan(Path::new("/nowhere/kpageflags"), 0..1, |_, _| {}).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere/kpageflags");
    }
}
