//! `/proc/zoneinfo`: what each zone of each node manages, and the free pages
//! that CPUs keep for themselves, which no other file shows.

/// A zone; all figures in pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// NUMA node.
    pub node: u32,
    /// `DMA`, `DMA32`, `Normal`, `HighMem`, `Movable`, `Device`.
    pub name: String,
    /// On the zone's free lists (`pages free`).
    pub free: u64,
    /// Below this only requests in need are served.
    pub min: u64,
    /// Below this kswapd is woken.
    pub low: u64,
    /// Up to this kswapd reclaims.
    pub high: u64,
    /// First page frame of the zone; 0 where it has none.
    pub start_frame: u64,
    /// Page frames from the first to the last of the zone, holes and other
    /// nodes' memory included.
    pub spanned: u64,
    /// Of these, with memory that is online.
    pub present: u64,
    /// Given to the page allocator; `None` before 3.9.
    pub managed: Option<u64>,
    /// Set aside for contiguous allocations.
    pub cma: u64,
    /// Of these free.
    pub free_cma: u64,
    /// On the lists of the CPUs: free, but not in MemFree.
    pub on_cpus: u64,
}

/// Reads the file; lines that are not known are skipped.
pub fn parse(text: &str) -> Vec<Zone> {
    let mut zones: Vec<Zone> = Vec::new();
    for line in text.lines() {
        if let Some((node, name)) = head(line) {
            zones.push(Zone {
                node,
                name: name.to_owned(),
                ..Zone::default()
            });
        } else if let Some(zone) = zones.last_mut() {
            figure(zone, line);
        }
    }
    zones
}

/// `Node 0, zone   Normal`.
fn head(line: &str) -> Option<(u32, &str)> {
    let (node, rest) = line.strip_prefix("Node ")?.split_once(',')?;
    let name = rest.trim_start().strip_prefix("zone")?.trim();
    Some((node.trim().parse().ok()?, name))
}

fn figure(zone: &mut Zone, line: &str) {
    let mut words = line.split_ascii_whitespace();
    let (Some(mut key), Some(mut value)) = (words.next(), words.next()) else {
        return;
    };
    if (key, value) == ("pages", "free") {
        (key, value) = ("free", words.next().unwrap_or_default());
    }
    let Ok(value) = value.parse::<u64>() else {
        return;
    };
    match key {
        "free" => zone.free = value,
        "min" => zone.min = value,
        "low" => zone.low = value,
        "high" => zone.high = value,
        "spanned" => zone.spanned = value,
        "present" => zone.present = value,
        "start_pfn:" => zone.start_frame = value,
        "managed" => zone.managed = Some(value),
        "cma" => zone.cma = value,
        "nr_free_cma" => zone.free_cma = value,
        // One for each CPU; several on kernels before 2.6.27.
        "count:" => zone.on_cpus = zone.on_cpus.saturating_add(value),
        _ => {}
    }
}

/// Sum of a figure over all zones.
pub fn sum(zones: &[Zone], of: impl Fn(&Zone) -> u64) -> u64 {
    zones.iter().map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 2059
  pages free     3840
        min      10
        low      13
        high     16
        spanned  4095
        present  3998
        managed  3840
        cma      0
      nr_free_cma  0
  pagesets
    cpu: 0
              count:    7
              high:     0
    cpu: 1
              count:    5
  vm stats threshold: 4
  start_pfn:           1
Node 1, zone   Normal
  pages free     12
        cma      9
      nr_free_cma  8
";

    #[test]
    fn zones_and_the_lists_of_cpus() {
        let zones = parse(TEXT);
        assert_eq!(zones.len(), 2);
        let dma = &zones[0];
        assert_eq!((dma.node, dma.name.as_str()), (0, "DMA"));
        assert_eq!((dma.free, dma.min, dma.low, dma.high), (3840, 10, 13, 16));
        assert_eq!((dma.managed, dma.on_cpus), (Some(3840), 12));
        assert_eq!((dma.start_frame, dma.spanned, dma.present), (1, 4095, 3998));
        assert_eq!((zones[1].node, zones[1].cma, zones[1].free_cma), (1, 9, 8));
        assert_eq!(zones[1].managed, None);
        assert_eq!(sum(&zones, |zone| zone.free), 3852);
        assert!(parse("  pages free 3\nNode x, zone y\n").is_empty());
    }
}
