//! Allocators that take malloc's place. docs/peers.md (numbers): other tracers show an empty table for them.
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use memtrace_tests::target::Target;
use memtrace_tests::tracer::FINISH;
use memtrace_tests::{check, need_root, program, tracer, turn};

/// Debian's, by the start of their files' names.
const ALLOCATORS: &[&str] = &[
    "libjemalloc.so.2",
    "libtcmalloc_minimal.so.4",
    "libtcmalloc.so.4",
    "libmimalloc.so.2",
];

fn library(name: &str) -> Result<PathBuf> {
    let directories = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
    ];
    directories
        .iter()
        .map(|directory| PathBuf::from(directory).join(name))
        .find(|path| path.exists())
        .with_context(|| format!("no {name}: `cargo xtask setup` installs it"))
}

/// A C program on a preloaded allocator: exact, and nothing that the allocator maps for itself.
#[test]
fn preloaded_allocators_are_exact_for_c() -> Result<()> {
    let _turn = turn();
    need_root!("preloaded_allocators_are_exact_for_c");
    for name in ALLOCATORS {
        let mut command = Command::new(program::path("phases")?);
        let mut target = Target::start_command(command.env("LD_PRELOAD", library(name)?))?;
        let tracer = tracer::attach(&[target.pid()], &[])?;
        target.work()?;
        let ledger = target.work()?;
        let report = tracer.report()?;
        report.must_be_exact().with_context(|| name.to_string())?;
        ensure!(
            ledger.bytes > 0 && report.total("outstanding_bytes")? == ledger.bytes,
            "{name}: {} bytes in truth: {}",
            ledger.bytes,
            report.describe()
        );
        target.end()?;
    }
    Ok(())
}

/// A C++ program on each allocator, also on glibc's: their operator new is not their malloc, and comes inlined. Equal to
/// the byte, and what throws survives: return probes would end a program that catches `bad_alloc`.
#[test]
fn operator_new_in_all_its_forms() -> Result<()> {
    let _turn = turn();
    need_root!("operator_new_in_all_its_forms");
    let none = None;
    let others = ALLOCATORS.iter().map(|name| Some(*name));
    for name in [none].into_iter().chain(others) {
        let mut command = Command::new(program::path("cxx_allocators")?);
        if let Some(name) = name {
            command.env("LD_PRELOAD", library(name)?);
        }
        // mimalloc ends the program itself where a C++ one would throw.
        if name != Some("libmimalloc.so.2") {
            command.arg("throw");
        }
        equal(&mut command, &[], name.unwrap_or("glibc"))?;
    }
    Ok(())
}

/// What the program says is what the report says: at every site, in the sums, and nothing else; and each block that was
/// freed ended once, whichever function forwarded it to which.
fn equal(command: &mut Command, options: &[&str], name: &str) -> Result<()> {
    let mut target = Target::start_command(command)?;
    let tracer = tracer::attach(&[target.pid()], options)?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    let wrong = || format!("{name}: {}", report.describe());
    report.must_be_exact().with_context(wrong)?;
    for row in &ledger.rows {
        let found = report.of_function(&row.site)?;
        ensure!(
            (found.bytes, found.count) == (row.bytes, row.count),
            "{}: {found:?} instead of {row:?}; {}",
            row.site,
            wrong()
        );
    }
    ensure!(
        report.total("outstanding_bytes")? == ledger.bytes,
        "{}",
        wrong()
    );
    ensure!(report.total("unmatched_frees")? == 0, "{}", wrong());
    target.end()
}

/// The functions that allocators have beside malloc's.
#[test]
fn allocators_own_functions() -> Result<()> {
    let _turn = turn();
    need_root!("allocators_own_functions");
    for program in ["own_jemalloc", "own_mimalloc", "own_tcmalloc"] {
        equal(&mut Command::new(program::path(program)?), &[], program)?;
    }
    Ok(())
}

