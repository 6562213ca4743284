//! `memtrace heap`: what is in a glibc heap, from outside, against what malloc says of itself inside.
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use memtrace_tests::target::{Target, number};
use memtrace_tests::tracer::{self, FINISH, Outcome};
use memtrace_tests::{check, need_root, patience, program, turn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// `mallinfo2`'s fields.
const FIELDS: &[&str] = &[
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "fsmblks", "uordblks", "fordblks", "keepcost",
];

fn run(pid: u32, arguments: &[&str]) -> Result<Outcome> {
    let pid = pid.to_string();
    tracer::run(&[&["heap", "-p", &pid], arguments].concat(), FINISH)
}

/// One look into a heap, which must go well.
fn look(pid: u32, arguments: &[&str]) -> Result<Value> {
    let outcome = run(pid, &[&["--format", "json"], arguments].concat())?;
    outcome.document("memtrace.heapwalk.v1")
}

/// A `fragment` that is ready, and what malloc says of its heap.
fn fragment(program: &str, how: &str) -> Result<(Target, Value, String)> {
    let mut target = Target::spawn(Command::new(program::path(program)?).arg(how))?;
    let info = target.line("{")?;
    let pinned = target.line("pinned ")?;
    target.line("READY")?;
    Ok((target, serde_json::from_str(&format!("{{{info}"))?, pinned))
}

/// Every figure of `mallinfo2` is equal, and sums are what their parts add up to.
fn must_equal(heap: &Value, inside: &Value, what: &str) -> Result<()> {
    ensure!(heap["consistent"] == true, "{what}: {heap}");
    for field in FIELDS {
        let (ours, theirs) = (number(&heap["mallinfo"], field)?, number(inside, field)?);
        ensure!(
            ours == theirs,
            "{what}: {field} is {theirs}, memtrace says {ours}\n{heap}"
        );
    }
    adds_up(heap)
}

/// The parts of each arena are its whole, and so are the rows by size; of one that changed while it was read, the rows alone
/// can be.
fn adds_up(heap: &Value) -> Result<()> {
    let arenas = heap["arenas"].as_array().context("no arenas")?;
    let totals = (heap["consistent"] == true).then_some(&heap["totals"]);
    for arena in arenas.iter().chain(totals) {
        let of = |key| number(arena, key);
        let parts =
            of("in_use_bytes")? + of("free_bytes")? + of("top_bytes")? + of("overhead_bytes")?;
        let is_whole = arena["consistent"] == false || parts == of("system_bytes")?;
        ensure!(is_whole, "parts do not add up: {arena}");
    }
    for arena in arenas {
        for (rows, bytes, count) in [
            ("free_by_size", "free_bytes", "free_count"),
            ("in_use_by_size", "in_use_bytes", "in_use_count"),
        ] {
            let rows = arena[rows].as_array().context("no sizes")?;
            let sum = |key| rows.iter().map(|row| number(row, key)).sum::<Result<u64>>();
            let found = (sum("bytes")?, sum("count")?);
            let wanted = (number(arena, bytes)?, number(arena, count)?);
            ensure!(
                found == wanted,
                "{found:?} by size, {wanted:?} in all: {arena}"
            );
        }
    }
    Ok(())
}

fn arenas<'a>(heap: &'a Value, kind: &str) -> Vec<&'a Value> {
    let all = heap["arenas"].as_array().into_iter().flatten();
    all.filter(|arena| arena["kind"] == kind).collect()
}

/// The article's program, in every shape that a glibc heap can have; stopped and not.
#[test]
fn known_heaps() -> Result<()> {
    let _turn = turn();
    need_root!("known_heaps");
    for program in ["fragment", "fragment_static"] {
        for how in ["", "threads", "foreign", "blocked", "pin"] {
            let (target, inside, _) = fragment(program, how)?;
            for arguments in [&[] as &[&str], &["--stop"]] {
                let heap = look(target.pid(), arguments)?;
                must_equal(&heap, &inside, &format!("{program} {how} {arguments:?}"))?;
                ensure!(
                    heap["stopped_ns"].is_u64() != arguments.is_empty(),
                    "{heap}"
                );
            }
            target.end()?;
        }
    }
    Ok(())
}

