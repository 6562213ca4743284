//! `memtrace meminfo` on saved files: read from anywhere, compared, and refused in one line where they are something else.
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use memtrace_tests::sheet::{finding_ids, json, meminfo, row};
use memtrace_tests::{check, tracer, turn};
use serde_json::Value;

/// The tests may run where the repository is not.
const SEED: &str = include_str!("../data/meminfo/meminfo-1g-oom.txt");
const RECORDED: [&str; 2] = [
    include_str!("../data/meminfo/recorded-6.18-x86_64/meminfo"),
    include_str!("../data/meminfo/recorded-6.18-x86_64/zoneinfo"),
];

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

#[test]
fn a_saved_file() -> Result<()> {
    let _turn = turn();
    let folder = tempfile::tempdir()?;
    let seed = folder.path().join("seed");
    fs::write(&seed, SEED)?;
    let document = json(&["--from", text(&seed)?])?;
    ensure!(document["unaccounted_kb"] == 15_820, "{document}");
    ensure!(row(&document, "DriverCma")?["kb"] == 11_536, "{document}");
    ensure!(
        row(&document, "free for any request")?["kb"] == 4_736,
        "{document}"
    );
    ensure!(
        finding_ids(&document)? == ["shmem_hog", "cma_only_free"],
        "{document}"
    );
    ensure!(
        document["shmem"].is_null(),
        "no holders in a saved file: {document}"
    );
    let mut child = tracer::command()?
        .args(["meminfo", "--from", "-", "-f", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let pasted = SEED.replace('\n', "\r\n");
    stdin.write_all(format!("# cat /proc/meminfo\r\n{pasted}# ").as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let from_input: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(from_input["rows"] == document["rows"], "{from_input}");
    // As someone copies them; the rest is missing, and said so.
    fs::write(folder.path().join("meminfo"), RECORDED[0])?;
    fs::write(folder.path().join("zoneinfo"), RECORDED[1])?;
    let document = json(&["--from", text(folder.path())?])?;
    ensure!(
        row(&document, "per-CPU free lists")?["kb"] == 147_808,
        "{document}"
    );
    ensure!(
        document["notes"]
            .to_string()
            .contains("there is no slabinfo"),
        "{document}"
    );
    Ok(())
}

#[test]
fn a_difference() -> Result<()> {
    let _turn = turn();
    let folder = tempfile::tempdir()?;
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let figures = |slab: u64, free: u64| {
        format!(
            "MemTotal: 1000000 kB\nMemFree: {free} kB\nSlab: {slab} kB\nSUnreclaim: {slab} kB\n"
        )
    };
    fs::write(&old, figures(20_000, 900_000))?;
    fs::write(&new, figures(70_000, 840_000))?;
    let document = json(&["--diff", text(&old)?, text(&new)?])?;
    let change =
        |name: &str| -> Result<Option<i64>> { Ok(row(&document, name)?["change_kb"].as_i64()) };
    ensure!(change("Slab")? == Some(50_000), "{document}");
    ensure!(change("MemFree")? == Some(-60_000), "{document}");
    ensure!(change("unaccounted")? == Some(10_000), "{document}");
    ensure!(
        row(&document, "Slab")?["bytes_per_s"].is_null(),
        "{document}"
    );
    ensure!(
        finding_ids(&document)? == ["slab_growth", "unaccounted_high"],
        "{document}"
    );
    let outcome = meminfo(&["--diff", text(&old)?, text(&new)?])?;
    ensure!(
        outcome.text().contains("+50,000 kB"),
        "{}",
        outcome.context()
    );
    Ok(())
}

#[test]
fn what_cannot_be_read() -> Result<()> {
    let _turn = turn();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("text");
    let path = text(&file)?;
    check::refused(&meminfo(&["--from", path])?, &[path, "no such file"])?;
    check::refused(
        &meminfo(&["--from", text(folder.path())?])?,
        &["meminfo", "no such file"],
    )?;
    for content in [
        &b""[..],
        b"hello\n",
        b"\x00\xff\xfe MemTotal\n",
        b"MemTotal: 5",
    ] {
        fs::write(&file, content)?;
        let outcome = meminfo(&["--from", path])?;
        if content.ends_with(b"5") {
            ensure!(outcome.status.success(), "{}", outcome.context());
        } else {
            check::refused(&outcome, &[path, "MemTotal", "copy of /proc/meminfo"])?;
        }
    }
    fs::write(&file, "Node 0 MemTotal: 7 kB\n")?;
    check::refused(
        &meminfo(&["--from", path])?,
        &["NUMA nodes", "copy of /proc/meminfo"],
    )?;
    fs::write(&file, "MemTotal: 0 kB\n")?;
    check::refused(&meminfo(&["--diff", path, path])?, &["MemTotal is 0"])?;
    check::refused(
        &meminfo(&["--from", "/dev/zero"])?,
        &["/dev/zero", "larger than"],
    )?;
    check::misused(&meminfo(&["--diff", path])?, "--diff")?;
    check::misused(&meminfo(&["--from", path, "--watch", "1s"])?, "--watch")?;
    check::misused(&meminfo(&["--watch", "0s"])?, "10ms")?;
    check::misused(&meminfo(&["-f", "folded"])?, "folded")
}
