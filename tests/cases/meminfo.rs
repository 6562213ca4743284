//! `memtrace meminfo` on this machine: the sheet adds up, holders of shared memory are named, with root and without.
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memtrace_tests::sheet::{SOON, balanced, document, json, list, meminfo, row};
use memtrace_tests::target::Target;
use memtrace_tests::{need_root, tracer, turn};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde_json::Value;

const NOBODY: u32 = 65534;

/// A folder in /dev/shm, which is a tmpfs on every Linux.
fn in_tmpfs() -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("memtrace-test")
        .tempdir_in("/dev/shm")?;
    ensure!(
        statfs(folder.path())?.filesystem_type() == TMPFS_MAGIC,
        "/dev/shm is no tmpfs"
    );
    Ok(folder)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

#[test]
fn this_machine_adds_up() -> Result<()> {
    let _turn = turn();
    need_root!("this_machine_adds_up");
    let document = json(&["--explain"])?;
    for name in [
        "MemFree",
        "AnonPages",
        "page cache",
        "Shmem",
        "Slab",
        "per-CPU free lists",
        "unaccounted",
    ] {
        row(&document, name)?;
    }
    let explained = list(&document, "/explanations")?
        .iter()
        .filter_map(|topic| topic["id"].as_str());
    ensure!(
        ["cached", "available"]
            .iter()
            .all(|id| explained.clone().any(|found| found == *id)),
        "{document}"
    );
    ensure!(
        document["meminfo"]["MemTotal"] == document["total_kb"],
        "{document}"
    );
    ensure!(
        !list(&document, "/zones")?.is_empty() && !list(&document, "/vmalloc_callers")?.is_empty(),
        "{document}"
    );
    let outcome = meminfo(&[])?;
    ensure!(
        outcome.status.success() && outcome.text().contains("\nNot accounted for"),
        "{}",
        outcome.context()
    );
    ensure!(outcome.stderr.is_empty(), "{}", outcome.context());
    Ok(())
}

/// Pages in pipes are in no counter of the kernel: full pipes are unaccounted for, and gone when they are closed. Other
/// programs' pages come and go meanwhile, so one of several tries must show it.
#[test]
fn what_no_counter_has_is_unaccounted() -> Result<()> {
    const PIPES: u64 = 400;
    const PIPE_KB: u64 = 64;
    let _turn = turn();
    need_root!("what_no_counter_has_is_unaccounted");
    let unaccounted = || -> Result<u64> {
        let document = json(&[])?;
        document["unaccounted_kb"]
            .as_u64()
            .with_context(|| document.to_string())
    };
    let mut seen = Vec::new();
    for _ in 0..10 {
        let before = unaccounted()?;
        let mut pipes = Vec::new();
        for _ in 0..PIPES {
            let (reader, mut writer) = std::io::pipe()?;
            writer.write_all(&vec![b'm'; usize::try_from(PIPE_KB * 1024)?])?;
            pipes.push((reader, writer));
        }
        let full = unaccounted()?;
        drop(pipes);
        let after = unaccounted()?;
        let (grown, shrunk) = (full.saturating_sub(before), full.saturating_sub(after));
        let about = PIPES * PIPE_KB * 9 / 10..PIPES * PIPE_KB * 11 / 10;
        if about.contains(&grown) && about.contains(&shrunk) {
            return Ok(());
        }
        seen.push((before, full, after));
    }
    anyhow::bail!(
        "{} kB in pipes: before, full, after: {seen:?}",
        PIPES * PIPE_KB
    )
}

