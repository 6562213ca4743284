//! Provides `OUT_DIR/memtrace.bpf.o`, the kernel side: a fresh build where the
//! toolchain for it is there, else the object that the repository carries, if
//! it comes from the present sources.
#![expect(clippy::print_stderr, reason = "so it talks to cargo")]
use anyhow::{Context, Result, anyhow, ensure};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

#[path = "../xtask/src/ebpf/mod.rs"]
#[expect(dead_code, reason = "xtask uses the rest")]
mod ebpf;
use ebpf::{Processor, carried::Carried};

/// Set to `carried`, a toolchain that may be there is not used.
const CHOICE: &str = "MEMTRACE_EBPF";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo runs this")?);
    let root = manifest
        .parent()
        .context("memtrace is a member of a workspace")?;
    watch(root)?;
    let object = object(root)?;
    let to = PathBuf::from(env::var_os("OUT_DIR").context("cargo runs this")?);
    fs::copy(&object, to.join("memtrace.bpf.o"))
        .with_context(|| format!("cannot copy {}", object.display()))?;
    Ok(())
}

/// Names all files that the result depends on. The path is not among them: it
/// changes too often for nothing.
fn watch(root: &Path) -> Result<()> {
    println!("cargo::rerun-if-env-changed={CHOICE}");
    println!("cargo::rerun-if-changed=build.rs");
    let sources = ebpf::carried::source_files(root)?;
    let carried = Carried::files().map(PathBuf::from);
    for file in sources
        .into_iter()
        .chain(carried)
        .chain(["xtask/src/ebpf".into()])
    {
        let file = root.join(file);
        // cargo takes a missing file for a changed one.
        if file.exists() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }
    // New files show in the time of their folder.
    for folder in ["memtrace-common/src", "memtrace-ebpf/src"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    Ok(())
}

fn object(root: &Path) -> Result<PathBuf> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").context("cargo runs this")?;
    let processor = Processor::named(&arch)?;
    let refusal = match fresh(root, processor) {
        Ok(object) => return Ok(object),
        Err(refusal) => refusal,
    };
    let setup = "`cargo xtask setup` installs what building the kernel side needs";
    ensure!(
        processor == Processor::CARRIED,
        "{refusal:#}; the repository carries no object for {arch}. {setup}"
    );
    let carried = Carried::read(root).and_then(|carried| {
        carried.check(root)?;
        Ok(carried.object)
    });
    // A matching object was built from these very sources: then a toolchain
    // that fails on them is no reason to fail.
    carried.map_err(|reason| anyhow!("{refusal:#}; {reason:#}. {setup}"))
}

fn fresh(root: &Path, processor: Processor) -> Result<PathBuf> {
    let forced = env::var_os(CHOICE).is_some_and(|choice| choice == "carried");
    ensure!(!forced, "{CHOICE}=carried");
    let toolchain = ebpf::Toolchain::find()?;
    for part in [&toolchain.rustc, &toolchain.linker] {
        println!("cargo::rerun-if-changed={}", part.display());
    }
    toolchain
        .build(root, processor)
        .inspect_err(|error| println!("cargo::warning={error:#}"))
}
