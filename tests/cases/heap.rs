//! Accounting, to the byte. docs/peers.md lists how other tracers get these numbers wrong; each test names what it covers.
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use memtrace_tests::target::{Guard, Target};
use memtrace_tests::{check, leftover, need_root, program, say, tracer, turn};

/// The project's first case: `new int[102400]`, found from another process while it runs.
/// docs/peers.md (asks): the caller of `new` is not lost.
#[test]
fn seed_leak_by_pid() -> Result<()> {
    let _turn = turn();
    need_root!("seed_leak_by_pid");
    let seed = Guard(
        std::process::Command::new(program::path("seed_leak")?)
            .args(["20", "0"])
            .spawn()?,
    );
    let tracer = tracer::attach(&[seed.0.id()], &[])?;
    sleep(Duration::from_secs(2));
    let report = tracer.report()?;
    report.must_be_exact()?;
    let leak = report.of_function("leak_numbers")?;
    ensure!(leak.stacks == 1, "one site, one row: {}", report.describe());
    ensure!(
        leak.bytes == 409_600 * leak.count,
        "409,600 bytes each: {leak:?}"
    );
    // 20 ms a turn; memset faults pages in and sleeps are late, so fewer is right, more is not.
    let most = report.number("duration_ns")? / 20_000_000 + 1;
    ensure!(
        leak.count >= 10 && leak.count <= most,
        "{} blocks; 10 to {most} are possible",
        leak.count
    );
    ensure!(
        report.total("outstanding_bytes")? == leak.bytes,
        "and nothing else: {}",
        report.describe()
    );
    for stack in report.live_stacks()? {
        ensure!(
            stack.holds(&["operator new", "leak_numbers", "main"]),
            "{:?}",
            stack.symbols()
        );
        // Nothing but the plumbing of `new` between malloc and the function that leaks.
        let plumbing = stack
            .symbols()
            .iter()
            .take_while(|symbol| symbol.starts_with("operator new"))
            .count();
        let leaker = stack.symbols().get(plumbing).copied().unwrap_or("?");
        ensure!(
            plumbing > 0 && leaker.starts_with("leak_numbers"),
            "{:?}",
            stack.symbols()
        );
    }
    Ok(())
}

fn every_function(program: &str, threads: &str) -> Result<()> {
    let mut target = Target::start(program, &[threads])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    check::exactly(&report, &ledger)?;
    let unmatched = report.total("unmatched_frees")?;
    ensure!(
        unmatched == ledger.unmatched_frees,
        "{} blocks from before were freed, not {unmatched}",
        ledger.unmatched_frees
    );
    let mappings: u64 = ledger
        .rows
        .iter()
        .filter(|row| row.kind == "mapping")
        .map(|row| row.bytes)
        .sum();
    let reported = report.total("outstanding_mapping_bytes")?;
    ensure!(
        reported == mappings,
        "{mappings} bytes of mappings, not {reported}"
    );
    let process = report.process(ledger.pid)?;
    ensure!(process.get("exited") == Some(&false.into()), "{process}");
    target.end()
}

/// Every traced function in every way, each site with a size of its own. docs/peers.md (calls in flight): nested entries (calloc → malloc
/// → mmap), a failed realloc. 2 #17: mmap, mremap, `MAP_FAILED`, partial munmap. 7.2: arena and big-malloc mmaps booked
/// again; `realloc(p, 1 << 60)`, `realloc(NULL, n)`, `realloc(p, 0)`; frees by other threads; `free(NULL)`; blocks
/// from before the attach.
#[test]
fn every_function_with_one_thread() -> Result<()> {
    let _turn = turn();
    need_root!("every_function_with_one_thread");
    every_function("every_function", "1")
}

/// The same with threads that allocate at once: docs/peers.md (asks), totals that race; thread arenas are mapped inside malloc.
#[test]
fn every_function_with_four_threads() -> Result<()> {
    let _turn = turn();
    need_root!("every_function_with_four_threads");
    every_function("every_function", "4")
}

/// The same, built as distributions build: the direct caller must be right without frame pointers (docs/peers.md (asks), 7.2).
#[test]
fn every_function_without_frame_pointers() -> Result<()> {
    let _turn = turn();
    need_root!("every_function_without_frame_pointers");
    every_function("every_function_O2", "4")
}

/// Attached once more after a first trace: no state of the first may be left, in the kernel or in the target.
#[test]
fn attaching_again_starts_afresh() -> Result<()> {
    let _turn = turn();
    need_root!("attaching_again_starts_afresh");
    let mut target = Target::start("phases", &[] as &[&str])?;
    let first = tracer::attach(&[target.pid()], &[])?;
    let before = target.work()?;
    check::exactly(&first.report()?, &before)?;
    let second = tracer::attach(&[target.pid()], &[])?;
    let after = target.work()?;
    let report = second.report()?;
    report.must_be_exact()?;
    let found = (
        report.total("outstanding_bytes")?,
        report.total("outstanding_count")?,
    );
    ensure!(
        found == (after.bytes - before.bytes, after.count - before.count),
        "{found:?} {}",
        report.describe()
    );
    target.end()
}

/// Steady traffic is no leak: docs/peers.md (asks): an address that another thread is given before a
/// realloc's return event must not lose its block (it would show as an unmatched free).
#[test]
fn churn_leaves_nothing() -> Result<()> {
    let _turn = turn();
    need_root!("churn_leaves_nothing");
    let mut target = Target::start("churn", &["30000"])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    ensure!(ledger.allocated_count > 50_000, "{ledger:?}");
    let allocated = (
        report.total("allocated_bytes")?,
        report.total("allocated_count")?,
    );
    ensure!(
        allocated == (ledger.allocated_bytes, ledger.allocated_count),
        "allocated {allocated:?}, truth {ledger:?}"
    );
    ensure!(
        report.total("outstanding_bytes")? == 0,
        "false leaks: {}",
        report.describe()
    );
    ensure!(
        report.total("outstanding_count")? == 0,
        "false leaks: {}",
        report.describe()
    );
    ensure!(
        report.total("unmatched_frees")? == 0,
        "blocks were lost: {}",
        report.describe()
    );
    target.end()
}

