//! All arenas of a heap, each tried until it held still, and what is known of
//! them put together.
use std::collections::HashSet;

use super::{
    HeapError, Image,
    arena::{self, Broken, State},
    chunks::Tally,
    find::Found,
    layout::LARGE,
    lists::{self, Block},
    mapped, spans,
    summary::{Arena, Class, Heap, Kind, Sizes},
    window::Pages,
};
use crate::process::memory::ReadError;

/// How often an arena that changes meanwhile is tried.
const ATTEMPTS: u32 = 4;

/// What one walk of one arena found.
#[derive(Default)]
struct Walked {
    tally: Tally,
    fast: Vec<Block>,
    unsorted: HashSet<u64>,
    /// Why the figures may not belong together.
    problem: Option<String>,
}

/// Walks all arenas and finds the blocks with mappings of their own.
pub(super) fn all(image: &Image<'_>, found: &Found) -> Result<Heap, HeapError> {
    let ring = arena::ring(image.memory, found.layout, found.main);
    let ring = ring.map_err(|broken| damaged(found, &broken))?;
    let mut walked = Vec::new();
    for address in ring {
        walked.push(until_it_holds_still(image, found, address)?);
    }
    if walked.iter().all(|(state, _)| !state.is_used()) {
        return Err(HeapError::Unused(super::what_else(image.maps)));
    }
    let mut pages = Pages::new(image.memory);
    let mut cached: Vec<Block> = Vec::new();
    let mut thread_caches = 0;
    for (_, walked) in &walked {
        for candidate in &walked.tally.candidates {
            if !lists::may_be_cache(found.layout, candidate.1) {
                continue;
            }
            let blocks = lists::cache(image.memory, &mut pages, found.layout, *candidate);
            thread_caches += u64::from(blocks.is_some());
            cached.extend(blocks.into_iter().flatten());
        }
    }
    // One that a thread took out meanwhile may be in another's already.
    cached.sort_unstable();
    cached.dedup_by_key(|(address, _)| *address);
    let arenas = walked
        .iter()
        .map(|(state, walked)| summed(found, state, walked, &cached));
    let mut arenas: Vec<Arena> = arenas.collect();
    let mut notes = Vec::new();
    arenas.extend(mapped_blocks(image, found, &walked, &mut notes));
    Ok(Heap {
        version: found.version.clone(),
        consistent: arenas.iter().all(|arena| arena.consistent),
        arenas,
        thread_caches,
        notes,
    })
}

/// Whether an arena is locked. What cannot be read is for the walk to tell.
pub(super) fn is_busy(image: &Image<'_>, found: &Found) -> bool {
    let ring = arena::ring(image.memory, found.layout, found.main);
    ring.unwrap_or_default().into_iter().any(|address| {
        State::read(image.memory, found.layout, address).is_ok_and(|state| state.locked)
    })
}

fn damaged(found: &Found, broken: &Broken) -> HeapError {
    match broken {
        Broken::Read(error @ (ReadError::Gone | ReadError::NotPermitted)) => {
            HeapError::Read(*error)
        }
        broken => HeapError::Damaged {
            version: found.version.clone().unwrap_or_else(|| "2.x".to_owned()),
            what: broken.to_string(),
        },
    }
}

fn until_it_holds_still(
    image: &Image<'_>,
    found: &Found,
    address: u64,
) -> Result<(State, Walked), HeapError> {
    let mut last_failure: Option<(State, Broken)> = None;
    let mut best: Option<(State, Walked)> = None;
    for _ in 0..ATTEMPTS {
        let before = State::read(image.memory, found.layout, address);
        let before = before.map_err(|error| damaged(found, &error.into()))?;
        let mut walked = Walked::default();
        let outcome = attempt(image, found, &before, &mut walked);
        let after = State::read(image.memory, found.layout, address);
        let after = after.map_err(|error| damaged(found, &error.into()))?;
        let still = before == after && !before.locked;
        match outcome {
            Ok(()) if still => return Ok((before, walked)),
            Ok(()) => {
                walked.problem = Some("the program changed it while it was read".to_owned());
                best = Some((before, walked));
            }
            Err(broken) => {
                // Twice the same in an arena that nobody changes is no
                // accident.
                let now = (before, broken);
                if still && last_failure.as_ref() == Some(&now) {
                    return Err(damaged(found, &broken));
                }
                if best.is_none() {
                    walked.problem = Some(format!(
                        "the program changed it while it was read, so only a part could be: {broken}"
                    ));
                    best = Some((now.0.clone(), walked));
                }
                last_failure = Some(now);
            }
        }
    }
    best.ok_or_else(|| damaged(found, &Broken::Ring))
}

