//! Long output on a terminal goes through the user's pager, as git's does.
use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    process::{Command, Stdio},
};

use nix::sys::signal::{SigSet, Signal};

/// What pages where `PAGER` says nothing.
const USUAL: &str = "less";

/// For `less`, unless the user has settings: end at once if all fits on the
/// screen, show colours, leave the text there.
const LESS: (&str, &str) = ("LESS", "FRX");

/// The pager, or none where the user wants none: `PAGER` is empty or `cat`.
fn wanted() -> Option<OsString> {
    let pager = env::var_os("PAGER").unwrap_or_else(|| USUAL.into());
    (!pager.is_empty() && pager != OsStr::new("cat")).then_some(pager)
}

/// Shows the text; returns whether it did. A pager that cannot be started is
/// no reason to show nothing.
pub(super) fn show(text: &[u8]) -> io::Result<bool> {
    let Some(pager) = wanted() else {
        return Ok(false);
    };
    let mut command = Command::new("/bin/sh");
    // exec: what is waited for is the pager itself; 127 says that there is none.
    let mut line = OsString::from("exec ");
    line.push(&pager);
    command.arg("-c").arg(line).stdin(Stdio::piped());
    if env::var_os(LESS.0).is_none() {
        command.env(LESS.0, LESS.1);
    }
    let Ok(mut child) = command.spawn() else {
        return Ok(false);
    };
    // Ctrl-C is the pager's: it must not be left on the terminal alone.
    let mut ours = SigSet::empty();
    ours.add(Signal::SIGINT);
    let held = ours.thread_block();
    let written = match child.stdin.take() {
        Some(mut input) => input.write_all(text),
        None => Ok(()),
    };
    let status = child.wait()?;
    if held.is_ok() {
        // What was pressed meanwhile has done its work.
        let _ = ours.thread_unblock();
    }
    if status.code() == Some(127) {
        return Ok(false);
    }
    match written {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        written => written.map(|()| true),
    }
}
