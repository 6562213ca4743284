//! Where reports go.
use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    path::Path,
};

use anyhow::Context as _;

use super::args::Args;
use crate::report::{self, Style, heap::HeapReport};

/// Standard output or a file, opened before anything is probed.
pub(super) struct Output {
    writer: Box<dyn Write>,
    name: String,
    format: &'static report::Format,
    style: Style,
}

impl Output {
    pub(super) fn open(args: &Args) -> anyhow::Result<Self> {
        let (writer, name): (Box<dyn Write>, String) = match &args.output {
            None => (Box::new(io::stdout()), "standard output".to_owned()),
            Some(path) => (Box::new(create(path)?), path.display().to_string()),
        };
        let terminal = args.output.is_none() && io::stdout().is_terminal();
        let width = terminal.then(terminal_width).flatten();
        let style = Style {
            color: args.color_report(),
            ..width.map(Style::terminal).unwrap_or_default()
        };
        Ok(Self {
            writer,
            name,
            format: args.format,
            style,
        })
    }

    /// Writes one report.
    pub(super) fn write(&mut self, report: &HeapReport) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        (self.format.render)(report, &self.style, &mut bytes)
            .context("failed to write the report")?;
        let written = self
            .writer
            .write_all(&bytes)
            .and_then(|()| self.writer.flush());
        match written {
            // The reader, `head` for example, has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => {
                written.with_context(|| format!("failed to write the report to {}", self.name))
            }
        }
    }
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| {
        format!("cannot write to {}: give --output a file in a directory that exists and that you may write to", path.display())
    })
}

fn terminal_width() -> Option<usize> {
    rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|width| *width > 0)
}
