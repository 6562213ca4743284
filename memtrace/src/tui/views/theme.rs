//! Colours, and what stands for them where there are none.
use ratatui::style::{Color, Modifier, Style};

use crate::tui::model::Model;

/// Nothing about it.
pub(super) const PLAIN: Style = Style::new();

/// What to look at first.
pub(super) const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);

/// What is read last.
pub(super) const FAINT: Style = Style::new().add_modifier(Modifier::DIM);

/// Where one is.
pub(super) const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// How things are told apart. The terminal's own colours, so that any
/// background works; all that matters is told by modifiers and words as well.
#[derive(Clone, Copy)]
pub(super) struct Theme {
    color: bool,
}

impl Theme {
    pub(super) fn of(model: &Model) -> Self {
        Self {
            color: model.style.color,
        }
    }

    fn colored(self, style: Style, color: Color) -> Style {
        if self.color { style.fg(color) } else { style }
    }

    /// What may be wrong.
    pub(super) fn alarm(self) -> Style {
        self.colored(STRONG, Color::Red)
    }

    /// Heads of columns.
    pub(super) fn head(self) -> Style {
        self.colored(STRONG, Color::Cyan)
    }

    /// Bars.
    pub(super) fn bar(self) -> Style {
        self.colored(Style::new(), Color::Green)
    }
}
