//! `--format html` in a real browser: what the page shows, and what its parts do when they are clicked and typed at.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use memtrace_tests::browser::{self, Browser, DOWN, ENTER, ESCAPE, UP};
use memtrace_tests::target::Target;
use memtrace_tests::tracer::{self, FINISH};
use memtrace_tests::{need_root, skip, turn};
use serde_json::{Value, json};
use tempfile::TempDir;

const NOTHING: &[&str] = &[];

/// A name that would do something, were it markup.
const HOSTILE: &str = "</script><img src=x onerror=\"document.title='taken'\"><b>";

const FLAME: &str = "//*[@id='flame']";
const SEARCH: &str = "//*[@id='search']";
const FILTER: &str = "//*[@id='filter']";

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// A page of a capture or a report.
fn page(directory: &Path, file: &Path) -> Result<Browser> {
    let page = directory.join("page.html");
    let outcome = tracer::run(
        &["report", text(file)?, "-f", "html", "-o", text(&page)?],
        FINISH,
    )?;
    ensure!(
        outcome.status.success() && outcome.stderr.is_empty(),
        "{}",
        outcome.context()
    );
    Browser::open(&page)
}

fn frame(name: &str) -> Value {
    json!({ "ip": "0x10", "symbol": name, "module": "/usr/bin/it", "offset": "0x10", "file": "/src/it.c", "line": 7,
        "inlined": false })
}

fn stack(pid: u32, bytes: u64, count: u64, names: &[&str]) -> Value {
    let frames: Vec<Value> = names.iter().map(|name| frame(name)).collect();
    json!({ "pid": pid, "kind": "heap", "function": "malloc", "bytes": bytes, "count": count, "allocated_bytes": bytes,
        "allocated_count": count * 2, "oldest_ns": 5_000_000_000_u64, "newest_ns": 1_000_000, "truncated": false,
        "frames": frames })
}

/// A report of two processes with known figures, and with names that want out.
fn made() -> Result<(TempDir, Browser)> {
    let mut stacks = vec![
        stack(1, 6000, 2, &["grow", "work", "main"]),
        stack(1, 3000, 30, &["fill", "work", "main"]),
        stack(2, 1000, 1, &[HOSTILE, "main"]),
    ];
    for number in 0..250_u64 {
        stacks.push(stack(2, 1, 1, &[&format!("small_{number}"), "main"]));
    }
    let process = |pid: u32, comm: &str| json!({ "pid": pid, "comm": comm, "exe": "/usr/bin/it", "exited": false });
    let report = json!({
        "schema": "memtrace.heap.v1", "duration_ns": 10_000_000_000_u64, "exact": false, "lost_events": 3, "sample_bytes": 0,
        "notes": [HOSTILE], "processes": [process(1, "first"), process(2, HOSTILE)],
        "totals": { "outstanding_bytes": 10_250, "outstanding_count": 283, "allocated_bytes": 10_250,
            "allocated_count": 566, "freed_bytes": 0, "freed_count": 283, "unmatched_frees": 4 },
        "stacks_total": 253, "stacks": stacks,
        "timeline": [{ "time_ns": 2_000_000_000_u64, "bytes": 4000, "count": 3, "peak_bytes": 5000 },
            { "time_ns": 9_000_000_000_u64, "bytes": 10_250, "count": 283, "peak_bytes": 10_250 }],
        "ages": [{ "min_ns": 1_000_000_000, "max_ns": 9_999_999_999_u64, "bytes": 10_250, "count": 283 }],
        "sizes": [{ "min": 64, "max": 127, "bytes": 3000, "count": 30 }],
    });
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("report.json");
    fs::write(&file, report.to_string())?;
    let browser = page(directory.path(), &file)?;
    Ok((directory, browser))
}

/// The frame of that name in the flame graph.
fn call(name: &str) -> String {
    format!("{FLAME}/button[.='{name}']")
}

/// Left, top and width of a frame, in parts of the graph's width and in pixels.
fn place(browser: &Browser, name: &str) -> Result<(f64, f64, f64)> {
    let script = format!(
        "const frames = [...document.querySelectorAll('#flame button')];
         const style = frames.find((frame) => frame.textContent === {}).style;
         return [style.left, style.top, style.width].map(parseFloat)",
        json!(name)
    );
    let place = browser.run(&script)?;
    let number = |at: usize| place[at].as_f64().context("no number");
    Ok((number(0)?, number(1)?, number(2)?))
}

fn near(found: f64, wanted: f64) -> Result<()> {
    ensure!((found - wanted).abs() < 0.01, "{found} is not {wanted}");
    Ok(())
}

