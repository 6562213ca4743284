//! `--sample-bytes`, and sizes that are left out in the kernel.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memtrace_tests::report::Report;
use memtrace_tests::target::Target;
use memtrace_tests::{check, need_root, say, tracer, turn};

/// Runs a program under memtrace with -v; returns the report and what was counted under `label`.
fn traced(program: &str, options: &[&str], label: &str) -> Result<(Report, u64)> {
    let mut target = Target::start(program, &[] as &[&str])?;
    let options = [options, &["-v"]].concat();
    let tracer = tracer::attach(&[target.pid()], &options)?;
    target.work()?;
    let outcome = tracer.stop()?;
    target.end()?;
    let count = outcome
        .stderr
        .iter()
        .find_map(|line| line.split_once(&format!("{label}: ")))
        .and_then(|(_, number)| number.trim().parse().ok())
        .with_context(|| format!("no {label}: {}", outcome.context()))?;
    Ok((outcome.report()?, count))
}

/// Thirty estimates of one truth: their mean is right and their spread is what theory says, n s² (1 − p) / p with
/// p = 1 − e^(−s/N). Both bounds are four standard errors: one run in ten thousand fails by chance. What is not sampled
/// costs no event, neither when it is allocated nor when it is freed.
#[test]
#[expect(clippy::cast_precision_loss, reason = "sums of a few megabytes")]
fn estimates_are_unbiased_and_vary_as_theory_says() -> Result<()> {
    let _turn = turn();
    need_root!("estimates_are_unbiased_and_vary_as_theory_says");
    let (blocks, size, mean) = (400.0, 1000.0_f64, 16384.0);
    let (report, events) = traced("sampled", &["--sample-bytes", "16KiB"], "events sent")?;
    ensure!(
        !report.exact()? && report.number("sample_bytes")? == 16384,
        "{}",
        report.0
    );
    let estimates: Vec<f64> = (0..30)
        .map(|site| Ok(report.of_caller(&format!("site_{site}"))?.bytes as f64))
        .collect::<Result<_>>()?;
    let p = 1.0 - (-size / mean).exp();
    let variance = blocks * size * size * (1.0 - p) / p;
    let truth = blocks * size;
    let average = estimates.iter().sum::<f64>() / 30.0;
    let spread = estimates.iter().map(|e| (e - truth).powi(2)).sum::<f64>() / 30.0;
    say(&format!(
        "truth {truth}, average {average:.0}, variance {spread:.3e}, by theory {variance:.3e}, {events} events"
    ));
    ensure!(
        (average - truth).abs() < 4.0 * (variance / 30.0).sqrt(),
        "biased"
    );
    ensure!(
        (spread / variance - 1.0).abs() < 4.0 * (2.0_f64 / 30.0).sqrt(),
        "another spread"
    );
    // 12,000 blocks of 1000 bytes and 50,000 of 200 that are freed: about 700 and 2 × 600.
    ensure!((500..6000).contains(&events), "{events} events");
    // All of the second kind were freed, of those that were sampled, too.
    let rest = report.of_caller("main")?;
    ensure!(
        rest.bytes == 0,
        "{rest:?} outstanding: {}",
        report.describe()
    );
    Ok(())
}

/// Everything is taken in by default.
#[test]
fn no_sampling_is_exact() -> Result<()> {
    let _turn = turn();
    need_root!("no_sampling_is_exact");
    let (report, left_out) = traced("sampled", &["--sample-bytes", "0"], "blocks left out")?;
    report.must_be_exact()?;
    ensure!(left_out == 0, "{left_out}");
    ensure!(
        report.total("outstanding_bytes")? == 12_000_000,
        "{}",
        report.describe()
    );
    Ok(())
}

/// The kernel leaves out what is too small or too large, and a reallocation across the border ends or begins a block.
#[test]
fn sizes_are_chosen_in_the_kernel() -> Result<()> {
    let _turn = turn();
    need_root!("sizes_are_chosen_in_the_kernel");
    let mut target = Target::start("resized", &[] as &[&str])?;
    let options = ["--min-size", "1000", "--max-size", "5000"];
    let tracer = tracer::attach(&[target.pid()], &options)?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    target.end()?;
    report.must_be_exact()?;
    check::outstanding(&report, &ledger)?;
    // Six blocks of ten are within, of which three end.
    ensure!(
        report.total("allocated_count")? == 60,
        "{}",
        report.describe()
    );
    ensure!(report.total("freed_count")? == 30, "{}", report.describe());
    let (_, left_out) = traced("resized", &options, "blocks left out")?;
    ensure!(left_out == 60, "{left_out}");
    Ok(())
}

/// What cannot be meant is refused.
#[test]
fn sizes_that_make_no_sense() -> Result<()> {
    need_root!("sizes_that_make_no_sense");
    let time = Duration::from_secs(10);
    let wrong: [(&[&str], &str); 3] = [
        (&["-p", "1", "--sample-bytes", "5GiB"], "4GiB"),
        (
            &["-p", "1", "--min-size", "2KiB", "--max-size", "1KiB"],
            "--max-size",
        ),
        (&["-p", "1", "--sample-bytes=-1"], "sample-bytes"),
    ];
    for (arguments, word) in wrong {
        check::misused(&tracer::run(arguments, time)?, word)?;
    }
    Ok(())
}
