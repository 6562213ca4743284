//! Writes the manual pages into a folder: `cargo xtask man`. From the same
//! definitions as `--help`, so that both say the same.
use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

fn main() -> Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.context("which folder?")?;
    let pages = memtrace::cli::args::Args::command();
    clap_mangen::generate_to(pages, &folder)
        .with_context(|| format!("cannot write into {}", folder.display()))
}