fn attempt(
    image: &Image<'_>,
    found: &Found,
    state: &State,
    walked: &mut Walked,
) -> Result<(), Broken> {
    if !state.is_used() {
        return Ok(());
    }
    let tally = &mut walked.tally;
    if state.address == found.main {
        spans::main(image, found, state, tally)?;
    } else {
        spans::thread(image, found, state, tally)?;
    }
    tally.free.sort_unstable_by_key(|free| free.address);
    walked.unsorted = lists::unsorted(state, &tally.free)?;
    lists::bins_agree(state, &tally.free)?;
    let mut pages = Pages::new(image.memory);
    walked.fast = lists::fast(&mut pages, found.layout, state, tally.in_use.count)?;
    if tally.walked() != state.system {
        walked.problem = Some(format!(
            "it has {} bytes from the system, and chunks were found in {}",
            state.system,
            tally.walked()
        ));
    }
    Ok(())
}

/// An arena's figures. `cached`: blocks in threads' caches, of all arenas,
/// ascending.
fn summed(found: &Found, state: &State, walked: &Walked, cached: &[Block]) -> Arena {
    let kind = if state.address == found.main {
        Kind::Main
    } else {
        Kind::Thread
    };
    let tally = &walked.tally;
    let mut arena = Arena::new(kind, state.address);
    arena.system_bytes = state.system;
    arena.in_use = tally.in_use.clone();
    let mut add = |class, size| {
        let sizes: &mut Sizes = arena.free.entry(class).or_default();
        sizes.add(size);
    };
    for free in &tally.free {
        let class = match free.size {
            _ if walked.unsorted.contains(&free.address) => Class::Unsorted,
            ..LARGE => Class::Small,
            _ => Class::Large,
        };
        add(class, free.size);
    }
    let pin = tally.pin.map_or(0, |pin| pin.address);
    let mut take = |class, (address, size): Block| {
        if arena.in_use.remove(size) {
            add(class, size);
            arena.pin_is_cached |= address == pin;
        }
    };
    for block in &walked.fast {
        take(Class::Fast, *block);
    }
    for (start, end) in &tally.spans {
        let from = cached.partition_point(|(address, _)| address < start);
        let to = cached.partition_point(|(address, _)| address < end);
        for block in cached.get(from..to).unwrap_or_default() {
            take(Class::ThreadCache, *block);
        }
    }
    let (free, _) = arena.free_sum();
    arena.top_bytes = tally.top.map_or(0, |(_, size)| size);
    arena.overhead_bytes = state
        .system
        .saturating_sub(free)
        .saturating_sub(arena.in_use.bytes)
        .saturating_sub(arena.top_bytes);
    arena.pinned_by = tally.pin;
    arena.holes = tally.holes();
    arena.trim_bytes = tally.trim_bytes;
    arena.problem.clone_from(&walked.problem);
    arena.consistent = walked.problem.is_none();
    arena
}

fn mapped_blocks(
    image: &Image<'_>,
    found: &Found,
    walked: &[(State, Walked)],
    notes: &mut Vec<String>,
) -> Option<Arena> {
    let spans = walked.iter().flat_map(|(_, walked)| &walked.tally.spans);
    let mut taken: Vec<(u64, u64)> = spans.copied().collect();
    taken.sort_unstable();
    let known = found.parameters(image.memory);
    let known = known.as_ref();
    let found = mapped::find(image.memory, found.layout, image.maps, &taken, known);
    let mut arena = Arena::new(Kind::Mapped, 0);
    for (_, bytes) in &found.blocks {
        arena.in_use.add(*bytes);
    }
    arena.system_bytes = arena.in_use.bytes;
    match known {
        None => notes.push(
            "malloc's own count of blocks with mappings of their own was not found: theirs are by their headers alone"
                .to_owned(),
        ),
        Some(known)
            if (known.mappings, known.mapped_bytes) != (arena.in_use.count, arena.in_use.bytes) =>
        {
            arena.consistent = false;
            arena.problem = Some(format!(
                "malloc counts {} bytes in {} blocks with mappings of their own, and {} in {} were found",
                known.mapped_bytes, known.mappings, arena.in_use.bytes, arena.in_use.count
            ));
        }
        Some(_) => {}
    }
    (arena.in_use.count > 0 || !arena.consistent).then_some(arena)
}
