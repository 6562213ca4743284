//! The programs with known truth, without memtrace: they build, follow the protocol, and their ledgers are not empty.
//! Runs without root. `every_function` also compares its ledger with the allocator's own statistics, and every mapping
//! with the kernel's view of it; a difference ends it with status 99.
use anyhow::{Context, Result, ensure};
use memtrace_tests::report::{Report, names};
use memtrace_tests::target::{Ledger, Target};
use memtrace_tests::{program, turn};

/// Says where each is, for who takes them elsewhere (`cargo xtask vm`).
#[test]
fn all_build() -> Result<()> {
    for name in program::all() {
        println!("BUILT: {name} {}", program::path(name)?.display());
    }
    Ok(())
}

fn ledger_of(name: &str, arguments: &[&str]) -> Result<Ledger> {
    let mut target = Target::start(name, arguments)?;
    let ledger = target.work()?;
    ensure!(
        ledger.pid == u64::from(target.pid()),
        "{name}: pid {} in the ledger",
        ledger.pid
    );
    target.end()?;
    Ok(ledger)
}

#[test]
fn every_function_counts_the_same_in_every_thread() -> Result<()> {
    let _turn = turn();
    let one = ledger_of("every_function", &["1"])?;
    let four = ledger_of("every_function", &["4"])?;
    let optimized = ledger_of("every_function_O2", &["4"])?;
    ensure!(one.rows.len() >= 28, "only {} sites", one.rows.len());
    ensure!(
        four.bytes == 4 * one.bytes && four.count == 4 * one.count,
        "{one:?}\n{four:?}"
    );
    ensure!(
        four.unmatched_frees == 4 * one.unmatched_frees && one.unmatched_frees > 0,
        "{four:?}"
    );
    ensure!(
        (optimized.bytes, optimized.count) == (four.bytes, four.count),
        "{optimized:?}"
    );
    ensure!(
        one.moved > 0 && one.in_place > 0,
        "no realloc moved, or none stayed: {one:?}"
    );
    // Each site has a size of its own: a row that is booked at another site cannot go unnoticed.
    for (at, row) in one.rows.iter().enumerate() {
        let twin = one
            .rows
            .iter()
            .skip(at + 1)
            .find(|other| (other.bytes, other.count) == (row.bytes, row.count));
        ensure!(twin.is_none(), "{row:?} and {twin:?}");
    }
    Ok(())
}

#[test]
fn ledgers_are_not_empty() -> Result<()> {
    let _turn = turn();
    let library = program::path("libplugin.so")?;
    let library = library.to_str().context("a path that is no text")?;
    let runs: [(&str, &[&str]); 12] = [
        ("stacks", &[]),
        ("stacks_O2", &[]),
        ("forker", &[]),
        ("deep", &["200"]),
        ("dlopener", &[library]),
        ("dlopener", &[library, "close"]),
        ("threads500", &[]),
        ("threads500", &["create"]),
        ("many", &["stacks", "100"]),
        ("many", &["blocks", "100"]),
        ("static_leak", &[]),
        ("static_pie_leak", &[]),
    ];
    for (name, arguments) in runs {
        let ledger = ledger_of(name, arguments)?;
        ensure!(
            ledger.bytes > 0 && ledger.count > 0,
            "{name} {arguments:?}: {ledger:?}"
        );
    }
    let churn = ledger_of("churn", &["1000"])?;
    ensure!(
        churn.bytes == 0 && churn.count == 0 && churn.allocated_count == 2000,
        "{churn:?}"
    );
    Ok(())
}

/// The harness's own judgement: these must not pass as matches.
#[test]
fn symbols_are_compared_whole() -> Result<()> {
    ensure!(
        names("level_a", "level_a")
            && names("leak_numbers()", "leak_numbers")
            && names("f.isra.0", "f")
    );
    ensure!(
        !names("level_ab", "level_a") && !names("my_level_a", "level_a") && !names("?", "level_a")
    );
    let stack = r#"{"schema":"memtrace.heap.v1","stacks":[{"bytes":1,"count":1,"frames":[{"symbol":"c"},{"symbol":"b()"},{"symbol":"a"}]}]}"#;
    let report = Report::parse_all(stack.as_bytes())?
        .pop()
        .context("no report")?;
    let stack = report.stacks()?.pop().context("no stack")?;
    ensure!(stack.holds(&["c", "a"]) && !stack.holds(&["a", "c"]) && !stack.holds(&["c", "c"]));
    ensure!(stack.starts_with(&["c", "b"]) && !stack.starts_with(&["c", "a"]));
    ensure!(
        Report::parse_all(b"{\"schema\":\"other\"}").is_err()
            && Report::parse_all(b"Traceback").is_err()
    );
    Ok(())
}
