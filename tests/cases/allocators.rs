//! Allocators that take malloc's place. docs/peers.md (numbers): other tracers show an empty table for them.
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memtrace_tests::target::{Guard, Target};
use memtrace_tests::{need_root, program, tracer, turn};
use serde_json::Value;

/// Debian's, by the start of their files' names.
const ALLOCATORS: &[&str] = &[
    "libjemalloc.so.2",
    "libtcmalloc_minimal.so.4",
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

/// A C++ program on one: their operator new does not go through malloc and is not probed. That must be said.
#[test]
fn operator_new_past_malloc_is_told() -> Result<()> {
    let _turn = turn();
    need_root!("operator_new_past_malloc_is_told");
    for name in ALLOCATORS {
        let seed = Guard(
            Command::new(program::path("seed_leak")?)
                .args(["20", "0"])
                .env("LD_PRELOAD", library(name)?)
                .spawn()?,
        );
        let tracer = tracer::attach(&[seed.0.id()], &[])?;
        sleep(Duration::from_millis(300));
        let report = tracer.report()?;
        ensure!(!report.exact()?, "{name}: {}", report.describe());
        let notes = report.0.get("notes").and_then(Value::as_array);
        let told = notes.is_some_and(|notes| {
            notes
                .iter()
                .filter_map(Value::as_str)
                .any(|note| note.contains("operator new"))
        });
        ensure!(told, "{name}: {notes:?}");
    }
    Ok(())
}
