//! A list with heads, the selected row marked.
use ratatui::{buffer::Buffer, layout::Rect, text::Line, widgets::Widget as _};

use super::theme::{FAINT, PLAIN, SELECTED, Theme};
use crate::{
    report::words::number,
    tui::model::{
        Model,
        table::{Column, Row, Table},
    },
};

/// Between two columns.
const GAP: usize = 1;

/// Draws the heads and the rows that fit.
pub(super) fn draw<R: Row>(table: &Table<R>, model: &Model, area: Rect, buffer: &mut Buffer) {
    let theme = Theme::of(model);
    let columns = fitted(table.columns, usize::from(area.width));
    let mut rows = area.rows();
    let Some(head) = rows.next() else { return };
    let heads = columns.iter().map(|(column, _)| {
        let is_sorted = table.columns[table.sort].title == column.title;
        match (is_sorted, table.inverted) {
            (false, _) => column.title.to_owned(),
            (true, false) => format!("{}▾", column.title),
            (true, true) => format!("{}▴", column.title),
        }
    });
    Line::styled(joined(&columns, heads), theme.head()).render(head, buffer);
    let shown = table.shown();
    let place = table.place(&shown);
    if shown.is_empty() {
        let why = if table.rows.is_empty() {
            "nothing yet"
        } else {
            "nothing that fits"
        };
        if let Some(row) = rows.next() {
            Line::styled(why, FAINT).render(row, buffer);
        }
        return;
    }
    for ((at, row), line) in shown.iter().enumerate().skip(table.first).zip(rows) {
        let cells = columns
            .iter()
            .map(|(column, width)| (column.cell)(row, &model.style, *width));
        let style = if at == place {
            // To the edge, so that it is seen.
            buffer.set_style(line, SELECTED);
            SELECTED
        } else {
            PLAIN
        };
        Line::styled(joined(&columns, cells), style).render(line, buffer);
    }
}

/// The columns that are shown on a screen of so many, and how wide each is.
fn fitted<R>(columns: &'static [Column<R>], width: usize) -> Vec<(&'static Column<R>, usize)> {
    let shown: Vec<&Column<R>> = columns
        .iter()
        .filter(|column| column.from <= width)
        .collect();
    let taken: usize = shown.iter().map(|column| column.width + GAP).sum();
    let growing = shown.iter().filter(|column| column.grows).count().max(1);
    let more = (width + GAP).saturating_sub(taken) / growing;
    shown
        .into_iter()
        .map(|column| {
            let more = if column.grows { more } else { 0 };
            (column, column.width + more)
        })
        .collect()
}

/// Cells side by side; too long ones are cut.
fn joined<R>(
    columns: &[(&'static Column<R>, usize)],
    cells: impl Iterator<Item = String>,
) -> String {
    let mut line = String::new();
    for ((column, width), cell) in columns.iter().zip(cells) {
        let width = *width;
        let mut cell = cell;
        if cell.chars().count() > width {
            cell = cell.chars().take(width.saturating_sub(1)).collect();
            // A name in it may have been shortened just there.
            cell.truncate(cell.trim_end_matches('…').len());
            cell.push('…');
        }
        if !line.is_empty() {
            line.push_str(&" ".repeat(GAP));
        }
        let cell = if column.left {
            format!("{cell:<width$}")
        } else {
            format!("{cell:>width$}")
        };
        line.push_str(&cell);
    }
    line.trim_end().to_owned()
}

/// How many rows there are, and in which order.
pub(super) fn about<R: Row>(table: &Table<R>, one: &str, many: &str) -> String {
    let shown = table.shown().len();
    let all = table.rows.len() as u64;
    let count = if shown as u64 == all {
        number(all, one, many)
    } else {
        format!("{shown} of {}", number(all, one, many))
    };
    format!("{count} by {}", table.sorted_by())
}
