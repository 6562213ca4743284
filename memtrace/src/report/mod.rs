//! Reports: one model for each document of the interface, and renderers over
//! it. No I/O but the writer that is handed in, no clock.
pub mod assemble;
pub mod diff;
pub mod findings;
pub mod folded;
pub mod frames;
pub mod growth;
pub mod heap;
pub mod heapwalk;
pub mod html;
pub mod json;
mod lines;
pub mod meminfo;
pub mod name;
pub mod oom;
pub mod pages;
pub mod pinned;
#[cfg(test)]
mod pinned_tests;
pub mod pprof;
pub mod spark;
mod style;
pub mod svg;
#[cfg(test)]
mod svg_tests;
#[cfg(test)]
pub(crate) mod tests;
pub mod text;
#[cfg(test)]
mod text_tests;
pub mod words;

pub use style::Style;

use std::io::{self, Write};

/// A document of the interface, and the ways to write it.
pub trait Document: Sized + 'static {
    /// All formats; the first is the default.
    const FORMATS: &'static [Format<Self>];

    /// The format of that name.
    fn format(name: &str) -> Option<&'static Format<Self>> {
        Self::FORMATS.iter().find(|format| format.name == name)
    }
}

/// A way to write a document.
#[derive(Debug)]
pub struct Format<D> {
    /// As `--format` takes it.
    pub name: &'static str,
    /// Of a file, without the dot.
    pub extension: &'static str,
    /// Writes the whole document.
    pub render: Render<D>,
}

/// Writes a document.
pub type Render<D> = fn(&D, &Style, &mut dyn Write) -> io::Result<()>;

/// Formats of which a file or a stream holds one document; of the others, one
/// may follow the other.
const WHOLE: &[&str] = &["svg", "html", "pprof"];

/// Formats that no terminal shows.
const BINARY: &[&str] = &["pprof"];

/// Formats in which people look at a part of the stacks at a time; of the others
/// it is the whole that counts.
const EXCERPTS: &[&str] = &["text", "json"];

/// Formats that tell of what was ever allocated as well, stack by stack.
const HISTORIES: &[&str] = &["pprof"];

impl<D> Format<D> {
    /// The document for people.
    pub const fn text(render: Render<D>) -> Self {
        Self {
            name: "text",
            extension: "txt",
            render,
        }
    }

    /// Stacks, one a line, for flame graphs.
    pub const fn folded(render: Render<D>) -> Self {
        Self {
            name: "folded",
            extension: "folded",
            render,
        }
    }

    /// A picture.
    pub const fn svg(render: Render<D>) -> Self {
        Self {
            name: "svg",
            extension: "svg",
            render,
        }
    }

    /// Whether stacks belong in it whose allocations have all been freed.
    pub fn is_history(&self) -> bool {
        HISTORIES.contains(&self.name)
    }

    /// Whether there can be one document only where this is written to.
    pub fn is_whole(&self) -> bool {
        WHOLE.contains(&self.name)
    }

    /// Whether it is nothing for a terminal.
    pub fn is_binary(&self) -> bool {
        BINARY.contains(&self.name)
    }

    /// Whether it shows the first few stacks where nothing else is asked for.
    pub fn is_excerpt(&self) -> bool {
        EXCERPTS.contains(&self.name)
    }
}

impl<D: serde::Serialize> Format<D> {
    /// The document itself, for programs.
    pub const JSON: Self = Self {
        name: "json",
        extension: "json",
        render: |document, _, out| json::render(document, out),
    };
}
