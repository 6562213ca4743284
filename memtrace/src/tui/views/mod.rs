//! Draws the model. Pure: a buffer of cells is filled.
//!
//! Every tab has the same frame: the line of tabs, a line that says what there
//! is, the body, a line about the last key or the list, a line of hints.
mod ansi;
mod help;
mod memory;
mod stack;
mod table;
mod theme;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
    widgets::Widget as _,
};

use super::{
    keys::BINDINGS,
    model::{
        Mode, Model, Tab,
        stacks::{Page, State},
    },
};
use crate::{
    report::words::{number, wrapped},
    unit::Elapsed,
};
pub use help::help_lines;
use theme::{FAINT, PLAIN, SELECTED, STRONG, Theme};

/// Columns and lines that are needed at least.
pub const SMALLEST: (u16, u16) = (40, 10);

/// From so many columns on there is room for more than what is needed.
const WIDE: u16 = 60;

/// Lines around the body: tabs, what there is, about the list, hints.
const FRAME: u16 = 4;

/// What a tab says in its second line, and draws into its body.
struct View {
    tab: Tab,
    summary: fn(&Model) -> String,
    body: fn(&Model, Rect, &mut Buffer),
    /// The body as text, where it is one.
    lines: fn(&Model) -> Vec<Line<'static>>,
    /// What there is to know about the list.
    about: fn(&Model) -> String,
}

/// One row a tab.
const VIEWS: &[View] = &[
    View {
        tab: Tab::Processes,
        summary: |model| model.processes.summary(),
        body: |model, area, buffer| {
            table::draw(&model.processes.table, model, area, buffer);
        },
        lines: |_| Vec::new(),
        about: |model| table::about(&model.processes.table, "process", "processes"),
    },
    View {
        tab: Tab::Stacks,
        summary: |model| model.stacks.summary(),
        body: stacks,
        lines: stack_lines,
        about: stacks_about,
    },
    View {
        tab: Tab::Memory,
        summary: memory::summary,
        body: |model, area, buffer| {
            text(&model.lines, model.memory.scroll.first, area, buffer);
        },
        lines: memory::lines,
        about: |model| position(model.memory.scroll.first, model),
    },
];

fn view(model: &Model) -> &'static View {
    let mut views = VIEWS.iter();
    let found = views.find(|view| view.tab == model.tab);
    found.unwrap_or(&VIEWS[0])
}

/// The body of the tab as text; empty where it is a list.
pub fn lines(model: &Model) -> Vec<Line<'static>> {
    if !fits(model) {
        return Vec::new();
    }
    (view(model).lines)(model)
}

/// Lines of a list or a text that are seen.
pub fn page(model: &Model) -> usize {
    let body = model.size.1.saturating_sub(FRAME);
    let is_list = model.mode != Mode::Help
        && match model.tab {
            Tab::Processes => true,
            Tab::Stacks => model.stacks.page == Page::List,
            Tab::Memory => false,
        };
    // A list has its line of heads.
    usize::from(if is_list {
        body.saturating_sub(1)
    } else {
        body
    })
}

fn fits(model: &Model) -> bool {
    model.size.0 >= SMALLEST.0 && model.size.1 >= SMALLEST.1
}

/// Draws everything.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        return too_small(area, buffer);
    }
    let theme = Theme::of(model);
    let line = |at: u16| Rect::new(area.x, area.y + at, area.width, 1);
    tabs(model, theme, line(0), buffer);
    let view = view(model);
    let summary = fitted((view.summary)(model), area.width);
    Line::styled(summary, STRONG).render(line(1), buffer);
    let body = Rect::new(area.x, area.y + 2, area.width, area.height - FRAME);
    if model.mode == Mode::Help {
        text(&help_lines(), model.help.first, body, buffer);
    } else {
        (view.body)(model, body, buffer);
    }
    about(model, theme, line(area.height - 2), buffer);
    hints(line(area.height - 1), buffer);
}

fn too_small(area: Rect, buffer: &mut Buffer) {
    let (columns, lines) = SMALLEST;
    let words = format!(
        "memtrace needs {columns}×{lines}, this is {}×{} (q quits)",
        area.width, area.height
    );
    text(&paragraph(&words, area.width), 0, area, buffer);
}

/// Words in as many lines as it takes.
fn paragraph(words: &str, width: u16) -> Vec<Line<'static>> {
    let lines = wrapped(words, 0, Some(usize::from(width)));
    lines.into_iter().map(Line::raw).collect()
}

