//! Reports: one model for each document of the interface, and renderers over
//! it. No I/O but the writer that is handed in, no clock.
pub mod assemble;
pub mod findings;
pub mod folded;
mod frames;
pub mod growth;
pub mod heap;
pub mod heapwalk;
pub mod json;
pub mod meminfo;
mod name;
pub mod oom;
mod style;
#[cfg(test)]
mod tests;
pub mod text;
#[cfg(test)]
mod text_tests;
mod words;

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
    pub render: fn(&D, &Style, &mut dyn Write) -> io::Result<()>,
}

impl<D: serde::Serialize> Format<D> {
    /// The document itself, for programs.
    pub const JSON: Self = Self {
        name: "json",
        extension: "json",
        render: |document, _, out| json::render(document, out),
    };
}
