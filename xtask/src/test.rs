//! `cargo xtask test`: everything that must hold before a change goes in. CI
//! runs the same command.
use crate::ebpf::{Processor, Toolchain};
use crate::shell::{cargo, is_root, memtrace, run};
use crate::soak::Soak;
use crate::vm::matrix;
use crate::{build_ebpf, fuzz, licences, man, setup, tidy};
use anyhow::{Result, bail};
use std::env;
use std::io::{self, BufRead as _, BufReader};
use std::ops::AddAssign;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::Instant;

/// Run all checks and tests: what CI runs
#[derive(clap::Args)]
pub(crate) struct Test {
    /// Leave out the integration tests, which need root
    #[arg(long)]
    no_root: bool,
    /// Do not install anything
    #[arg(long)]
    no_setup: bool,
    #[command(flatten)]
    matrix: matrix::Options,
}

/// What became of a step's tests; a step that is one check counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    pub(crate) const PASSED: Self = Self {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
    pub(crate) const FAILED: Self = Self {
        passed: 0,
        failed: 1,
        skipped: 0,
    };
    pub(crate) const SKIPPED: Self = Self {
        passed: 0,
        failed: 0,
        skipped: 1,
    };
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

type Step = (&'static str, fn(&Path) -> Result<Tally>);

/// How long each fuzz target runs: enough to see that it works, and to find
/// what is easily found.
const FUZZ_SECONDS: u32 = 5;

/// In this order; a failed step does not stop those after it.
const STEPS: &[Step] = &[
    ("format", format),
    ("tidy", |root| check(tidy::check(root))),
    ("licences and duplicates", |root| {
        check(licences::check(root))
    }),
    ("manual pages", |root| check(man::check(root))),
    ("carried object", |root| check(build_ebpf::check(root))),
    ("aarch64", build_ebpf::check_other),
    ("clippy", clippy),
    ("clippy of the kernel side", clippy_ebpf),
    ("unit tests", unit_tests),
    ("documentation tests", documentation_tests),
    ("documentation", documentation),
    ("fuzz targets", |root| check(fuzz::all(root, FUZZ_SECONDS))),
    ("release build", release_build),
];

impl Test {
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        if self.matrix.wanted() {
            conclude(self.matrix.run(root)?);
            return Ok(());
        }
        let mut total = Tally::default();
        if !self.no_setup {
            step(&mut total, root, "setup", |root| {
                check(setup::provide_all(root))
            });
        }
        for (name, run) in STEPS {
            step(&mut total, root, name, run);
        }
        if self.no_root {
            eprintln!("SKIPPED: integration tests: --no-root");
            total += Tally::SKIPPED;
        } else {
            step(&mut total, root, "integration tests", integration_tests);
            step(&mut total, root, "soak", soak);
        }
        step(&mut total, root, "other kernels", |root| {
            self.matrix.step(root)
        });
        conclude(total);
        Ok(())
    }
}

/// The last line, and the exit status.
fn conclude(total: Tally) {
    let Tally {
        passed,
        failed,
        skipped,
    } = total;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 {
        // Without another line: that one is the last.
        process::exit(1);
    }
}

fn step(total: &mut Tally, root: &Path, name: &str, run: impl FnOnce(&Path) -> Result<Tally>) {
    eprintln!("==> {name}");
    let start = Instant::now();
    let tally = run(root).unwrap_or_else(|error| {
        eprintln!("error: {name}: {error:#}");
        Tally::FAILED
    });
    let Tally {
        passed,
        failed,
        skipped,
    } = tally;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "<== {name}: {verdict}, {passed} passed, {failed} failed, {skipped} skipped, {seconds:.1} s"
    );
    *total += tally;
}

fn check(result: Result<()>) -> Result<Tally> {
    result.map(|()| Tally::PASSED)
}

fn format(root: &Path) -> Result<Tally> {
    run(cargo(root).args(["fmt", "--all", "--check"]))?;
    for folder in ["memtrace-ebpf", "fuzz"] {
        run(cargo(&root.join(folder)).args(["fmt", "--check"]))?;
    }
    Ok(Tally::PASSED)
}

fn clippy(root: &Path) -> Result<Tally> {
    let arguments = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    check(run(cargo(root).args(arguments)))
}

fn clippy_ebpf(root: &Path) -> Result<Tally> {
    match Toolchain::find()?.clippy(root, Processor::CARRIED) {
        Some(mut command) => check(run(&mut command)),
        None => Ok(skip(
            "clippy of the kernel side",
            "its compiler's clippy is not installed",
        )),
    }
}

/// In CI nothing may be left out.
pub(crate) fn skip(what: &str, reason: &str) -> Tally {
    eprintln!("SKIPPED: {what}: {reason}");
    if in_ci() {
        Tally::FAILED
    } else {
        Tally::SKIPPED
    }
}

fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

