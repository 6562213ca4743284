//! Blocks with mappings of their own. No list of them exists: each is known by
//! its header, which says so and tells its size, in memory that is no file.
use super::{
    chunks::{FLAGS, MAPPED},
    find::Parameters,
    layout::Layout,
    window::Window,
};
use crate::process::{Map, memory::Memory};

const PAGE: u64 = 4096;
/// Where in its page a chunk may begin: 0, or where alignment moved it to.
const OFFSETS: &[u64] = &[0, 48, 112, 240, 496, 1008, 2032, LAST];
/// Before a block that is aligned to pages or more.
const LAST: u64 = PAGE - 16;
/// Pages that are looked at one by one where blocks are missing (4 GiB).
const MOST_PAGES: u64 = 1 << 20;

/// The blocks that were found.
#[derive(Debug, Default)]
pub(super) struct Mapped {
    /// Where each one's mapping begins, and its bytes.
    pub(super) blocks: Vec<(u64, u64)>,
}

impl Mapped {
    fn bytes(&self) -> u64 {
        let bytes = self.blocks.iter().map(|(_, bytes)| *bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// Whether these are all that malloc counts.
    pub(super) fn is_all(&self, known: &Parameters) -> bool {
        self.blocks.len() as u64 >= known.mappings && self.bytes() >= known.mapped_bytes
    }
}

/// The blocks in anonymous memory outside of `taken`, which is ascending and
/// holds the arenas.
pub(super) fn find(
    memory: &dyn Memory,
    layout: &Layout,
    maps: &[Map],
    taken: &[(u64, u64)],
    known: Option<&Parameters>,
) -> Mapped {
    let mut found = Mapped::default();
    let mut pages = MOST_PAGES;
    // Nearly all mappings begin with a block or hold none: what belongs to
    // others is not even touched then.
    for thorough in [false, true] {
        for map in maps.iter().filter(|map| is_anonymous(map)) {
            if known.is_some_and(|known| found.is_all(known)) || pages == 0 {
                return found;
            }
            let mut search = Search {
                window: Window::new(memory, map.end),
                layout,
                map,
                taken,
            };
            search.run(thorough, &mut pages, &mut found);
        }
        found.blocks.sort_unstable();
    }
    found
}

fn is_anonymous(map: &Map) -> bool {
    map.path.as_os_str().is_empty() && map.readable && map.writable
}

struct Search<'a, 'm> {
    window: Window<'m>,
    layout: &'a Layout,
    map: &'a Map,
    taken: &'a [(u64, u64)],
}

impl Search<'_, '_> {
    fn run(&mut self, thorough: bool, pages: &mut u64, found: &mut Mapped) {
        let mut page = self.map.start;
        while page < self.map.end && *pages > 0 {
            let is_in = |(start, end): &&(u64, u64)| (*start..*end).contains(&page);
            let inside = self.taken.partition_point(|(_, end)| *end <= page);
            let inside = self.taken.get(inside).filter(is_in).copied();
            // Sorted after the first round; none are found twice.
            let before = found.blocks.partition_point(|(start, _)| *start <= page);
            let before = thorough.then(|| found.blocks.get(before.checked_sub(1)?).copied());
            let before = before
                .flatten()
                .map(|(start, bytes)| (start, start + bytes));
            if let Some((_, end)) = inside.or(before.filter(|range| is_in(&range))) {
                page = end.next_multiple_of(PAGE);
            } else if let Some((start, bytes)) = self.block_in(page) {
                found.blocks.push((start, bytes));
                page = start.saturating_add(bytes);
                if thorough {
                    found.blocks.sort_unstable();
                }
            } else if thorough {
                *pages -= 1;
                page += PAGE;
            } else {
                return;
            }
        }
    }

    /// The block whose chunk begins in a page: where its mapping begins, and
    /// its bytes. `prev_size` is the distance of the chunk from there.
    fn block_in(&mut self, page: u64) -> Option<(u64, u64)> {
        OFFSETS.iter().find_map(|offset| {
            let address = page.checked_add(*offset)?;
            let head = self.window.head(address).ok()?;
            // From 2.43 on, the lowest bit says that huge pages were asked for.
            let flag = u64::from(self.layout.mapped_tail > 0);
            let distance = head.previous & !flag;
            let start = address.checked_sub(distance)?;
            let size = head.size & !FLAGS;
            let bytes = size
                .checked_add(distance)?
                .checked_add(self.layout.mapped_tail)?;
            let right = head.size & FLAGS == MAPPED
                && (distance == *offset || *offset == LAST)
                && start.is_multiple_of(PAGE)
                && start >= self.map.start
                && size > 0
                && bytes.is_multiple_of(PAGE)
                && bytes <= self.map.end - start;
            right.then_some((start, bytes))
        })
    }
}
