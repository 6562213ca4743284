//! The keys, as their table says.
use ratatui::text::{Line, Span};

use super::theme::{STRONG, Theme};
use crate::tui::{keys::BINDINGS, model::Model};

/// One line a row; rows without a name stand with the one before.
pub fn help_lines(model: &Model) -> Vec<Line<'static>> {
    let theme = Theme::of(model);
    let mut lines = vec![Line::styled("Keys", theme.head())];
    let named = BINDINGS.iter().filter(|binding| !binding.name.is_empty());
    lines.extend(named.map(|binding| {
        Line::from(vec![
            Span::styled(format!("  {:<12}", binding.name), STRONG),
            Span::raw(binding.help),
        ])
    }));
    lines
}
