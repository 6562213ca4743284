//! What memtrace concludes from figures: a sentence, what it rests on, and what
//! to do about it.
use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// One conclusion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable; scripts may rely on it: `shmem_hog`.
    pub id: Cow<'static, str>,
    /// How bad it is.
    pub severity: Severity,
    /// The conclusion, one line.
    pub title: String,
    /// The figures that it rests on.
    pub evidence: String,
    /// What to do, which knob it is, and its price.
    pub advice: String,
}

/// How bad a finding is; the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Will hurt, or does a little.
    Warning,
    /// Hurts.
    Critical,
}
