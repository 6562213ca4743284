//! Memory cgroups in which the kernel kills.
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::program;
use crate::target::Guard;

/// How long a program may take to fill its group.
const DEATH: Duration = Duration::from_mins(1);

/// A memory cgroup with a limit, removed at the end.
pub struct Group {
    path: PathBuf,
    /// As the kernel names it.
    pub name: String,
}

impl Group {
    /// `None`: this user can make none here.
    pub fn make(name: &str) -> Result<Option<Self>> {
        let name = format!("memtrace-{name}-{}", std::process::id());
        for (root, limit) in [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ] {
            // Version 2 hands the controller down only where that is set.
            let _ = fs::write(Path::new(root).join("cgroup.subtree_control"), "+memory");
            let path = Path::new(root).join(&name);
            if fs::create_dir(&path).is_err() {
                continue;
            }
            let group = Self {
                path,
                name: format!("/{name}"),
            };
            if group.path.join(limit).exists() {
                fs::write(group.path.join(limit), "8M")
                    .with_context(|| format!("{}", group.path.display()))?;
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    /// Starts a hog in it and returns its process id when it has been killed.
    pub fn kill(&self) -> Result<u32> {
        let script = format!(
            "echo $$ > {}/cgroup.procs && exec {}",
            self.path.display(),
            program::path("hog")?.display()
        );
        let mut child = Guard(
            Command::new("sh")
                .args(["-c", &script])
                .stdin(Stdio::null())
                .spawn()?,
        );
        let pid = child.0.id();
        let status = child.wait(DEATH)?;
        ensure!(
            status.signal() == Some(Signal::SIGKILL as i32),
            "the hog ended with {status}"
        );
        Ok(pid)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}
