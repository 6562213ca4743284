//! `memtrace growth`: sums by stack against programs that know what they did, verdicts, and what it leaves behind.
use std::process::Command;

use anyhow::{Context, Result, ensure};
use memtrace_tests::growth::{BESIDE, Seen, document, rows, start, trace};
use memtrace_tests::leftover::{self, Programs};
use memtrace_tests::target::{Target, number, text};
use memtrace_tests::tracer::{self, FINISH};
use memtrace_tests::{check, need_root, turn};
use nix::sys::signal::Signal;
use serde_json::Value;

/// malloc raises the program break: by stack, to the byte; and what it touches is what the process grew by.
#[test]
fn program_break() -> Result<()> {
    let _turn = turn();
    need_root!("program_break");
    for program in ["growing", "growing_static"] {
        let seen = trace(program, "brk", &[])?;
        let moved = seen.did("moved")?;
        let chain = ["leak_on_heap", "main"];
        ensure!(
            seen.sum("brk", &chain)? == (moved, 0),
            "{program}: the break moved by {moved}: {:#}",
            seen.report
        );
        ensure!(seen.sum("brk", &[])? == (moved, 0), "{:#}", seen.report);
        let growth = seen
            .process()?
            .get("brk_growth_bytes")
            .and_then(Value::as_u64);
        ensure!(growth == Some(moved), "{growth:?} of {moved}");
        let (faults, _) = seen.sum("fault", &[])?;
        let difference = i64::try_from(faults)? - seen.resident;
        ensure!(
            difference.unsigned_abs() <= BESIDE,
            "{faults} bytes in page faults, {} resident",
            seen.resident
        );
        let (by_leak, _) = seen.sum("fault", &chain)?;
        ensure!(by_leak + BESIDE >= moved, "{by_leak} of {moved}");
    }
    Ok(())
}

/// Mappings come and go, and every way of looking at them sees the same.
#[test]
fn mappings_by_every_mechanism() -> Result<()> {
    let _turn = turn();
    need_root!("mappings_by_every_mechanism");
    let unasked = trace("growing", "mmap", &[])?;
    let taken = mechanism(&unasked.report, "page faults")?;
    mappings_are_seen(&unasked, "unasked")?;
    let mut better = true;
    for name in ["perf", "perf-user", "tracepoint"] {
        if name == taken {
            better = false;
        } else if better {
            // What a kernel does not have was passed over, and cannot be had by asking.
            not_here(name)?;
        } else {
            mappings_are_seen(&trace("growing", "mmap", &["--faults", name])?, name)?;
        }
    }
    let calls = trace("growing", "mmap", &["--calls", "tracepoint"])?;
    mappings_are_seen(&calls, "calls by tracepoint")
}

/// What `growing mmap` has done, by stack and in all.
fn mappings_are_seen(seen: &Seen, how: &str) -> Result<()> {
    let (mapped, unmapped) = (seen.did("mapped")?, seen.did("unmapped")?);
    let (came, went) = seen.sum("mmap", &["leak_mappings", "main"])?;
    ensure!(
        (came, went) == (mapped, unmapped),
        "{how}: +{mapped} −{unmapped}, seen +{came} −{went}: {:#}",
        seen.report
    );
    let (_, went) = seen.sum("mmap", &["unmap_pages", "leak_mappings"])?;
    ensure!(went == unmapped, "{how}: {went} of {unmapped}");
    seen.faults_are(
        seen.did("touched")?,
        &["touch_pages", "leak_mappings", "main"],
    )?;
    let growth = seen
        .process()?
        .get("mmap_growth_bytes")
        .and_then(Value::as_u64);
    ensure!(
        growth == Some(mapped - unmapped),
        "{how}: {growth:?}: {:#}",
        seen.report
    );
    Ok(())
}

/// How a hook was served, as options call it.
fn mechanism(report: &Value, hook: &str) -> Result<String> {
    let hooks = rows(report, "hooks")?;
    let found = hooks.iter().find(|row| row["hook"] == hook);
    Ok(text(found.context("no such hook")?, "name")?.to_owned())
}

/// One line that names the way which this kernel does not have.
fn not_here(name: &str) -> Result<()> {
    let target = Target::start("growing", &["mmap"])?;
    let pid = target.pid().to_string();
    let outcome = tracer::run(&["growth", "-p", &pid, "--faults", name], FINISH)?;
    check::refused(&outcome, &["this kernel", &format!("`{name}`")])?;
    target.end()
}

/// Threads from before and from during the trace.
#[test]
fn threads_that_touch_first() -> Result<()> {
    let _turn = turn();
    need_root!("threads_that_touch_first");
    for arguments in [&[] as &[&str], &["--faults", "tracepoint"]] {
        let seen = trace("growing", "threads", arguments)?;
        let half = seen.did("touched")? / 2;
        for (function, thread) in [
            ("touch_by_old_thread", "old_thread"),
            ("touch_by_new_thread", "new_thread"),
        ] {
            let (bytes, _) = seen.sum("fault", &["touch_pages", function, thread])?;
            ensure!(
                bytes == half,
                "{function}: {bytes} of {half}: {:#}",
                seen.report
            );
        }
    }
    Ok(())
}

