//! A report's text as lines of the screen: the same words as without a live
//! view. Its marks of colour become styles.
use ratatui::text::{Line, Span};

use super::theme::{FAINT, PLAIN, STRONG, Theme};
use crate::{
    report::{Document, Style},
    tui::model::Model,
};

/// The text of a document, as wide as the screen.
pub(super) fn document<D: Document>(document: &D, model: &Model) -> Vec<Line<'static>> {
    let style = Style {
        color: true,
        width: Some(usize::from(model.size.0)),
        ..model.style
    };
    let mut bytes = Vec::new();
    let Some(format) = D::format("text") else {
        return Vec::new();
    };
    if (format.render)(document, &style, &mut bytes).is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let theme = Theme::of(model);
    text.lines().map(|text| line(text, theme)).collect()
}

/// What [`Style`] paints with: SGR parameters.
fn line(text: &str, theme: Theme) -> Line<'static> {
    let mut spans = Vec::new();
    let mut style = PLAIN;
    let mut pieces = text.split("\x1b[");
    if let Some(first) = pieces.next() {
        spans.push(Span::styled(first.to_owned(), style));
    }
    for piece in pieces {
        let (code, text) = piece.split_once('m').unwrap_or(("0", piece));
        style = match code {
            "1" => STRONG,
            "1;31" => theme.alarm(),
            "2" => FAINT,
            _ => PLAIN,
        };
        spans.push(Span::styled(text.to_owned(), style));
    }
    spans.retain(|span| !span.content.is_empty());
    Line::from(spans)
}
