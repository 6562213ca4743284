//! How a report for people is to look.
use std::{borrow::Cow, cmp::Ordering};

use crate::unit::{ByteRate, Bytes};

/// What the renderer of text may do. The default is right for a pipe: plain,
/// nothing shortened, all that the report holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether to use ANSI colours.
    pub color: bool,
    /// Columns of the terminal; long names are shortened to fit. `None`: never
    /// shorten.
    pub width: Option<usize>,
    /// How many of the report's stacks to show; 0: all.
    pub top: usize,
    /// How many frames of a stack to show; 0: all.
    pub frames: usize,
    /// Whether sizes are plain numbers of bytes, for other programs.
    pub raw: bool,
}

impl Style {
    /// For a terminal of so many columns.
    pub fn terminal(width: usize) -> Self {
        Self {
            color: true,
            width: Some(width),
            frames: 12,
            ..Self::default()
        }
    }

    /// A size: `3.52 MiB`, or raw `3690496 B`.
    pub fn bytes(&self, bytes: u64) -> String {
        if self.raw {
            format!("{bytes} B")
        } else {
            Bytes(bytes).to_string()
        }
    }

    /// A change of a size, with its sign.
    pub fn change(&self, bytes: i64) -> String {
        let sign = match bytes.cmp(&0) {
            Ordering::Less => "-",
            Ordering::Equal => "±",
            Ordering::Greater => "+",
        };
        format!("{sign}{}", self.bytes(bytes.unsigned_abs()))
    }

    /// A rate: so many bytes in so many nanoseconds.
    pub fn rate(&self, bytes: u64, over_ns: u64) -> String {
        let rate = ByteRate { bytes, over_ns };
        match rate.per_second().filter(|_| self.raw) {
            Some(rate) => format!("{rate} B/s"),
            None => rate.to_string(),
        }
    }

    pub(super) fn paint<'a>(&self, paint: Paint, text: &'a str) -> Cow<'a, str> {
        if self.color && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", paint.code()).into()
        } else {
            text.into()
        }
    }
}

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paint {
    /// What to look at first.
    Strong,
    /// What may be wrong.
    Alarm,
    /// What is read last.
    Faint,
}

impl Paint {
    /// ANSI SGR parameters; the terminal's own colours, so that any background works.
    fn code(self) -> &'static str {
        match self {
            Self::Strong => "1",
            Self::Alarm => "1;31",
            Self::Faint => "2",
        }
    }
}
