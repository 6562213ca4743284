//! The options that every command has: how to report, and where to.
use std::{io::IsTerminal as _, path::PathBuf};

use clap::{
    ArgAction, Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};

use crate::report::{Document, Format};

/// How to report, and where to.
#[derive(Debug, Args)]
pub struct Reporting<D: Document> {
    /// How to write the report
    #[arg(short, long, value_name = "FORMAT", default_value = D::FORMATS[0].name, value_parser = formats::<D>())]
    pub format: &'static Format<D>,

    /// Write the report to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Say more on standard error: -v how it goes and what was counted, -vv the details
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Colour the report
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
}

impl<D: Document> Reporting<D> {
    /// How much to say on standard error, and in what colours.
    pub(super) fn messages(&self) -> (u8, Color) {
        (self.verbose, self.color)
    }
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Takes the names of the document's formats.
fn formats<D: Document>() -> impl TypedValueParser<Value = &'static Format<D>> {
    PossibleValuesParser::new(D::FORMATS.iter().map(|format| format.name))
        .map(|name| D::format(&name).unwrap_or(&D::FORMATS[0]))
}

impl Color {
    /// Whether to colour what goes to `terminal`, or to none.
    pub fn is_on(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }

    /// Whether to colour messages.
    pub fn is_on_stderr(self) -> bool {
        self.is_on(std::io::stderr().is_terminal())
    }
}