/// What the kernel touches for the program has the program's stack; in user mode alone it is not seen.
#[test]
fn memory_that_the_kernel_touches() -> Result<()> {
    let _turn = turn();
    need_root!("memory_that_the_kernel_touches");
    let seen = trace("growing", "read", &["--faults", "perf"])?;
    let touched = seen.did("touched")?;
    seen.faults_are(touched, &["read_into_new", "main"])?;
    let seen = trace("growing", "read", &["--faults", "perf-user"])?;
    let (bytes, _) = seen.sum("fault", &["read_into_new"])?;
    ensure!(bytes < BESIDE, "{bytes} of {touched} seen in user mode");
    let hooks = rows(&seen.report, "hooks")?;
    let told = hooks
        .iter()
        .any(|hook| hook.get("fallback") == Some(&Value::Bool(true)));
    ensure!(told, "{hooks:?}");
    Ok(())
}

/// Another C library: mappings and faults are seen.
#[test]
fn musl() -> Result<()> {
    let _turn = turn();
    need_root!("musl");
    let seen = trace("growing_musl", "mmap", &[])?;
    let (came, went) = seen.sum("mmap", &["leak_mappings", "main"])?;
    ensure!(
        (came, went) == (seen.did("mapped")?, seen.did("unmapped")?),
        "+{came} −{went}: {:#}",
        seen.report
    );
    seen.faults_are(seen.did("touched")?, &["touch_pages", "leak_mappings"])
}

/// A program that ends during the trace is reported on with all that it did.
#[test]
fn it_ends_during_the_trace() -> Result<()> {
    let _turn = turn();
    need_root!("it_ends_during_the_trace");
    let mut target = Target::start("growing", &["mmap"])?;
    let tracer = start(target.pid(), &[])?;
    let did = target.work_for_json()?;
    target.end()?;
    let report = document(&tracer.finish(FINISH)?)?;
    let seen = Seen {
        did,
        report,
        resident: 0,
        pid: 0,
    };
    let process = seen.process()?;
    ensure!(
        process.get("exited") == Some(&Value::Bool(true)),
        "{process}"
    );
    let (came, _) = seen.sum("mmap", &["leak_mappings", "main"])?;
    ensure!(came == seen.did("mapped")?, "{came}: {:#}", seen.report);
    seen.faults_are(
        seen.did("touched")?,
        &["touch_pages", "leak_mappings", "main"],
    )
}

fn verdict(way: &str, arguments: &[&str]) -> Result<Value> {
    let mut all = vec!["-i", "20ms"];
    all.extend(arguments);
    let seen = trace("growing", way, &all)?;
    ensure!(
        number(seen.process()?, "pid")? == u64::from(seen.pid),
        "{:#}",
        seen.report
    );
    Ok(seen.report)
}

/// What a series of samples means, also without any probe; and which memory it is.
#[test]
fn verdicts() -> Result<()> {
    let _turn = turn();
    need_root!("verdicts");
    let table = [
        ("grow", "growing", "trend", Some("brk")),
        ("wave", "steady", "sawtooth", None),
        ("stay", "steady", "level", None),
    ];
    for (way, verdict_is, pattern, source) in table {
        for arguments in [&[] as &[&str], &["--no-probes"]] {
            let report = verdict(way, arguments)?;
            let process = rows(&report, "processes")?.first().context("no process")?;
            let said = (text(process, "verdict")?, text(process, "pattern")?);
            ensure!(
                said == (verdict_is, pattern),
                "{way}: {said:?}: {process:#}"
            );
            if source.is_some() {
                let found = process.get("source").and_then(Value::as_str);
                ensure!(found == source, "{way}: {found:?}");
            }
            let findings = rows(&report, "findings")?;
            ensure!(
                findings.is_empty() != (verdict_is == "growing"),
                "{findings:?}"
            );
            let taken = !rows(&report, "sources")?.is_empty();
            ensure!(
                taken == arguments.is_empty(),
                "{way} {arguments:?}: {report:#}"
            );
        }
    }
    Ok(())
}

/// From /proc alone: one process, and all of them.
#[test]
fn without_probes() -> Result<()> {
    let _turn = turn();
    let mut target = Target::start("growing", &["mmap"])?;
    let pid = target.pid();
    let tracer = start(pid, &["--no-probes"])?;
    target.work_for_json()?;
    let report = document(&tracer.stop()?)?;
    let process = rows(&report, "processes")?.first().context("no process")?;
    ensure!(
        number(process, "rss_growth_bytes")? > 30 << 20,
        "{process:#}"
    );
    let all = [
        "growth", "--all", "-f", "json", "--top", "0", "-i", "50ms", "-d", "300ms",
    ];
    let report = document(&tracer::run(&all, FINISH)?)?;
    let found = rows(&report, "processes")?;
    let mine = found
        .iter()
        .find(|process| number(process, "pid").is_ok_and(|found| found == u64::from(pid)))
        .with_context(|| format!("no {pid} in {report:#}"))?;
    ensure!(number(mine, "rss_bytes")? > 30 << 20, "{mine:#}");
    ensure!(
        number(&report, "processes_total")? == found.len() as u64,
        "{}",
        found.len()
    );
    target.end()
}

