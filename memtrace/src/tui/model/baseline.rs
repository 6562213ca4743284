//! What rows held at a moment that the user chose, to tell growth from then on.
use std::collections::HashMap;

/// The baseline of one list; it need not be set.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    mark: Option<Mark>,
}

#[derive(Debug)]
struct Mark {
    at_ns: u64,
    /// Bytes by the keys of rows.
    held: HashMap<u64, u64>,
}

impl Baseline {
    /// Sets it: rows with these keys hold so many bytes at this time.
    pub(super) fn set(&mut self, at_ns: u64, held: impl Iterator<Item = (u64, u64)>) {
        self.mark = Some(Mark {
            at_ns,
            held: held.collect(),
        });
    }

    /// Takes it away.
    pub(super) fn clear(&mut self) {
        self.mark = None;
    }

    /// How long ago it was set; `None`: it is not.
    pub(super) fn age_ns(&self, now_ns: u64) -> Option<u64> {
        let mark = self.mark.as_ref()?;
        Some(now_ns.saturating_sub(mark.at_ns))
    }

    /// What the row with this key held then: nothing, if it was not there;
    /// `None`: no baseline is set.
    pub(super) fn held(&self, key: u64) -> Option<u64> {
        let mark = self.mark.as_ref()?;
        Some(mark.held.get(&key).copied().unwrap_or(0))
    }
}

/// By how many bytes something grew.
pub(super) fn grown(before: u64, now: u64) -> i64 {
    let grown = i128::from(now) - i128::from(before);
    i64::try_from(grown).unwrap_or(i64::MAX)
}
