//! `memtrace -p PID --heap-walk`: who allocated the block that keeps a heap from shrinking.
use anyhow::{Context, Result, ensure};
use memtrace_tests::target::{Target, number};
use memtrace_tests::tracer::{self, FINISH};
use memtrace_tests::{need_root, program, turn};
use serde_json::Value;
use std::process::Command;

/// Innermost first.
fn allocated_by(block: &Value) -> Vec<&str> {
    let frames = block["allocated_by"]["frames"].as_array();
    let frames = frames.map_or([].as_slice(), Vec::as_slice);
    frames
        .iter()
        .filter_map(|frame| frame["symbol"].as_str())
        .collect()
}

/// The block on top and the one in between are named by address, size and the function that allocated each.
#[test]
fn the_block_on_top() -> Result<()> {
    let _turn = turn();
    need_root!("the_block_on_top");
    let mut target = Target::start::<&str>("pin", &[])?;
    let tracer = tracer::attach(&[target.pid()], &["--heap-walk"])?;
    target.go()?;
    let pinned = target.line("pinned ")?;
    let middle = target.line("middle ")?;
    target.done()?;
    let outcome = tracer.stop()?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    let report: Value = serde_json::from_slice(&outcome.stdout)?;
    let heap = &report["heap_walk"][0];
    ensure!(
        number(heap, "pid")? == u64::from(target.pid()) && heap["consistent"] == true,
        "{heap}"
    );
    let arena = &heap["arenas"][0];
    let pin = &arena["pinned_by"];
    ensure!(
        arena["kind"] == "main" && pin["address"] == pinned.as_str(),
        "the program holds {pinned}: {arena}"
    );
    let symbols = allocated_by(pin);
    ensure!(
        symbols.first() == Some(&"allocate_the_pin") && symbols.contains(&"main"),
        "{symbols:?}"
    );
    ensure!(
        number(&pin["allocated_by"], "bytes")? == 2000 && number(pin, "size")? == 2016,
        "{pin}"
    );
    // 20,000 chunks of 208 bytes on either side, but for those that the thread's cache and fast bins keep.
    let releasable = number(arena, "releasable_below")?;
    ensure!(
        (4_100_000..4_170_000).contains(&releasable),
        "{releasable} bytes: {arena}"
    );
    let least = number(arena, "least_bytes")?;
    ensure!(
        least >= 2 * releasable && least <= number(arena, "system_bytes")?,
        "{arena}"
    );
    let holes = arena["holes"].as_array().context("no holes")?;
    let below = holes
        .iter()
        .map(|hole| &hole["below"])
        .find(|below| below["address"] == middle.as_str());
    let below = below.with_context(|| format!("no hole below {middle}: {arena}"))?;
    ensure!(
        allocated_by(below).first() == Some(&"allocate_the_middle"),
        "{below}"
    );
    target.end()
}

/// As text, for people; and a block from before the trace is called that.
#[test]
fn in_words() -> Result<()> {
    let _turn = turn();
    need_root!("in_words");
    let mut target = Target::start::<&str>("pin", &[])?;
    let tracer = tracer::attach(&[target.pid()], &["--heap-walk", "-f", "text"])?;
    target.go()?;
    let pinned = target.line("pinned ")?;
    target.done()?;
    let text = tracer.stop()?.text();
    ensure!(
        text.contains(&format!("at {pinned}")) && text.contains("cannot shrink below"),
        "{text}"
    );
    ensure!(
        text.contains("allocate_the_pin") && text.contains("allocate_the_middle"),
        "{text}"
    );
    let late = tracer::attach(&[target.pid()], &["--heap-walk", "-f", "text"])?;
    let text = late.stop()?.text();
    ensure!(
        text.contains(&format!("at {pinned}")) && text.contains("allocated before the trace began"),
        "{text}"
    );
    ensure!(!text.contains("allocate_the_pin"), "{text}");
    target.end()
}

/// A command that has ended has no heap to look into; formats without a place for it are refused.
#[test]
fn nothing_to_look_into() -> Result<()> {
    let _turn = turn();
    need_root!("nothing_to_look_into");
    let program = program::path("pin")?;
    let program = program.to_str().context("a strange path")?;
    let outcome = tracer::run(&["-f", "json", "--heap-walk", "--", program], FINISH)?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    let text = outcome.text();
    let begin = text.find('{').context("no report")?;
    let report: Value = serde_json::from_str(&text[begin..])?;
    let heap = &report["heap_walk"][0];
    ensure!(
        heap["problem"] == "it has ended" && heap["arenas"] == serde_json::json!([]),
        "{heap}"
    );
    let refused = Command::new(tracer::binary()?)
        .args(["-p", "1", "--heap-walk", "-f", "svg", "-o", "x.svg"])
        .output()?;
    ensure!(refused.status.code() == Some(2), "{refused:?}");
    ensure!(
        String::from_utf8_lossy(&refused.stderr).contains("--heap-walk is for"),
        "{refused:?}"
    );
    Ok(())
}
