//! `cargo xtask setup`: installs what building the kernel side and the tests
//! need, on Debian and its like; elsewhere says what to run.
use crate::ebpf::{LINKER_ROOT, Toolchain};
use crate::shell::{as_root, cargo, is_root, output, run};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The version that goes with the pinned versions of aya.
const LINKER_VERSION: &str = "0.13.0";

struct Package {
    name: &'static str,
    reason: &'static str,
}

const BUILD_PACKAGES: &[Package] = &[
    Package {
        name: "rustc-web",
        reason: "a compiler whose LLVM is a shared library, for bpf-linker",
    },
    Package {
        name: "rust-web-src",
        reason: "the sources of core, built for BPF",
    },
    Package {
        name: "rust-web-clippy",
        reason: "lints of the kernel side",
    },
    Package {
        name: "gcc",
        reason: "links bpf-linker",
    },
];

const TEST_PACKAGES: &[Package] = &[
    Package {
        name: "gcc",
        reason: "test programs in C",
    },
    Package {
        name: "g++",
        reason: "test programs in C++",
    },
    Package {
        name: "libc6-dev",
        reason: "headers of the test programs",
    },
    Package {
        name: "redis-server",
        reason: "a real server with jemalloc to attach to",
    },
    Package {
        name: "redis-tools",
        reason: "redis-benchmark loads it",
    },
    Package {
        name: "perl",
        reason: "a real program whose stacks are compared",
    },
    Package {
        name: "git",
        reason: "a real program whose stacks are compared",
    },
    Package {
        name: "python3",
        reason: "a real program to start",
    },
    Package {
        name: "sqlite3",
        reason: "a real program to start",
    },
    Package {
        name: "libjemalloc2",
        reason: "an allocator to preload",
    },
    Package {
        name: "libtcmalloc-minimal4",
        reason: "an allocator to preload",
    },
    Package {
        name: "libgoogle-perftools4",
        reason: "an allocator to preload",
    },
    Package {
        name: "musl-tools",
        reason: "programs on another C library",
    },
    Package {
        name: "golang-go",
        reason: "programs without malloc",
    },
    Package {
        name: "libmimalloc2.0",
        reason: "an allocator to preload",
    },
    Package {
        name: "gdb",
        reason: "the second opinion on stacks",
    },
    Package {
        name: "chromium",
        reason: "a browser to look at pages in",
    },
    Package {
        name: "chromium-driver",
        reason: "clicks through pages",
    },
    Package {
        name: "bsdutils",
        reason: "script, the terminal of tests",
    },
    Package {
        name: "tmux",
        reason: "the terminal in which the live view is driven",
    },
    Package {
        name: "procps",
        reason: "ps and pgrep in tests",
    },
    Package {
        name: "bpftool",
        reason: "tells what a run left behind in the kernel",
    },
];

/// Install what building the kernel side and the tests need
#[derive(clap::Args)]
pub(crate) struct Setup {
    /// Install nothing; fail if something is missing
    #[arg(long)]
    check: bool,
}

impl Setup {
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        let build = Toolchain::find().err();
        if !is_debian() {
            // Test programs are known there by other names: only this counts.
            let Some(refusal) = build else {
                eprintln!("the kernel side's toolchain is there");
                return Ok(());
            };
            bail!("{refusal:#}.\n{ELSEWHERE}");
        }
        let packages = missing(BUILD_PACKAGES.iter().chain(TEST_PACKAGES))?;
        let linker = linker_trouble();
        if self.check {
            for package in &packages {
                eprintln!("missing: {} ({})", package.name, package.reason);
            }
            if let Some(trouble) = &linker {
                eprintln!("missing: bpf-linker: {trouble}");
            }
            ensure!(
                packages.is_empty() && linker.is_none(),
                "`cargo xtask setup` installs these"
            );
            return Ok(());
        }
        install(&packages)?;
        provide_linker(root)
    }
}

/// Installs only what building the kernel side needs.
pub(crate) fn provide_toolchain(root: &Path) -> Result<()> {
    ensure!(is_debian(), "{ELSEWHERE}");
    install(&missing(BUILD_PACKAGES)?)?;
    provide_linker(root)
}

/// Installs everything (the `test` command's first step).
pub(crate) fn provide_all(root: &Path) -> Result<()> {
    Setup { check: false }.run(root)
}

const ELSEWHERE: &str = "\
On this system, install by hand what building the kernel side needs:
  rustup toolchain install nightly --profile minimal --component rust-src,clippy
  bpf-linker: put the binary of its project's latest release, built for your
  machine, into a folder of your PATH (or `cargo install bpf-linker`, with LLVM
  and its headers)
Only running memtrace needs none of this: the repository carries the built object.";

pub(crate) fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && Path::new("/usr/bin/apt-get").exists()
}

