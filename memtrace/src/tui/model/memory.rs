//! The tab of the machine's memory: the balance sheet with its findings.
use super::scroll::Scroll;
use crate::{
    meminfo::{Holders, Moment},
    report::meminfo::{Choice, MeminfoReport, Since, assemble},
};

/// Holders, caches and callers that are shown.
const TOP: usize = 10;

/// A look at the machine.
#[derive(Clone, Debug)]
pub struct Look {
    /// When, on the monotonic clock.
    pub time_ns: u64,
    /// The figures.
    pub moment: Moment,
    /// Who holds shared memory.
    pub holders: Holders,
}

/// The tab.
#[derive(Default)]
pub struct Memory {
    /// What the sheet says now.
    pub report: Option<MeminfoReport>,
    /// Why there is none.
    pub failed: Option<String>,
    /// What lines must contain.
    pub filter: String,
    /// Where it is looked at.
    pub scroll: Scroll,
    latest: Option<Look>,
    mark: Option<Look>,
}

impl Memory {
    /// Takes a look in.
    pub fn take(&mut self, look: Result<Box<Look>, String>) {
        match look {
            Ok(look) => {
                self.latest = Some(*look);
                self.failed = None;
                self.assemble();
            }
            Err(why) => self.failed = Some(why),
        }
    }

    /// Tells changes from now on.
    pub fn mark(&mut self) {
        self.mark.clone_from(&self.latest);
        self.assemble();
    }

    /// Tells no changes.
    pub fn unmark(&mut self) {
        self.mark = None;
        self.assemble();
    }

    /// How long ago the baseline was set.
    pub fn marked_ago_ns(&self) -> Option<u64> {
        let (mark, latest) = self.mark.as_ref().zip(self.latest.as_ref())?;
        Some(latest.time_ns.saturating_sub(mark.time_ns))
    }

    fn assemble(&mut self) {
        let Some(look) = &self.latest else {
            return;
        };
        let since = Since {
            origin: "the baseline".to_owned(),
            interval_ns: self.marked_ago_ns(),
        };
        let mark = self.mark.as_ref().map(|mark| &mark.moment);
        let choice = Choice {
            origin: "This machine",
            holders: Some(&look.holders),
            previous: mark.map(|mark| (mark, &since)),
            first: mark,
            top: TOP,
            explain: false,
        };
        self.report = Some(assemble(&look.moment, &choice));
    }
}
