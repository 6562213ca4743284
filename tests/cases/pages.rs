//! `memtrace pages`: pages of a program that knows what it took, by what counts them; that they are gone when it gives them
//! back; and that the sums agree with free memory.
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use memtrace_tests::pages::{consumers, document, pages, sees_bulk, trace, with_tracefs};
use memtrace_tests::target::{Target, brief, number, text};
use memtrace_tests::tracer::{self, FINISH};
use memtrace_tests::{check, need_root, skip, target_directory, turn};
use serde_json::Value;

/// Pages beside those that a program takes on purpose: its stacks, upper page tables, what the C library writes.
const BESIDE: u64 = 300;

/// Bytes of a file that is read.
const SIZE: usize = 8 << 20;

/// What other programs may do to free memory between two looks at it, in pages.
const OTHERS: i64 = 4096;

/// What no counter knows: pipes' pages, all of them, first in the report; and they explain what the balance sheet does not.
#[test]
fn untracked_pages_explain_the_hole() -> Result<()> {
    let _turn = turn();
    need_root!("untracked_pages_explain_the_hole");
    let (did, report) = trace(&["hold"], &["--untracked-only"])?;
    let taken = number(&did, "untracked")?;
    let first = consumers(&report)?.first().context("nobody")?;
    ensure!(text(first, "caller")?.contains("pipe"), "{first:#}");
    // One function, or since 7.x two.
    let mut seen = 0;
    for consumer in consumers(&report)? {
        if text(consumer, "caller")?.contains("pipe") {
            seen += number(consumer, "pages")?;
        }
    }
    // Some come from those that the task keeps.
    ensure!(seen.abs_diff(taken) <= 4, "{taken} taken, {report:#}");
    for consumer in consumers(&report)? {
        ensure!(
            text(consumer, "accounted_as")? == "untracked",
            "{consumer:#}"
        );
    }
    let hole = report.get("hole").context("no hole")?;
    let grown = i64::try_from(number(hole, "now_kb")?)? - i64::try_from(number(hole, "start_kb")?)?;
    let pages_kb = i64::try_from(seen * 4)?;
    // What others do to the hole meanwhile is not known here: up to half as much.
    ensure!(
        grown.abs_diff(pages_kb) <= u64::try_from(pages_kb / 2)?,
        "{pages_kb} kB in pipes, {hole:#}"
    );
    ensure!(number(hole, "traced_kb")? >= seen * 4, "{hole:#}");
    Ok(())
}

/// A page-fault storm, tmpfs writes, page tables, kernel stacks: every page has its kind.
#[test]
fn pages_have_kinds() -> Result<()> {
    let _turn = turn();
    need_root!("pages_have_kinds");
    let (did, report) = trace(&["hold"], &[])?;
    for kind in ["anon", "shmem", "pagetable", "untracked"] {
        let (taken, seen) = (number(&did, kind)?, pages(&report, "accounted_as", kind)?);
        ensure!(
            seen + 4 >= taken && seen <= taken + BESIDE,
            "{taken} pages of {kind} taken, {seen} seen: {report:#}"
        );
    }
    if sees_bulk(&report) {
        // Two pages at least; up to two for each CPU come from a cache of stacks.
        let stacks = pages(&report, "accounted_as", "kernel_stack")?;
        let threads = number(&did, "kernel_stacks")?;
        ensure!(stacks >= threads, "{threads} threads: {report:#}");
    }
    let totals = report.get("totals").context("no totals")?;
    let traced = number(totals, "traced_pages")?;
    ensure!(traced >= number(&did, "anon")?, "{traced} in all");
    for consumer in consumers(&report)? {
        ensure!(text(consumer, "comm")? == "page_user", "{consumer:#}");
        let orders = consumer.get("orders").and_then(Value::as_object);
        let by_order = orders.context("no orders")?.values();
        let sum: u64 = by_order.filter_map(Value::as_u64).sum();
        ensure!(sum == number(consumer, "pages")?, "{consumer:#}");
    }
    Ok(())
}

/// Every way of looking sees the same.
#[test]
fn every_way_of_looking() -> Result<()> {
    let _turn = turn();
    need_root!("every_way_of_looking");
    for way in ["raw", "classic"] {
        let mut target = Target::start("page_user", &["hold"])?;
        let pid = target.pid().to_string();
        let mut tracer = tracer::spawn(
            with_tracefs()?
                .args(["--pid", &pid, "--tracepoints", way])
                .args(["-f", "json", "--top", "0"]),
        )?;
        tracer.wait_attached()?;
        let did = target.work_for_json()?;
        let report = document(&tracer.stop()?)?;
        target.end()?;
        for kind in ["anon", "shmem"] {
            let (taken, seen) = (number(&did, kind)?, pages(&report, "accounted_as", kind)?);
            // Classic tracepoints leave out what happens while another program is at work.
            let missing = if way == "raw" { 2 } else { taken / 100 };
            ensure!(
                seen + missing >= taken && seen <= taken + BESIDE,
                "{way}: {taken} pages of {kind} taken, {seen} seen"
            );
        }
        ensure!(
            text(&report, "mechanism")?.contains(way),
            "{}",
            brief(&report)
        );
    }
    Ok(())
}

