//! The harness of the whole-system tests: builds programs with known truth, starts them and memtrace, and reads what
//! memtrace says about them.
//!
//! A test starts only what it also ends: every process is a child of the test, killed and reaped when its guard drops.
pub mod browser;
pub mod check;
pub mod group;
pub mod growth;
pub mod leftover;
pub mod lines;
pub mod pages;
pub mod program;
pub mod recorder;
pub mod report;
pub mod sheet;
pub mod target;
pub mod terminal;
pub mod tracer;
pub mod truth;

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

/// The tests of one executable run one at a time, also without `--test-threads=1`: they measure time and count the
/// kernel's programs.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A time limit, `$MEMTRACE_PATIENCE` times as long: an emulated machine is slow. Not for times that are measured.
pub fn patience(limit: Duration) -> Duration {
    let factor = std::env::var("MEMTRACE_PATIENCE").ok();
    limit * factor.and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// Whether this process may load eBPF programs.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says that a test did not run. Not captured by the test runner.
///
/// # Panics
/// Where `MEMTRACE_FORBID_SKIP` is set: in CI, nothing that its kernel can run may be skipped.
pub fn skipped(test: &str, reason: &str) {
    assert!(
        std::env::var_os("MEMTRACE_FORBID_SKIP").is_none(),
        "{test} may not be skipped here (MEMTRACE_FORBID_SKIP is set): {reason}"
    );
    say(&format!("SKIPPED: {test}: {reason}"));
}

/// Writes a line to standard error past the test runner's capture: for measurements that people want to see.
pub fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// `skip!(test, reason)`: says so and ends the test.
#[macro_export]
macro_rules! skip {
    ($test:expr, $($reason:tt)+) => {{
        $crate::skipped($test, &format!($($reason)+));
        return Ok(());
    }};
}

/// Ends the test, saying so, where memtrace could not trace at all.
#[macro_export]
macro_rules! need_root {
    ($test:expr) => {
        if !$crate::is_root() {
            $crate::skip!($test, "needs root");
        }
    };
}

/// Cargo's output directory, found from the running test executable (`target/PROFILE/deps/TEST`).
pub fn target_directory() -> Result<PathBuf> {
    let test = std::env::current_exe().context("where is this test's executable?")?;
    let directory = test
        .ancestors()
        .nth(3)
        .context("the test executable is not in target/PROFILE/deps")?;
    Ok(directory.to_path_buf())
}
