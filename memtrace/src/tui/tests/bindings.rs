//! The table of keys.
use std::collections::HashSet;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::tui::keys::{Action, BINDINGS, Edit, Move, action, edit};

const NONE: KeyModifiers = KeyModifiers::NONE;
const CONTROL: KeyModifiers = KeyModifiers::CONTROL;

fn pressed(code: KeyCode, modifiers: KeyModifiers) -> Option<Action> {
    action(KeyEvent::new(code, modifiers))
}

#[test]
fn no_key_does_two_things() {
    let mut seen = HashSet::new();
    for binding in BINDINGS {
        for key in binding.keys {
            assert!(seen.insert(*key), "{key:?}");
        }
        assert!(!binding.help.is_empty() && !binding.keys.is_empty());
    }
}

#[test]
fn keys_are_found_as_terminals_send_them() {
    let shift = KeyModifiers::SHIFT;
    assert_eq!(pressed(KeyCode::Char('q'), NONE), Some(Action::Quit));
    assert_eq!(pressed(KeyCode::Char('c'), CONTROL), Some(Action::Quit));
    assert_eq!(pressed(KeyCode::Char('c'), NONE), None);
    // Some terminals tell that shift is held, others do not.
    for modifiers in [NONE, shift] {
        let last = Some(Action::Move(Move::Last));
        assert_eq!(pressed(KeyCode::Char('G'), modifiers), last);
        assert_eq!(
            pressed(KeyCode::BackTab, modifiers),
            Some(Action::PreviousTab)
        );
    }
    let released = KeyEvent::new_with_kind(KeyCode::Char('q'), NONE, KeyEventKind::Release);
    assert_eq!((action(released), edit(released)), (None, None));
}

#[test]
fn typing_is_not_commanding() {
    let typed = |code, modifiers| edit(KeyEvent::new(code, modifiers));
    assert_eq!(typed(KeyCode::Char('q'), NONE), Some(Edit::Insert('q')));
    assert_eq!(typed(KeyCode::Char('c'), CONTROL), Some(Edit::Quit));
    assert_eq!(typed(KeyCode::Char('x'), CONTROL), None);
    assert_eq!(typed(KeyCode::Esc, NONE), Some(Edit::Cancel));
}

#[test]
fn moves_stay_in_the_list() {
    assert_eq!(Move::Up.from(0, 5, 2), 0);
    assert_eq!(Move::Down.from(4, 5, 2), 4);
    assert_eq!(Move::PageDown.from(1, 5, 2), 3);
    assert_eq!(Move::PageUp.from(3, 5, 2), 1);
    assert_eq!(Move::Last.from(0, 5, 2), 4);
    assert_eq!(Move::Last.from(7, 0, 0), 0);
}
