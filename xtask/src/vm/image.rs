//! An initramfs: files of this machine under their own paths, with the symbolic
//! links on the way there and the libraries that they need.
use crate::shell::output;
use anyhow::{Context, Result, bail};
use cpio::newc::{self, Builder};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;

/// How many symbolic links a path may lead through, as the kernel has it.
const MOST_LINKS: usize = 40;

/// A cpio archive of the kind that kernels read.
pub(crate) struct Image<W: Write> {
    out: W,
    /// Paths that are in it, without the leading `/`.
    present: BTreeSet<String>,
}

impl<W: Write> Image<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            present: BTreeSet::new(),
        }
    }

    /// Writes what ends the archive.
    pub(crate) fn finish(self) -> Result<()> {
        newc::trailer(self.out)?.flush()?;
        Ok(())
    }

    /// A folder, and those above it.
    pub(crate) fn folder(&mut self, path: &str) -> Result<()> {
        let mut above = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            above = format!("{above}/{name}");
            self.entry(&above, FOLDER, &[])?;
        }
        Ok(())
    }

    /// A file of these bytes, in a folder that need not be there yet.
    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder)?;
        }
        self.entry(path, FILE | mode, bytes)
    }

    /// A program or library of this machine, and what it needs, under their own
    /// paths.
    pub(crate) fn add(&mut self, path: &Path) -> Result<()> {
        self.same(path)?;
        self.libraries(path)
    }

    /// The libraries that a program or library needs.
    pub(crate) fn libraries(&mut self, path: &Path) -> Result<()> {
        for library in libraries(path)? {
            self.same(&library)?;
        }
        Ok(())
    }

    /// A file under its own path; links on the way are links in the image, too.
    fn same(&mut self, path: &Path) -> Result<()> {
        let mut path = path.to_path_buf();
        for _ in 0..MOST_LINKS {
            let Some((link, next)) = first_link(&path)? else {
                let bytes =
                    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
                return self.file(text(&path)?, mode, &bytes);
            };
            let target = fs::read_link(&link)?;
            self.parents(&link)?;
            self.entry(text(&link)?, LINK, text(&target)?.as_bytes())?;
            path = next;
        }
        bail!("too many symbolic links at {}", path.display())
    }

    fn parents(&mut self, path: &Path) -> Result<()> {
        path.parent().map_or(Ok(()), |above| {
            text(above).and_then(|above| self.folder(above))
        })
    }

    /// Once for each path: what is there stays.
    fn entry(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let name = path.trim_start_matches('/');
        if name.is_empty() || !self.present.insert(name.to_owned()) {
            return Ok(());
        }
        let size = u32::try_from(bytes.len()).with_context(|| format!("{path} is too large"))?;
        let mut writer = Builder::new(name).mode(mode).write(&mut self.out, size);
        writer.write_all(bytes)?;
        writer.finish()?;
        Ok(())
    }
}

/// Of `/lib/x/y`, where `/lib` is a link to `usr/lib`: the link, and the same
/// path without it.
fn first_link(path: &Path) -> Result<Option<(PathBuf, PathBuf)>> {
    let mut here = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        if component == Component::ParentDir {
            here.pop();
            continue;
        }
        here.push(component);
        let about = fs::symlink_metadata(&here)
            .with_context(|| format!("no {} for the guest", here.display()))?;
        if about.is_symlink() {
            let above = here.parent().unwrap_or(Path::new("/"));
            let mut next = above.join(fs::read_link(&here)?);
            // Joining nothing would add a slash.
            next.extend(components);
            return Ok(Some((here, next)));
        }
    }
    Ok(None)
}

/// What the dynamic loader would map; nothing for what is static.
fn libraries(path: &Path) -> Result<Vec<PathBuf>> {
    // Asks the loader that the file names; in its words, one library a line:
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`.
    let Ok(listing) = output(Command::new("ldd").arg(path)) else {
        return Ok(Vec::new());
    };
    if let Some(line) = listing.lines().find(|line| line.contains("not found")) {
        bail!("{} needs {}", path.display(), line.trim());
    }
    let words = listing.split_whitespace();
    Ok(words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("the path {} is no text", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Names and contents.
    fn entries(mut bytes: &[u8]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        loop {
            let reader = newc::Reader::new(bytes).unwrap();
            if reader.entry().is_trailer() {
                return found;
            }
            let name = reader.entry().name().to_owned();
            let mut content = Vec::new();
            bytes = reader.to_writer(&mut content).unwrap();
            found.push((name, String::from_utf8_lossy(&content).into_owned()));
        }
    }

    #[test]
    fn keeps_paths_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/one"), "text").unwrap();
        symlink("real", root.join("link")).unwrap();
        symlink("../link/one", root.join("real/two")).unwrap();
        let mut bytes = Vec::new();
        let mut image = Image::new(&mut bytes);
        image.same(&root.join("link/two")).unwrap();
        image.same(&root.join("real/one")).unwrap();
        image.finish().unwrap();
        let prefix = root.to_str().unwrap().trim_start_matches('/');
        let found: Vec<_> = entries(&bytes)
            .into_iter()
            .filter_map(|(name, content)| {
                let name = name.strip_prefix(prefix)?.to_owned();
                Some((name, content))
            })
            .filter(|(name, _)| !name.is_empty())
            .collect();
        let expected = [
            ("/link", "real"),
            ("/real", ""),
            ("/real/two", "../link/one"),
            ("/real/one", "text"),
        ];
        let expected = expected.map(|(name, content)| (name.to_owned(), content.to_owned()));
        assert_eq!(found, expected);
    }
}
