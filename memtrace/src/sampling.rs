//! What a sampled allocation stands for; see [`memtrace_common::sampling`].
use memtrace_common::sampling::{CERTAIN, STEPS, odds, split};

/// Allocations are counted in units of 2⁻¹⁶, because one that was sampled
/// stands for a broken number of them.
pub const ONE: u64 = 1 << 16;

/// e^(−i / 16) of [`CERTAIN`], for each step.
pub fn missed() -> [u64; STEPS] {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, below 2³³"
    )]
    std::array::from_fn(|step| ((-(step as f64) / 16.0).exp() * CERTAIN as f64).round() as u64)
}

/// What one allocation stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Bytes.
    pub bytes: u64,
    /// Allocations, in units of [`ONE`].
    pub count: u64,
}

/// How the kernel side samples.
#[derive(Clone, Debug)]
pub struct Sampling {
    mean: u64,
    missed: [u64; STEPS],
}

impl Default for Sampling {
    fn default() -> Self {
        Self::every(0)
    }
}

impl Sampling {
    /// Every `mean` bytes; 0: everything.
    pub fn every(mean: u64) -> Self {
        Self {
            mean,
            missed: missed(),
        }
    }

    /// Mean bytes between samples; 0: everything is taken in.
    pub fn mean(&self) -> u64 {
        self.mean
    }

    /// What a block of `size` bytes stands for.
    pub fn weigh(&self, size: u64) -> Weight {
        let certain = Weight {
            bytes: size,
            count: ONE,
        };
        if self.mean == 0 {
            return certain;
        }
        let Some((step, rest)) = split(size, self.mean) else {
            return certain;
        };
        let odds = u128::from(odds(self.missed[step], rest)).max(1);
        let stands_for = |amount: u64| {
            let scaled = (u128::from(amount) << 32) + odds / 2;
            u64::try_from(scaled / odds).unwrap_or(u64::MAX)
        };
        Weight {
            bytes: stands_for(size),
            count: stands_for(ONE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of all blocks of a size that are taken in.
    #[expect(clippy::cast_precision_loss, reason = "below 2³³")]
    fn share(size: u64, mean: u64) -> f64 {
        split(size, mean).map_or(1.0, |(step, rest)| {
            odds(missed()[step], rest) as f64 / CERTAIN as f64
        })
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "sizes are small")]
    fn odds_are_those_of_poisson_sampling() {
        let mean = 512 * 1024;
        for size in [
            16, 64, 100, 4096, 32_767, 32_768, 100_000, 524_288, 2_000_000, 8_000_000,
        ] {
            let exact = 1.0 - (-(size as f64) / mean as f64).exp();
            let error = (share(size, mean) / exact - 1.0).abs();
            assert!(error < 2e-3, "{size}: {error}");
        }
        assert!(share(mean * 17, mean) >= 1.0);
        assert!(share(0, mean) > 0.0);
    }

    #[test]
    fn weights_undo_the_odds() {
        assert_eq!(
            Sampling::every(0).weigh(7),
            Weight {
                bytes: 7,
                count: ONE
            }
        );
        let sampling = Sampling::every(1 << 20);
        for size in [1, 16, 4096, 1 << 20, 1 << 24, 1 << 30] {
            let Weight { bytes, count } = sampling.weigh(size);
            // 2⁻¹⁶ of a block, and what rounding does to small ones.
            assert!(
                count.abs_diff(bytes * ONE / size) <= count / 1000 + ONE / size,
                "{size}"
            );
        }
    }

    /// Over many draws the estimate's error is what theory says: for n blocks
    /// of equal size its variance is n s² (1 − p) / p.
    #[test]
    #[expect(clippy::cast_precision_loss, reason = "statistics")]
    fn estimates_are_unbiased_and_vary_as_theory_says() {
        let (mean, blocks, runs) = (64 * 1024, 2000_u64, 400_u64);
        let sampling = Sampling::every(mean);
        for size in [256_u64, 5000, 100_000] {
            let (step, rest) = split(size, mean).unwrap_or_default();
            let odds = odds(missed()[step], rest);
            // xorshift64*, any seed.
            let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ size;
            let mut draw = || {
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
            };
            let weight = sampling.weigh(size).bytes;
            let truth = (blocks * size) as f64;
            let estimates: Vec<f64> = (0..runs)
                .map(|_| ((0..blocks).filter(|_| draw() < odds).count() as u64 * weight) as f64)
                .collect();
            let average = estimates.iter().sum::<f64>() / runs as f64;
            let variance = estimates.iter().map(|e| (e - truth).powi(2)).sum::<f64>() / runs as f64;
            let p = odds as f64 / CERTAIN as f64;
            let expected = blocks as f64 * (size as f64).powi(2) * (1.0 - p) / p;
            // Four standard errors; of a variance over 400 runs it is 7 %.
            let standard_error = (expected / runs as f64).sqrt();
            assert!(
                (average - truth).abs() < 4.0 * standard_error,
                "{size}: {average} {truth}"
            );
            assert!(
                (variance / expected - 1.0).abs() < 0.28,
                "{size}: {variance} {expected}"
            );
        }
    }
}
