//! What each key does: one table, from which the help and the line of hints
//! are drawn. Keys are those of htop and less, where those have one.
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The end.
    Quit,
    /// The table of keys.
    Help,
    /// Into what is selected.
    Open,
    /// Out of it.
    Back,
    /// Elsewhere in the list.
    Move(Move),
    /// The tab with this index.
    Tab(usize),
    /// The tab behind this one.
    NextTab,
    /// The tab before this one.
    PreviousTab,
    /// Type what rows must contain.
    Filter,
    /// Sort by the next column.
    SortNext,
    /// Sort by the column before.
    SortPrevious,
    /// The other way round.
    Invert,
    /// Show no new figures until told to.
    Pause,
    /// Show what grows from now on.
    Mark,
    /// Show everything again.
    Unmark,
    /// Write the report into a file.
    Save,
    /// The report as text.
    Text,
    /// Take the probes out.
    EndTrace,
    /// Back to the shell for a while.
    Suspend,
    /// Draw everything anew.
    Redraw,
}

/// A way through a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// One up.
    Up,
    /// One down.
    Down,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// To the beginning.
    First,
    /// To the end.
    Last,
}

impl Move {
    /// Where it leads from `at`, in a list of `length` of which `page` are seen.
    pub fn from(self, at: usize, length: usize, page: usize) -> usize {
        let page = page.max(1);
        let to = match self {
            Self::Up => at.saturating_sub(1),
            Self::Down => at.saturating_add(1),
            Self::PageUp => at.saturating_sub(page),
            Self::PageDown => at.saturating_add(page),
            Self::First => 0,
            Self::Last => usize::MAX,
        };
        to.min(length.saturating_sub(1))
    }
}

/// Keys that do the same.
#[derive(Debug)]
pub struct Binding {
    /// The keys; shift is part of a letter.
    pub keys: &'static [(KeyCode, KeyModifiers)],
    /// What they are called.
    pub name: &'static str,
    /// What they do.
    pub action: Action,
    /// What people read of that.
    pub help: &'static str,
    /// A word for the line of hints, where there is room for it.
    pub hint: Option<&'static str>,
}

const NONE: KeyModifiers = KeyModifiers::NONE;
const CONTROL: KeyModifiers = KeyModifiers::CONTROL;

const fn key(letter: char) -> (KeyCode, KeyModifiers) {
    (KeyCode::Char(letter), NONE)
}

const fn control(letter: char) -> (KeyCode, KeyModifiers) {
    (KeyCode::Char(letter), CONTROL)
}

const fn named(code: KeyCode) -> (KeyCode, KeyModifiers) {
    (code, NONE)
}

const fn row(
    keys: &'static [(KeyCode, KeyModifiers)],
    name: &'static str,
    action: Action,
    help: &'static str,
) -> Binding {
    Binding {
        keys,
        name,
        action,
        help,
        hint: None,
    }
}

