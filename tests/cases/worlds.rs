//! Other C libraries, other languages, other namespaces.
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memtrace_tests::target::Target;
use memtrace_tests::tracer::FINISH;
use memtrace_tests::{check, need_root, program, tracer, turn};

/// A static program on musl's malloc, to the byte; stripped, it is refused in a line. docs/peers.md (numbers): other
/// tracers show an empty table.
#[test]
fn musl() -> Result<()> {
    let _turn = turn();
    need_root!("musl");
    let mut target = Target::start("musl_sizes", &[] as &[&str])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    check::rows(&report, &ledger)?;
    target.end()?;
    let target = Target::start("musl_stripped", &[] as &[&str])?;
    let pid = target.pid().to_string();
    let outcome = tracer::run(&["-p", &pid], FINISH)?;
    check::refused(&outcome, &["stripped", "musl_stripped"])
}

/// Rust's default allocator is the C library's; its frames have their names.
#[test]
fn rust() -> Result<()> {
    let _turn = turn();
    need_root!("rust");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("rusty");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/rusty.rs");
    let status = Command::new("rustc")
        .args(["-O", "-g", "-o"])
        .args([&path, &source])
        .status()
        .context("rustc")?;
    ensure!(status.success(), "rustc: {status}");
    let mut target = Target::start_command(&mut Command::new(&path))?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    target.go()?;
    target.done()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    for (function, bytes) in [("rusty::leak_vector", 8192), ("rusty::leak_box", 333)] {
        let found = report.of_function(function)?;
        ensure!(
            (found.bytes, found.count) == (20 * bytes, 20),
            "{function}: {found:?}; {}",
            report.describe()
        );
    }
    target.end()
}

/// A second C library in a namespace of the dynamic linker.
#[test]
fn dlmopen() -> Result<()> {
    let _turn = turn();
    need_root!("dlmopen");
    let mut target = Target::start("twice", &["libc.so.6"])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    check::rows(&report, &ledger)?;
    target.end()
}

/// A Go program has no malloc: said in a line that leads on. docs/peers.md (numbers): elsewhere an empty table.
#[test]
fn go() -> Result<()> {
    let _turn = turn();
    need_root!("go");
    let folder = tempfile::tempdir()?;
    let (source, path) = (folder.path().join("main.go"), folder.path().join("gopher"));
    fs::write(
        &source,
        "package main\nimport \"time\"\nfunc main() { time.Sleep(time.Hour) }\n",
    )?;
    let status = Command::new("go")
        .args(["build", "-o"])
        .args([&path, &source])
        .env("CGO_ENABLED", "0")
        .env("GOCACHE", folder.path().join("cache"))
        .env("GOPATH", folder.path().join("path"))
        .env("GOFLAGS", "-mod=mod")
        .status()
        .context("go: `cargo xtask setup` installs it")?;
    ensure!(status.success(), "go build: {status}");
    let target = Target::spawn(&mut Command::new(&path))?;
    let pid = target.pid().to_string();
    let outcome = tracer::run(&["-p", &pid], FINISH)?;
    check::refused(&outcome, &["Go program", "pprof"])
}

/// A process in another mount and process namespace, with a root and a C library of its own: by its pid here.
#[test]
fn container() -> Result<()> {
    let _turn = turn();
    need_root!("container");
    let root = tempfile::tempdir()?;
    let copied = |from: &str, to: &str| -> Result<()> {
        let to = root.path().join(to);
        fs::create_dir_all(to.parent().context("no folder")?)?;
        fs::copy(from, to).with_context(|| from.to_owned())?;
        Ok(())
    };
    copied("/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2")?;
    copied(
        "/lib/x86_64-linux-gnu/libc.so.6",
        "lib/x86_64-linux-gnu/libc.so.6",
    )?;
    let path = program::path("resized")?;
    copied(path.to_str().context("a path that is no text")?, "resized")?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "chroot"]);
    let mut target = Target::start_command(command.arg(root.path()).arg("/resized"))?;
    let pid = only_child(target.pid())?;
    let tracer = tracer::attach(&[pid], &[])?;
    let ledger = target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    ensure!(ledger.pid == 1, "its own pid is {}", ledger.pid);
    let process = report.process(u64::from(pid))?;
    ensure!(process["namespace_pid"] == 1, "{process}");
    for site in ["grown_into", "shrunk_into"] {
        let found = report.of_caller(site)?;
        let row = ledger.row(site)?;
        ensure!(
            (found.bytes, found.count) == (row.bytes, row.count),
            "{site}: {found:?} instead of {row:?}; {}",
            report.describe()
        );
    }
    target.end()
}

/// The process that another has started.
fn only_child(pid: u32) -> Result<u32> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        if let Some(child) = children.split_whitespace().next() {
            return Ok(child.parse()?);
        }
        sleep(Duration::from_millis(20));
    }
    anyhow::bail!("process {pid} has no child")
}
