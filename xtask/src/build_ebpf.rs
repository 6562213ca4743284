//! `cargo xtask build-ebpf`: builds the kernel side, checks or renews the
//! object that the repository carries.
use crate::ebpf::Toolchain;
use crate::ebpf::carried::{Carried, bytes_hash};
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
}

const RENEW: &str = "`cargo xtask build-ebpf --update` renews it";

impl BuildEbpf {
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        if self.check {
            return check(root);
        }
        let (toolchain, object) = build(root)?;
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

fn build(root: &Path) -> Result<(Toolchain, PathBuf)> {
    let toolchain = Toolchain::find().context("`cargo xtask setup` installs it")?;
    let object = toolchain.build(root)?;
    Ok((toolchain, object))
}

/// Fails if the carried object comes from other sources, or is not what the
/// versions that made it make.
pub(crate) fn check(root: &Path) -> Result<()> {
    // Before the build: this needs no toolchain.
    let carried = Carried::read(root).context(RENEW)?;
    carried.check(root).context(RENEW)?;
    let (toolchain, object) = build(root)?;
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