/// `--allocator FILE`: an allocator with names of its own, and no other.
#[test]
fn an_allocator_by_its_file() -> Result<()> {
    let _turn = turn();
    need_root!("an_allocator_by_its_file");
    let path = program::path("own_prefix")?;
    let file = path.to_str().context("a path that is no text")?;
    // libc's malloc is called, too, and is not in the ledger.
    equal(
        &mut Command::new(&path),
        &["--allocator", file],
        "own_prefix",
    )?;
    let target = Target::start_command(&mut Command::new(&path))?;
    let pid = target.pid().to_string();
    let wrong: [(&str, &[&str]); 3] = [
        ("/no/such/file", &["/no/such/file", "not mapped"]),
        ("/bin/ls", &["/bin/ls", "not mapped"]),
        ("/lib64/ld-linux-x86-64.so.2", &["no allocator"]),
    ];
    for (file, words) in wrong {
        let outcome = tracer::run(&["-p", &pid, "--allocator", file], FINISH)?;
        check::refused(&outcome, words).with_context(|| file.to_owned())?;
    }
    Ok(())
}

/// A handler on an alternate stack above the thread's own, during mmap, mremap and munmap. Tracers with return probes
/// there kill such a program (SIGILL).
#[test]
fn a_handler_on_a_higher_stack_survives() -> Result<()> {
    let _turn = turn();
    need_root!("a_handler_on_a_higher_stack_survives");
    let mut target = Target::start("above", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    let row = ledger.row("leak_in_handler")?;
    let found = report.of_function("leak_in_handler")?;
    ensure!(
        row.count >= 200 && (found.bytes, found.count) == (row.bytes, row.count),
        "{found:?} instead of {row:?}: {}",
        report.describe()
    );
    ensure!(
        report
            .sum(|stack| stack.kind() == "mapping" && stack.holds(&["works"]))?
            .bytes
            == 0,
        "{}",
        report.describe()
    );
    target.end()
}

/// Threads that end inside an allocation function, here `operator new`: the next ones are seen as ever.
#[test]
fn threads_that_end_inside_operator_new() -> Result<()> {
    let _turn = turn();
    need_root!("threads_that_end_inside_operator_new");
    for name in [
        None,
        Some("libjemalloc.so.2"),
        Some("libtcmalloc_minimal.so.4"),
    ] {
        let mut command = Command::new(program::path("quits")?);
        if let Some(name) = name {
            command.env("LD_PRELOAD", library(name)?);
        }
        let mut target = Target::start_command(&mut command)?;
        let tracer = tracer::attach(&[target.pid()], &[])?;
        let ledger = target.work()?;
        let report = tracer.report()?;
        let row = ledger.row("leak_before")?;
        let found = report.of_function("leak_before")?;
        ensure!(
            report.exact()? && (found.bytes, found.count) == (row.bytes, row.count),
            "{name:?}: {found:?} instead of {row:?}; {}",
            report.0
        );
        target.end()?;
    }
    Ok(())
}

/// What the harness waits for; the truth is in the test.
const LEDGER: &str = r#"{"pid":0,"outstanding_bytes":0,"outstanding_count":0,"allocated_bytes":0,"allocated_count":0,"unmatched_frees":0,"moved":0,"in_place":0,"rows":[]}"#;

/// A library with an allocator of its own that is loaded during the trace: probed from then on, and the report says that
/// its first moments are missing.
#[test]
fn an_allocator_that_comes_late_is_told() -> Result<()> {
    let _turn = turn();
    need_root!("an_allocator_that_comes_late_is_told");
    let late = program::path("liblate.so")?;
    let script = format!(
        "import ctypes, sys, time\nprint('READY', flush=True)\nsys.stdin.readline()\n\
         so = ctypes.CDLL({late:?})\nso.rpmalloc.restype = ctypes.c_void_p\ntime.sleep(1)\n\
         keep = [so.rpmalloc(4321, 0) for i in range(50)]\nprint({LEDGER:?})\nprint('DONE', flush=True)\n\
         sys.stdin.readline()\n"
    );
    let mut command = Command::new("python3");
    let mut target = Target::start_command(command.args(["-c", &script]))?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    target.work()?;
    let report = tracer.report()?;
    let found = report.sum(|stack| stack.function() == "rpmalloc")?;
    ensure!(
        (found.bytes, found.count) == (50 * 4321, 50),
        "{found:?}: {}",
        report.describe()
    );
    ensure!(!report.exact()?, "{}", report.0);
    let notes = report.0["notes"].to_string();
    ensure!(notes.contains("liblate.so"), "{notes}");
    // And what a Python program should know.
    ensure!(notes.contains("PYTHONMALLOC"), "{notes}");
    target.end()
}
