//! The document itself, for programs.
use super::heap::HeapReport;
use std::io::{self, Write};

/// Writes `memtrace.heap.v1`, one document and a newline.
pub fn render(report: &HeapReport, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}
