//! What every guest holds: busybox, memtrace, the test programs and the
//! integration tests, built here.
use super::guest;
use super::image::Image;
use super::tools::Tools;
use crate::shell::{self, cargo, find, output, run};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::env;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::{NamedTempFile, TempDir};

/// Where things are in the guest.
const PROGRAMS: &str = "/usr/bin";
const TEST_PROGRAMS: &str = "/programs";
pub(crate) const TESTS: &str = "/tests";

/// Programs of this machine that help in the guest where they are installed.
/// Without bpftool the tests cannot see programs that nobody holds.
const HELPERS: &[&str] = &["bpftool"];

pub(crate) struct Contents {
    folder: PathBuf,
    busybox: PathBuf,
    /// Each with its path in the guest.
    files: Vec<(String, PathBuf)>,
    /// Copies without debug information.
    _stripped: TempDir,
}

impl Contents {
    pub(crate) fn build(root: &Path, tools: &Tools) -> Result<Self> {
        let memtrace = memtrace(root)?;
        let folder = super::folder(root);
        fs::create_dir_all(&folder)?;
        let stripped = tempfile::tempdir_in(&folder)?;
        let tests = tests(root)?;
        let memtrace = ("memtrace".to_owned(), memtrace);
        let mut files = Vec::new();
        for (place, (name, path)) in [(PROGRAMS, &memtrace)]
            .into_iter()
            .chain(tests.iter().map(|test| (TESTS, test)))
        {
            let copy = stripped.path().join(name);
            strip(path, &copy)?;
            files.push((format!("{place}/{name}"), copy));
        }
        // Whole: stacks and lines are read from them.
        for (name, path) in programs(&tests)? {
            files.push((format!("{TEST_PROGRAMS}/{name}"), path));
        }
        Ok(Self {
            folder,
            busybox: tools.shell.clone(),
            files,
            _stripped: stripped,
        })
    }

    /// An initramfs that runs a script and holds these files, too.
    pub(crate) fn initramfs(&self, script: &[u8], add: &[PathBuf]) -> Result<NamedTempFile> {
        let file = NamedTempFile::new_in(&self.folder)?;
        let mut image = Image::new(BufWriter::new(File::create(file.path())?));
        image.file(guest::INIT_PATH, 0o755, guest::INIT.as_bytes())?;
        image.file(guest::SCRIPT_PATH, 0o755, script)?;
        image.file("/etc/passwd", 0o644, b"root::0:0:root:/:/bin/sh\n")?;
        image.file("/etc/group", 0o644, b"root::0:\n")?;
        image.file(
            &format!("{PROGRAMS}/busybox"),
            0o755,
            &fs::read(&self.busybox)?,
        )?;
        image.libraries(&self.busybox)?;
        for (place, path) in &self.files {
            let bytes =
                fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            image.file(place, 0o755, &bytes)?;
            image.libraries(path)?;
        }
        for helper in HELPERS.iter().filter_map(|helper| find(helper)) {
            image.add(&helper)?;
        }
        for path in add {
            let path = std::path::absolute(path)?;
            image.add(&path)?;
        }
        image.finish()?;
        Ok(file)
    }
}

/// A release build, unless `$MEMTRACE_BIN` is another, as for the integration tests.
fn memtrace(root: &Path) -> Result<PathBuf> {
    if let Some(path) = env::var_os("MEMTRACE_BIN") {
        return Ok(path.into());
    }
    crate::run::build(root)?;
    Ok(shell::memtrace(root))
}

/// The executables of the integration tests, by name.
fn tests(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let messages = output(
        cargo(root)
            .args(["test", "--quiet", "--no-run", "--package", "memtrace-tests"])
            .arg("--message-format=json")
            .stderr(Stdio::inherit()),
    )
    .context("cannot build the integration tests")?;
    let rows = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let tests: Vec<_> = rows.filter_map(|row: Value| test(&row)).collect();
    ensure!(
        !tests.is_empty(),
        "cargo names no executable of memtrace-tests"
    );
    Ok(tests)
}

/// Of a line of cargo's that tells of a test's executable.
fn test(row: &Value) -> Option<(String, PathBuf)> {
    let path = row.get("executable")?.as_str()?;
    let name = row.get("target")?.get("name")?.as_str()?;
    Some((name.to_owned(), path.into()))
}

/// The test programs, by name. Their own test builds them and says where.
fn programs(tests: &[(String, PathBuf)]) -> Result<Vec<(String, PathBuf)>> {
    let (_, builder) = tests
        .iter()
        .find(|(name, _)| name == "programs")
        .context("memtrace-tests has no test executable `programs`")?;
    let words = ["--exact", "all_build", "--nocapture"];
    let told = output(Command::new(builder).args(words))?;
    let rows = told.lines().filter_map(|line| {
        let (name, path) = line.split_once("BUILT: ")?.1.split_once(' ')?;
        Some((name.to_owned(), PathBuf::from(path)))
    });
    let programs: Vec<_> = rows.collect();
    ensure!(!programs.is_empty(), "no test program was built: {told}");
    Ok(programs)
}

/// Debug information is nine tenths of a Rust program, and has to be loaded.
fn strip(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("strip")
        .args(["--strip-debug", "-o"])
        .args([to, from]))
    .context("cannot make a program smaller for the guest: is binutils installed?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_cargo_says() {
        let built = json!({
            "reason": "compiler-artifact",
            "target": {"kind": ["test"], "name": "heap"},
            "executable": "/x/heap-1",
        });
        assert_eq!(test(&built), Some(("heap".to_owned(), "/x/heap-1".into())));
        let library = json!({"target": {"name": "memtrace_tests"}, "executable": null});
        assert_eq!(test(&library), None);
    }
}
