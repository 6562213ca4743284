//! How much was outstanding when: a curve in fixed memory. Where it gets too
//! long, neighbouring points become one, so that it covers any run with at
//! least half of [`POINTS`], as long as there were events.

/// Points there are at most: more than a screen shows apart.
pub const POINTS: usize = 256;

/// Points are at first as wide as the ticks of blocks: about a millisecond.
const FIRST_SHIFT: u32 = 20;

/// What was outstanding at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Of the last event of the time that this stands for, on the events' clock.
    pub time_ns: u64,
    /// Bytes, after that event.
    pub bytes: u64,
    /// Blocks and mappings, after that event.
    pub count: u64,
    /// The most bytes in that time.
    pub peak_bytes: u64,
}

/// The curve in the making.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    points: Vec<Moment>,
    /// A point stands for all times that agree in the bits above these.
    shift: u32,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            points: Vec::new(),
            shift: FIRST_SHIFT,
        }
    }
}

impl Timeline {
    /// Takes in what is outstanding from `time_ns` on. Threads' events may be a
    /// little out of order; a curve never goes back.
    pub(super) fn note(&mut self, time_ns: u64, bytes: u64, count: u64) {
        let shift = self.shift;
        let new = Moment {
            time_ns,
            bytes,
            count,
            peak_bytes: bytes,
        };
        match self.points.last_mut() {
            Some(last) if time_ns >> shift <= last.time_ns >> shift => merge(last, new),
            _ => {
                self.points.push(new);
                while self.points.len() > POINTS {
                    self.coarsen();
                }
            }
        }
    }

    /// The same for what happens at no time of its own.
    pub(super) fn note_again(&mut self, bytes: u64, count: u64) {
        if let Some(last) = self.points.last() {
            self.note(last.time_ns, bytes, count);
        }
    }

    /// So far, by time.
    pub(super) fn points(&self) -> &[Moment] {
        &self.points
    }

    fn coarsen(&mut self) {
        // 2⁶³ ns are two points at most: it ends before the shift is too large.
        self.shift = (self.shift + 1).min(u64::BITS - 1);
        let shift = self.shift;
        self.points.dedup_by(|later, earlier| {
            let same = later.time_ns >> shift == earlier.time_ns >> shift;
            if same {
                merge(earlier, *later);
            }
            same
        });
    }
}

fn merge(earlier: &mut Moment, later: Moment) {
    *earlier = Moment {
        time_ns: earlier.time_ns.max(later.time_ns),
        peak_bytes: earlier.peak_bytes.max(later.peak_bytes),
        ..later
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peak(timeline: &Timeline) -> Option<u64> {
        let peaks = timeline.points().iter().map(|point| point.peak_bytes);
        peaks.max()
    }

    #[test]
    fn short_runs_keep_their_points() {
        let mut timeline = Timeline::default();
        timeline.note_again(1, 1);
        assert_eq!(timeline.points(), []);
        timeline.note(5 << 20, 100, 1);
        timeline.note((5 << 20) + 7, 40, 2);
        timeline.note(9 << 20, 50, 3);
        // Late: it changes the latest point and not its time.
        timeline.note(8 << 20, 60, 4);
        timeline.note_again(10, 1);
        let point = |time_ns, bytes, count, peak_bytes| Moment {
            time_ns,
            bytes,
            count,
            peak_bytes,
        };
        let first = point((5 << 20) + 7, 40, 2, 100);
        assert_eq!(timeline.points(), [first, point(9 << 20, 10, 1, 60)]);
    }

    #[test]
    fn long_runs_take_no_more_memory() {
        let mut timeline = Timeline::default();
        for tick in 0..100_000_u64 {
            let bytes = if tick == 33_333 { 1_000_000 } else { tick };
            timeline.note(tick << 20, bytes, tick);
        }
        let points = timeline.points();
        assert!((POINTS / 2..=POINTS).contains(&points.len()));
        assert!(points.is_sorted_by(|a, b| a.time_ns < b.time_ns));
        assert_eq!(points.last().map(|point| point.bytes), Some(99_999));
        assert_eq!(peak(&timeline), Some(1_000_000));
    }

    #[test]
    fn any_times_end() {
        let mut timeline = Timeline::default();
        for bit in 0..64 {
            for low in [0, 1 << 20, 3 << 20, 5 << 20, 6 << 20] {
                timeline.note((1_u64 << bit) + low, 1, 1);
            }
        }
        timeline.note(u64::MAX, 9, 9);
        timeline.note(0, 3, 3);
        assert!(timeline.points().len() <= POINTS);
        assert_eq!(timeline.points().last().map(|point| point.bytes), Some(3));
    }
}
