//! What works on which kernel as a Markdown table, and its place in README.md.
use super::features::{FEATURES, Verdict};
use super::kernels::Kernel;
use super::matrix::Outcome;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// The table stands in README.md between these lines.
const BEGIN: &str = "<!-- kernels: cargo xtask test --vm --update-readme -->";
const END: &str = "<!-- /kernels -->";

/// A row a kernel, a column a feature.
pub(crate) fn table(outcomes: &[(&Kernel, Outcome)]) -> String {
    let titles: Vec<_> = FEATURES.iter().map(|feature| feature.title).collect();
    let mut rows = vec![
        row("kernel", &titles),
        format!("{}|", "|---".repeat(titles.len() + 1)),
    ];
    for (kernel, outcome) in outcomes {
        let name = format!("{} ({})", kernel.name, kernel.suite);
        rows.push(match outcome {
            Outcome::Ran(release, verdicts) => {
                let cells: Vec<_> = verdicts.iter().map(|verdict| cell(*verdict)).collect();
                row(release, &cells)
            }
            Outcome::Skipped => row(&name, &vec!["not tried"; titles.len()]),
            Outcome::Failed => row(&name, &vec!["**did not boot**"; titles.len()]),
        });
    }
    rows.join("\n")
}

fn row(first: &str, cells: &[&str]) -> String {
    format!("| {first} | {} |", cells.join(" | "))
}

fn cell(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Works => "yes",
        Verdict::Fails => "**no**",
        Verdict::Died => "**kernel died**",
        Verdict::NotReached => "not reached",
    }
}

/// README.md with this table instead of the one that stands in it.
pub(crate) fn updated(readme: &Path, table: &str) -> Result<String> {
    let text =
        fs::read_to_string(readme).with_context(|| format!("cannot read {}", readme.display()))?;
    replaced(&text, table).with_context(|| {
        format!(
            "{} has no place for the table: put these lines where it is to stand:\n{BEGIN}\n{END}",
            readme.display()
        )
    })
}

fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::kernels::KERNELS;

    #[test]
    fn only_the_table_is_replaced() {
        let readme = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        let new = replaced(&readme, "new").unwrap();
        assert_eq!(new, format!("above\n{BEGIN}\nnew\n{END}\nbelow\n"));
        assert_eq!(replaced("no place", "new"), None);
    }

    #[test]
    fn all_rows_have_all_columns() {
        let ran = Outcome::Ran("6.1".to_owned(), vec![Verdict::Died; FEATURES.len()]);
        let outcomes = [ran, Outcome::Skipped, Outcome::Failed];
        let rows: Vec<_> = KERNELS.iter().zip(outcomes).collect();
        for row in table(&rows).lines() {
            assert_eq!(row.matches('|').count(), FEATURES.len() + 2, "{row}");
        }
    }
}
