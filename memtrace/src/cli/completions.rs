//! `memtrace completions SHELL`: what the shell completes after `memtrace`.
use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// What `memtrace completions` takes.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Writes the shell's script and returns the exit status.
pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<i32> {
    let mut script = Vec::new();
    let mut command = super::args::Args::command();
    clap_complete::generate(args.shell, &mut command, "memtrace", &mut script);
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("failed to write the completions to standard output")
        }
        _ => Ok(0),
    }
}
