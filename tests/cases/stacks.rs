//! Who asked for the memory: call chains, symbols, source lines, libraries that come late.
use anyhow::{Context, Result, ensure};
use memtrace_tests::report::Report;
use memtrace_tests::target::{Ledger, Target, number, text};
use memtrace_tests::{check, need_root, program, tracer, turn};

fn trace(name: &str, arguments: &[&str]) -> Result<(Report, Ledger)> {
    let mut target = Target::start(name, arguments)?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    target.end()?;
    Ok((report, ledger))
}

/// Fails unless exactly this much is outstanding of stacks that hold these functions, innermost first.
fn must_hold(report: &Report, chain: &[&str], bytes: u64, count: u64) -> Result<()> {
    let sum = report.sum(|stack| stack.holds(chain))?;
    ensure!(
        (sum.bytes, sum.count) == (bytes, count),
        "{bytes} bytes in {count} blocks from {}, the report says {sum:?}\n{}",
        chain.join(" < "),
        report.describe()
    );
    Ok(())
}

fn call_chains(name: &str) -> Result<()> {
    let (report, ledger) = trace(name, &[])?;
    let chain = ["level_c", "level_b", "level_a", "main"];
    let exact = report.sum(|stack| stack.starts_with(&chain))?;
    ensure!(
        (exact.bytes, exact.count) == (1201, 1),
        "{} frame by frame: {}",
        chain.join(" < "),
        report.describe()
    );
    for stack in report.live_stacks()? {
        ensure!(
            stack.holds(&["main"]),
            "does not reach main: {:?}",
            stack.symbols()
        );
        ensure!(!stack.truncated()?, "cut: {:?}", stack.symbols());
    }
    // One leaf, two callers: two rows.
    must_hold(&report, &["shared_leaf", "first_caller", "main"], 1301, 1)?;
    must_hold(&report, &["shared_leaf", "second_caller", "main"], 2602, 2)?;
    let found = (
        report.total("outstanding_bytes")?,
        report.total("outstanding_count")?,
    );
    ensure!(
        found == (ledger.bytes, ledger.count),
        "{found:?}, truth {ledger:?}\n{}",
        report.describe()
    );
    Ok(())
}

/// docs/peers.md (calls in flight): the direct caller is there, once, and it is the right one.
#[test]
fn call_chains_with_frame_pointers() -> Result<()> {
    let _turn = turn();
    need_root!("call_chains_with_frame_pointers");
    call_chains("stacks")
}

/// docs/peers.md (asks): right user stacks without frame pointers.
#[test]
fn call_chains_without_frame_pointers() -> Result<()> {
    let _turn = turn();
    need_root!("call_chains_without_frame_pointers");
    call_chains("stacks_O2")
}

fn callers_behind_libraries(name: &str) -> Result<()> {
    let (report, ledger) = trace(name, &[])?;
    for site in [
        "call_strdup",
        "call_new",
        "call_new_array",
        "call_string",
        "compare",
    ] {
        let row = ledger.row(site)?;
        must_hold(&report, &[site, "main"], row.bytes, row.count)?;
    }
    let new = report.sum(|stack| stack.holds(&["operator new", "call_new", "main"]))?;
    ensure!(
        new.bytes == 1601,
        "operator new < call_new < main: {}",
        report.describe()
    );
    must_hold(&report, &["compare", "call_qsort", "main"], 1901, 1)?;
    Ok(())
}

/// docs/peers.md (numbers): callers of strdup, `operator new`, `std::string` and qsort callbacks are lost even in frame-pointer
/// builds, because libc and libstdc++ have none.
#[test]
fn callers_behind_libraries_with_frame_pointers() -> Result<()> {
    let _turn = turn();
    need_root!("callers_behind_libraries_with_frame_pointers");
    callers_behind_libraries("stacks")
}

/// The same where the program has no frame pointers either.
#[test]
fn callers_behind_libraries_without_frame_pointers() -> Result<()> {
    let _turn = turn();
    need_root!("callers_behind_libraries_without_frame_pointers");
    callers_behind_libraries("stacks_O2")
}

/// docs/peers.md (calls in flight): calloc → malloc → mmap is one allocation, calloc's.
#[test]
fn calloc_counts_once() -> Result<()> {
    let _turn = turn();
    need_root!("calloc_counts_once");
    let (report, _) = trace("stacks", &[])?;
    for (site, bytes) in [("call_calloc", 1401), ("call_calloc_big", 200_001)] {
        let sum = report.of_function(site)?;
        ensure!((sum.bytes, sum.count) == (bytes, 1), "{site}: {sum:?}");
        ensure!(
            sum.functions == ["calloc"] && sum.kinds == ["heap"],
            "{site}: {sum:?}"
        );
    }
    Ok(())
}

