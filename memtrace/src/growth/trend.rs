//! Whether a series of sizes grows, and how sure that is.
//!
//! The slope is Theil's and Sen's: the median of the slopes of all pairs of
//! points, so that a few outliers, a warm-up among them, do not move it. Its
//! interval of confidence is Sen's, from the variance of Kendall's statistic
//! with ties (P. K. Sen, Journal of the American Statistical Association 63,
//! 1968).
use serde::{Deserialize, Serialize};

/// Where a size is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Upwards.
    Growing,
    /// Nowhere.
    Steady,
    /// Downwards.
    Shrinking,
}

/// The way in which it goes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// Hardly moves.
    Level,
    /// Moves in one direction.
    Trend,
    /// Goes up and down again and again; the verdict is about its low points.
    Sawtooth,
    /// None of these.
    Irregular,
}

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Too few points, or they contradict each other.
    Low,
    /// 95 %.
    Medium,
    /// 99 %.
    High,
}

/// What a series does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Bytes a second.
    pub slope: f64,
    /// The slope's interval of confidence, 95 %.
    pub low: f64,
    /// The same.
    pub high: f64,
    /// Where it goes.
    pub verdict: Verdict,
    /// How.
    pub pattern: Pattern,
    /// How sure the verdict is.
    pub confidence: Confidence,
}

/// Standard deviations of the normal distribution that hold 95 % and 99 %.
const SIGMAS_95: f64 = 1.960;
const SIGMAS_99: f64 = 2.576;

/// From so many points on a verdict is more than a guess.
const ENOUGH: usize = 6;

/// Changes over the whole time that are worth a word: so many bytes, and this
/// part of the whole. The kernel counts pages in batches by CPU.
const LEAST_BYTES: f64 = 128.0 * 1024.0;
const LEAST_SHARE: f64 = 0.0005;

/// A turn counts where it takes back this part of the whole range.
const SWING: f64 = 0.25;

/// Turns that make a sawtooth: up, down, up, down.
const TURNS: usize = 4;

/// The trend of points (nanoseconds, bytes), which are in order of time. At
/// most some hundred: each pair is looked at.
pub fn trend(points: &[(u64, u64)]) -> Trend {
    let Some((start, _)) = points.first() else {
        return STILL;
    };
    let points: Vec<(f64, f64)> = points
        .iter()
        .map(|(time, bytes)| (time.saturating_sub(*start) as f64 / 1e9, *bytes as f64))
        .collect();
    let span = points.last().map_or(0.0, |(time, _)| *time);
    let level = median(points.iter().map(|(_, bytes)| *bytes).collect());
    let least = LEAST_BYTES.max(level * LEAST_SHARE);
    let Some(line) = Line::through(&points) else {
        return STILL;
    };
    let turns = turns(&points, least);
    let trend = line.judge(span, least, points.len());
    if turns.len() < TURNS {
        return trend;
    }
    sawtooth(trend, &low_points(&points, &turns), least, turns.len())
}

/// The same of a series that goes up and down: it moves only if its low points
/// move, and in the same direction.
fn sawtooth(whole: Trend, lows: &[(f64, f64)], least: f64, turns: usize) -> Trend {
    let ends = lows.first().zip(lows.last());
    let (span, moved) = ends.map_or((0.0, 0.0), |(first, last)| {
        (last.0 - first.0, last.1 - first.1)
    });
    let judged = Line::through(lows).map(|line| line.judge(span, least, lows.len()));
    let agrees = match whole.verdict {
        Verdict::Growing => moved >= least,
        Verdict::Shrinking => -moved >= least,
        Verdict::Steady => false,
    };
    let (verdict, confidence) = match judged {
        Some(lows) if lows.verdict != Verdict::Steady => (lows.verdict, lows.confidence),
        _ if agrees => (whole.verdict, whole.confidence.min(Confidence::Medium)),
        _ if turns >= 2 * TURNS => (Verdict::Steady, Confidence::High),
        _ => (Verdict::Steady, Confidence::Medium),
    };
    Trend {
        verdict,
        confidence,
        pattern: Pattern::Sawtooth,
        ..whole
    }
}

/// Of nothing.
const STILL: Trend = Trend {
    slope: 0.0,
    low: 0.0,
    high: 0.0,
    verdict: Verdict::Steady,
    pattern: Pattern::Level,
    confidence: Confidence::Low,
};

/// A line through points, and how far it could turn.
struct Line {
    slope: f64,
    /// Intervals of 95 % and of 99 %.
    likely: (f64, f64),
    sure: (f64, f64),
}