fn unit_tests(root: &Path) -> Result<Tally> {
    let arguments = [
        "test",
        "--workspace",
        "--exclude",
        "memtrace-tests",
        "--all-targets",
    ];
    cargo_test(cargo(root).args(arguments).arg("--no-fail-fast"))
}

fn documentation_tests(root: &Path) -> Result<Tally> {
    cargo_test(
        cargo(root)
            .args([
                "test",
                "--package",
                "memtrace",
                "--package",
                "memtrace-common",
            ])
            .arg("--doc"),
    )
}

fn documentation(root: &Path) -> Result<Tally> {
    let arguments = [
        "doc",
        "--quiet",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ];
    check(run(cargo(root)
        .args(arguments)
        .env("RUSTDOCFLAGS", "-D warnings")))
}

fn release_build(root: &Path) -> Result<Tally> {
    check(crate::run::build(root))
}

/// Real programs on the real kernel: as root, one after the other, since they
/// share that kernel. `memtrace-tests` reads these variables.
fn integration_tests(root: &Path) -> Result<Tally> {
    // Never with an older one, when the step before has failed.
    crate::run::build(root)?;
    let program = memtrace(root).display().to_string();
    let mut variables = vec![("MEMTRACE_BIN", program.as_str())];
    if in_ci() {
        variables.push(("MEMTRACE_FORBID_SKIP", "1"));
    }
    let mut command = cargo(root);
    if is_root() {
        command.envs(variables);
    } else {
        let words = variables
            .iter()
            .map(|(name, value)| format!(", '{name}={value}'"));
        let words: Vec<_> = words.collect();
        // True everywhere: whatever the machine's own target is called.
        let runner = format!(
            "target.'cfg(all())'.runner = ['sudo', 'env'{}]",
            words.concat()
        );
        command.args(["--config", &runner]);
    }
    command.args(["test", "--package", "memtrace-tests", "--no-fail-fast"]);
    command.args(["--", "--test-threads=1", "--nocapture"]);
    let mut tally = cargo_test(&mut command)?;
    if in_ci() && tally.skipped > 0 {
        eprintln!("error: in CI a skipped integration test is a failed one");
        tally.failed += tally.skipped;
        tally.skipped = 0;
    }
    if tally.passed + tally.failed == 0 && tally.skipped == 0 {
        bail!("not one integration test has run");
    }
    Ok(tally)
}

/// A long trace, for a minute.
fn soak(root: &Path) -> Result<Tally> {
    if is_root() {
        check(Soak::default().run(root))
    } else {
        Ok(skip("soak", "it needs root"))
    }
}

/// Runs cargo's tests, shows their output and counts it.
fn cargo_test(command: &mut Command) -> Result<Tally> {
    let (reader, writer) = io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn()?;
    // The command holds the pipe's other end, too.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut seen = Output::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        seen.line(&line);
    }
    let status = child.wait()?;
    let mut tally = seen.tally();
    if !status.success() && tally.failed == 0 {
        // Not compiled, or killed before it could report.
        tally += Tally::FAILED;
    }
    Ok(tally)
}

/// What the test harness's output has said so far.
#[derive(Default)]
struct Output {
    reported: Tally,
    /// Tests that printed `SKIPPED: <test>: <reason>`: the harness reports
    /// them as passed.
    announced: u64,
}

impl Output {
    fn line(&mut self, line: &str) {
        // `--nocapture` puts it behind `test <name> ... `.
        if line.contains("SKIPPED: ") {
            self.announced += 1;
        }
        let sums = line
            .split_once("test result: ")
            .and_then(|(_, rest)| rest.split_once(". "));
        for sum in sums.into_iter().flat_map(|(_, sums)| sums.split("; ")) {
            let (number, what) = sum.trim().split_once(' ').unwrap_or_default();
            let number = number.parse().unwrap_or(0);
            match what {
                "passed" => self.reported.passed += number,
                "failed" => self.reported.failed += number,
                "ignored" => self.reported.skipped += number,
                _ => {}
            }
        }
    }

    fn tally(&self) -> Tally {
        let Tally {
            passed,
            failed,
            skipped,
        } = self.reported;
        let announced = self.announced.min(passed);
        Tally {
            passed: passed - announced,
            failed,
            skipped: skipped + announced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> Tally {
        let mut output = Output::default();
        text.lines().for_each(|line| output.line(line));
        output.tally()
    }

    #[test]
    fn sums_what_the_harness_reports() {
        let text = "test a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        assert_eq!(
            counted(text),
            Tally {
                passed: 5,
                failed: 1,
                skipped: 1
            }
        );
    }

    #[test]
    fn a_test_that_skipped_itself_has_not_passed() {
        let text = "test redis ... SKIPPED: redis: redis-server is not installed\nok\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(
            counted(text),
            Tally {
                passed: 1,
                failed: 0,
                skipped: 1
            }
        );
    }
}
