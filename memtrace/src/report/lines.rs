//! How reports for people are written: line by line, sentences wrapped.
use std::io;

use super::{
    style::{Paint, Style},
    words::wrapped,
};

/// A report in the making.
pub(super) trait Lines {
    /// How it is to look.
    fn style(&self) -> &Style;

    /// Writes a line.
    fn line(&mut self, text: &str) -> io::Result<()>;

    /// Writes a sentence, wrapped where there is a width; further lines are
    /// indented.
    fn sentence(&mut self, indent: usize, paint: Option<Paint>, text: &str) -> io::Result<()> {
        for line in wrapped(text, indent, self.style().width) {
            let line = match paint {
                Some(paint) => self.style().paint(paint, &line).into_owned(),
                None => line,
            };
            self.line(&line)?;
        }
        Ok(())
    }
}
