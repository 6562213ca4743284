//! A text that is longer than the screen.
use crate::tui::keys::Move;

/// Where it is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scroll {
    /// The first line that is seen.
    pub first: usize,
}

impl Scroll {
    /// Goes elsewhere in a text of so many lines, of which `page` are seen.
    pub fn go(&mut self, way: Move, lines: usize, page: usize) {
        let positions = lines.saturating_sub(page) + 1;
        self.first = way.from(self.first, positions, page);
    }

    /// Stays within the text.
    pub fn settle(&mut self, lines: usize, page: usize) {
        self.first = self.first.min(lines.saturating_sub(page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_never_scrolled_off_the_screen() {
        let mut scroll = Scroll::default();
        scroll.go(Move::Last, 30, 10);
        assert_eq!(scroll.first, 20);
        scroll.go(Move::Down, 30, 10);
        assert_eq!(scroll.first, 20);
        scroll.settle(12, 10);
        assert_eq!(scroll.first, 2);
        scroll.go(Move::PageUp, 12, 10);
        assert_eq!(scroll.first, 0);
        scroll.go(Move::PageDown, 3, 10);
        assert_eq!(scroll.first, 0);
    }
}
