//! Running other programs: as root where needed, with one line when they fail.
use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::{env, fs};

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    // A process's folder belongs to its effective user.
    fs::metadata("/proc/self").is_ok_and(|folder| folder.uid() == 0)
}

/// A command that runs as root, through sudo where needed. `variables` are
/// set on the far side: sudo clears the environment.
pub(crate) fn as_root(program: impl AsRef<OsStr>, variables: &[(&str, &str)]) -> Command {
    if is_root() {
        let mut command = Command::new(program);
        command.envs(variables.iter().copied());
        return command;
    }
    let mut command = Command::new("sudo");
    command.arg("env");
    command.args(
        variables
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    command.arg(program);
    command
}

/// Runs a command; an exit status other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot run {name}"))?;
    ensure!(status.success(), "{} failed ({status})", words(command));
    Ok(())
}

/// Runs a command and returns what it prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} failed: {}",
        words(command),
        complaint.trim()
    );
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed no text"))
}

fn words(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The cargo that runs this, in the workspace.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// The workspace's folder for everything built.
pub(crate) fn target(root: &Path) -> PathBuf {
    root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Where the workspace's cargo puts a release build of memtrace.
pub(crate) fn memtrace(root: &Path) -> PathBuf {
    target(root).join("release/memtrace")
}

/// Where a program is, by `PATH` and the folders of root's programs.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// A child that does not outlive its owner.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It has ended, in the good case; then these fail, and rightly.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
