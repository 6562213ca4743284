//! Where a page frame lies: zone and NUMA node, from `/proc/zoneinfo`.
use std::cmp::Reverse;
use std::ops::Range;

use crate::meminfo::zoneinfo;

pub use crate::meminfo::zoneinfo::Zone;

/// The zones that hold memory, at one moment: memory that is plugged in later
/// extends them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones {
    /// In order of their first page frame.
    zones: Vec<Zone>,
}

impl Zones {
    /// Reads `/proc/zoneinfo`. Zones without memory are left out; so is everything
    /// where the kernel does not tell where zones begin.
    pub fn parse(text: &str) -> Self {
        Self::new(zoneinfo::parse(text))
    }

    /// Of zones that were read already.
    pub fn new(mut zones: Vec<Zone>) -> Self {
        zones.retain(|zone| zone.spanned > 0 && zone.present > 0);
        zones.sort_by_key(|zone| (zone.start_frame, Reverse(zone.spanned)));
        Self { zones }
    }

    /// The zone of a page frame. Where zones of several nodes span it, the one
    /// that spans least: nodes lie within each other's span, not across.
    /// `None`: no zone spans it. That it is spanned does not mean that there is
    /// memory.
    pub fn of(&self, pfn: u64) -> Option<&Zone> {
        self.index(pfn).and_then(|at| self.zones.get(at))
    }

    /// The index of that zone in [`Self::all`].
    pub fn index(&self, pfn: u64) -> Option<usize> {
        let end = self.zones.partition_point(|zone| zone.start_frame <= pfn);
        let candidates = self.zones.iter().take(end).enumerate();
        candidates
            .filter(|(_, zone)| frames(zone).contains(&pfn))
            .min_by_key(|(_, zone)| zone.spanned)
            .map(|(at, _)| at)
    }

    /// All, in order of their first page frame.
    pub fn all(&self) -> &[Zone] {
        &self.zones
    }

    /// From the first page frame of any zone to behind the last; empty without
    /// zones. What a table indexed by page frame has to cover.
    pub fn frames(&self) -> Range<u64> {
        let start = self.zones.first().map_or(0, |zone| zone.start_frame);
        let ends = self.zones.iter().map(|zone| frames(zone).end);
        start..ends.max().unwrap_or(start)
    }

    /// Page frames with memory.
    pub fn present(&self) -> u64 {
        zoneinfo::sum(&self.zones, |zone| zone.present)
    }

    /// Page frames within [`Self::frames`] that have no memory.
    pub fn holes(&self) -> u64 {
        let frames = self.frames();
        (frames.end - frames.start).saturating_sub(self.present())
    }
}

/// The page frames that a zone spans.
pub fn frames(zone: &Zone) -> Range<u64> {
    zone.start_frame..zone.start_frame.saturating_add(zone.spanned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(node: u32, name: &str, start: u64, spanned: u64, present: u64) -> Zone {
        Zone {
            node,
            name: name.to_owned(),
            start_frame: start,
            spanned,
            present,
            ..Zone::default()
        }
    }

    fn at(zones: &Zones, pfn: u64) -> Option<(u32, &str)> {
        zones.of(pfn).map(|zone| (zone.node, zone.name.as_str()))
    }

    #[test]
    fn frames_have_zones_and_nodes() {
        let zones = Zones::new(vec![
            zone(0, "DMA", 1, 4095, 3998),
            zone(0, "DMA32", 4096, 1_044_480, 782_336),
            zone(0, "Normal", 1_048_576, 2_097_152, 1_048_576),
            zone(0, "Movable", 0, 0, 0),
            zone(1, "Normal", 1_572_864, 524_288, 524_288),
        ]);
        assert_eq!(zones.all().len(), 4);
        assert_eq!(at(&zones, 0), None);
        assert_eq!(at(&zones, 1), Some((0, "DMA")));
        assert_eq!(at(&zones, 4095), Some((0, "DMA")));
        assert_eq!(at(&zones, 4096), Some((0, "DMA32")));
        assert_eq!(at(&zones, 1_048_576), Some((0, "Normal")));
        // Node 1 lies within what node 0 spans.
        assert_eq!(at(&zones, 1_572_864), Some((1, "Normal")));
        assert_eq!(at(&zones, 2_097_151), Some((1, "Normal")));
        assert_eq!(at(&zones, 2_097_152), Some((0, "Normal")));
        assert_eq!(at(&zones, 3_145_728), None);
        assert_eq!(zones.frames(), 1..3_145_728);
        assert_eq!(zones.holes(), 3_145_727 - zones.present());
    }

    #[test]
    fn nothing_and_nonsense() {
        let none = Zones::parse("");
        assert_eq!((none.frames(), none.holes(), none.of(0)), (0..0, 0, None));
        let zones = Zones::new(vec![zone(0, "DMA", u64::MAX, u64::MAX, u64::MAX)]);
        assert_eq!(zones.frames(), u64::MAX..u64::MAX);
        assert_eq!((zones.holes(), zones.of(u64::MAX)), (0, None));
    }
}
