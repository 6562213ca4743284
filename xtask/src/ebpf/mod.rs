//! How the kernel side is built: the one place that knows. Used by `xtask`
//! and, through `#[path]`, by memtrace's build script; so it depends on
//! nothing but the standard library, `anyhow` and `sha2`.
use anyhow::{Context, Result, bail, ensure};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

pub(crate) mod carried;
mod find;

/// Where `cargo xtask setup` puts bpf-linker when it runs as root.
pub(crate) const LINKER_ROOT: &str = "/usr/local";
const TARGET: &str = "bpfel-unknown-none";

/// Whose registers the kernel side reads (`memtrace-ebpf/src/arch.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    X86_64,
    Aarch64,
}

impl Processor {
    /// The one that the repository carries an object for.
    pub(crate) const CARRIED: Self = Self::X86_64;

    /// As Rust calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// By that name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        [Self::X86_64, Self::Aarch64]
            .into_iter()
            .find(|processor| processor.name() == name)
            .with_context(|| format!("the kernel side knows x86_64 and aarch64, not {name}"))
    }

    /// Cargo's option for it; joined to what the crate's configuration says.
    fn option(self) -> [String; 2] {
        let flag = format!("--cfg=bpf_target_arch=\"{}\"", self.name());
        let setting = format!("target.{TARGET}.rustflags=['{flag}']");
        ["--config".to_owned(), setting]
    }
}

/// Variables of an outer cargo, or of the user's own builds, that would change
/// the compiler, its flags or its output. What cargo needs for reaching its
/// registry (`CARGO_HOME`, `CARGO_NET_…`, …) stays.
const FOREIGN_VARIABLES: &[&str] = &[
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_FEATURE_",
    "CARGO_INCREMENTAL",
    "CARGO_LLVM_COV",
    "CARGO_MAKEFLAGS",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "DEBUG",
    "DEP_",
    "HOST",
    "LD_LIBRARY_PATH",
    "MAKEFLAGS",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "TARGET",
];

/// What builds the kernel side.
pub(crate) struct Toolchain {
    /// The compiler itself, not rustup's proxy.
    pub(crate) rustc: PathBuf,
    /// The linker.
    pub(crate) linker: PathBuf,
    /// Who made the bytes: rows of the record, name and version.
    pub(crate) versions: Vec<(&'static str, String)>,
    cargo: PathBuf,
    /// Whether the compiler is a stable one that has to be told to build `core`.
    bootstrap: bool,
}

impl Toolchain {
    /// Finds a compiler that can build `core` for BPF, and bpf-linker. The
    /// error names everything that was tried.
    pub(crate) fn find() -> Result<Self> {
        let mut refused = Vec::new();
        let compiler = find::debian_compiler().or_else(|error| {
            refused.push(format!("{error:#}"));
            find::nightly_compiler()
        });
        let compiler = compiler.map_err(|error| refused.push(format!("{error:#}")));
        let linker = find::linker().map_err(|error| refused.push(format!("{error:#}")));
        let (Ok(compiler), Ok((linker, linker_version))) = (compiler, linker) else {
            bail!("no toolchain for the kernel side: {}", refused.join("; "));
        };
        let versions = vec![
            ("rustc", compiler.version),
            ("llvm", compiler.llvm),
            ("bpf-linker", linker_version),
            ("objcopy", objcopy_version()),
        ];
        Ok(Self {
            rustc: compiler.rustc,
            linker,
            versions,
            cargo: compiler.cargo,
            bootstrap: compiler.bootstrap,
        })
    }

    /// A row of `versions`.
    pub(crate) fn version(&self, name: &str) -> &str {
        let row = self.versions.iter().find(|(found, _)| *found == name);
        row.map_or("", |(_, version)| version)
    }

