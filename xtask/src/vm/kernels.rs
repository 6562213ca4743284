//! The kernels to test on, one row each, and their images: fetched once from
//! Debian's suites, then kept.
use super::apt::Suite;
use crate::shell::run;
use anyhow::{Context, Result, ensure};
use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Kernel {
    /// What `--kernel` calls it.
    pub(crate) name: &'static str,
    pub(crate) suite: &'static str,
    /// The suite is past its end of life, or soon: look in the archive, too.
    pub(crate) archived: bool,
    /// The package that holds the image; of those that match, the newest. From
    /// 6.19 on `linux-image-…` is empty and `linux-binary-…` has it.
    pub(crate) package: &'static str,
    /// Whether it is an error that it cannot be had.
    pub(crate) required: bool,
}

/// Oldest first. Long-lived releases, and the newest that Debian builds. None
/// needs modules: uprobes and BPF are built in, and so is the serial port.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel {
        name: "5.10",
        suite: "bullseye",
        archived: true,
        package: "linux-image-5.10.*-cloud-amd64",
        required: false,
    },
    Kernel {
        name: "6.1",
        suite: "bookworm",
        archived: false,
        package: "linux-image-6.1.*-cloud-amd64",
        required: true,
    },
    Kernel {
        name: "6.12",
        suite: "trixie",
        archived: false,
        package: "linux-image-6.12.*-cloud-amd64",
        required: true,
    },
    Kernel {
        name: "6.18",
        suite: "trixie-backports",
        archived: false,
        package: "linux-image-6.18.*-cloud-amd64",
        required: false,
    },
    Kernel {
        name: "newest",
        suite: "trixie-backports",
        archived: false,
        package: "linux-binary-*-cloud-amd64",
        required: false,
    },
];

/// A kernel that is here.
pub(crate) struct Image {
    pub(crate) image: PathBuf,
    /// The package that it came from.
    pub(crate) package: String,
}

impl Kernel {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        KERNELS.iter().find(|kernel| kernel.name == name)
    }

    /// Its image, if it is here.
    pub(crate) fn cached(&self, folder: &Path) -> Option<Image> {
        let folder = self.place(folder);
        let package = fs::read_to_string(folder.join("package")).ok()?;
        let image = folder.join("vmlinuz");
        image.is_file().then_some(Image { image, package })
    }

    fn place(&self, folder: &Path) -> PathBuf {
        folder.join("kernels").join(self.name)
    }

    /// Its image, fetched if it is not here.
    pub(crate) fn provide(&self, folder: &Path) -> Result<Image> {
        if let Some(found) = self.cached(folder) {
            return Ok(found);
        }
        eprintln!("fetching kernel {} from {}", self.name, self.suite);
        self.fetch(folder)
            .with_context(|| format!("cannot fetch kernel {} from {}", self.name, self.suite))?;
        self.cached(folder)
            .with_context(|| format!("kernel {} was fetched, but is not there", self.name))
    }

    fn fetch(&self, folder: &Path) -> Result<()> {
        let suite = Suite::open(folder, self.suite, self.archived)?;
        let names = suite.names()?;
        let matching = names.iter().filter(|name| matches(self.package, name));
        let package = matching
            .max_by(|one, other| versions(one, other))
            .with_context(|| format!("the suite has no package {}", self.package))?;
        // Beside its place and then renamed: a half-written image would be booted.
        fs::create_dir_all(folder)?;
        let unpacked = tempfile::tempdir_in(folder)?;
        let archive = suite.download(package, unpacked.path())?;
        run(Command::new("dpkg")
            .arg("-x")
            .args([archive.as_path(), unpacked.path()]))?;
        let image = find_image(unpacked.path())?
            .with_context(|| format!("the package {package} holds no vmlinuz"))?;
        let place = self.place(folder);
        fs::create_dir_all(&place)?;
        fs::rename(image, place.join("vmlinuz"))?;
        fs::write(place.join("package"), package)?;
        Ok(())
    }
}

/// In `boot/`, or beside the modules.
fn find_image(folder: &Path) -> Result<Option<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_file() && name.to_string_lossy().starts_with("vmlinuz") {
            ensure!(entry.metadata()?.len() > 0, "{} is empty", name.display());
            return Ok(Some(entry.path()));
        }
        if kind.is_dir()
            && let Some(found) = find_image(&entry.path())?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// `*` stands for a version: it begins with a digit, unlike the `unsigned-` of
/// packages that only Debian's own builds use.
fn matches(pattern: &str, name: &str) -> bool {
    let (start, end) = pattern.split_once('*').unwrap_or((pattern, ""));
    let version = name
        .strip_prefix(start)
        .and_then(|rest| rest.strip_suffix(end));
    version.is_some_and(|version| version.starts_with(|letter: char| letter.is_ascii_digit()))
}

/// Compares the numbers in two names: 7.2.12 comes after 7.2.9.
fn versions(one: &str, other: &str) -> Ordering {
    numbers(one).cmp(numbers(other))
}

fn numbers(name: &str) -> impl Iterator<Item = u64> {
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_newest_of_a_row() {
        let names = [
            "linux-binary-7.2.9+deb13-cloud-amd64",
            "linux-binary-7.2.12+deb13-cloud-amd64",
            "linux-binary-7.2.13+deb13-amd64",
            "linux-binary-unsigned-7.3.4+deb13-cloud-amd64",
        ];
        let matching = names
            .into_iter()
            .filter(|name| matches("linux-binary-*-cloud-amd64", name));
        let newest = matching.max_by(|one, other| versions(one, other));
        assert_eq!(newest, Some("linux-binary-7.2.12+deb13-cloud-amd64"));
        assert!(!matches(
            "linux-image-6.1.*-cloud-amd64",
            "linux-image-6.12.8-cloud-amd64"
        ));
    }

    #[test]
    fn names_are_different() {
        for kernel in KERNELS {
            let same = KERNELS.iter().filter(|other| other.name == kernel.name);
            assert_eq!(same.count(), 1, "{}", kernel.name);
            assert!(Kernel::named(kernel.name).is_some());
        }
    }
}
