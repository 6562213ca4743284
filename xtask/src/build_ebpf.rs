//! `cargo xtask build-ebpf`: builds the kernel side, checks or renews the
//! object that the repository carries.
use crate::ebpf::carried::{Carried, bytes_hash};
use crate::ebpf::{Processor, Toolchain};
use crate::test::Tally;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Build the kernel side; needs what `setup` installs
#[derive(clap::Args)]
pub(crate) struct BuildEbpf {
    /// Fail if the object that the repository carries is stale
    #[arg(long)]
    check: bool,
    /// Renew the object that the repository carries
    #[arg(long, conflicts_with = "check")]
    update: bool,
    /// Build for this processor; the repository carries no object for others
    /// than the default
    #[arg(
        long,
        default_value = Processor::CARRIED.name(),
        value_parser = Processor::named,
        conflicts_with_all = ["check", "update"]
    )]
    arch: Processor,
}

const RENEW: &str = "`cargo xtask build-ebpf --update` renews it";

impl BuildEbpf {
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        if self.check {
            return check(root);
        }
        let (toolchain, object) = build(root, self.arch)?;
        eprintln!(
            "{}: {} bytes",
            object.display(),
            fs::metadata(&object)?.len()
        );
        if self.update {
            Carried::write(root, &object, &toolchain)?;
            eprintln!("wrote {}", Carried::files().join(" and "));
        }
        Ok(())
    }
}

fn build(root: &Path, processor: Processor) -> Result<(Toolchain, PathBuf)> {
    let toolchain = Toolchain::find().context("`cargo xtask setup` installs it")?;
    let object = toolchain.build(root, processor)?;
    Ok((toolchain, object))
}

/// Builds the kernel side for the processor that no object is carried for, and
/// checks user space for it.
pub(crate) fn check_other(root: &Path) -> Result<Tally> {
    let (toolchain, _) = build(root, Processor::Aarch64)?;
    toolchain.check_user_space(root, Processor::Aarch64)?;
    Ok(Tally::PASSED)
}

/// Fails if the carried object comes from other sources, or is not what the
/// versions that made it make.
pub(crate) fn check(root: &Path) -> Result<()> {
    // Before the build: this needs no toolchain.
    let carried = Carried::read(root).context(RENEW)?;
    carried.check(root).context(RENEW)?;
    let (toolchain, object) = build(root, Processor::CARRIED)?;
    if !carried.made_by(&toolchain) {
        eprintln!("the carried object was made by other versions: bytes not compared");
        return Ok(());
    }
    let same = bytes_hash(&fs::read(object)?) == carried.get("object");
    ensure!(
        same,
        "the carried object has other bytes than a fresh build: {RENEW}"
    );
    Ok(())
}
