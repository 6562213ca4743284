//! The emulator and the shell of guests: this machine's own, or Debian's,
//! unpacked below `target/vm`. Installing the emulator could take away what the
//! machine's owner has of it: its packages of different origins exclude each
//! other.
use super::apt::Suite;
use crate::shell::{find, run};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const EMULATOR: &str = "qemu-system-x86_64";
const SHELL: &str = "busybox";

/// The release whose emulator the guests were measured with.
const SUITE: &str = "bookworm";
const PACKAGES: &[&str] = &["qemu-system-x86", "busybox-static"];

/// Within the packages, like all paths below.
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
const LIBRARIES: &[&str] = &["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
const MODULES: &str = "usr/lib/x86_64-linux-gnu/qemu";
const FIRMWARE: &[&str] = &["usr/share/qemu", "usr/share/seabios"];

/// Where they are.
pub(crate) struct Tools {
    emulator: Emulator,
    pub(crate) shell: PathBuf,
}

enum Emulator {
    Own(PathBuf),
    /// The root of the unpacked packages, which hold all that it needs, the C
    /// library and its loader included: this machine's may be older.
    Unpacked(PathBuf),
}

impl Tools {
    /// Fetches what this machine does not have into `folder`.
    pub(crate) fn provide(folder: &Path) -> Result<Self> {
        let (emulator, shell) = (find(EMULATOR), find(SHELL));
        if let (Some(emulator), Some(shell)) = (&emulator, &shell) {
            return Ok(Self {
                emulator: Emulator::Own(emulator.clone()),
                shell: shell.clone(),
            });
        }
        let root = unpacked(folder).with_context(|| {
            format!("booting a kernel needs {EMULATOR} and a static {SHELL}, which are not both in the PATH and cannot be fetched")
        })?;
        let shell = shell.unwrap_or_else(|| root.join("bin").join(SHELL));
        let emulator = emulator.map_or(Emulator::Unpacked(root), Emulator::Own);
        Ok(Self { emulator, shell })
    }

    /// The emulator, still without what it is to emulate.
    pub(crate) fn emulator(&self) -> Command {
        let root = match &self.emulator {
            Emulator::Own(path) => return Command::new(path),
            Emulator::Unpacked(root) => root,
        };
        let libraries: Vec<_> = LIBRARIES
            .iter()
            .map(|folder| root.join(folder).display().to_string())
            .collect();
        let mut command = Command::new(root.join(LOADER));
        command
            .args(["--library-path", &libraries.join(":")])
            .arg(root.join("usr/bin").join(EMULATOR))
            .env("QEMU_MODULE_DIR", root.join(MODULES));
        for folder in FIRMWARE {
            command.arg("-L").arg(root.join(folder));
        }
        command
    }
}

/// The root of the unpacked packages.
fn unpacked(folder: &Path) -> Result<PathBuf> {
    let place = folder.join("tools");
    if place.is_dir() {
        return Ok(place);
    }
    eprintln!("fetching {} from {SUITE}", PACKAGES.join(" and "));
    fs::create_dir_all(folder)?;
    let suite = Suite::open(folder, SUITE, true)?;
    // Beside its place and then renamed: half of it would be run.
    let root = tempfile::tempdir_in(folder)?;
    for archive in suite.download_all(PACKAGES)? {
        run(Command::new("dpkg")
            .arg("-x")
            .args([archive.as_path(), root.path()]))?;
    }
    fs::rename(root.path(), &place)?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn an_unpacked_emulator_uses_nothing_of_this_machine() {
        let tools = Tools {
            emulator: Emulator::Unpacked("/r".into()),
            shell: "/r/bin/busybox".into(),
        };
        let command = tools.emulator();
        assert_eq!(command.get_program(), "/r/lib64/ld-linux-x86-64.so.2");
        let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        assert_eq!(
            words.join(" "),
            "--library-path /r/lib/x86_64-linux-gnu:/r/usr/lib/x86_64-linux-gnu \
             /r/usr/bin/qemu-system-x86_64 -L /r/usr/share/qemu -L /r/usr/share/seabios"
        );
    }
}
