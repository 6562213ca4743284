//! When events are lost the report says so, and what it cannot vouch for is
//! marked. docs/peers.md (calls in flight): other tracers drop silently.
use anyhow::{Result, ensure};
use memtrace_tests::target::Target;
use memtrace_tests::{need_root, tracer, turn};
use nix::sys::signal::Signal;

/// The reader is stopped while the target works, and the buffer is small: most
/// events are lost. The target frees all that it allocates.
#[test]
fn lost_events_are_told() -> Result<()> {
    let _turn = turn();
    need_root!("lost_events_are_told");
    let mut target = Target::start("churn", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], &["--buffer", "64KiB"])?;
    tracer.signal(Signal::SIGSTOP)?;
    let ledger = target.work()?;
    tracer.signal(Signal::SIGCONT)?;
    let report = tracer.report()?;
    ensure!(
        ledger.rows.iter().all(|row| row.bytes == 0),
        "churn is to free everything"
    );
    ensure!(!report.exact()?, "exact: {}", report.describe());
    ensure!(report.number("lost_events")? > 0, "{}", report.describe());
    // All is freed in truth, and the last loss came with the last events: what
    // seems outstanding is from before it.
    let (outstanding, doubtful) = (
        report.total("outstanding_bytes")?,
        report.total("doubtful_bytes")?,
    );
    ensure!(
        outstanding > 0,
        "nothing left to doubt: {}",
        report.describe()
    );
    ensure!(
        outstanding == doubtful,
        "{outstanding} bytes outstanding, {doubtful} of them in doubt: {}",
        report.describe()
    );
    target.end()
}

/// Nothing lost, nothing in doubt.
#[test]
fn nothing_is_in_doubt_otherwise() -> Result<()> {
    let _turn = turn();
    need_root!("nothing_is_in_doubt_otherwise");
    let mut target = Target::start("phases", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    ensure!(
        report.total("outstanding_bytes")? > 0 && report.total("doubtful_bytes")? == 0,
        "{}",
        report.describe()
    );
    target.end()
}
