//! Packages of Debian suites that this machine does not use: apt with a state
//! of its own, which the machine's own apt does not see.
use crate::shell::output;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where suites go after their end of life.
const ARCHIVE: &str = "http://archive.debian.org/debian";
/// On every Debian; it has the keys of older and newer releases, too.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

const ELSEWHERE: &str = "kernels are fetched with Debian's apt; elsewhere, give \
    the path of a kernel image: `cargo xtask vm --kernel PATH`";

/// A suite whose list of packages is here.
pub(crate) struct Suite {
    name: &'static str,
    configuration: PathBuf,
}

impl Suite {
    /// Fetches the suite's list of packages, below `folder`.
    pub(crate) fn open(folder: &Path, name: &'static str, archived: bool) -> Result<Self> {
        let mirror = mirror()?;
        let suite = Self::configure(folder, name, &mirror)?;
        let Err(error) = suite.update() else {
            return Ok(suite);
        };
        if !archived {
            return Err(error);
        }
        eprintln!("{name}: {error:#}; trying the archive");
        let suite = Self::configure(folder, name, ARCHIVE)?;
        suite.update()?;
        Ok(suite)
    }

    fn configure(folder: &Path, name: &'static str, mirror: &str) -> Result<Self> {
        ensure!(
            Path::new(KEYRING).is_file(),
            "no {KEYRING}, which proves that packages are Debian's: install debian-archive-keyring"
        );
        let folder = folder.join("apt").join(name);
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let source = format!("deb [signed-by={KEYRING}] {mirror} {name} main\n");
        fs::write(folder.join("sources.list"), source)?;
        fs::write(folder.join("status"), "")?;
        let configuration = folder.join("apt.conf");
        fs::write(&configuration, settings(&folder))?;
        Ok(Self {
            name,
            configuration,
        })
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.configuration).arg("-q");
        command
    }

    fn update(&self) -> Result<()> {
        output(self.apt("apt-get").arg("update"))
            .map(drop)
            .with_context(|| format!("no list of the packages of {}", self.name))
    }

    /// All packages of kernels.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let names = output(self.apt("apt-cache").args(["pkgnames", "linux-"]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The files of packages and of all that they need: this suite's state knows
    /// of none that is installed.
    pub(crate) fn download_all(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let mut command = self.apt("apt-get");
        command.args(["install", "--download-only", "-y"]);
        command.arg("--no-install-recommends").args(packages);
        output(&mut command)?;
        let archives = self.configuration.with_file_name("cache/archives");
        let entries = fs::read_dir(&archives)
            .with_context(|| format!("cannot read {}", archives.display()))?;
        let files = entries.flatten().map(|entry| entry.path());
        Ok(files
            .filter(|path| path.extension().is_some_and(|end| end == "deb"))
            .collect())
    }

    /// Puts the package's file into a folder.
    pub(crate) fn download(&self, package: &str, folder: &Path) -> Result<PathBuf> {
        let mut command = self.apt("apt-get");
        // Progress is not this command's output.
        command.current_dir(folder).args(["download", package]);
        eprint!("{}", output(&mut command)?);
        let mut files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
        files
            .find(|path| path.extension().is_some_and(|end| end == "deb"))
            .with_context(|| format!("apt-get download {package} left no file"))
    }
}

/// Read after the machine's own settings, whose proxies are needed. What it does
/// after updates is for its own lists.
fn settings(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::State "{folder}";
Dir::State::Lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "-";
"#
    )
}

/// Where this machine gets its own release from: all suites are there.
fn mirror() -> Result<String> {
    let about = fs::read_to_string("/etc/os-release").unwrap_or_default();
    ensure!(
        field(&about, "ID") == Some("debian"),
        "this is not Debian: {ELSEWHERE}"
    );
    let format = ["--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"];
    let targets = output(
        Command::new("apt-get")
            .args(["indextargets", "--no-release-info"])
            .args(format)
            .arg("Identifier: Packages"),
    )
    .context(ELSEWHERE)?;
    let release = field(&about, "VERSION_CODENAME");
    match of_release(&targets, release) {
        Some(mirror) => Ok(mirror.to_owned()),
        None => bail!(
            "apt's sources name no mirror of {}: {ELSEWHERE}",
            release.unwrap_or("this release")
        ),
    }
}

/// `NAME=value` or `NAME="value"`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"'))
}

/// The mirror of a release, not of its security updates and not of others'
/// packages for it. Testing and sid have no codename: then any of Debian's.
fn of_release<'a>(targets: &'a str, release: Option<&str>) -> Option<&'a str> {
    let rows = targets.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?, words.next()?))
    });
    let mut main = rows.filter(|(_, _, component)| *component == "main");
    let (uri, ..) = main.find(|(uri, name, _)| match release {
        Some(release) => *name == release || *name == "stable",
        None => uri.trim_end_matches('/').ends_with("/debian"),
    })?;
    Some(uri.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mirror_of_the_release() {
        let targets = "https://tools.example/apt/ stable tools\n\
            https://mirror.example/debian-security/ bookworm-security main\n\
            https://mirror.example/debian/ bookworm main\n";
        let found = of_release(targets, Some("bookworm"));
        assert_eq!(found, Some("https://mirror.example/debian"));
        assert_eq!(
            of_release(targets, None),
            Some("https://mirror.example/debian")
        );
        assert_eq!(of_release(targets, Some("trixie")), None);
    }

    #[test]
    fn reads_what_the_system_is() {
        let text = "PRETTY_NAME=\"Debian\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(field(text, "ID"), Some("debian"));
        assert_eq!(field(text, "VERSION_CODENAME"), Some("bookworm"));
        assert_eq!(field(text, "ID_LIKE"), None);
    }
}
