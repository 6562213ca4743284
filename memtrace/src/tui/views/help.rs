//! The keys, as their table says.
use ratatui::text::{Line, Span};

use super::theme::STRONG;
use crate::tui::keys::{BINDINGS, Binding};

/// One line a row; rows without a name stand with the one before. They fit into
/// the usual terminal.
pub fn help_lines() -> Vec<Line<'static>> {
    let line = |binding: &Binding| {
        Line::from(vec![
            Span::styled(format!("{:<14}", binding.name), STRONG),
            Span::raw(binding.help),
        ])
    };
    let named = BINDINGS.iter().filter(|binding| !binding.name.is_empty());
    named.map(line).collect()
}
