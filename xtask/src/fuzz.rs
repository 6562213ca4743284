//! `cargo xtask fuzz`: the targets in `fuzz/`, for a while each, with the
//! toolchain that builds everything else. cargo-fuzz runs them as well, but
//! wants nightly for the sanitizers, which safe code has no need of.
use crate::shell::{cargo, output, run};
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What cargo-fuzz has the compiler do, less the sanitizer: count how often
/// each edge is taken, and tell what is compared with what.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
];

/// No input may take longer, seconds.
const TIMEOUT: u32 = 10;

/// No input may take more memory, MiB.
const MEMORY: u32 = 2048;

/// Feed memtrace's readers with damaged input
#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// One of the targets in fuzz/Cargo.toml [default: all]
    target: Option<String>,
    /// How long each is to run
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

impl Fuzz {
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        let known = targets(root)?;
        let wanted = match &self.target {
            None => known,
            Some(name) if known.contains(name) => vec![name.clone()],
            Some(name) => bail!(
                "no target {name} in fuzz/Cargo.toml: there are {}",
                known.join(", ")
            ),
        };
        fuzz(root, &wanted, self.seconds)
    }
}

/// All targets; how the `test` command runs them.
pub(crate) fn all(root: &Path, seconds: u32) -> Result<()> {
    fuzz(root, &targets(root)?, seconds)
}

fn targets(root: &Path) -> Result<Vec<String>> {
    let path = root.join("fuzz/Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    Ok(names(&text))
}

/// What `[[bin]]` tables are called.
fn names(manifest: &str) -> Vec<String> {
    let tables = manifest.split("[[bin]]").skip(1);
    tables
        .filter_map(|table| {
            table
                .lines()
                .find_map(|line| line.strip_prefix("name = \""))
        })
        .filter_map(|name| name.strip_suffix('"').map(str::to_owned))
        .collect()
}

fn fuzz(root: &Path, targets: &[String], seconds: u32) -> Result<()> {
    let folder = root.join("fuzz");
    let programs = build(&folder)?;
    let mut failed = Vec::new();
    for target in targets {
        if let Err(error) = run_one(&folder, &programs.join(target), target, seconds) {
            eprintln!("error: {error:#}");
            failed.push(target.as_str());
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Returns where the programs are.
fn build(folder: &Path) -> Result<PathBuf> {
    let host = output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let host = host.trim();
    let mut command = cargo(folder);
    // With a target named, build scripts are built without the flags.
    command
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--bins",
            "--target",
            host,
        ])
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .env("CARGO_TARGET_DIR", folder.join("target"));
    run(&mut command)?;
    Ok(folder.join("target").join(host).join("release"))
}

fn run_one(folder: &Path, program: &Path, target: &str, seconds: u32) -> Result<()> {
    let corpus = folder.join("corpus").join(target);
    let artifacts = folder.join("artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // A path that ends in a slash is a folder to it.
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(artifacts.join(""));
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .args(["-verbosity=0", "-print_final_stats=1"])
        .arg(prefix)
        .arg(&corpus);
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let number = |key: &str| {
            let mut lines = said.lines();
            lines
                .find_map(|line| line.strip_prefix(key))
                .unwrap_or("?")
                .trim()
                .to_owned()
        };
        eprintln!(
            "{target}: {} inputs in {seconds} s, {} new, slowest {} s, {} MiB",
            number("stat::number_of_executed_units:"),
            number("stat::new_units_added:"),
            number("stat::slowest_unit_time_sec:"),
            number("stat::peak_rss_mb:"),
        );
        return Ok(());
    }
    eprintln!("{said}");
    let written = said
        .lines()
        .find_map(|line| line.split_once("Test unit written to "));
    let input = written.map_or("no input was kept", |(_, path)| path);
    bail!("{target}: {}: the input is {input}", output.status)
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn targets_are_the_programs() {
        let manifest =
            "[package]\nname = \"x\"\n\n[[bin]]\nname = \"a\"\n\n[[bin]]\nname = \"b\"\n";
        assert_eq!(names(manifest), ["a", "b"]);
    }
}
