//! Where reports go.
use std::{
    fs::File,
    io::{self, IsTerminal as _, Seek as _, Write},
    path::Path,
};

use anyhow::{Context as _, ensure};

use super::{pager, reporting::Reporting};
use crate::capture::Fresh;
use crate::report::{Document, Format, Style};

/// Standard output or a file, opened before anything is probed.
pub(super) struct Output<D: Document> {
    writer: Box<dyn Write>,
    /// The file that the report goes to, until it is there; and always where it
    /// takes one report only.
    stale: Option<File>,
    /// A run that is refused leaves no file.
    fresh: Option<Fresh>,
    name: String,
    format: &'static Format<D>,
    style: Style,
    /// Whether this is a terminal.
    terminal: bool,
    /// Whether long text goes through a pager there.
    paged: bool,
}

impl<D: Document> Output<D> {
    pub(super) fn open(to: &Reporting<D>) -> anyhow::Result<Self> {
        let mut stale = None;
        let mut fresh = None;
        let (writer, name): (Box<dyn Write>, String) = match &to.output {
            None => (Box::new(io::stdout()), "standard output".to_owned()),
            Some(path) => {
                let (file, made) = create(path)?;
                fresh = Some(made);
                stale = file.try_clone().ok();
                (Box::new(file), path.display().to_string())
            }
        };
        let terminal = to.output.is_none() && io::stdout().is_terminal();
        ensure!(
            !(terminal && to.format.is_binary()),
            "cannot write {} to a terminal, it is binary: give a file with --output, or a pipe",
            to.format.name
        );
        let width = terminal.then(terminal_width).flatten();
        let style = Style {
            color: to.color.is_on(terminal),
            ..width.map(Style::terminal).unwrap_or_default()
        };
        Ok(Self {
            writer,
            stale,
            fresh,
            name,
            format: to.format,
            style,
            terminal,
            paged: false,
        })
    }

    /// An empty line between reports for people; programs need none.
    pub(super) fn separate(&mut self) -> anyhow::Result<()> {
        if self.format.name != "text" {
            return Ok(());
        }
        match writeln!(self.writer) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).with_context(|| format!("failed to write the report to {}", self.name))
            }
            _ => Ok(()),
        }
    }

    /// With sizes as plain numbers of bytes, or not.
    pub(super) fn raw(mut self, raw: bool) -> Self {
        self.style.raw = raw;
        self
    }

    /// With so many stacks in text; 0: all.
    pub(super) fn top(mut self, top: usize) -> Self {
        self.style.top = top;
        self
    }

    /// Through the user's pager where this is a terminal: for commands that do
    /// nothing but show.
    pub(super) fn paged(mut self) -> Self {
        self.paged = true;
        self
    }

    /// Writes one report. Returns whether anybody still reads: `head`, for
    /// example, may have seen enough.
    pub(super) fn write(&mut self, report: &D) -> anyhow::Result<bool> {
        let mut bytes = Vec::new();
        (self.format.render)(report, &self.style, &mut bytes)
            .context("failed to write the report")?;
        if let Some(fresh) = &mut self.fresh {
            fresh.keep();
        }
        if let Some(file) = &mut self.stale {
            // Pipes and devices have no length to cut, and no beginning.
            let _ = file.set_len(0).and_then(|()| file.rewind());
        }
        if !self.format.is_whole() {
            self.stale = None;
        }
        if self.paged
            && self.terminal
            && pager::show(&bytes).context("failed to page the report")?
        {
            return Ok(true);
        }
        let written = self
            .writer
            .write_all(&bytes)
            .and_then(|()| self.writer.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            written => written
                .map(|()| true)
                .with_context(|| format!("failed to write the report to {}", self.name)),
        }
    }
}

fn create(path: &Path) -> anyhow::Result<(File, Fresh)> {
    // What an earlier run left stays until there is something to write.
    Fresh::open(path).with_context(|| {
        format!("cannot write to {}: give --output a file in a directory that exists and that you may write to", path.display())
    })
}

fn terminal_width() -> Option<usize> {
    rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|width| *width > 0)
}