    /// A command inside the kernel side's crate, free of what an outer cargo
    /// left in the environment.
    fn command(&self, program: &Path, root: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if FOREIGN_VARIABLES
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        command
            .current_dir(root.join("memtrace-ebpf"))
            .env("RUSTC", &self.rustc)
            .env("CARGO_TARGET_DIR", target_directory(root))
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker);
        if self.bootstrap {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    /// Clippy over the kernel side, if this compiler's own is installed.
    pub(crate) fn clippy(&self, root: &Path, processor: Processor) -> Option<Command> {
        let program = self.rustc.with_file_name("cargo-clippy");
        if !program.is_file() {
            return None;
        }
        let mut command = self.command(&program, root);
        command.env("CARGO", &self.cargo);
        command.args(["clippy", "--release", "--locked"]);
        command.args(processor.option());
        command.args(["--", "-D", "warnings"]);
        Some(command)
    }

    /// Checks that user space compiles for a processor, whose standard library
    /// this compiler makes from its sources as it does `core`: no linker and no
    /// library of that processor is needed.
    pub(crate) fn check_user_space(&self, root: &Path, processor: Processor) -> Result<()> {
        let mut command = self.command(&self.cargo, root);
        command.current_dir(root);
        command.args([
            "check",
            "--quiet",
            "--locked",
            "--package",
            "memtrace",
            "--lib",
        ]);
        command.arg("-Zbuild-std=std,panic_abort");
        command.args([
            "--target",
            &format!("{}-unknown-linux-gnu", processor.name()),
        ]);
        let status = command.status();
        let status = status.with_context(|| format!("cannot run {}", self.cargo.display()))?;
        ensure!(
            status.success(),
            "user space does not compile for {}",
            processor.name()
        );
        Ok(())
    }

    /// Builds the object and returns where it is, without debug information
    /// but with BTF. The same sources and versions give the same bytes, in any
    /// folder (`memtrace-ebpf/Cargo.toml` says how).
    pub(crate) fn build(&self, root: &Path, processor: Processor) -> Result<PathBuf> {
        let target = target_directory(root);
        let stamp = target.join("memtrace.sources");
        let hash = carried::source_hash(root)?;
        if !fs::read_to_string(&stamp).is_ok_and(|built| built == hash) {
            // cargo looks at times only, and sources may change to older ones.
            // Of the target in its configuration, `clean` knows nothing.
            let packages = ["-p", "memtrace-ebpf", "-p", "memtrace-common"];
            let options = [&["--quiet", "--target", TARGET][..], &packages].concat();
            self.cargo(root, "clean", &options)?;
        }
        fs::create_dir_all(&target)?;
        fs::write(&stamp, hash)?;
        self.cargo(root, "build", &processor.option())?;
        let built = target.join(TARGET).join("release/memtrace");
        let stripped = built.with_extension(format!("{}.bpf.o", processor.name()));
        strip(&built, &stripped)?;
        Ok(stripped)
    }

    fn cargo(&self, root: &Path, verb: &str, options: &[impl AsRef<OsStr>]) -> Result<()> {
        let mut command = self.command(&self.cargo, root);
        let status = command
            .arg(verb)
            .args(["--release", "--locked"])
            .args(options)
            .status();
        let status = status.with_context(|| format!("cannot run {}", self.cargo.display()))?;
        let rustc = self.rustc.display();
        ensure!(
            status.success(),
            "cargo {verb} of the kernel side with {rustc} failed"
        );
        Ok(())
    }
}

/// Where cargo keeps the kernel side's intermediate files: apart from the
/// workspace's, whose lock an outer cargo holds.
fn target_directory(root: &Path) -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR").map(PathBuf::from) {
        Some(outer) if outer.is_absolute() => outer.join("ebpf"),
        _ => root.join("target/ebpf"),
    }
}

/// llvm-objcopy as every rustup toolchain carries it, else one on the path.
fn objcopy() -> Command {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let sysroot = output(&rustc, ["--print", "sysroot"]).unwrap_or_default();
    let library = Path::new(sysroot.trim()).join("lib");
    let carried = fs::read_dir(library.join("rustlib"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin/rust-objcopy"))
        .find(|candidate| candidate.is_file());
    match carried {
        Some(carried) => {
            let mut command = Command::new(carried);
            // It looks for libLLVM beside the target's libraries only.
            command.env("LD_LIBRARY_PATH", library);
            command
        }
        None => Command::new("llvm-objcopy"),
    }
}

fn objcopy_version() -> String {
    let output = objcopy().arg("--version").output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.contains("LLVM version"));
    line.map_or_else(|| "none".to_owned(), |line| line.trim().to_owned())
}

/// Removes DWARF; keeps `.BTF` and `.BTF.ext`.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let mut command = objcopy();
    let output = command
        .arg("--strip-debug")
        .args([from, to])
        .output()
        .with_context(|| {
            format!(
                "cannot run {} (rustup carries it)",
                command.get_program().display()
            )
        })?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "stripping {} failed: {complaint}",
        from.display()
    );
    Ok(())
}

fn output<P: AsRef<OsStr>, const N: usize>(program: P, arguments: [&str; N]) -> Result<String> {
    let name = program.as_ref().display();
    let output = Command::new(program.as_ref())
        .args(arguments)
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{name} fails: {}",
        complaint.trim()
    );
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed no text"))
}
