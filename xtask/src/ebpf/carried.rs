//! The sources of the kernel side, and the object built from them that the
//! repository carries.
use super::Toolchain;
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const OBJECT: &str = "memtrace-ebpf/prebuilt/memtrace.bpf.o";
const RECORD: &str = "memtrace-ebpf/prebuilt/memtrace.bpf.toml";

/// Files that the object depends on; of folders, the `.rs` files below them.
const SOURCES: &[&str] = &[
    "memtrace-common/Cargo.toml",
    "memtrace-common/src",
    "memtrace-ebpf/.cargo/config.toml",
    "memtrace-ebpf/Cargo.lock",
    "memtrace-ebpf/Cargo.toml",
    "memtrace-ebpf/src",
];

/// The sources' files, relative to the workspace, sorted.
pub(crate) fn source_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    for file in &mut files {
        *file = file.strip_prefix(root)?.to_owned();
    }
    files.sort();
    Ok(files)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
            collect(&path, files)?;
        }
    }
    Ok(())
}

/// SHA-256 over the names, lengths and contents of all source files.
pub(crate) fn source_hash(root: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for file in source_files(root)? {
        let path = root.join(&file);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hash.update(format!("{}\n{}\n", file.display(), text.len()));
        hash.update(text);
    }
    Ok(hex(&hash.finalize()))
}

/// SHA-256 of some bytes.
pub(crate) fn bytes_hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The object that the repository carries, for those who only want to run
/// memtrace, and the record of what it came from.
pub(crate) struct Carried {
    rows: Vec<(String, String)>,
    /// Where the object is.
    pub(crate) object: PathBuf,
}

impl Carried {
    /// Reads the record; the error says if there is none.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join(RECORD);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("no carried object: cannot read {}", path.display()))?;
        let row = |line: &str| {
            let (name, value) = line.split_once(" = ")?;
            Some((name.to_owned(), value.trim_matches('"').to_owned()))
        };
        Ok(Self {
            rows: text.lines().filter_map(row).collect(),
            object: root.join(OBJECT),
        })
    }

    /// Puts an object and its record in place.
    pub(crate) fn write(root: &Path, object: &Path, toolchain: &Toolchain) -> Result<()> {
        let bytes = fs::read(object)?;
        let mut text =
            String::from("# Written by `cargo xtask build-ebpf --update`; not for editing.\n");
        let hashes = [
            ("sources", source_hash(root)?),
            ("object", bytes_hash(&bytes)),
        ];
        for (name, value) in hashes.iter().chain(&toolchain.versions) {
            writeln!(text, "{name} = \"{value}\"")?;
        }
        let to = root.join(OBJECT);
        fs::create_dir_all(to.parent().context("the object has a folder")?)?;
        fs::write(&to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
        fs::write(root.join(RECORD), text).with_context(|| format!("cannot write {RECORD}"))
    }

    /// A row of the record.
    pub(crate) fn get(&self, name: &str) -> &str {
        let row = self.rows.iter().find(|(found, _)| found == name);
        row.map_or("", |(_, value)| value)
    }

    /// Fails unless the object is whole and comes from the present sources.
    pub(crate) fn check(&self, root: &Path) -> Result<()> {
        let bytes = fs::read(&self.object)
            .with_context(|| format!("cannot read {}", self.object.display()))?;
        ensure!(
            bytes_hash(&bytes) == self.get("object"),
            "{OBJECT} is not the file that its record describes"
        );
        ensure!(
            source_hash(root)? == self.get("sources"),
            "the carried object comes from other sources than these"
        );
        Ok(())
    }

    /// Whether this toolchain made the object, so that it must make the same
    /// bytes again.
    pub(crate) fn made_by(&self, toolchain: &Toolchain) -> bool {
        toolchain
            .versions
            .iter()
            .all(|(name, version)| self.get(name) == version)
    }

    /// The files of it, relative to the workspace.
    pub(crate) fn files() -> [&'static str; 2] {
        [OBJECT, RECORD]
    }
}
