//! `cargo xtask bench`: what memtrace costs. Absolute times drift on shared
//! machines, so everything that is compared runs in turn, and the ratios of the
//! medians are what counts.
use anyhow::Result;
use std::path::Path;

mod pages;
mod pairs;
mod stacks;
mod target;

/// Measure what memtrace costs
#[derive(clap::Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Pages(pages::Pages),
    Pairs(pairs::PairLoop),
    Stacks(stacks::Stacks),
}

impl Bench {
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        match &self.what {
            What::Pages(pages) => pages.run(root),
            What::Pairs(pairs) => pairs.run(root),
            What::Stacks(stacks) => stacks.run(root),
        }
    }
}

/// The middle one, or the mean of the two in the middle; 0 of nothing.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (
        values.get(values.len().saturating_sub(1) / 2),
        values.get(values.len() / 2),
    ) else {
        return 0.0;
    };
    f64::midpoint(*low, *high)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn takes_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
    }
}