/// Each piece by its size and its name, in the hands of the one process that holds it.
#[test]
fn holders_of_shared_memory_are_named() -> Result<()> {
    let _turn = turn();
    need_root!("holders_of_shared_memory_are_named");
    let folder = in_tmpfs()?;
    let mount_point = tempfile::tempdir()?;
    let target = Target::start("shm_holder", &[folder.path(), mount_point.path()])?;
    let pid = target.pid();
    let document = json(&["--top", "0"])?;
    let find = |kind: &str, name: &str, mib: u64| -> Result<Value> {
        let holders = list(&document, "/shmem/holders")?.iter();
        let held_here = |holder: &&Value| {
            let processes = holder["processes"].as_array().into_iter().flatten();
            processes
                .clone()
                .any(|process| process["pid"] == pid && process["comm"] == "shm_holder")
        };
        let right = |holder: &&Value| {
            holder["kind"] == kind
                && holder["name"]
                    .as_str()
                    .is_some_and(|found| found.contains(name))
        };
        let found = holders.filter(right).find(held_here);
        let found =
            found.with_context(|| format!("no {kind} {name} of {pid}: {}", document["shmem"]))?;
        ensure!(
            found["kb"] == mib * 1024 && found["at_least"] == false,
            "{found}"
        );
        Ok(found.clone())
    };
    let inside = text(folder.path())?;
    find("tmpfs_file", &format!("{inside}/named"), 11)?;
    find("deleted_file", &format!("{inside}/deleted"), 7)?;
    find(
        "tmpfs_file",
        &format!("{}/in a namespace", text(mount_point.path())?),
        13,
    )?;
    find("memfd", "memtrace-open", 9)?;
    find("memfd", "memtrace-mapped", 5)?;
    find("shared_anonymous", "inode", 4)?;
    let segment = find("sysv", "private", 6)?;
    ensure!(segment["creator"]["pid"] == pid, "{segment}");
    let mounts = list(&document, "/shmem/mounts")?;
    let other = mounts.iter().find(|mount| mount["seen_through_pid"] == pid);
    let other =
        other.with_context(|| format!("no mount of the namespace: {}", document["shmem"]))?;
    ensure!(
        other["kb"] == 13 * 1024 && other["limit_kb"] == 32 * 1024,
        "{other}"
    );
    // All of it is Shmem: 55 MiB here.
    ensure!(
        document["shmem"]["named_kb"].as_u64() >= Some(55 * 1024),
        "{}",
        document["shmem"]
    );
    let outcome = meminfo(&["--top", "0"])?;
    ensure!(
        outcome
            .text()
            .contains("memfd memtrace-open, in the hands of"),
        "{}",
        outcome.context()
    );
    target.end()
}

/// The seed's case, from a file, from standard input, and from a folder; both root causes.
/// One document a line until Ctrl-C; each but the first with changes.
#[test]
fn watching() -> Result<()> {
    let _turn = turn();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lines");
    let running = tracer::start(&[
        "meminfo",
        "--watch",
        "100ms",
        "-f",
        "json",
        "-o",
        text(&file)?,
    ])?;
    let deadline = std::time::Instant::now() + memtrace_tests::patience(SOON);
    while fs::read_to_string(&file)
        .unwrap_or_default()
        .lines()
        .count()
        < 3
    {
        ensure!(
            std::time::Instant::now() < deadline,
            "no three lines: {:?}",
            fs::read_to_string(&file)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let outcome = running.stop()?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    for (at, line) in fs::read_to_string(&file)?.lines().enumerate() {
        let document: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        balanced(&document)?;
        let compared = document["since"]["interval_ns"].as_u64() > Some(0);
        ensure!(compared == (at > 0), "line {at}: {}", document["since"]);
        ensure!(
            row(&document, "MemFree")?["bytes_per_s"].is_i64() == (at > 0),
            "line {at}"
        );
    }
    Ok(())
}

/// Without root: the sheet adds up all the same, and says what it lacks. One's own holders are named.
#[test]
fn not_root() -> Result<()> {
    let _turn = turn();
    need_root!("not_root");
    let directory = tempfile::Builder::new()
        .prefix("memtrace-test")
        .tempdir_in("/tmp")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let copy = |from: &Path, name: &str| -> Result<PathBuf> {
        let to = directory.path().join(name);
        fs::copy(from, &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        Ok(to)
    };
    let binary = copy(&tracer::binary()?, "memtrace")?;
    let program = copy(&memtrace_tests::program::path("shm_holder")?, "shm_holder")?;
    let tmpfs = in_tmpfs()?;
    std::os::unix::fs::chown(tmpfs.path(), Some(NOBODY), Some(NOBODY))?;
    let target = Target::start_command(
        Command::new(program)
            .arg(tmpfs.path())
            .uid(NOBODY)
            .gid(NOBODY),
    )?;
    let mut command = Command::new(binary);
    command
        .args(["meminfo", "-f", "json", "--top", "0"])
        .env_clear()
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/");
    let outcome = tracer::spawn(&mut command)?.finish(SOON)?;
    let document = document(&outcome)?;
    let notes = document["notes"].to_string();
    ensure!(
        notes.contains("vmallocinfo can be read by root alone"),
        "{notes}"
    );
    ensure!(
        notes.contains("by root alone: holders of shared memory may be missing"),
        "{notes}"
    );
    let holders = list(&document, "/shmem/holders")?;
    let sizes = |kind: &str| -> Vec<u64> {
        let of_kind = holders.iter().filter(|holder| holder["kind"] == kind);
        of_kind.filter_map(|holder| holder["kb"].as_u64()).collect()
    };
    ensure!(
        sizes("memfd").contains(&(9 * 1024)),
        "{}",
        document["shmem"]
    );
    // What is only mapped is seen through smaps: what the process itself has of it.
    let anonymous = holders
        .iter()
        .find(|holder| holder["kind"] == "shared_anonymous" && holder["kb"] == 4 * 1024);
    ensure!(anonymous.is_some(), "{}", document["shmem"]);
    ensure!(sizes("sysv").contains(&(6 * 1024)), "{}", document["shmem"]);
    target.end()
}
