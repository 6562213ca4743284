//! Exact screens, in a terminal as it has always been and in the smallest.
use ratatui::crossterm::event::KeyCode;

use super::{Model, Update, heap, letters, memory, press, screen, tracing, watching};
use crate::{report::Style, tui::model::stacks::News};

/// `checks!(model, "name")` compares both sizes with `screens/name-80x24.txt`
/// and `screens/name-40x10.txt`.
macro_rules! checks {
    ($model:expr, $name:literal) => {{
        let model: &mut Model = &mut $model;
        for (columns, lines, expected) in [
            (
                80,
                24,
                include_str!(concat!("screens/", $name, "-80x24.txt")),
            ),
            (
                40,
                10,
                include_str!(concat!("screens/", $name, "-40x10.txt")),
            ),
        ] {
            let shown = screen(model, columns, lines);
            assert_eq!(shown, expected, "{} at {columns}×{lines}:\n{shown}", $name);
        }
    }};
}

#[test]
fn processes() {
    checks!(watching(8), "processes");
    let mut empty = Model::new(Style::default());
    assert!(screen(&mut empty, 80, 24).contains("nothing yet"));
}

#[test]
fn processes_since_a_baseline() {
    let mut model = watching(8);
    letters(&mut model, "b");
    for second in 9..=12 {
        super::look(&mut model, second);
    }
    checks!(model, "baseline");
}

#[test]
fn stacks() {
    checks!(tracing(5), "stacks");
}

#[test]
fn one_stack() {
    let mut model = tracing(5);
    press(&mut model, KeyCode::Enter);
    checks!(model, "stack");
    // All of it is freed.
    let mut report = heap(6);
    report.stacks.remove(0);
    model.take(Update::Trace(1, News::Report(Box::new(report))));
    assert!(screen(&mut model, 80, 24).contains("outstanding any more"));
}

#[test]
fn the_report_as_text() {
    let mut model = tracing(5);
    letters(&mut model, "i");
    let shown = screen(&mut model, 80, 24);
    assert!(
        shown.contains("Exact: every allocation was seen."),
        "{shown}"
    );
    letters(&mut model, "i");
    assert!(screen(&mut model, 80, 24).contains("ALLOCATED BY"));
}

#[test]
fn why_there_are_no_stacks() {
    let mut model = watching(8);
    letters(&mut model, "2");
    checks!(model, "idle");
    letters(&mut model, "1");
    press(&mut model, KeyCode::Enter);
    assert!(screen(&mut model, 80, 24).contains("process 4711: placing probes …"));
    let why = "the kernel refuses eBPF to this user: run as root";
    model.take(Update::Trace(1, News::Failed(why.to_owned())));
    let shown = screen(&mut model, 80, 24);
    // In the body, and in the status line.
    assert_eq!(shown.matches(why).count(), 2, "{shown}");
}

#[test]
fn the_sheet() {
    let mut model = watching(1);
    letters(&mut model, "3");
    assert!(screen(&mut model, 80, 24).contains("reading /proc/meminfo"));
    model.take(Update::Memory(Ok(Box::new(memory(1, 100_000)))));
    checks!(model, "memory");
    letters(&mut model, "b");
    model.take(Update::Memory(Ok(Box::new(memory(6, 90_000)))));
    let shown = screen(&mut model, 80, 24);
    assert!(shown.contains("Changes in the last 5.0 s"), "{shown}");
    assert!(shown.contains("-10,000 kB"), "{shown}");
    model.take(Update::Memory(Err("cannot read it".to_owned())));
    assert!(screen(&mut model, 80, 24).contains("cannot read it"));
}

#[test]
fn help() {
    let mut model = watching(1);
    letters(&mut model, "?");
    checks!(model, "help");
}

#[test]
fn any_size_is_drawn() {
    let mut models = [watching(3), tracing(3), watching(1), tracing(3)];
    letters(&mut models[2], "3");
    models[2].take(Update::Memory(Ok(Box::new(memory(1, 100_000)))));
    press(&mut models[3], KeyCode::Enter);
    for model in &mut models {
        for (columns, lines) in [
            (1, 1),
            (39, 10),
            (40, 9),
            (40, 10),
            (41, 11),
            (59, 12),
            (300, 100),
        ] {
            let shown = screen(model, columns, lines);
            let small = columns < 40 || lines < 10;
            assert_eq!(
                shown.starts_with(" 1 Processes") || shown.starts_with("memtrace  1"),
                !small,
                "{shown}"
            );
            for way in ["j", "G", "k", "g"] {
                letters(model, way);
                screen(model, columns, lines);
            }
        }
    }
    let shown = screen(&mut models[0], 30, 5).replace('\n', " ");
    assert!(shown.contains("this is 30×5"), "{shown}");
}

#[test]
fn colours_only_where_they_are_wanted() {
    use ratatui::{buffer::Buffer, layout::Rect, style::Color};
    for color in [false, true] {
        let mut model = tracing(3);
        model.style.color = color;
        press(&mut model, KeyCode::Enter);
        letters(&mut model, "p");
        let area = Rect::new(0, 0, 80, 24);
        let mut buffer = Buffer::empty(area);
        model.settle((80, 24));
        crate::tui::views::draw(&model, area, &mut buffer);
        let cells = buffer.content().iter();
        let colored = cells.filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert_eq!(colored.count() > 0, color);
    }
}
