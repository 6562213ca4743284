//! Lines of bars: what a series does, at a glance.

/// From low to high.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// At most so many bars, from the lowest point to the highest; each bar is the
/// highest of its points. A level line is low bars.
pub fn spark(points: &[u64], columns: usize) -> String {
    let (Some(low), Some(high)) = (points.iter().min(), points.iter().max()) else {
        return String::new();
    };
    let bars = points.len().min(columns);
    let bar = |index: usize| {
        let part = &points[index * points.len() / bars..(index + 1) * points.len() / bars];
        let value = part.iter().max().copied().unwrap_or(*low);
        let steps = (BARS.len() - 1) as u128;
        let range = u128::from(high - low).max(1);
        let step = (u128::from(value.saturating_sub(*low)) * steps + range / 2) / range;
        BARS[usize::try_from(step).map_or(0, |step| step.min(BARS.len() - 1))]
    };
    (0..bars).map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_go_from_the_lowest_to_the_highest() {
        assert_eq!(spark(&[], 8), "");
        assert_eq!(spark(&[1, 2], 0), "");
        assert_eq!(spark(&[7, 7, 7], 8), "▁▁▁");
        assert_eq!(spark(&[0, 1, 2, 3, 4, 5, 6, 7], 8), "▁▂▃▄▅▆▇█");
        assert_eq!(spark(&[0, u64::MAX, 0, 0], 2), "█▁");
    }
}
