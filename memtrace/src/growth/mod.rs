//! What makes a process grow, as far as `/proc` says without any probe: samples
//! of its memory by kind, their trend, and the source that explains it.
mod advice;
mod ranking;
mod read;
mod sample;
mod series;
mod source;
mod trend;

#[cfg(test)]
mod tests;

pub use advice::{advise, signed};
pub use ranking::{Ranked, Ranking};
pub use read::{Rollup, Sampler};
pub use sample::{Kind, Reading, Sample, Size};
pub use series::{MANY, Series};
pub use source::{Source, source};
pub use trend::{Confidence, Pattern, Trend, Verdict, trend};
