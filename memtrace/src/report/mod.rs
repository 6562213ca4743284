//! Reports: one model for each document of the interface, and renderers over
//! it. No I/O but the writer that is handed in, no clock.
pub mod assemble;
pub mod folded;
mod frames;
pub mod heap;
pub mod json;
mod name;
mod style;
#[cfg(test)]
mod tests;
pub mod text;
#[cfg(test)]
mod text_tests;
mod words;

pub use style::Style;

use heap::HeapReport;
use std::io::{self, Write};

/// A way to write a heap report.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// As `--format` takes it.
    pub name: &'static str,
    /// Of a file, without the dot.
    pub extension: &'static str,
    /// Writes the whole document.
    pub render: fn(&HeapReport, &Style, &mut dyn Write) -> io::Result<()>,
}

/// All formats; the first is the default.
pub const FORMATS: &[Format] = &[
    Format {
        name: "text",
        extension: "txt",
        render: text::render,
    },
    Format {
        name: "json",
        extension: "json",
        render: |report, _, out| json::render(report, out),
    },
    Format {
        name: "folded",
        extension: "folded",
        render: |report, _, out| folded::render(report, out),
    },
];

/// The format of that name.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