/// The one that grows comes first of all processes.
#[test]
fn ranking() -> Result<()> {
    let _turn = turn();
    let mut target = Target::start("growing", &["grow"])?;
    let mut tracer = tracer::start(&["growth", "--all", "-f", "json", "-i", "20ms"])?;
    tracer.wait_for("watching", |line| line.contains("watching all"))?;
    target.work_for_json()?;
    let report = document(&tracer.stop()?)?;
    let growing: Vec<u64> = rows(&report, "processes")?
        .iter()
        .filter(|process| text(process, "verdict").is_ok_and(|verdict| verdict == "growing"))
        .filter_map(|process| number(process, "pid").ok())
        .collect();
    // A machine may have others that grow.
    ensure!(growing.contains(&u64::from(target.pid())), "{report:#}");
    target.end()
}

/// Folded stacks begin with the way and hold the bytes.
#[test]
fn folded() -> Result<()> {
    let _turn = turn();
    need_root!("folded");
    let mut target = Target::start("growing", &["mmap"])?;
    let pid = target.pid().to_string();
    let mut tracer = tracer::start(&["growth", "-p", &pid, "-f", "folded"])?;
    tracer.wait_attached()?;
    let did = target.work_for_json()?;
    let outcome = tracer.stop()?;
    let folded = outcome.text();
    let mut mapped = 0;
    for line in folded.lines().filter(|line| line.starts_with("[mmap];")) {
        let (_, bytes) = line.rsplit_once(' ').context("no number")?;
        mapped += bytes.parse::<u64>()?;
    }
    ensure!(mapped == number(&did, "mapped")?, "{folded}");
    ensure!(folded.contains("main;leak_mappings;map_pages "), "{folded}");
    target.end()
}

/// The text says the verdict, the source, and the code, in one screen.
#[test]
fn text_for_people() -> Result<()> {
    let _turn = turn();
    need_root!("text_for_people");
    let mut target = Target::start("growing", &["grow"])?;
    let pid = target.pid().to_string();
    let mut tracer = tracer::start(&["growth", "-p", &pid, "-i", "20ms", "--top", "1"])?;
    tracer.wait_attached()?;
    target.work_for_json()?;
    let text = tracer.stop()?.text();
    let heap_hint = format!("memtrace heap -p {pid}");
    for word in [
        "growing: +",
        "program break",
        "Touched first:",
        "leak_on_heap",
        "█",
        &heap_hint,
    ] {
        ensure!(text.contains(word), "no '{word}' in\n{text}");
    }
    ensure!(!text.contains('\u{1b}'), "colours into a pipe");
    target.end()
}

/// Ctrl-C is tested with every trace here; this is the hard way.
#[test]
fn killed() -> Result<()> {
    let _turn = turn();
    need_root!("killed");
    for arguments in [
        &[] as &[&str],
        &["--faults", "tracepoint", "--calls", "tracepoint"],
    ] {
        let mut target = Target::start("growing", &["mmap"])?;
        let pid = target.pid();
        check::leaving_nothing(|| {
            let tracer = start(pid, arguments)?;
            ensure!(Programs::now()?.held_by(tracer.pid()) > 0, "no programs?");
            let found = leftover::breakpoints(pid)?;
            ensure!(!found.is_empty(), "traced without a breakpoint?");
            tracer.signal(Signal::SIGKILL)?;
            tracer.finish(FINISH)?;
            Ok(((), vec![pid]))
        })?;
        target.work_for_json()?;
        target.end()?;
    }
    Ok(())
}

/// What cannot work says so.
#[test]
fn bad_input() -> Result<()> {
    let run = |arguments: &[&str]| {
        let mut all = vec!["growth"];
        all.extend(arguments);
        tracer::run(&all, FINISH)
    };
    check::misused(&run(&[])?, "--pid")?;
    check::misused(&run(&["--all", "-p", "1"])?, "--all")?;
    check::misused(&run(&["--all", "-f", "folded"])?, "folded")?;
    check::misused(&run(&["-p", "1", "--faults", "magic"])?, "perf-user")?;
    for watched in [&["--all"][..], &["-p", "1", "--no-probes"]] {
        for how in [["--faults", "perf"], ["--calls", "off"]] {
            check::misused(&run(&[watched, &how].concat())?, "cannot be used with")?;
        }
    }
    let mut ended = Command::new("true").spawn()?;
    let pid = ended.id().to_string();
    ended.wait()?;
    check::refused(&run(&["-p", &pid, "--no-probes"])?, &["no process", &pid])
}