/// The packages that are not installed.
fn missing(wanted: impl IntoIterator<Item = &'static Package>) -> Result<Vec<&'static Package>> {
    let query = ["-W", "-f", "${db:Status-Status} ${Package}\n"];
    let installed = output(Command::new("dpkg-query").args(query))?;
    let there = |package: &&Package| {
        let line = format!("installed {}", package.name);
        installed.lines().any(|found| found == line)
    };
    let mut packages: Vec<_> = wanted
        .into_iter()
        .filter(|package| !there(package))
        .collect();
    packages.sort_by_key(|package| package.name);
    packages.dedup_by_key(|package| package.name);
    Ok(packages)
}

fn install(packages: &[&Package]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    for package in packages {
        eprintln!("installing {}: {}", package.name, package.reason);
    }
    // In runlevel 1 packages do not start their services.
    let quiet = [("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")];
    let servers = processes("redis-server");
    run(as_root("apt-get", &quiet).args(["-q", "update"]))?;
    let names = packages.iter().map(|package| package.name);
    // What is already there belongs to the machine's owner: packages that cannot
    // be had beside it are an error, not a reason to take it away.
    run(as_root("apt-get", &quiet)
        .args(["-q", "install", "-y", "--no-install-recommends"])
        .arg("--no-remove")
        .args(names))
    .context(ELSEWHERE)?;
    if processes("redis-server") > servers {
        eprintln!("note: the package redis-server has started its service; memtrace needs none");
    }
    Ok(())
}

/// Running processes of this name.
fn processes(name: &str) -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}

/// Why bpf-linker has to be installed (again), if it has to.
fn linker_trouble() -> Option<String> {
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(refusal) => return Some(format!("{refusal:#}")),
    };
    // A linker with an LLVM older than the compiler's cannot read its bitcode.
    let libraries = output(Command::new("ldd").arg(&toolchain.linker)).unwrap_or_default();
    let linked = libraries
        .lines()
        .find_map(|line| line.trim().strip_prefix("libLLVM.so."))?;
    let linked = major(linked)?;
    let wanted = major(toolchain.version("llvm"))?;
    (linked < wanted).then(|| {
        format!(
            "{} has LLVM {linked}, rustc LLVM {wanted}",
            toolchain.linker.display()
        )
    })
}

/// `22.1.8` → 22
fn major(version: &str) -> Option<u32> {
    version
        .split(|letter: char| !letter.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

fn provide_linker(root: &Path) -> Result<()> {
    let Some(trouble) = linker_trouble() else {
        return Ok(());
    };
    eprintln!("installing bpf-linker, about a minute: {trouble}");
    let about = output(Command::new("/usr/bin/rustc").arg("-vV"))?;
    let version = about
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "));
    let version = version.context("/usr/bin/rustc does not say which LLVM it has")?;
    let feature = format!(
        "llvm-{}",
        major(version).context("an LLVM version is a number")?
    );
    let prefix = llvm_prefix(root, version)?;
    let mut command = cargo(root);
    command
        .args([
            "install",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
            "--locked",
            "--force",
        ])
        .args(["--no-default-features", "--features", &feature])
        .env("LLVM_PREFIX", prefix)
        .env_remove("RUSTFLAGS");
    // Others install into their own cargo's folder, which is on their path.
    if is_root() {
        command.args(["--root", LINKER_ROOT]);
    }
    run(&mut command)?;
    match linker_trouble() {
        Some(trouble) => bail!("bpf-linker was installed, but still: {trouble}"),
        None => Ok(()),
    }
}

/// A folder of the form that bpf-linker's build wants, `lib/libLLVM.so`,
/// without LLVM's development packages. Only the build looks there.
fn llvm_prefix(root: &Path, version: &str) -> Result<PathBuf> {
    let library = fs::read_dir("/usr/lib")?
        .flatten()
        .flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .find(|path| is_llvm(path, version))
        .with_context(|| format!("no libLLVM.so of version {version} under /usr/lib"))?;
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let prefix = root.join(target).join("bpf-linker-llvm");
    let link = prefix.join("lib/libLLVM.so");
    fs::create_dir_all(prefix.join("lib"))?;
    if fs::symlink_metadata(&link).is_ok() {
        fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(&library, &link)
        .with_context(|| format!("cannot link {} to {}", link.display(), library.display()))?;
    Ok(prefix)
}

/// Whether this is `libLLVM.so.22.1` for version 22.1.8.
fn is_llvm(path: &Path, version: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let suffix = name.and_then(|name| name.strip_prefix("libLLVM.so."));
    suffix.is_some_and(|suffix| {
        let rest = version.strip_prefix(suffix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_library_of_a_version() {
        let library = Path::new("/usr/lib/x86_64-linux-gnu/libLLVM.so.22.1");
        assert!(is_llvm(library, "22.1.8"));
        assert!(!is_llvm(library, "22.10.0"));
        assert!(!is_llvm(Path::new("/usr/lib/libLLVM.so"), "22.1.8"));
        assert_eq!(major("22.1 => /lib/libLLVM.so.22.1"), Some(22));
    }
}
