//! One run of a virtual machine: its kernel's messages go to the first serial
//! port, what the command prints to the second.
use super::tools::Tools;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// MiB that a guest gets unless told otherwise.
pub(crate) const MEMORY: u32 = 512;

pub(crate) const INIT_PATH: &str = "/init";
pub(crate) const SCRIPT_PATH: &str = "/script";

/// The line with which the guest ends, on its first serial port.
const STATUS: &str = "memtrace-vm: status ";

/// The guest's first process. The variables are for the integration tests: an
/// emulated machine takes tens of times longer over everything.
pub(crate) const INIT: &str = r#"#!/usr/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/
export MEMTRACE_BIN=/usr/bin/memtrace MEMTRACE_PROGRAMS=/programs MEMTRACE_PATIENCE=10
busybox mkdir -p /proc /sys /dev /tmp /run
busybox mount -t proc proc /proc
busybox --install -s /usr/bin
test -e /bin || ln -s usr/bin /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ifconfig lo up
stty raw -echo </dev/ttyS1
sh /script </dev/null >/dev/ttyS1 2>&1
echo "memtrace-vm: status $?" >/dev/ttyS0
reboot -f
"#;

/// Emulated, so that it runs everywhere, also where machines are virtual
/// themselves. One processor: with two, QEMU's emulation breaks kernels that
/// change their own code while it runs, as tracing does.
const MACHINE: &[&str] = &[
    "-M",
    "q35",
    "-accel",
    "tcg",
    "-cpu",
    "max",
    "-smp",
    "1",
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-display",
    "none",
];

/// Trouble inside the kernel ends the guest: nothing after it can be relied upon.
/// Mitigations make emulation slower and nothing safer.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet oops=panic panic=-1 mitigations=off audit=0";

pub(crate) struct Guest<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a NamedTempFile,
    pub(crate) memory: u32,
    /// What the kernel is told besides.
    pub(crate) arguments: &'a str,
    pub(crate) timeout: Duration,
}

/// The command as a shell script.
pub(crate) fn script(command: &[OsString]) -> Vec<u8> {
    let mut script = b"exec".to_vec();
    for word in command {
        script.extend_from_slice(b" '");
        for byte in word.as_bytes() {
            match byte {
                b'\'' => script.extend_from_slice(br"'\''"),
                _ => script.push(*byte),
            }
        }
        script.push(b'\'');
    }
    script.push(b'\n');
    script
}

impl Guest<'_> {
    /// Boots, hands on what the command prints, and returns its exit status.
    pub(crate) fn run(&self, on_output: impl FnMut(&[u8])) -> Result<i32> {
        let console = NamedTempFile::new()?;
        let mut command = self.tools.emulator();
        command
            .args(MACHINE)
            .args(["-m", &self.memory.to_string()])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs.path())
            .arg("-append")
            .arg(format!("{KERNEL_ARGUMENTS} {}", self.arguments))
            .arg("-serial")
            .arg(format!("file:{}", console.path().display()))
            .args(["-serial", "stdio"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let child = command
            .spawn()
            .context("cannot run the emulator, qemu-system-x86_64")?;
        let in_time = self.attend(Machine(child), on_output)?;
        let said = fs::read(console.path()).context("cannot read the guest's console")?;
        let said = String::from_utf8_lossy(&said);
        let seconds = self.timeout.as_secs();
        match status(&said) {
            Some(status) => Ok(status),
            None if !in_time => bail!(
                "the guest did not end within its time, {seconds} s; its console:\n{}",
                beginning(&said)
            ),
            None => bail!(
                "the guest ended without a status: its kernel died, or did not boot with {} MiB; \
                 its console:\n{}",
                self.memory,
                beginning(&said)
            ),
        }
    }

    /// Until the machine has ended, or its time.
    fn attend(&self, mut machine: Machine, mut on_output: impl FnMut(&[u8])) -> Result<bool> {
        let deadline = Instant::now() + self.timeout;
        let mut pipe = machine.0.stdout.take().context("it has an output")?;
        let (sender, receiver) = mpsc::channel::<Vec<u8>>();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                let chunk = buffer.get(..length).unwrap_or_default().to_vec();
                if sender.send(chunk).is_err() {
                    break;
                }
            }
        });
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left) {
                Ok(chunk) => on_output(&chunk),
                Err(mpsc::RecvTimeoutError::Timeout) => return Ok(false),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        // It closes its output when it ends.
        machine.0.wait()?;
        Ok(true)
    }
}

/// An emulator that does not outlive its owner.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It has ended, in the good case; then these fail, and rightly.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the guest says at its end.
fn status(console: &str) -> Option<i32> {
    let (_, rest) = console.rsplit_once(STATUS)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The start of what a kernel told to be quiet says: its first trouble leads to
/// all others.
fn beginning(console: &str) -> String {
    let lines: Vec<_> = console.lines().take(80).collect();
    match lines.join("\n") {
        text if text.trim().is_empty() => "(nothing)".to_owned(),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_script_holds_the_words_as_they_are() {
        let command = ["echo", "it's", "$HOME  *"].map(OsString::from);
        let script = script(&command);
        assert_eq!(script, b"exec 'echo' 'it'\\''s' '$HOME  *'\n");
        let printed = Command::new("sh")
            .arg("-c")
            .arg(String::from_utf8(script).unwrap())
            .output();
        assert_eq!(printed.unwrap().stdout, b"it's $HOME  *\n");
    }

    #[test]
    fn the_status_is_the_last_one() {
        assert_eq!(status("[ 3.1] x\nmemtrace-vm: status 7\r\n"), Some(7));
        assert_eq!(status("Kernel panic - not syncing"), None);
        assert!(INIT.contains(STATUS) && INIT.contains(SCRIPT_PATH));
    }
}
