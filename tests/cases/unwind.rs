//! How stacks are walked: `--unwind`, return addresses that other tracers hide, walks that are remembered.
use anyhow::{Result, ensure};
use memtrace_tests::report::Report;
use memtrace_tests::target::Target;
use memtrace_tests::{need_root, program, tracer, turn};

fn traced(name: &str, options: &[&str]) -> Result<Report> {
    let mut target = Target::start::<&str>(name, &[])?;
    let tracer = tracer::attach(&[target.pid()], options)?;
    target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    target.end()?;
    Ok(report)
}

/// Fails unless the blocks of this size all have a whole stack that begins like this.
fn must_begin(report: &Report, chain: &[&str], bytes: u64) -> Result<()> {
    let sum = report.sum(|stack| stack.starts_with(chain))?;
    ensure!(
        sum.bytes == bytes,
        "{chain:?}: {sum:?}: {}",
        report.describe()
    );
    for stack in report.live_stacks()? {
        if stack.starts_with(chain) {
            ensure!(!stack.truncated()?, "cut: {:?}", stack.symbols());
            ensure!(stack.holds(&["main"]), "{:?}", stack.symbols());
        }
    }
    Ok(())
}

/// While a function runs that anybody has a return probe on, the trampoline's address stands for its return address
/// (RESEARCH 3.1): here another memtrace has one on `layer_malloc`, under which malloc is called.
#[test]
fn return_addresses_that_another_tracer_hides() -> Result<()> {
    let _turn = turn();
    need_root!("return_addresses_that_another_tracer_hides");
    let path = program::path("layered")?;
    let path = path.to_str().unwrap_or_default();
    let mut target = Target::start::<&str>("layered", &[])?;
    let other = tracer::attach(&[target.pid()], &["--allocator", path])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    target.work()?;
    let report = tracer.report()?;
    let above = other.report()?;
    target.end()?;
    for report in [&report, &above] {
        report.must_be_exact()?;
    }
    must_begin(
        &report,
        &["layer_malloc", "first_caller", "main"],
        50 * 3001,
    )?;
    must_begin(
        &report,
        &["layer_malloc", "second_caller", "main"],
        50 * 3002,
    )?;
    must_begin(&above, &["first_caller", "main"], 50 * 3001)?;
    must_begin(&above, &["second_caller", "main"], 50 * 3002)
}

/// Tables alone serve code that has them, which all code of this program has.
#[test]
fn by_tables_alone() -> Result<()> {
    let _turn = turn();
    need_root!("by_tables_alone");
    let report = traced("stacks_O2", &["--unwind", "dwarf"])?;
    must_begin(&report, &["level_c", "level_b", "level_a", "main"], 1201)
}

/// Frame pointers alone lead through a program that keeps them, up to libc, which does not.
#[test]
fn by_frame_pointers_alone() -> Result<()> {
    let _turn = turn();
    need_root!("by_frame_pointers_alone");
    let report = traced("stacks", &["--unwind", "fp"])?;
    let chain = ["level_c", "level_b", "level_a", "main"];
    let sum = report.sum(|stack| stack.starts_with(&chain))?;
    ensure!(sum.bytes == 1201, "{}", report.describe());
    // Without them, nothing that is wrong is shown as whole: what follows the direct caller is not its caller.
    let report = traced("stacks_O2", &["--unwind", "fp"])?;
    let sum = report.sum(|stack| stack.holds(&["level_c"]) && stack.depth() == 1)?;
    ensure!(sum.bytes == 1201, "{}", report.describe());
    for stack in report.live_stacks()? {
        if stack.holds(&["level_c"]) {
            ensure!(stack.truncated()?, "{:?}", stack.symbols());
        }
    }
    Ok(())
}

/// The same callers over and over need no walk, and are told apart all the same.
#[test]
fn remembered_walks_are_the_same_stacks() -> Result<()> {
    let _turn = turn();
    need_root!("remembered_walks_are_the_same_stacks");
    for options in [&[][..], &["--no-walk-cache"]] {
        let report = traced("layered", options)?;
        must_begin(
            &report,
            &["layer_malloc", "first_caller", "main"],
            50 * 3001,
        )?;
        must_begin(
            &report,
            &["layer_malloc", "second_caller", "main"],
            50 * 3002,
        )?;
    }
    Ok(())
}