/// Each thread has an arena and a cache; the article's numbers of blocks are there.
#[test]
fn arenas_and_caches() -> Result<()> {
    let _turn = turn();
    need_root!("arenas_and_caches");
    let (target, _, _) = fragment("fragment", "threads")?;
    let heap = look(target.pid(), &[])?;
    ensure!(number(&heap, "thread_caches")? == 5, "{heap}");
    let threads = arenas(&heap, "thread");
    ensure!(threads.len() == 4, "{heap}");
    for arena in threads {
        // Of 1 to 199 KiB, the odd ones; of the small ones, the odd ones, and the thread's cache itself.
        ensure!(number(arena, "in_use_count")? == 100 + 20 + 1, "{arena}");
        let rows = arena["free_by_size"].as_array().context("no sizes")?;
        let count = |class: &str| {
            let rows = rows.iter().filter(|row| row["class"] == class);
            rows.map(|row| number(row, "count")).sum::<Result<u64>>()
        };
        // Ten of each of two sizes were freed; seven of a size fit into the cache.
        let found = (count("tcache")?, count("fast")?);
        ensure!(found == (14, 6), "{found:?}: {arena}");
    }
    let [mapped] = arenas(&heap, "mmapped")[..] else {
        bail!("no blocks with mappings: {heap}");
    };
    // 129 to 199 KiB, odd, in the main thread: the threshold is 128 KiB.
    ensure!(number(mapped, "in_use_count")? == 36, "{mapped}");
    target.end()
}

/// The block that keeps 13 MB from returning is named by the address that the program has of it.
#[test]
fn the_pin() -> Result<()> {
    let _turn = turn();
    need_root!("the_pin");
    let (target, _, pinned) = fragment("fragment", "pin")?;
    let heap = look(target.pid(), &[])?;
    let main = arenas(&heap, "main").pop().context("no main arena")?;
    let pin = &main["pinned_by"];
    ensure!(
        pin["address"] == pinned.as_str(),
        "the program holds {pinned}: {pin}"
    );
    ensure!(
        pin["cached"] == false && number(pin, "size")? == 2016,
        "{pin}"
    );
    ensure!(number(pin, "releasable_below")? > 9_000_000, "{pin}");
    let hole = &main["holes"][0];
    ensure!(number(hole, "blocks_above")? == 1, "{hole}");
    let findings = heap["findings"].as_array().context("no findings")?;
    let found = findings
        .iter()
        .any(|finding| finding["id"] == "heap_pinned");
    ensure!(found, "{heap}");
    let text = run(target.pid(), &[])?.text();
    ensure!(
        text.contains(&format!("pinned by the block at {pinned}")),
        "{text}"
    );
    target.end()
}

/// A heap that changes all the time: stopped, the figures belong together; not stopped, the report says whether they do,
/// and the program runs on.
#[test]
fn a_busy_program() -> Result<()> {
    let _turn = turn();
    need_root!("a_busy_program");
    let (target, _, _) = fragment("fragment", "churn")?;
    let heap = look(target.pid(), &["--stop"])?;
    ensure!(heap["consistent"] == true, "{heap}");
    adds_up(&heap)?;
    for _ in 0..3 {
        let heap = look(target.pid(), &[])?;
        let notes = heap["notes"].as_array().context("no notes")?;
        ensure!(heap["consistent"] == true || !notes.is_empty(), "{heap}");
        ensure!(heap["stopped_ns"].is_null(), "{heap}");
        adds_up(&heap)?;
    }
    must_run(target.pid())?;
    target.end()
}

/// Nobody traces it, and it is not stopped.
fn must_run(pid: u32) -> Result<()> {
    let deadline = Instant::now() + patience(FINISH);
    loop {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let of = |key: &str| {
            let mut lines = status.lines();
            lines
                .find_map(|line| line.strip_prefix(key))
                .map_or("", str::trim)
        };
        let stopped = of("State:").starts_with(['t', 'T']);
        if of("TracerPid:") == "0" && !stopped {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "it does not run on:\n{status}");
        sleep(Duration::from_millis(5));
    }
}

/// memtrace is killed at any moment: the process runs on.
#[test]
fn killed_while_it_stops_a_process() -> Result<()> {
    let _turn = turn();
    need_root!("killed_while_it_stops_a_process");
    let (target, inside, _) = fragment("fragment", "threads")?;
    let pid = target.pid().to_string();
    for milliseconds in [0, 5, 10, 20, 40, 80] {
        let mut command = tracer::command()?;
        command.args([
            "heap",
            "--stop",
            "-f",
            "json",
            "-o",
            "/dev/null",
            "-p",
            &pid,
        ]);
        let mut memtrace = command.spawn()?;
        sleep(Duration::from_millis(milliseconds));
        memtrace.kill()?;
        memtrace.wait()?;
        must_run(target.pid())?;
    }
    must_equal(&look(target.pid(), &["--stop"])?, &inside, "afterwards")?;
    target.end()
}

