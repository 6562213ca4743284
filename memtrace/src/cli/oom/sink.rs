//! Where recorded kills go: standard output, or a directory with a file for each,
//! which is there whole or not at all.
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    cli::{output::Output, reporting::Reporting},
    report::{Format, Style, oom::OomReport},
};

/// See above.
pub(super) enum Sink {
    /// One after the other.
    Stream {
        /// Where to.
        output: Output<OomReport>,
        /// Whether none was written yet.
        is_first: bool,
    },
    /// A file for each.
    Directory(Directory),
}

/// A directory of records.
pub(super) struct Directory {
    path: PathBuf,
    format: &'static Format<OomReport>,
}

/// Files of a directory that one second's kills of one process id may take.
const MOST_OF_A_NAME: u32 = 10_000;

impl Sink {
    pub(super) fn open(reporting: &Reporting<OomReport>) -> anyhow::Result<Self> {
        let Some(path) = &reporting.output else {
            return Ok(Self::Stream {
                output: Output::open(reporting)?,
                is_first: true,
            });
        };
        fs::create_dir_all(path).with_context(|| {
            format!(
                "cannot make the directory {}: the recorder writes a file for each kill, so give --output a directory",
                path.display()
            )
        })?;
        let directory = Directory {
            path: path.clone(),
            format: reporting.format,
        };
        // Whether files can be written is better known now.
        directory.temporary()?;
        Ok(Self::Directory(directory))
    }

    /// Returns whether anybody still reads.
    pub(super) fn write(&mut self, report: &OomReport) -> anyhow::Result<bool> {
        match self {
            Self::Stream { output, is_first } => {
                if !std::mem::take(is_first) {
                    output.separate()?;
                }
                output.write(report)
            }
            Self::Directory(directory) => {
                let path = directory.write(report)?;
                log::info!("wrote {}", path.display());
                Ok(true)
            }
        }
    }
}

impl Directory {
    fn temporary(&self) -> anyhow::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new()
            .prefix(".oom-")
            .suffix(".tmp")
            .tempfile_in(&self.path)
            .with_context(|| {
                format!(
                    "cannot write to the directory {}: is there room, and may you write there?",
                    self.path.display()
                )
            })
    }

    /// Writes the file whole, then gives it its name: one that no earlier run
    /// has used.
    fn write(&self, report: &OomReport) -> anyhow::Result<PathBuf> {
        let failed = || format!("failed to write a record to {}", self.path.display());
        let mut file = self.temporary()?;
        let mut bytes = Vec::new();
        (self.format.render)(report, &Style::default(), &mut bytes).with_context(failed)?;
        file.write_all(&bytes).with_context(failed)?;
        file.as_file().sync_all().with_context(failed)?;
        for number in 0..MOST_OF_A_NAME {
            let path = self.path.join(name(report, number, self.format.extension));
            match file.persist_noclobber(&path) {
                Ok(_) => {
                    sync(&self.path).with_context(failed)?;
                    return Ok(path);
                }
                Err(error) if path.exists() => file = error.file,
                Err(error) => return Err(error.error).with_context(failed),
            }
        }
        anyhow::bail!(
            "{} holds too many records of one second",
            self.path.display()
        )
    }
}

/// `oom-20261125T015900Z-1234.json`, numbered where that is taken.
fn name(report: &OomReport, number: u32, extension: &str) -> String {
    let time = report.kill.time.as_deref().unwrap_or("unknown");
    let time: String = time
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '.')
        .collect();
    let seconds = time
        .split('.')
        .next()
        .unwrap_or(&time)
        .trim_end_matches('Z');
    let pid = report.kill.victim.as_ref().map_or(0, |victim| victim.pid);
    match number {
        0 => format!("oom-{seconds}Z-{pid}.{extension}"),
        _ => format!("oom-{seconds}Z-{pid}-{number}.{extension}"),
    }
}

/// The name itself is on the disk only then.
fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oom::{Kill, Victim},
        report::Document as _,
    };

    fn report() -> OomReport {
        let kill = Kill {
            time: Some("2026-11-25T01:59:00.123456789Z".into()),
            victim: Some(Victim {
                pid: 7,
                ..Victim::default()
            }),
            ..Kill::default()
        };
        OomReport::new(kill, Vec::new(), 0)
    }

    /// Nothing that is there is written over, and nothing half is left.
    #[test]
    fn names_are_used_once() {
        let root = tempfile::tempdir().expect("there is a place for temporary files");
        for _ in 0..3 {
            let directory = Directory {
                path: root.path().to_owned(),
                format: &OomReport::FORMATS[1],
            };
            directory.write(&report()).expect("it can be written");
        }
        let names = fs::read_dir(root.path()).expect("it is there");
        let mut names: Vec<_> = names.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "oom-20261125T015900Z-7-1.json",
                "oom-20261125T015900Z-7-2.json",
                "oom-20261125T015900Z-7.json"
            ]
        );
    }
}
