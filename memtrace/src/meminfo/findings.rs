//! What the figures say: findings, each with the figures that it rests on and
//! the knob to turn.
use super::{
    holders::Holders,
    machine::Machine,
    sheet::{Moment, Sheet},
};
use crate::{
    finding::{Finding, Severity},
    unit::Count,
};

mod growth;
mod kernel;
mod shortage;
mod user;

/// What findings are drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The figures.
    pub machine: &'a Machine,
    /// The balance.
    pub sheet: &'a Sheet,
    /// Holders of shared memory, where they were searched for.
    pub holders: Option<&'a Holders>,
    /// An earlier moment.
    pub before: Option<&'a Moment>,
}

type Rule = fn(&Case<'_>) -> Option<Finding>;

const RULES: &[Rule] = &[
    user::shmem_hog,
    shortage::cma_only_free,
    shortage::low_memory,
    kernel::slab,
    kernel::vmalloc,
    kernel::page_tables,
    user::idle_huge_pages,
    shortage::balloon,
    kernel::unaccounted,
    kernel::hardware,
    kernel::overlap,
    shortage::swap,
    shortage::available,
];

/// All findings, the worst first.
pub fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().filter_map(|rule| rule(case)).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// Shares of a whole from which on something is worth a word, in per cent.
struct Limits {
    info: u64,
    warning: u64,
    critical: u64,
}

/// More than any share.
const NEVER: u64 = 101;

impl Limits {
    fn severity(&self, part: u64, whole: u64) -> Option<Severity> {
        let reaches = |percent: u64| {
            part > 0 && u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
        };
        if reaches(self.critical) {
            Some(Severity::Critical)
        } else if reaches(self.warning) {
            Some(Severity::Warning)
        } else {
            reaches(self.info).then_some(Severity::Info)
        }
    }
}

impl Case<'_> {
    fn field(&self, name: &str) -> u64 {
        self.machine.meminfo.kb(name)
    }

    fn share(&self, part: u64) -> String {
        share(part, self.sheet.total_kb)
    }
}

fn finding(
    id: &'static str,
    severity: Severity,
    title: String,
    evidence: String,
    advice: impl Into<String>,
) -> Finding {
    Finding {
        id: id.into(),
        severity,
        title,
        evidence,
        advice: advice.into(),
    }
}

/// Evidence in several parts, of which some may not be there.
fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join("; ")
}

/// `772,112 kB`.
fn kb(figure: u64) -> String {
    format!("{} kB", Count(figure))
}

/// `76.5 %`.
fn share(part: u64, whole: u64) -> String {
    let per_mille = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{} %", per_mille / 10, per_mille % 10)
}
