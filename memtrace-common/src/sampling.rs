//! Which allocations a sampled trace takes in. Both halves compute the odds by
//! the same integers, so that estimates are unbiased whatever they round.
//!
//! Poisson sampling by bytes: every byte is picked independently with one
//! chance in `mean`, and an allocation is taken in if any of its bytes is, so
//! with p(size) = 1 − e^(−size / mean). Each one taken in stands for 1 / p.

/// Steps of a sixteenth, up to 16: beyond that everything is taken in (the
/// chance to miss is below 2⁻²³).
pub const STEPS: usize = 256;

/// What [`odds`] are a share of.
pub const CERTAIN: u64 = 1 << 32;

/// The largest mean, so that nothing overflows: 4 GiB.
pub const LARGEST_MEAN: u64 = 1 << 32;

/// Bits behind the point of size / mean.
const POINT: u32 = 28;

/// `size / mean` as a number of whole sixteenths and the rest, in units of
/// 2⁻²⁸. `None`: too large for any doubt.
#[inline(always)]
pub fn split(size: u64, mean: u64) -> Option<(usize, u64)> {
    if mean == 0 || size / 16 >= mean {
        return None;
    }
    // Never 0: what can never be picked cannot be stood for.
    let ratio = ((size << POINT) / mean) | 1;
    let step = (ratio >> (POINT - 4)) as usize & (STEPS - 1);
    Some((step, ratio & ((1 << (POINT - 4)) - 1)))
}

/// The share of [`CERTAIN`] with which an allocation is taken in, where
/// `missed` is e^(−step / 16) of it, and `rest` as [`split`] gives it.
#[inline(always)]
pub fn odds(missed: u64, rest: u64) -> u64 {
    let square = (rest * rest) >> POINT;
    let cube = (square * rest) >> POINT;
    // e^(−rest); the next term is below 10⁻⁶.
    let factor = (1 << POINT) - rest + square / 2 - cube / 6;
    CERTAIN - ((missed * factor) >> POINT)
}