/// Stacks that are remembered are those that a walk finds, page by page: two memtraces watch the same program.
#[test]
fn remembered_stacks_are_right() -> Result<()> {
    let _turn = turn();
    need_root!("remembered_stacks_are_right");
    for way in ["hold", "forks"] {
        let mut target = Target::start("page_user", &[way])?;
        let pid = target.pid().to_string();
        let watch = |arguments: &[&str]| {
            let mut all = vec!["pages", "--pid", &pid, "-f", "folded"];
            all.extend(arguments);
            let mut tracer = tracer::start(&all)?;
            tracer.wait_attached()?;
            anyhow::Ok(tracer)
        };
        let walked = watch(&["--no-walk-cache"])?;
        let recalled = watch(&[])?;
        target.work_for_json()?;
        let (walked, recalled) = (walked.stop()?.text(), recalled.stop()?.text());
        target.end()?;
        let lines = |text: &str| -> BTreeMap<String, i64> {
            let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
            let lines =
                lines.filter_map(|(stack, bytes)| Some((stack.to_owned(), bytes.parse().ok()?)));
            lines.collect()
        };
        let (walked, recalled) = (lines(&walked), lines(&recalled));
        for stack in walked.keys().chain(recalled.keys()) {
            let bytes = |all: &BTreeMap<String, i64>| all.get(stack).copied().unwrap_or(0);
            // The second one starts later and stops later.
            ensure!(
                bytes(&walked).abs_diff(bytes(&recalled)) <= 4 * 4096,
                "{way}: {stack}: {} walked, {} recalled",
                bytes(&walked),
                bytes(&recalled)
            );
        }
        ensure!(way != "hold" || !walked.is_empty(), "nothing was seen");
    }
    Ok(())
}

/// What is given back is gone, page by page.
#[test]
fn given_back() -> Result<()> {
    let _turn = turn();
    need_root!("given_back");
    let (did, report) = trace(&["pass"], &[])?;
    for kind in ["anon", "shmem", "pagetable", "untracked"] {
        let (taken, left) = (number(&did, kind)?, pages(&report, "accounted_as", kind)?);
        ensure!(
            left <= BESIDE,
            "three times {taken} pages of {kind} given back, {left} left: {report:#}"
        );
    }
    Ok(())
}

/// Processes that come and go leave nothing behind.
#[test]
fn fork_storm() -> Result<()> {
    let _turn = turn();
    need_root!("fork_storm");
    let (_, report) = trace(&["forks"], &[])?;
    for kind in ["anon", "pagetable", "kernel_stack"] {
        let left = pages(&report, "accounted_as", kind)?;
        ensure!(left <= BESIDE, "{left} pages of {kind} left: {report:#}");
    }
    // A hundred processes had a page table at least.
    let totals = report.get("totals").context("no totals")?;
    ensure!(number(totals, "freed_pages")? >= 100, "{totals:#}");
    Ok(())
}

/// A file that is read goes to the page cache.
#[test]
fn file_read() -> Result<()> {
    let _turn = turn();
    need_root!("file_read");
    let folder = tempfile::tempdir_in(target_directory()?)?;
    let path = folder.path().join("data");
    let mut file = fs::File::create(&path)?;
    file.write_all(&vec![7; SIZE])?;
    // On tmpfs it stays in memory, and a read takes no page.
    file.sync_all()?;
    if nix::fcntl::posix_fadvise(
        &file,
        0,
        0,
        nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED,
    )
    .is_err()
    {
        skip!(
            "file_read",
            "the cache of this file system cannot be emptied"
        );
    }
    drop(file);
    let path = path.to_str().context("a path")?;
    let (did, report) = trace(&["file", path], &[])?;
    let (taken, seen) = (
        number(&did, "file")?,
        pages(&report, "accounted_as", "file")?,
    );
    ensure!(
        seen + 2 >= taken && seen <= taken + BESIDE,
        "{taken} pages read, {seen} seen: {report:#}"
    );
    Ok(())
}

/// Free memory changes by what was seen. Loosely, because other programs go on between the looks at both; on a quiet machine
/// it is within 1 %.
#[test]
fn sums_agree_with_free_memory() -> Result<()> {
    let _turn = turn();
    need_root!("sums_agree_with_free_memory");
    let (did, report) = trace(&["hold"], &[])?;
    let balance = report.get("balance").context("no balance")?;
    let signed = |key: &str| {
        let number = balance.get(key).and_then(Value::as_i64);
        number.with_context(|| format!("no {key}"))
    };
    let difference = signed("free_change_pages")? - signed("seen_change_pages")?;
    let moved = signed("moved_pages")?;
    ensure!(
        moved >= i64::try_from(number(&did, "anon")?)?,
        "{balance:#}"
    );
    ensure!(
        difference.abs() <= moved / 100 + OTHERS,
        "free memory changed otherwise than was seen: {balance:#}"
    );
    Ok(())
}