/// Cut at the edge, with a mark that says so.
fn fitted(text: String, width: u16) -> String {
    let width = usize::from(width);
    if text.chars().count() <= width {
        return text;
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}

fn tabs(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let mut spans = Vec::new();
    if area.width >= WIDE {
        spans.push(Span::styled("memtrace ", STRONG));
    }
    for (index, tab) in Tab::ALL.iter().enumerate() {
        let name = format!(" {} {} ", index + 1, tab.title());
        let style = if *tab == model.tab { SELECTED } else { PLAIN };
        spans.push(Span::styled(name, style));
    }
    if model.paused {
        spans.push(Span::styled(" PAUSED", theme.alarm()));
    }
    Line::from(spans).render(area, buffer);
}

/// What is typed, else about the last key, else about the list.
fn about(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let line = match (&model.mode, &model.status) {
        (Mode::Typing, _) => Line::raw(format!(
            "/{}▏ (Enter keeps it, Esc takes it away)",
            model.filter()
        )),
        (_, Some(status)) => {
            let style = if status.alarm { theme.alarm() } else { PLAIN };
            Line::styled(fitted(status.text.clone(), area.width), style)
        }
        (Mode::Help, None) => Line::raw("any other key: back"),
        (Mode::Command, None) => {
            let mut parts = vec![(view(model).about)(model)];
            if let Some(ago) = model.marked_ago_ns() {
                parts.push(format!("since the baseline {} ago", Elapsed(ago)));
            }
            if !model.filter().is_empty() {
                parts.push(format!("with \"{}\"", model.filter()));
            }
            parts.retain(|part| !part.is_empty());
            let text = fitted(parts.join(", "), area.width);
            Line::styled(text, FAINT)
        }
    };
    line.render(area, buffer);
}

/// As many as fit; the last ones are those that nobody should have to look for.
fn hints(area: Rect, buffer: &mut Buffer) {
    let mut words: Vec<(&str, &str)> = BINDINGS
        .iter()
        .filter_map(|binding| {
            let name = binding.name.split(',').next()?;
            Some((name, binding.hint?))
        })
        .collect();
    let length = |words: &[(&str, &str)]| -> usize {
        let lengths = words.iter();
        lengths
            .map(|(key, word)| key.chars().count() + word.chars().count() + 3)
            .sum()
    };
    while length(&words) > usize::from(area.width) + 2 && words.len() > 2 {
        words.remove(words.len() - 3);
    }
    let mut spans = Vec::new();
    for (key, word) in words {
        spans.push(Span::styled(key, STRONG));
        spans.push(Span::raw(format!(" {word}  ")));
    }
    Line::from(spans).render(area, buffer);
}

/// The part of a text from a line on.
fn text(lines: &[Line<'static>], first: usize, area: Rect, buffer: &mut Buffer) {
    let seen = lines.iter().skip(first);
    for (line, row) in seen.zip(area.rows()) {
        line.render(row, buffer);
    }
}

/// Where in a text one is.
fn position(first: usize, model: &Model) -> String {
    let lines = model.lines.len();
    let last = (first + page(model)).min(lines);
    match lines {
        0 => String::new(),
        _ => format!("lines {} to {last} of {lines}", first + 1),
    }
}

fn stacks(model: &Model, area: Rect, buffer: &mut Buffer) {
    if model.stacks.page == Page::List && model.stacks.report.is_some() {
        table::draw(&model.stacks.table, model, area, buffer);
    } else {
        text(&model.lines, model.stacks.scroll.first, area, buffer);
    }
}

fn stack_lines(model: &Model) -> Vec<Line<'static>> {
    match (model.stacks.page, &model.stacks.report) {
        (Page::Stack(key), Some(_)) => stack::lines(model, key),
        (Page::Text, Some(report)) => ansi::document(report, model),
        (Page::List, Some(_)) => Vec::new(),
        (_, None) => nothing_yet(model),
    }
}

/// What to say while there is no report.
fn nothing_yet(model: &Model) -> Vec<Line<'static>> {
    let words = match &model.stacks.state {
        State::Idle => {
            "Choose a process in the first tab and press Enter: its allocations are then traced, and what is outstanding is shown here by call stack. That takes root."
        }
        State::Failed(why) => why,
        _ => "The stacks come with the first allocations.",
    };
    paragraph(words, model.size.0)
}

fn stacks_about(model: &Model) -> String {
    let stacks = &model.stacks;
    match (stacks.page, &stacks.report) {
        (_, None) => String::new(),
        (Page::List, Some(report)) => {
            let notes = match report.notes.len() {
                0 => String::new(),
                notes => format!(", {} (i)", number(notes as u64, "note", "notes")),
            };
            table::about(&stacks.table, "stack", "stacks") + &notes
        }
        _ => position(stacks.scroll.first, model),
    }
}