/// Nothing was said on the console, and nothing was loaded.
fn quiet(browser: &Browser) -> Result<()> {
    let complaints = browser.complaints()?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    let loaded = browser.run("return performance.getEntriesByType('resource').length")?;
    ensure!(loaded == 0, "{loaded} things were loaded");
    Ok(())
}

/// Ends the test, saying so, where there is no browser.
macro_rules! need_browser {
    ($test:expr) => {
        if !browser::is_there() {
            skip!(
                $test,
                "chromium and chromedriver are not installed: `cargo xtask setup`"
            );
        }
    };
}

/// Widths by bytes and by blocks, zoom by mouse and keyboard, search, and both directions.
#[test]
fn the_flame_graph_answers() -> Result<()> {
    let _turn = turn();
    need_browser!("the_flame_graph_answers");
    let (_directory, browser) = made()?;
    near(place(&browser, "all")?.2, 100.0)?;
    near(place(&browser, "grow")?.2, 100.0 * 6000.0 / 10_250.0)?;
    near(place(&browser, "work")?.2, 100.0 * 9000.0 / 10_250.0)?;

    browser.click("//*[@id='metric']")?;
    ensure!(browser.text("#metric")? == "Count");
    near(place(&browser, "grow")?.2, 100.0 * 2.0 / 283.0)?;
    browser.click("//*[@id='metric']")?;

    let (_, icicle, _) = place(&browser, "all")?;
    browser.click("//*[@id='direction']")?;
    let (_, flame, _) = place(&browser, "all")?;
    let (_, grow, _) = place(&browser, "grow")?;
    ensure!(icicle < flame && grow < flame, "{icicle} {flame} {grow}");
    browser.click("//*[@id='direction']")?;

    browser.click(&call("work"))?;
    near(place(&browser, "work")?.2, 100.0)?;
    near(place(&browser, "grow")?.2, 100.0 * 6000.0 / 9000.0)?;
    ensure!(browser.run("return document.querySelector('#reset').disabled")? == false);
    browser.press(ESCAPE)?;
    near(place(&browser, "work")?.2, 100.0 * 9000.0 / 10_250.0)?;
    ensure!(browser.run("return document.querySelector('#reset').disabled")? == true);
    // The focus is where it was zoomed out to.
    let focused = "return document.activeElement.textContent";
    ensure!(browser.run(focused)? == "all");
    for (key, name) in [
        (DOWN, "first (1)"),
        (DOWN, "main"),
        (DOWN, "work"),
        (DOWN, "grow"),
        (UP, "work"),
    ] {
        browser.press(key)?;
        ensure!(
            browser.run(focused)? == name,
            "{name}: {}",
            browser.run(focused)?
        );
    }
    ensure!(
        browser
            .text("#details")?
            .starts_with("work, /src/it.c:7: 8.79 KiB in 32 blocks, 87.8 %")
    );
    browser.press(ENTER)?;
    near(place(&browser, "work")?.2, 100.0)?;
    browser.click("//*[@id='reset']")?;

    browser.press("/")?;
    browser.type_into(SEARCH, "GROW")?;
    ensure!(browser.count("#flame button.hit")? == 1);
    let matched = browser.text("#matched")?;
    ensure!(matched == "matched: 5.86 KiB, 58.5 %", "{matched}");
    quiet(&browser)
}

/// Sorted by any column, filtered, a part at a time, with the frames of a row.
#[test]
fn the_table_answers() -> Result<()> {
    let _turn = turn();
    need_browser!("the_table_answers");
    let (_directory, browser) = made()?;
    let first = "return document.querySelector('#stacks tbody tr.stack td.site').textContent";
    ensure!(browser.count("#stacks tbody tr.stack")? == 100);
    ensure!(
        browser.run(first)? == "grow  it.c:7",
        "{}",
        browser.run(first)?
    );
    browser.click("//*[@id='more']")?;
    browser.click("//*[@id='more']")?;
    ensure!(browser.count("#stacks tbody tr.stack")? == 253);
    ensure!(browser.run("return document.querySelector('#more').hidden")? == true);

    browser.click("//th/button[.='Blocks']")?;
    ensure!(
        browser.run(first)? == "fill  it.c:7",
        "{}",
        browser.run(first)?
    );
    browser.click("//th/button[.='Blocks']")?;
    ensure!(
        browser.run(first)? == format!("{HOSTILE}  it.c:7"),
        "{}",
        browser.run(first)?
    );
    browser.click("//th/button[.='Allocated in']")?;
    let sorted =
        browser.run("return document.querySelector('th[aria-sort=ascending]').textContent")?;
    ensure!(sorted == "Allocated in", "{sorted}");

    browser.type_into(FILTER, "work")?;
    ensure!(browser.count("#stacks tbody tr.stack")? == 2);
    ensure!(
        browser.text("#shown")? == "2 of 2 stacks, 8.79 KiB",
        "{}",
        browser.text("#shown")?
    );
    browser.run("document.querySelector('#stacks tbody tr.stack').focus()")?;
    browser.press(ENTER)?;
    let frames = browser.run(
        "return [...document.querySelectorAll('td.frames li')].map((li) => li.firstChild.data)",
    )?;
    ensure!(frames == json!(["fill", "work", "main"]), "{frames}");
    browser.press(ENTER)?;
    ensure!(browser.count("td.frames")? == 0);
    quiet(&browser)
}