/// Symbols come with module, offset and source line; docs/peers.md (asks): the line is the call's, not the next one's.
#[test]
fn frames_say_where() -> Result<()> {
    let _turn = turn();
    need_root!("frames_say_where");
    let (report, _) = trace("stacks", &[])?;
    let stacks = report.live_stacks()?;
    let stack = stacks
        .iter()
        .find(|stack| stack.caller_is("level_c"))
        .context("no level_c")?;
    let source = include_str!("../programs/stacks.cpp");
    for function in ["level_c", "level_b", "level_a"] {
        let frame = stack
            .frame(function)
            .with_context(|| format!("no frame of {function}"))?;
        let defined = source
            .lines()
            .position(|line| line.starts_with(&format!("CHAIN void {function}()")));
        let line = defined.context("not in the source")? as u64 + 1;
        ensure!(text(frame, "file")?.ends_with("stacks.cpp"), "{frame}");
        ensure!(
            number(frame, "line")? == line,
            "{function} is in line {line}: {frame}"
        );
        ensure!(text(frame, "module")?.ends_with("/stacks"), "{frame}");
        for key in ["ip", "offset"] {
            let digits = text(frame, key)?.strip_prefix("0x").context("no 0x")?;
            ensure!(u64::from_str_radix(digits, 16)? > 0, "{key}: {frame}");
        }
    }
    Ok(())
}

/// The spec's limit: a stack that is cut says so; `memtrace-common`'s `MAX_FRAMES` is 128.
#[test]
fn deep_stacks_are_marked() -> Result<()> {
    let _turn = turn();
    need_root!("deep_stacks_are_marked");
    let (report, _) = trace("deep", &["200"])?;
    let stacks = report.live_stacks()?;
    let [stack] = stacks.as_slice() else {
        anyhow::bail!("one stack: {}", report.describe())
    };
    ensure!(
        stack.truncated()?,
        "200 frames do not fit: {}",
        stack.depth()
    );
    ensure!(stack.depth() == 128, "{} frames", stack.depth());
    ensure!(
        stack.starts_with(&["bottom", "descend", "descend"]),
        "{:?}",
        stack.symbols()
    );
    ensure!(stack.bytes() == 2003, "{}", report.describe());
    // One that fits is whole.
    let (report, _) = trace("deep", &["100"])?;
    let stacks = report.live_stacks()?;
    let [stack] = stacks.as_slice() else {
        anyhow::bail!("one stack: {}", report.describe())
    };
    ensure!(
        !stack.truncated()? && stack.holds(&["bottom", "descend", "main"]),
        "{:?}",
        stack.symbols()
    );
    let descents = stack
        .symbols()
        .iter()
        .filter(|symbol| **symbol == "descend")
        .count();
    ensure!(descents == 101, "{descents} frames of descend");
    Ok(())
}

fn late_library(arguments: &[&str]) -> Result<()> {
    let library = program::path("libplugin.so")?;
    let mut all = vec![library.to_str().context("a path that is no text")?];
    all.extend(arguments);
    let (report, ledger) = trace("dlopener", &all)?;
    check::rows(&report, &ledger)?;
    must_hold(
        &report,
        &["plugin_inner", "plugin_leak", "call_plugin", "main"],
        21_110,
        10,
    )?;
    let stacks = report.live_stacks()?;
    let stack = stacks
        .iter()
        .find(|stack| stack.caller_is("plugin_inner"))
        .context("no plugin_inner")?;
    let frame = stack
        .frame("plugin_inner")
        .context("no frame of plugin_inner")?;
    ensure!(text(frame, "module")?.ends_with("libplugin.so"), "{frame}");
    Ok(())
}

/// docs/peers.md (asks): a library that is loaded after the attach is symbolized (and unwound through).
#[test]
fn library_loaded_late() -> Result<()> {
    let _turn = turn();
    need_root!("library_loaded_late");
    late_library(&[])
}

/// The same when it is gone again before the report is made.
#[test]
fn library_loaded_late_and_unloaded() -> Result<()> {
    let _turn = turn();
    need_root!("library_loaded_late_and_unloaded");
    late_library(&["close"])
}
