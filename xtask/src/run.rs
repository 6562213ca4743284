//! `cargo xtask run`: builds memtrace and runs it as root.
use crate::ebpf::Toolchain;
use crate::ebpf::carried::Carried;
use crate::setup;
use crate::shell::{as_root, cargo, memtrace, run};
use anyhow::{Context, Result};
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

/// Build memtrace and run it as root, through sudo where needed
#[derive(clap::Args)]
pub(crate) struct Run {
    /// What memtrace is given
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

impl Run {
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        build(root)?;
        self.replace(root).map(|never| match never {})
    }

    /// Becomes memtrace, so that its exit status and signals are this one's.
    fn replace(&self, root: &Path) -> Result<Infallible> {
        let error = as_root(memtrace(root), &[]).args(&self.arguments).exec();
        Err(error).context("cannot run memtrace as root")
    }
}

/// A release build, after installing what it needs.
pub(crate) fn build(root: &Path) -> Result<()> {
    let carried = || Carried::read(root)?.check(root);
    if Toolchain::find().is_err() && carried().is_err() {
        setup::provide_toolchain(root)?;
    }
    run(cargo(root).args(["build", "--quiet", "--release", "--package", "memtrace"]))
}