/// A process that is stopped already stays so, and is looked into.
#[test]
fn a_stopped_program() -> Result<()> {
    let _turn = turn();
    need_root!("a_stopped_program");
    let (target, inside, _) = fragment("fragment", "threads")?;
    let pid = Pid::from_raw(i32::try_from(target.pid())?);
    kill(pid, Signal::SIGSTOP)?;
    must_equal(&look(target.pid(), &["--stop"])?, &inside, "stopped")?;
    kill(pid, Signal::SIGCONT)?;
    must_run(target.pid())?;
    target.end()
}

// Each makes some garbage, says that it is ready, and waits.
const PYTHON: &str = "import json, threading\n\
    kept = [[str(i) * (i % 300) for i in range(20000)], {i: [i] for i in range(5000)}]\n\
    threads = [threading.Thread(target=lambda: kept.append(json.dumps(kept[0]))) for i in range(3)]\n\
    [thread.start() for thread in threads]; [thread.join() for thread in threads]\n\
    del kept[0][::2]\n\
    print('READY', flush=True); input()";
const PERL: &str = "$| = 1; my @a = map { 'x' x ($_ % 3000) } 1..20000; undef $a[$_ * 3] for 0..6000; \
    print \"READY\\n\"; <STDIN>";
const SQL: &str = "create table t(a, b); with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) \
    insert into t select i, randomblob(i % 500) from n; delete from t where a % 3 = 0;\n.print READY\n";

/// Real programs, against `mallinfo2` called inside of each.
#[test]
fn real_programs() -> Result<()> {
    let _turn = turn();
    need_root!("real_programs");
    let programs: &[(&str, &[&str], &str)] = &[
        ("python3", &["-c", PYTHON], ""),
        ("perl", &["-e", PERL], ""),
        ("sqlite3", &[":memory:"], SQL),
    ];
    let folder = tempfile::tempdir()?;
    for (name, arguments, input) in programs {
        let dump = folder.path().join(name);
        let mut command = Command::new(name);
        command.args(*arguments);
        command.env("LD_PRELOAD", program::path("mallinfo")?);
        command.env("MALLINFO", &dump);
        let mut target = Target::spawn(&mut command)?;
        target.tell(input)?;
        target.line("READY")?;
        let heap = look(target.pid(), &["--stop"])?;
        let inside = asked(&target, &dump)?;
        must_equal(&heap, &inside, name)?;
        let in_use = number(&heap["totals"], "in_use_bytes")?;
        ensure!(in_use > 100_000, "{name} uses more than {in_use} bytes");
        target.kill()?;
    }
    Ok(())
}

/// What a program's own malloc says.
fn asked(target: &Target, dump: &Path) -> Result<Value> {
    kill(Pid::from_raw(i32::try_from(target.pid())?), Signal::SIGUSR2)?;
    let deadline = Instant::now() + patience(FINISH);
    loop {
        let text = fs::read_to_string(dump).unwrap_or_default();
        if let Some(line) = text.strip_suffix('\n') {
            return serde_json::from_str(line).context("what the program says of its heap");
        }
        ensure!(Instant::now() < deadline, "no word from the program");
        sleep(Duration::from_millis(5));
    }
}

/// Other C libraries, other allocators, damaged heaps, no process: one line each.
#[test]
fn refusals() -> Result<()> {
    let _turn = turn();
    need_root!("refusals");
    let musl = Target::start("musl_sizes", &[] as &[&str])?;
    check::refused(&run(musl.pid(), &[])?, &["glibc", &musl.pid().to_string()])?;
    let jemalloc = Target::start("own_jemalloc", &[] as &[&str])?;
    let outcome = run(jemalloc.pid(), &[])?;
    // It may have allocated before its allocator was there.
    if !outcome.status.success() {
        check::refused(&outcome, &["jemalloc", &jemalloc.pid().to_string()])?;
    }
    let (damaged, _, _) = fragment("fragment", "damage")?;
    for arguments in [&[] as &[&str], &["--stop"]] {
        let outcome = run(damaged.pid(), arguments)?;
        check::refused(&outcome, &["damaged", "0x4141414141414141"])?;
    }
    must_run(damaged.pid())?;
    damaged.end()?;
    let mut gone = Command::new("true").spawn()?;
    gone.wait()?;
    check::refused(
        &run(gone.id(), &[])?,
        &["no process", &gone.id().to_string()],
    )?;
    // A kernel thread.
    check::refused(&run(2, &[])?, &["kernel thread|no process"])
}