/// What does not fit into the table is told, and not wrong.
#[test]
fn little_memory() -> Result<()> {
    let _turn = turn();
    need_root!("little_memory");
    let (_, report) = trace(&["hold"], &["--max-memory", "256KiB"])?;
    let exact = report.get("exact").and_then(Value::as_bool);
    ensure!(exact == Some(false), "{}", brief(&report));
    ensure!(report.to_string().contains("--max-memory"), "{report:#}");
    Ok(())
}

/// Without `/proc/kpageflags` stacks tell what they can.
#[test]
fn no_page_flags() -> Result<()> {
    let _turn = turn();
    need_root!("no_page_flags");
    let folder = tempfile::tempdir()?;
    for name in ["meminfo", "zoneinfo", "vmstat", "kallsyms", "self"] {
        std::os::unix::fs::symlink(Path::new("/proc").join(name), folder.path().join(name))?;
    }
    let root = folder.path().to_str().context("a path")?;
    let (did, report) = trace(&["hold"], &["--proc-root", root])?;
    ensure!(
        report.to_string().contains("kpageflags"),
        "it is not said: {report:#}"
    );
    ensure!(
        report.get("before").is_some_and(Value::is_null),
        "{}",
        brief(&report)
    );
    for kind in ["anon", "shmem"] {
        let (taken, seen) = (number(&did, kind)?, pages(&report, "accounted_as", kind)?);
        ensure!(
            seen + 4 >= taken,
            "{taken} pages of {kind}, {seen} seen: {report:#}"
        );
    }
    Ok(())
}

/// The views and the formats show the same pages.
#[test]
fn views_and_formats() -> Result<()> {
    let _turn = turn();
    need_root!("views_and_formats");
    let mut target = Target::start("page_user", &["hold"])?;
    let pid = target.pid().to_string();
    let view = |arguments: &[&str]| {
        let mut all = vec!["pages", "--pid", &pid];
        all.extend(arguments);
        let mut tracer = tracer::start(&all)?;
        tracer.wait_attached()?;
        anyhow::Ok(tracer)
    };
    let text = view(&["--interval", "100ms"])?;
    let stacks = view(&["--by", "stack", "-f", "json", "--top", "0"])?;
    let folded = view(&["-f", "folded"])?;
    let svg = view(&["--by", "module", "-f", "svg"])?;
    let zone = view(&[
        "--zone",
        "DMA",
        "--min-order",
        "1",
        "--untracked-only",
        "-f",
        "json",
    ])?;
    let did = target.work_for_json()?;
    let anon = number(&did, "anon")?;
    let text = text.stop()?.text();
    for words in ["Pages watched for", "anon", "page_user", "Check:", "Zone "] {
        ensure!(text.contains(words), "no '{words}' in\n{text}");
    }
    let stacks = document(&stacks.stop()?)?;
    ensure!(
        pages(&stacks, "accounted_as", "anon")? + 2 >= anon,
        "{stacks:#}"
    );
    for consumer in consumers(&stacks)? {
        let frames = consumer.get("frames").and_then(Value::as_array);
        let frames = frames.context("no frames")?;
        let first = frames.first().context("no frame")?;
        let first = first.get("symbol").and_then(Value::as_str).unwrap_or("?");
        ensure!(first.contains("alloc"), "begins with {first}: {consumer:#}");
    }
    let folded = folded.stop()?.text();
    let line = |line: &&str| line.starts_with("[anon];") && line.contains("_fault");
    let bytes: u64 = folded
        .lines()
        .filter(line)
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    ensure!(bytes / 4096 + 2 >= anon, "{bytes} bytes: {folded}");
    ensure!(svg.stop()?.text().contains("<svg"), "no picture");
    let zone = document(&zone.stop()?)?;
    ensure!(consumers(&zone)?.is_empty(), "{zone:#}");
    target.end()
}

/// What cannot work says so.
#[test]
fn bad_input() -> Result<()> {
    let run = |arguments: &[&str]| {
        let mut all = vec!["pages"];
        all.extend(arguments);
        tracer::run(&all, FINISH)
    };
    check::misused(&run(&["--by", "colour"])?, "caller")?;
    check::misused(&run(&["--tracepoints", "magic"])?, "classic")?;
    check::misused(&run(&["--max-memory", "much"])?, "--max-memory")?;
    let nowhere = tempfile::tempdir()?;
    let root = nowhere.path().to_str().context("a path")?;
    check::refused(&run(&["--proc-root", root])?, &["/proc/zoneinfo"])?;
    need_root!("bad_input");
    check::refused(&run(&["--zone", "Warm", "-d", "1s"])?, &["Warm", "Normal"])
        .or_else(|_| check::refused(&run(&["--zone", "Warm", "-d", "1s"])?, &["Warm", "DMA32"]))
}
