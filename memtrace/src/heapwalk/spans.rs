//! Where an arena's chunks lie: heaps of a thread's arena; for the main arena
//! the program break's memory, with what others took from in between, and
//! mappings where the break could not grow.
use super::{
    Image,
    arena::{self, Broken, State},
    chunks::{End, FLAGS, Span, Tally, walk},
    find::Found,
    layout::ALIGNMENT,
    window::Window,
};
use crate::process::Map;

const PAGE: u64 = 4096;
/// Starts that are tried behind memory that others took from the program break
/// (1 MiB), or before the last chunk in a mapping (256 MiB).
const MOST_STARTS: usize = 1 << 16;
/// Marks at the end of a span: two chunks, or three where it was full.
const MOST_MARKS: usize = 3;

/// Walks a thread's arena.
pub(super) fn thread(
    image: &Image<'_>,
    found: &Found,
    state: &State,
    tally: &mut Tally,
) -> Result<(), Broken> {
    let layout = found.layout;
    let huge_page = found
        .parameters(image.memory)
        .map_or(0, |known| known.huge_page);
    let heaps = arena::heaps(image.memory, state, huge_page)?;
    for heap in &heaps {
        let first = heap.start.saturating_add(layout.heap_info);
        let start = if state.address == first {
            first
                .saturating_add(layout.arena.size() as u64)
                .next_multiple_of(ALIGNMENT)
        } else {
            first
        };
        let limit = heap.start.saturating_add(heap.size);
        let span = Span {
            start,
            limit,
            top: state.top,
            cache: layout.caches.chunk(),
        };
        tally.spans.push((heap.start, limit));
        let end = walk(&mut Window::new(image.memory, limit), span, tally)?;
        match end {
            End::Mark(_) => {}
            End::Top(end) if end == limit => return Ok(()),
            End::Top(end) => return Err(Broken::End(end)),
        }
    }
    Err(Broken::End(state.top))
}

/// Walks the main arena.
pub(super) fn main(
    image: &Image<'_>,
    found: &Found,
    state: &State,
    tally: &mut Tally,
) -> Result<(), Broken> {
    let mut main = Main {
        image,
        top: state.top,
        cache: found.layout.caches.chunk(),
    };
    let heap = image.maps.iter().find(|map| map.is_heap());
    let start = found
        .parameters(image.memory)
        .map(|known| known.start_of_heap);
    let start = start
        .filter(|start| *start != 0)
        .or(heap.map(|map| map.start));
    if let Some(start) = start {
        let start = start.next_multiple_of(ALIGNMENT);
        main.grown_by_break(start, main.break_limit(start, state)?, tally)?;
    }
    if tally.top.is_none() {
        main.in_mapping_of_top(tally)?;
    }
    main.in_other_mappings(state, tally);
    Ok(())
}

struct Main<'a> {
    image: &'a Image<'a>,
    top: u64,
    cache: u64,
}

impl Main<'_> {
    /// Where the program break's memory ends. It may have grown since the
    /// mappings were read.
    fn break_limit(&self, start: u64, state: &State) -> Result<u64, Broken> {
        let mut end = start;
        for map in self.image.maps.iter().filter(|map| map.is_heap()) {
            end = end.max(map.end);
        }
        if state.contiguous && state.top >= start {
            let size = self.image.memory.word(state.top.saturating_add(8))? & !FLAGS;
            end = end.max(state.top.saturating_add(size));
        }
        Ok(end)
    }

    /// One span, tried: it counts only if it leads to an end.
    fn tried(&self, start: u64, limit: u64, tally: &mut Tally) -> Result<End, Broken> {
        let mut new = Tally::default();
        match self.walked(start, limit, &mut new)? {
            // Nothing lies before it: not a span.
            End::Mark(mark) if mark == start => Err(Broken::End(start)),
            end => {
                tally.append(new);
                Ok(end)
            }
        }
    }

    fn walked(&self, start: u64, limit: u64, tally: &mut Tally) -> Result<End, Broken> {
        let span = Span {
            start,
            limit,
            top: self.top,
            cache: self.cache,
        };
        let mut window = Window::new(self.image.memory, limit);
        let end = walk(&mut window, span, tally);
        let last = match end {
            Ok(End::Top(end)) => end,
            Ok(End::Mark(mark)) => self.behind_marks(mark, limit),
            // What was counted so far is shown.
            Err(_) => start,
        };
        tally.spans.push((start, last));
        end
    }

    fn behind_marks(&self, mark: u64, limit: u64) -> u64 {
        let mut window = Window::new(self.image.memory, limit);
        let mut at = mark;
        for _ in 0..MOST_MARKS {
            match window.head(at) {
                Ok(head) if head.size & !FLAGS == ALIGNMENT => at += ALIGNMENT,
                _ => break,
            }
        }
        at
    }

    fn grown_by_break(&mut self, start: u64, limit: u64, tally: &mut Tally) -> Result<(), Broken> {
        let mut end = self.walked(start, limit, tally)?;
        while let End::Mark(_) = end {
            let Some((_, behind)) = tally.spans.last().copied() else {
                break;
            };
            if !(behind..limit).contains(&self.top) {
                return Ok(());
            }
            // Somebody else moved the break; where malloc went on is not
            // written down anywhere.
            let mut starts = (0..MOST_STARTS as u64).map(|step| behind + step * ALIGNMENT);
            let next = starts.find_map(|start| {
                (start <= self.top).then(|| self.tried(start, limit, tally).ok())?
            });
            end = next.ok_or(Broken::End(behind))?;
            // Break memory that the arena counts as its own.
            if let [.., (_, before), (after, _)] = tally.spans.as_slice() {
                tally.overhead += after - before;
            }
        }
        Ok(())
    }

    fn in_mapping_of_top(&self, tally: &mut Tally) -> Result<(), Broken> {
        let holds_top = |map: &&Map| (map.start..map.end).contains(&self.top);
        let map = self.image.maps.iter().find(holds_top);
        let map = map.ok_or(Broken::End(self.top))?;
        let mut starts = (0..MOST_STARTS as u64).map(|page| map.start + page * PAGE);
        let reaches = |start| {
            let end = (start <= self.top).then(|| self.tried(start, map.end, tally).ok())?;
            end.filter(|end| matches!(end, End::Top(_)))
        };
        starts.find_map(reaches).ok_or(Broken::End(self.top))?;
        Ok(())
    }

    /// Mappings that were the end of the arena before, as long as some of what
    /// it has from the system is missing.
    fn in_other_mappings(&self, state: &State, tally: &mut Tally) {
        let anonymous = self
            .image
            .maps
            .iter()
            .filter(|map| map.path.as_os_str().is_empty() && map.readable && map.writable);
        for map in anonymous {
            let mut start = map.start;
            while tally.walked() < state.system && start < map.end {
                let inside = tally
                    .spans
                    .iter()
                    .find(|(first, end)| (*first..*end).contains(&start));
                if let Some((_, end)) = inside {
                    start = end.next_multiple_of(PAGE);
                    continue;
                }
                match self.tried(start, map.end, tally) {
                    Ok(End::Mark(end) | End::Top(end)) => start = end.next_multiple_of(PAGE),
                    Err(_) => break,
                }
            }
        }
    }
}
