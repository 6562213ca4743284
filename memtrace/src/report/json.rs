//! The document itself, for programs.
use std::io::{self, Write};

/// Writes one document and a newline.
pub fn render(document: &impl serde::Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)
}

/// Writes one document on a line of its own: for streams of documents.
pub fn line(document: &impl serde::Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, document)?;
    writeln!(out)
}
