//! What the kernel side's table says, added up: who has pages, by the way they
//! were asked for, by process, by zone and by what their flags say.
use hashbrown::HashMap;
use memtrace_common::pages::{self as wire, DEPTH, Frame, ORIGIN, ORIGIN_HEAD};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::accounting::{Accounted, by_flags};
use crate::kernel;

/// A way by which pages are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// `gfp_t`.
    pub gfp: u32,
    /// 2 to this power pages each time.
    pub order: u32,
    /// `enum migratetype` of the request.
    pub migratetype: u32,
    /// The process that was first.
    pub pid: u32,
    /// Name of its thread.
    pub comm: String,
    /// Kernel stack, innermost first.
    pub stack: Vec<u64>,
}

/// Reads a record of the ring buffer; `None` where it is something else.
pub fn decode(record: &[u8]) -> Option<(u32, Origin)> {
    let mut whole = [0; size_of::<wire::Origin>()];
    let known = record.len().min(whole.len());
    whole
        .get_mut(..known)?
        .copy_from_slice(record.get(..known)?);
    let found = wire::Origin::read_from_bytes(whole.as_bytes()).ok()?;
    let depth = usize::try_from(found.depth).ok()?;
    if found.head.kind != ORIGIN || depth > DEPTH || known < ORIGIN_HEAD + depth * 8 {
        return None;
    }
    let origin = Origin {
        gfp: found.gfp,
        order: found.order,
        migratetype: found.migratetype,
        pid: found.head.pid,
        comm: kernel::text(&found.comm),
        stack: found.stack.get(..depth)?.to_vec(),
    };
    Some((found.id, origin))
}

/// What pages have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    origin: u32,
    pid: u32,
    zone: Option<usize>,
    class: Option<Accounted>,
    flags_known: bool,
}

/// Pages that have all of this in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The way they were asked for.
    pub origin: u32,
    /// By which process.
    pub pid: u32,
    /// Index of their zone.
    pub zone: Option<usize>,
    /// Bits of `/proc/kpageflags` of one of them, which tell the same of all;
    /// `None` where they could not be read.
    pub flags: Option<u64>,
    /// How many.
    pub pages: u64,
}

/// Adds pages up.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    sums: HashMap<Key, (u64, u64)>,
}

impl Tallies {
    /// One page.
    pub fn add(&mut self, frame: Frame, zone: Option<usize>, flags: Option<u64>) {
        // What was free when its flags were read has been handed out since: they
        // are not its flags any more.
        let flags = flags
            .filter(|flags| !matches!(by_flags(*flags), Some(Accounted::Free | Accounted::Absent)));
        let key = Key {
            origin: frame.origin(),
            pid: frame.pid(),
            zone,
            class: flags.and_then(by_flags),
            flags_known: flags.is_some(),
        };
        let (pages, _) = self.sums.entry(key).or_insert((0, flags.unwrap_or(0)));
        *pages = pages.saturating_add(1);
    }

    /// All, in no order.
    pub fn all(&self) -> impl Iterator<Item = Tally> {
        self.sums.iter().map(|(key, (pages, flags))| Tally {
            origin: key.origin,
            pid: key.pid,
            zone: key.zone,
            flags: key.flags_known.then_some(*flags),
            pages: *pages,
        })
    }

    /// All pages.
    pub fn pages(&self) -> u64 {
        let pages = self.sums.values().map(|(pages, _)| *pages);
        pages.fold(0, u64::saturating_add)
    }
}

/// Pages by origin and zone.
pub type ByOrigin = HashMap<(u32, Option<usize>), u64>;

/// Looks that are kept: when there are more, every other one goes.
const MOST_LOOKS: usize = 64;

/// Who had how many pages over time.
#[derive(Clone, Debug, Default)]
pub struct Looks {
    points: Vec<(u64, ByOrigin)>,
    taken: u64,
    /// How many looks lie from one point to the next, as a power of two.
    thinned: u32,
}

impl Looks {
    /// Takes a look in.
    pub fn push(&mut self, time_ns: u64, pages: ByOrigin) {
        let keep = self.taken.trailing_zeros() >= self.thinned;
        self.taken = self.taken.saturating_add(1);
        if !keep {
            return;
        }
        self.points.push((time_ns, pages));
        if self.points.len() > MOST_LOOKS {
            let mut index = 0_usize;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.thinned = self.thinned.saturating_add(1);
        }
    }

    /// In order of time.
    pub fn points(&self) -> &[(u64, ByOrigin)] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::page_flags as flag;
    use memtrace_common::Head;

    fn record(depth: u32) -> wire::Origin {
        wire::Origin {
            head: Head {
                kind: ORIGIN,
                function: 0,
                pid: 7,
                tid: 8,
                flags: 0,
                time_ns: 9,
            },
            id: 77,
            gfp: 0xcc0,
            order: 3,
            migratetype: 1,
            depth,
            padding: 0,
            comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
            stack: [5; DEPTH],
        }
    }

    #[test]
    fn records_end_with_their_stack() {
        let whole = record(2);
        let bytes = &whole.as_bytes()[..ORIGIN_HEAD + 16];
        let (id, origin) = decode(bytes).expect("a record");
        assert_eq!((id, origin.order, origin.pid), (77, 3, 7));
        assert_eq!((origin.comm.as_str(), origin.stack), ("worker", vec![5, 5]));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length} bytes");
        }
        let too_deep = record(u32::MAX);
        assert_eq!(decode(too_deep.as_bytes()), None);
        let mut foreign = record(0);
        foreign.head.kind = 1;
        assert_eq!(decode(foreign.as_bytes()), None);
    }

    #[test]
    fn pages_are_added_up_by_what_their_flags_say() {
        let mut tallies = Tallies::default();
        let frame = Frame::held(5, 42);
        tallies.add(frame, Some(1), Some(flag::LRU));
        tallies.add(frame, Some(1), Some(flag::LRU | flag::UPTODATE));
        tallies.add(frame, Some(1), Some(flag::SLAB));
        tallies.add(frame, Some(1), None);
        // Free then, handed out now.
        tallies.add(frame, Some(1), Some(flag::BUDDY));
        let mut pages: Vec<_> = tallies
            .all()
            .map(|t| (t.pages, t.flags.is_some()))
            .collect();
        pages.sort_unstable();
        assert_eq!(pages, [(1, true), (2, false), (2, true)]);
        assert_eq!(tallies.pages(), 5);
        assert!(tallies.all().all(|t| (t.origin, t.pid) == (5, 42)));
    }

    #[test]
    fn many_looks_are_thinned_evenly() {
        let mut looks = Looks::default();
        for time in 0..1000 {
            looks.push(time, ByOrigin::default());
        }
        let times: Vec<u64> = looks.points().iter().map(|(time, _)| *time).collect();
        assert!((32..=64).contains(&times.len()), "{times:?}");
        let step = times[1] - times[0];
        assert!(
            times.windows(2).all(|two| two[1] - two[0] == step),
            "{times:?}"
        );
    }
}
