//! Finds what can build the kernel side on this machine.
use super::{LINKER_ROOT, output};
use anyhow::{Context, Result, ensure};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Debian's compiler: it may build `core`, its sources come as a package.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// aya-ebpf 0.2.1 and `build-std` with its sources were tried from here on.
const MINIMUM_RUSTC: (u32, u32) = (1, 96);

/// A compiler that can build `core`.
pub(super) struct Compiler {
    pub(super) rustc: PathBuf,
    pub(super) cargo: PathBuf,
    pub(super) bootstrap: bool,
    pub(super) version: String,
    pub(super) llvm: String,
}

pub(super) fn debian_compiler() -> Result<Compiler> {
    let rustc = PathBuf::from(DEBIAN_RUSTC);
    let about = rustc_facts(&rustc)?;
    let found = minor_version(&about.release);
    let (major, minor) = MINIMUM_RUSTC;
    ensure!(
        found >= Some(MINIMUM_RUSTC),
        "{DEBIAN_RUSTC} is {}, older than {major}.{minor}",
        about.release
    );
    let cargo = env::var_os("CARGO")
        .unwrap_or_else(|| OsString::from("cargo"))
        .into();
    Ok(Compiler {
        rustc,
        cargo,
        bootstrap: true,
        version: about.version,
        llvm: about.llvm,
    })
}

pub(super) fn nightly_compiler() -> Result<Compiler> {
    let which = output("rustup", ["which", "--toolchain", "nightly", "rustc"])
        .context("rustup has no nightly")?;
    let rustc = PathBuf::from(which.trim());
    let about = rustc_facts(&rustc)?;
    let cargo = rustc.with_file_name("cargo");
    Ok(Compiler {
        rustc,
        cargo,
        bootstrap: false,
        version: about.version,
        llvm: about.llvm,
    })
}

struct RustcFacts {
    version: String,
    release: String,
    llvm: String,
}

/// Asks a compiler what it is; fails where it lacks the sources of `core`.
fn rustc_facts(rustc: &Path) -> Result<RustcFacts> {
    let text = output(rustc, ["-vV"])?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value
            .map(|value| value.trim().to_owned())
            .unwrap_or_default()
    };
    let sysroot = output(rustc, ["--print", "sysroot"])?;
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock");
    ensure!(
        sources.exists(),
        "{} comes without the library sources",
        rustc.display()
    );
    let version = text.lines().next().unwrap_or_default().to_owned();
    Ok(RustcFacts {
        version,
        release: field("release:"),
        llvm: field("LLVM version:"),
    })
}

/// `1.96.0` → `(1, 96)`
fn minor_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split('.').map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// bpf-linker on the path or where `setup` puts it, if it runs.
pub(super) fn linker() -> Result<(PathBuf, String)> {
    let path = env::var_os("PATH").unwrap_or_default();
    let known = Path::new(LINKER_ROOT).join("bin");
    let candidate = env::split_paths(&path)
        .chain([known])
        .map(|folder| folder.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
        .context("no bpf-linker")?;
    let version = output(&candidate, ["--version"])?;
    Ok((candidate, version.trim().to_owned()))
}
