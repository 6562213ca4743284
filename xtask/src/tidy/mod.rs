//! `cargo xtask tidy`: the invariants of ARCHITECTURE.md as code. The rules
//! are in `rules`, what they are told in `tables`.
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::fs;
use std::path::Path;

mod rules;
mod tables;

/// Check the invariants that no compiler checks
#[derive(clap::Args)]
pub(crate) struct Tidy {}

impl Tidy {
    #[expect(clippy::unused_self, reason = "as all commands have it")]
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        check(root)
    }
}

/// Fails with all findings, one a line.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    let mut findings = Vec::new();
    for rule in rules::FILE_RULES {
        for file in &files {
            rule(file, &mut findings);
        }
    }
    for rule in rules::TREE_RULES {
        rule(&files, &mut findings);
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    ensure!(
        findings.is_empty(),
        "{} findings in {} files",
        findings.len(),
        files.len()
    );
    Ok(())
}

/// A text file of the repository.
struct File {
    /// Relative to the workspace, with `/`.
    path: String,
    text: String,
}

impl File {
    fn has_extension(&self, wanted: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|extension| extension == wanted)
    }

    /// Lines of Rust that are neither comments nor in the test module at the
    /// end, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let opens = |text: &str| text.lines().next().is_some_and(|line| line.ends_with('{'));
        let mut tests = self.text.match_indices(
            "#[cfg(test)]
mod ",
        );
        let end = tests
            .find(|(at, found)| self.text.get(at + found.len()..).is_some_and(opens))
            .map_or(self.text.len(), |(at, _)| at);
        let lines = self.text.get(..end).unwrap_or_default().lines();
        numbered(lines).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// All lines, with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(self.text.lines())
    }

    /// Of `memtrace/src/live/…` or `memtrace/src/live.rs`: `live`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("memtrace/src/")?;
        let first = inside.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// Whether the whole file is tests of the file beside it.
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }
}

fn numbered<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = (usize, &'a str)> {
    lines.enumerate().map(|(index, line)| (index + 1, line))
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// 0: the file as a whole.
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path, self.line, self.what)
    }
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let relative = path.strip_prefix(root)?.to_string_lossy().into_owned();
        if tables::UNTRACKED.contains(&relative.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if let Ok(text) = fs::read_to_string(&path) {
            // What is not text is not ours to check.
            files.push(File {
                path: relative,
                text,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