/// Names are text, whatever is in them; the rest of the page says what the report says; dark is dark.
#[test]
fn the_page_says_what_the_report_says() -> Result<()> {
    let _turn = turn();
    need_browser!("the_page_says_what_the_report_says");
    let (_directory, browser) = made()?;
    ensure!(browser.count("img")? + browser.count("b")? == 0);
    ensure!(browser.run("return document.title")? == "memtrace: 2 processes");
    ensure!(browser.text("#subject")?.contains(HOSTILE) && browser.text("#notes li")? == HOSTILE);
    ensure!(
        browser
            .text("#exactness")?
            .starts_with("NOT EXACT: 3 events were lost")
    );
    ensure!(
        browser.text("#totals")?.contains("10.0 KiB 283 blocks"),
        "{}",
        browser.text("#totals")?
    );
    ensure!(
        browser.text("#ages .bars")? == "1 s to 10 s10.0 KiB, 100.0 %",
        "{}",
        browser.text("#ages .bars")?
    );
    ensure!(
        browser.text("#sizes .bars")? == "64 B to 128 B2.93 KiB, 100.0 %",
        "{}",
        browser.text("#sizes .bars")?
    );
    let moment = browser.text("#moment")?;
    ensure!(
        moment == "Peak 10.0 KiB, at the end 10.0 KiB in 283 blocks",
        "{moment}"
    );
    browser.click("//*[@id='curve']")?;
    ensure!(
        browser
            .text("#moment")?
            .starts_with("At 2.0 s: 3.91 KiB in 3 blocks"),
        "{}",
        browser.text("#moment")?
    );
    let back = "return getComputedStyle(document.body).backgroundColor";
    browser.prefer("light")?;
    let light = browser.run(back)?;
    browser.prefer("dark")?;
    let dark = browser.run(back)?;
    ensure!(
        light == "rgb(255, 255, 255)" && dark == "rgb(20, 24, 29)",
        "{light} {dark}"
    );
    quiet(&browser)
}

/// A trace from its events to the page: the table holds the report's rows, the curve ends at its total.
#[test]
fn a_capture_becomes_a_page() -> Result<()> {
    let _turn = turn();
    need_root!("a_capture_becomes_a_page");
    need_browser!("a_capture_becomes_a_page");
    let directory = tempfile::tempdir()?;
    let capture = directory.path().join("capture");
    let mut target = Target::start("every_function", NOTHING)?;
    let tracer = tracer::attach(&[target.pid()], &["--record", text(&capture)?])?;
    target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    target.end()?;
    let total = report.total("outstanding_bytes")?;
    for (key, of) in [
        ("ages", "bytes"),
        ("sizes", "bytes"),
        ("ages", "count"),
        ("sizes", "count"),
    ] {
        let classes = report.0[key].as_array().context("no histogram")?;
        let sum: u64 = classes.iter().filter_map(|class| class[of].as_u64()).sum();
        ensure!(
            sum == report.total(&format!("outstanding_{of}"))?,
            "{key} hold {sum} {of}"
        );
    }
    let timeline = report.0["timeline"].as_array().context("no timeline")?;
    let last = timeline.last().context("an empty timeline")?;
    ensure!(
        last["bytes"] == total && timeline.len() <= 256,
        "{last} of {}",
        timeline.len()
    );
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    ensure!(
        report.0["environment"]["kernel"] == kernel.trim(),
        "{}",
        report.0["environment"]
    );

    let browser = page(directory.path(), &capture)?;
    let held = browser.run("return unpack(JSON.parse(byId('data').textContent)).stacks.reduce((all, stack) => all + stack.bytes, 0)")?;
    ensure!(held == total, "{held} of {total}");
    let rows = u64::try_from(report.live_stacks()?.len())?;
    ensure!(
        browser.count("#stacks tbody tr.stack")? == rows.min(100),
        "{rows}"
    );
    ensure!(browser.text("#exactness")? == "Exact: every allocation was seen.");
    ensure!(browser.text("#environment")?.contains(kernel.trim()));
    ensure!(browser.count("#flame button")? > 10);
    quiet(&browser)
}