impl Binding {
    const fn hinted(self, hint: &'static str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }
}

/// All keys, in the order of the help; hints stand in the same order.
pub const BINDINGS: &[Binding] = &[
    row(
        &[named(KeyCode::Enter), named(KeyCode::Right), key('l')],
        "Enter, →",
        Action::Open,
        "trace the process; look into the stack",
    )
    .hinted("open"),
    row(
        &[
            named(KeyCode::Esc),
            named(KeyCode::Left),
            key('h'),
            named(KeyCode::Backspace),
        ],
        "Esc, ←",
        Action::Back,
        "back; take the filter away",
    ),
    row(
        &[named(KeyCode::Up), key('k')],
        "↑ ↓, k j",
        Action::Move(Move::Up),
        "up, down",
    ),
    row(
        &[named(KeyCode::Down), key('j')],
        "",
        Action::Move(Move::Down),
        "down",
    ),
    row(
        &[named(KeyCode::PageUp), control('b')],
        "PgUp PgDn",
        Action::Move(Move::PageUp),
        "a screen up, down (space: down)",
    ),
    row(
        &[named(KeyCode::PageDown), key(' '), control('f')],
        "",
        Action::Move(Move::PageDown),
        "a screen down",
    ),
    row(
        &[named(KeyCode::Home), key('g')],
        "Home End, g G",
        Action::Move(Move::First),
        "to the beginning, to the end",
    ),
    row(
        &[named(KeyCode::End), key('G')],
        "",
        Action::Move(Move::Last),
        "to the end",
    ),
    row(
        &[key('1')],
        "1 2 3",
        Action::Tab(0),
        "processes by growth, stacks of one, memory of the machine",
    ),
    row(&[key('2')], "", Action::Tab(1), "stacks"),
    row(&[key('3')], "", Action::Tab(2), "memory"),
    row(
        &[named(KeyCode::Tab)],
        "Tab",
        Action::NextTab,
        "next tab; Shift-Tab: the one before",
    ),
    row(
        &[named(KeyCode::BackTab)],
        "",
        Action::PreviousTab,
        "the tab before",
    ),
    row(
        &[key('/'), key('\\'), named(KeyCode::F(4))],
        "/, F4",
        Action::Filter,
        "type what rows must contain",
    )
    .hinted("filter"),
    row(
        &[key('>'), key('.'), named(KeyCode::F(6))],
        "> <, F6",
        Action::SortNext,
        "sort by the next column, by the one before",
    ),
    row(
        &[key('<'), key(',')],
        "",
        Action::SortPrevious,
        "sort by the column before",
    ),
    row(&[key('I')], "I", Action::Invert, "sort the other way round"),
    row(
        &[key('b')],
        "b",
        Action::Mark,
        "set a baseline: show what grows from now on",
    )
    .hinted("baseline"),
    row(&[key('B')], "B", Action::Unmark, "take the baseline away"),
    row(
        &[key('s')],
        "s",
        Action::Save,
        "save the report as JSON, in this directory",
    )
    .hinted("save"),
    row(
        &[key('p'), key('Z')],
        "p",
        Action::Pause,
        "hold the figures; tracing goes on",
    )
    .hinted("pause"),
    row(
        &[key('i')],
        "i",
        Action::Text,
        "stacks: the report as text, with its notes",
    ),
    row(
        &[key('x')],
        "x",
        Action::EndTrace,
        "stacks: take the probes out, keep the figures",
    ),
    row(
        &[control('z')],
        "Ctrl-Z",
        Action::Suspend,
        "back to the shell; fg returns",
    ),
    row(
        &[control('l')],
        "Ctrl-L",
        Action::Redraw,
        "draw everything anew",
    ),
    row(
        &[key('?'), named(KeyCode::F(1))],
        "?, F1",
        Action::Help,
        "this list",
    )
    .hinted("help"),
    row(
        &[key('q'), named(KeyCode::F(10)), control('c')],
        "q, F10",
        Action::Quit,
        "end; the probes are taken out",
    )
    .hinted("quit"),
];

/// What a key does where no text is typed.
pub fn action(event: KeyEvent) -> Option<Action> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let pressed = (event.code, event.modifiers - KeyModifiers::SHIFT);
    let mut bindings = BINDINGS.iter();
    let found = bindings.find(|binding| binding.keys.contains(&pressed))?;
    Some(found.action)
}

/// What a key does to a line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// One letter more.
    Insert(char),
    /// One letter less.
    Delete,
    /// Nothing left.
    Clear,
    /// It stays as it is.
    Accept,
    /// It was not meant.
    Cancel,
    /// The end of the program.
    Quit,
}

/// What a key does where text is typed.
pub fn edit(event: KeyEvent) -> Option<Edit> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    match (event.code, event.modifiers - KeyModifiers::SHIFT) {
        (KeyCode::Char('c'), CONTROL) => Some(Edit::Quit),
        (KeyCode::Char('u'), CONTROL) => Some(Edit::Clear),
        (KeyCode::Char('h'), CONTROL) | (KeyCode::Backspace, _) => Some(Edit::Delete),
        (KeyCode::Char(letter), NONE) => Some(Edit::Insert(letter)),
        (KeyCode::Enter, _) => Some(Edit::Accept),
        (KeyCode::Esc, _) => Some(Edit::Cancel),
        _ => None,
    }
}
