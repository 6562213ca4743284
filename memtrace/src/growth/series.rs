//! The points of a run, however long it is: from a number on, every second one
//! is dropped and from then on every second one is taken.
use super::sample::Sample;

/// Points that are kept of one process that is looked at. Twice as many would
/// make four times as many slopes, and no better trend.
pub const MANY: usize = 512;

/// Points that are kept where there are many processes.
pub(super) const FEW: usize = 64;

/// Points, by time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series<T> {
    points: Vec<T>,
    most: usize,
    /// Every how manieth is kept.
    stride: u64,
    seen: u64,
    latest: Option<T>,
}

impl<T: Copy + PartialEq> Series<T> {
    /// Keeps at most so many points, at least two.
    pub fn keeping(most: usize) -> Self {
        Self {
            points: Vec::new(),
            most: most.max(2),
            stride: 1,
            seen: 0,
            latest: None,
        }
    }

    /// Takes the next point in.
    pub fn push(&mut self, point: T) {
        if self.seen.is_multiple_of(self.stride) {
            if self.points.len() >= self.most {
                let mut index = 0;
                self.points.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.stride = self.stride.saturating_mul(2);
            }
            self.points.push(point);
        }
        self.seen += 1;
        self.latest = Some(point);
    }

    /// The points that are kept, the latest of all included.
    pub fn points(&self) -> Vec<T> {
        let mut points = self.points.clone();
        if let Some(latest) = self.latest
            && points.last() != Some(&latest)
        {
            points.push(latest);
        }
        points
    }

    /// How many were taken.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The first.
    pub fn first(&self) -> Option<&T> {
        self.points.first()
    }

    /// The latest.
    pub fn latest(&self) -> Option<&T> {
        self.latest.as_ref()
    }
}

impl Series<Sample> {
    /// What the process held, over time: nanoseconds and bytes.
    pub fn held(&self) -> Vec<(u64, u64)> {
        let samples = self.points();
        samples
            .iter()
            .map(|sample| (sample.time_ns, sample.held()))
            .collect()
    }
}
