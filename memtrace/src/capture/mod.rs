//! Captures: files that hold the events of a run and all that a report takes
//! besides, so that it can be written again, elsewhere, and with other choices.
//!
//! A capture is a header and blocks; see [`mod@format`]. It is written as the run
//! goes, by a thread of its own ([`Recorder`]), so that it holds what came
//! until memtrace was killed; and read from its beginning until its end or the
//! first block that is not whole ([`Replay`]). Whatever its bytes, reading one
//! ends in a report or in a [`CaptureError`].
pub mod format;
mod fresh;
mod reader;
mod replay;
#[cfg(test)]
mod tests;
mod writer;

pub use format::Shown;
pub use fresh::Fresh;
pub use replay::Replay;
pub use writer::{RecordError, Recorder};

use thiserror::Error;

/// Why a file cannot be replayed at all.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// Something else.
    #[error(
        "it is not a capture, which `memtrace --record FILE` writes, and not a report in JSON, which `--format json` writes"
    )]
    Foreign,
    /// Written by a later memtrace.
    #[error(
        "it is a capture of format {major}, and this memtrace reads format {} only: use a newer memtrace",
        format::MAJOR
    )]
    Newer {
        /// Its format.
        major: u16,
    },
    /// Cut off, or damaged, before anything of use.
    #[error("it holds nothing yet: {0}")]
    Empty(String),
}
