//! A list of rows with columns: which rows are shown, in which order, and which
//! of them is selected.
use std::cmp::Ordering;

use crate::{report::Style, tui::keys::Move};

/// What a list is made of.
pub trait Row: 'static {
    /// Who the row is, also when the figures are others.
    fn key(&self) -> u64;
    /// Whether it contains the text, which is in lower case.
    fn contains(&self, text: &str) -> bool;
    /// Whether it belongs in the list while only what grew is asked for.
    fn grew(&self) -> bool;
}

/// One column.
pub struct Column<R> {
    /// In the line of heads.
    pub title: &'static str,
    /// Characters at least; the last column takes what is left.
    pub width: usize,
    /// Whether it gets wider on a wider screen.
    pub grows: bool,
    /// On screens of so many columns it is shown.
    pub from: usize,
    /// Whether its text begins at the left.
    pub left: bool,
    /// What it says, in so many characters.
    pub cell: fn(&R, &Style, usize) -> String,
    /// The first is the one to see first.
    pub order: fn(&R, &R) -> Ordering,
}

/// A list, as it is looked at.
pub struct Table<R: Row> {
    /// Its columns.
    pub columns: &'static [Column<R>],
    /// All rows, in any order.
    pub rows: Vec<R>,
    /// The index of the column that rows are sorted by.
    pub sort: usize,
    /// Whether that is the other way round.
    pub inverted: bool,
    /// What rows must contain.
    pub filter: String,
    /// Whether only rows are shown that grew.
    pub only_grown: bool,
    /// The key of the row that was chosen; none was: the first row.
    chosen: Option<u64>,
    /// Where that row was, for when it is gone.
    at: usize,
    /// The first row that is seen.
    pub first: usize,
}

impl<R: Row> Table<R> {
    /// Without rows.
    pub fn new(columns: &'static [Column<R>], sort: usize) -> Self {
        Self {
            columns,
            rows: Vec::new(),
            sort,
            inverted: false,
            filter: String::new(),
            only_grown: false,
            chosen: None,
            at: 0,
            first: 0,
        }
    }

    /// The rows that are shown, in their order.
    pub fn shown(&self) -> Vec<&R> {
        let text = self.filter.to_lowercase();
        let rows = self.rows.iter();
        let mut shown: Vec<&R> = rows
            .filter(|row| text.is_empty() || row.contains(&text))
            .filter(|row| !self.only_grown || row.grew())
            .collect();
        if let Some(column) = self.columns.get(self.sort) {
            shown.sort_by(|one, other| {
                let order = (column.order)(one, other);
                let order = if self.inverted {
                    order.reverse()
                } else {
                    order
                };
                // Equals keep their places from one look to the next.
                order.then(one.key().cmp(&other.key()))
            });
        }
        shown
    }

    /// The place of the selected row among those shown.
    pub fn place(&self, shown: &[&R]) -> usize {
        let chosen = self.chosen.and_then(|key| {
            let mut shown = shown.iter();
            shown.position(|row| row.key() == key)
        });
        let otherwise = if self.chosen.is_some() { self.at } else { 0 };
        chosen
            .unwrap_or(otherwise)
            .min(shown.len().saturating_sub(1))
    }

    /// The selected row.
    pub fn selected(&self) -> Option<&R> {
        let shown = self.shown();
        shown.get(self.place(&shown)).copied()
    }

    /// Selects another row.
    pub fn go(&mut self, way: Move, page: usize) {
        let shown = self.shown();
        let at = way.from(self.place(&shown), shown.len(), page);
        self.chosen = shown.get(at).map(|row| row.key());
        self.at = at;
    }

    /// Brings the selected row into view, where `page` rows are seen.
    pub fn settle(&mut self, page: usize) {
        let page = page.max(1);
        let shown = self.shown();
        let (at, length) = (self.place(&shown), shown.len());
        self.at = at;
        let last = length.saturating_sub(page);
        self.first = self
            .first
            .clamp((at + 1).saturating_sub(page), at)
            .min(last.max((at + 1).saturating_sub(page)));
    }

    /// Sorts by the next column, or the one before.
    pub fn sort_by_neighbour(&mut self, forward: bool) {
        let columns = self.columns.len().max(1);
        let step = if forward { 1 } else { columns - 1 };
        self.sort = (self.sort + step) % columns;
        self.inverted = false;
    }

    /// The name of the column that rows are sorted by.
    pub fn sorted_by(&self) -> &'static str {
        let column = self.columns.get(self.sort);
        column.map_or("", |column| column.title)
    }
}
