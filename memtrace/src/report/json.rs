//! The document itself, for programs.
use std::io::{self, Write};

/// Writes one document and a newline.
pub fn render(document: &impl serde::Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)
}
