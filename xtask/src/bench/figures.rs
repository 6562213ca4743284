//! What was measured: medians with their spread, on the terminal, as JSON and
//! as the table of docs/benchmarks.md.
use super::median;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fmt;
use std::fs;
use std::path::Path;

/// What a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing: it is told.
    Told,
}

impl Limit {
    fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::Told => None,
        }
    }

    /// By which part a figure is worse than an older one; below 0: better.
    fn worse(self, value: f64, older: f64) -> f64 {
        let grown = if older == 0.0 {
            value
        } else {
            value / older - 1.0
        };
        match self {
            Self::AtLeast(_) => -grown,
            Self::AtMost(_) | Self::Told => grown,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(formatter, "≤ {limit}"),
            Self::AtLeast(limit) => write!(formatter, "≥ {limit}"),
            Self::Told => Ok(()),
        }
    }
}

/// A row of the table.
pub(super) struct Figure {
    what: &'static str,
    limit: Limit,
    median: f64,
    least: f64,
    most: f64,
}

impl Figure {
    pub(super) fn of(what: &'static str, limit: Limit, values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        Self {
            what,
            limit,
            median: median(&mut sorted),
            least: sorted.first().copied().unwrap_or(0.0),
            most: sorted.last().copied().unwrap_or(0.0),
        }
    }

    fn verdict(&self) -> &'static str {
        match self.limit.is_met(self.median) {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "",
        }
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "goal": self.limit.to_string(),
            "met": self.limit.is_met(self.median),
            "median": rounded(self.median),
            "least": rounded(self.least),
            "most": rounded(self.most),
        })
    }
}

/// Three digits: more would be noise.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    // Of all that is measured here, far within the range.
    #[expect(clippy::cast_possible_truncation, reason = "an exponent")]
    let digits = 2 - value.abs().log10().floor() as i32;
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, limit, .. } = self;
        let [median, least, most] = [self.median, self.least, self.most].map(rounded);
        let verdict = self.verdict();
        write!(
            formatter,
            "| {what} | {limit} | {median} | {least}–{most} | {verdict} |"
        )
    }
}

const PAGE: &str = "docs/benchmarks.md";
const RECORD: &str = "docs/benchmarks.json";

/// Between these lines of the page stands the table.
const BEGIN: &str = "<!-- made by cargo xtask bench goals -->";
const END: &str = "<!-- end -->";

/// Puts the figures into the page and beside it.
pub(super) fn write(root: &Path, figures: &[Figure], runs: u32, kernel: &str) -> Result<()> {
    let page = root.join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| PAGE)?;
    let around = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = around.with_context(|| format!("{PAGE} has no place for the table"))?;
    let rows: Vec<String> = figures.iter().map(Figure::to_string).collect();
    let table = format!(
        "{before}{BEGIN}\n\nLinux {kernel}; runs of each kind: {runs}.\n\n| what | goal | median | spread | |\n|---|---|---|---|---|\n{}\n\n{END}{after}",
        rows.join("\n")
    );
    fs::write(&page, table)?;
    let rows: Vec<Value> = figures.iter().map(Figure::json).collect();
    let record = json!({ "schema": "memtrace.bench.goals.v1", "runs": runs, "kernel": kernel, "figures": rows });
    fs::write(root.join(RECORD), format!("{record:#}\n"))?;
    Ok(())
}

/// By how much a figure may be worse than the recorded one.
const TOLERANCE: f64 = 0.15;

/// Fails where a figure is worse than the recorded one.
pub(super) fn compare(root: &Path, figures: &[Figure]) -> Result<()> {
    let text = fs::read_to_string(root.join(RECORD)).with_context(|| RECORD)?;
    let record: Value = serde_json::from_str(&text).with_context(|| RECORD)?;
    let worse = worse_than(&record, figures);
    ensure!(
        worse.is_empty(),
        "worse than recorded by more than {:.0} %: {}",
        TOLERANCE * 100.0,
        worse.join("; ")
    );
    Ok(())
}

fn worse_than(record: &Value, figures: &[Figure]) -> Vec<String> {
    let rows = record["figures"].as_array();
    let mut worse = Vec::new();
    for figure in figures {
        let mut rows = rows.into_iter().flatten();
        let older = rows.find(|row| row["what"] == figure.what);
        let Some(older) = older.and_then(|row| row["median"].as_f64()) else {
            continue;
        };
        if figure.limit.worse(figure.median, older) > TOLERANCE {
            let median = rounded(figure.median);
            worse.push(format!("{}: {median}, recorded {older}", figure.what));
        }
    }
    worse
}

#[cfg(test)]
mod tests {
    use super::{Figure, Limit, rounded, worse_than};
    use serde_json::json;

    #[test]
    fn a_figure_is_a_row() {
        let figure = Figure::of("a", Limit::AtMost(0.5), &[0.3, 0.1234, 0.7]);
        assert_eq!(figure.to_string(), "| a | ≤ 0.5 | 0.3 | 0.123–0.7 | met |");
        let figure = Figure::of("b", Limit::AtLeast(4.0), &[3.0]);
        assert_eq!(figure.to_string(), "| b | ≥ 4 | 3 | 3–3 | **not met** |");
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn three_digits() {
        assert_eq!(rounded(1234.5), 1230.0);
        assert_eq!(rounded(0.012_345), 0.0123);
        assert_eq!(rounded(0.0), 0.0);
    }

    #[test]
    fn worse_depends_on_the_goal() {
        let record = json!({ "figures": [ { "what": "a", "median": 1.0 }, { "what": "b", "median": 1.0 } ] });
        let at_most = |value| Figure::of("a", Limit::AtMost(2.0), &[value]);
        let at_least = |value| Figure::of("b", Limit::AtLeast(0.5), &[value]);
        assert!(worse_than(&record, &[at_most(1.1), at_least(0.9)]).is_empty());
        assert_eq!(worse_than(&record, &[at_most(1.2), at_least(0.8)]).len(), 2);
        assert!(worse_than(&record, &[at_most(0.5), at_least(2.0)]).is_empty());
    }
}