impl Line {
    /// `None` for less than two points, or points of one time.
    fn through(points: &[(f64, f64)]) -> Option<Self> {
        let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
        for (index, (time, bytes)) in points.iter().enumerate() {
            for (later, more) in &points[index + 1..] {
                if later > time {
                    slopes.push((more - bytes) / (later - time));
                }
            }
        }
        if slopes.is_empty() {
            return None;
        }
        slopes.sort_by(f64::total_cmp);
        let deviation = deviation(points);
        Some(Self {
            slope: middle(&slopes),
            likely: interval(&slopes, SIGMAS_95 * deviation),
            sure: interval(&slopes, SIGMAS_99 * deviation),
        })
    }

    fn judge(&self, span: f64, least: f64, points: usize) -> Trend {
        let beyond = |(low, high): (f64, f64)| low > 0.0 || high < 0.0;
        let matters = (self.slope * span).abs() >= least;
        let moves = matters && beyond(self.likely);
        let verdict = match moves {
            true if self.slope > 0.0 => Verdict::Growing,
            true => Verdict::Shrinking,
            false => Verdict::Steady,
        };
        let widest = |(low, high): (f64, f64)| low.abs().max(high.abs()) * span;
        let confidence = match moves {
            _ if points < ENOUGH => Confidence::Low,
            true if beyond(self.sure) => Confidence::High,
            true => Confidence::Medium,
            false if widest(self.sure) < least => Confidence::High,
            false if widest(self.likely) < least => Confidence::Medium,
            false => Confidence::Low,
        };
        let pattern = match (moves, confidence) {
            (true, _) => Pattern::Trend,
            (false, Confidence::Low) if widest(self.likely) >= least => Pattern::Irregular,
            (false, _) => Pattern::Level,
        };
        Trend {
            slope: self.slope,
            low: self.likely.0,
            high: self.likely.1,
            verdict,
            pattern,
            confidence,
        }
    }
}

/// Of Kendall's statistic, for these points: ties make it smaller.
fn deviation(points: &[(f64, f64)]) -> f64 {
    let term = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let mut sizes: Vec<f64> = points.iter().map(|(_, bytes)| *bytes).collect();
    sizes.sort_by(f64::total_cmp);
    let ties: f64 = sizes
        .chunk_by(|one, next| one.total_cmp(next).is_eq())
        .map(|tied| term(tied.len() as f64))
        .sum();
    ((term(points.len() as f64) - ties) / 18.0).max(0.0).sqrt()
}

/// The slopes between which the true one lies, `width` ranks apart.
fn interval(sorted: &[f64], width: f64) -> (f64, f64) {
    let count = sorted.len() as f64;
    let at = |rank: f64| {
        let last = sorted.len() - 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the slice's indices"
        )]
        let index = rank.clamp(0.0, last as f64) as usize;
        sorted[index]
    };
    (
        at(((count - width) / 2.0).floor()),
        at(f64::midpoint(count, width).ceil()),
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    middle(&values)
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted {
        [] => 0.0,
        _ if sorted.len().is_multiple_of(2) => f64::midpoint(sorted[half - 1], sorted[half]),
        _ => sorted[half],
    }
}

/// The indices at which the series turns: each takes back a good part of the
/// range, and what matters at all.
fn turns(points: &[(f64, f64)], least: f64) -> Vec<usize> {
    let sizes = || points.iter().map(|(_, bytes)| *bytes);
    let range = sizes().fold(f64::MIN, f64::max) - sizes().fold(f64::MAX, f64::min);
    let swing = (range * SWING).max(least);
    let mut turns = Vec::new();
    let (mut top, mut bottom) = (0, 0);
    let mut rising = None;
    for (index, (_, bytes)) in points.iter().enumerate() {
        if *bytes > points[top].1 {
            top = index;
        }
        if *bytes < points[bottom].1 {
            bottom = index;
        }
        if rising != Some(false) && points[top].1 - bytes >= swing {
            if rising.is_some() {
                turns.push(top);
            }
            rising = Some(false);
            bottom = index;
        } else if rising != Some(true) && bytes - points[bottom].1 >= swing {
            if rising.is_some() {
                turns.push(bottom);
            }
            rising = Some(true);
            top = index;
        }
    }
    turns
}

/// The lowest points between two high ones.
fn low_points(points: &[(f64, f64)], turns: &[usize]) -> Vec<(f64, f64)> {
    let is_low = |(position, index): (usize, &usize)| {
        let other = match position {
            0 => turns.get(1),
            _ => turns.get(position - 1),
        };
        let other = other.map_or(f64::MAX, |other| points[*other].1);
        (points[*index].1 < other).then_some(points[*index])
    };
    turns.iter().enumerate().filter_map(is_low).collect()
}
