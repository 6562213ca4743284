//! `cargo xtask man`: the manual pages in `docs/man`, made from the definitions
//! of the command line. They are kept, so that packages need no build for them,
//! and CI compares.
use crate::shell::{cargo, run};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where they are kept.
const PAGES: &str = "docs/man";

/// Write the manual pages anew
#[derive(clap::Args)]
pub(crate) struct Man {
    /// Write nothing; fail if they are not current
    #[arg(long)]
    check: bool,
}

impl Man {
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        if self.check {
            return check(root);
        }
        let folder = root.join(PAGES);
        // A command that is gone has no page.
        for page in pages(&folder)?.into_keys() {
            fs::remove_file(folder.join(page))?;
        }
        fs::create_dir_all(&folder)?;
        write(root, &folder)
    }
}

/// Fails where the pages are not those that would be written.
pub(crate) fn check(root: &Path) -> Result<()> {
    let fresh = tempfile::tempdir()?;
    write(root, fresh.path())?;
    let (kept, fresh) = (pages(&root.join(PAGES))?, pages(fresh.path())?);
    let stale = kept.keys().chain(fresh.keys());
    let mut stale: Vec<_> = stale
        .filter(|page| kept.get(*page) != fresh.get(*page))
        .collect();
    stale.sort();
    stale.dedup();
    ensure!(
        stale.is_empty(),
        "{PAGES} is not current: {}: `cargo xtask man` writes them",
        stale
            .iter()
            .map(|page| page.display().to_string())
            .collect::<Vec<_>>()
            .join(", ")
    );
    Ok(())
}

fn write(root: &Path, folder: &Path) -> Result<()> {
    let arguments = [
        "run",
        "--quiet",
        "--package",
        "memtrace",
        "--example",
        "man",
    ];
    run(cargo(root).args(arguments).arg("--").arg(folder))
}

/// Names and contents.
fn pages(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    entries
        .map(|entry| {
            let entry = entry?;
            Ok((PathBuf::from(entry.file_name()), fs::read(entry.path())?))
        })
        .collect()
}