/// docs/peers.md (numbers): a forked child's frees must not end the parent's blocks; 7.2: forked children with `-p`.
/// A spawned child runs in the parent's memory until exec.
#[test]
fn forked_child_frees_its_own() -> Result<()> {
    let _turn = turn();
    need_root!("forked_child_frees_its_own");
    let mut target = Target::start("forker", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    check::exactly(&report, &ledger)?;
    ensure!(
        report.total("unmatched_frees")? == 0,
        "frees of the child: {}",
        report.describe()
    );
    ensure!(
        report.process_count() == 1,
        "children were not asked for: {}",
        report.0
    );
    target.end()
}

/// Issue 3, scale: a process with 500 threads.
#[test]
fn five_hundred_threads() -> Result<()> {
    let _turn = turn();
    need_root!("five_hundred_threads");
    let mut target = Target::start("threads500", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    check::exactly(&report, &ledger)?;
    ensure!(
        report.of_caller("leak_in_thread")?.count == 500,
        "{}",
        report.describe()
    );
    target.end()
}

/// Threads that come and go: their stacks are libc's mappings and their caches are freed when they end; the program's
/// own blocks are still counted right (docs/peers.md (numbers): thread stacks booked as leaks of the program).
#[test]
fn threads_that_end() -> Result<()> {
    let _turn = turn();
    need_root!("threads_that_end");
    let mut target = Target::start("threads500", &["create"])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    check::rows(&report, &ledger)?;
    target.end()
}

/// docs/peers.md (asks): several processes, each with its own rows; keys are (process, address).
#[test]
fn two_processes_at_once() -> Result<()> {
    let _turn = turn();
    need_root!("two_processes_at_once");
    let mut one = Target::start("every_function", &["2"])?;
    let mut two = Target::start("phases", &[] as &[&str])?;
    let tracer = tracer::attach(&[one.pid(), two.pid()], &[])?;
    let (first, second) = (one.work()?, two.work()?);
    let report = tracer.report()?;
    report.must_be_exact()?;
    ensure!(report.process_count() == 2, "{}", report.0);
    for ledger in [&first, &second] {
        let sum = report.sum(|stack| stack.pid() == ledger.pid)?;
        ensure!(
            (sum.bytes, sum.count) == (ledger.bytes, ledger.count),
            "{ledger:?}: {}",
            report.describe()
        );
        check::rows(&report, ledger)?;
    }
    ensure!(
        report.total("outstanding_bytes")? == first.bytes + second.bytes,
        "{}",
        report.describe()
    );
    one.end()?;
    two.end()
}

/// docs/peers.md (asks), 7.2: 49 % of the bytes lost at 20,000 distinct stacks; here five times as many.
#[test]
fn a_hundred_thousand_stacks() -> Result<()> {
    let _turn = turn();
    need_root!("a_hundred_thousand_stacks");
    let mut target = Target::start("many", &["stacks", "100000"])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    check::exactly(&report, &ledger)?;
    let stacks = report.live_stacks()?;
    ensure!(stacks.len() == 100_000, "{} stacks", stacks.len());
    let whole = stacks
        .iter()
        .filter(|stack| stack.caller_is("leak_one") && stack.depth() >= 5 && stack.holds(&["main"]))
        .count();
    ensure!(
        whole == stacks.len(),
        "{whole} of them go from leak_one to main"
    );
    target.end()
}

/// docs/peers.md (numbers): everything past 1,000,000 live blocks dropped silently.
#[test]
fn more_than_a_million_live_blocks() -> Result<()> {
    let _turn = turn();
    need_root!("more_than_a_million_live_blocks");
    let mut target = Target::start("many", &["blocks", "1100000"])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    check::exactly(&tracer.report()?, &ledger)?;
    target.end()
}

/// docs/peers.md (asks): the allocator is in the program itself.
#[test]
fn static_programs_with_symbols() -> Result<()> {
    let _turn = turn();
    need_root!("static_programs_with_symbols");
    for name in ["static_leak", "static_pie_leak"] {
        let mut target = Target::start(name, &[] as &[&str])?;
        let tracer = tracer::attach(&[target.pid()], &[])?;
        let ledger = target.work()?;
        let report = tracer.report()?;
        check::exactly(&report, &ledger).map_err(|error| error.context(name))?;
        target.end()?;
    }
    Ok(())
}

/// Nothing is left behind; and the check for that sees what is there while the trace runs.
#[test]
fn probes_are_gone_after_the_trace() -> Result<()> {
    let _turn = turn();
    need_root!("probes_are_gone_after_the_trace");
    let mut target = Target::start("every_function", &["1"])?;
    let pid = target.pid();
    check::leaving_nothing(|| {
        ensure!(
            leftover::breakpoints(pid)?.is_empty(),
            "breakpoints before the trace"
        );
        let tracer = tracer::attach(&[pid], &[])?;
        let places = leftover::breakpoints(pid)?;
        ensure!(!places.is_empty(), "traced without a breakpoint?");
        let programs = leftover::Programs::now()?.held_by(tracer.pid());
        ensure!(programs > 0, "traced without a program?");
        say(&format!(
            "attached: {} breakpoints, {programs} programs",
            places.len()
        ));
        target.work()?;
        tracer.report()?;
        Ok(((), vec![pid]))
    })?;
    target.end()
}
