//! What keys do.
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Effect, Model, Update, heap, letters, memory, press, screen, tracing, watching};
use crate::tui::{
    keys::{Action, BINDINGS},
    model::{
        Mode, Tab,
        stacks::{News, Page, State},
    },
};

fn pids(model: &Model) -> Vec<u32> {
    let shown = model.processes.table.shown();
    shown.iter().map(|row| row.process.pid).collect()
}

fn selected(model: &Model) -> u32 {
    model.processes.table.selected().expect("a row").process.pid
}

#[test]
fn every_tab_has_a_key() {
    for index in 0..Tab::ALL.len() {
        let mut bindings = BINDINGS.iter();
        assert!(
            bindings.any(|binding| binding.action == Action::Tab(index)),
            "{index}"
        );
    }
    let mut model = watching(1);
    for tab in Tab::ALL.iter().cycle().skip(1).take(4) {
        press(&mut model, KeyCode::Tab);
        assert_eq!(model.tab, *tab);
    }
    press(&mut model, KeyCode::BackTab);
    assert_eq!(model.tab, Tab::Processes);
}

#[test]
fn the_selection_follows_its_process() {
    let mut model = watching(8);
    assert_eq!(pids(&model), [4711, 77, 1, 815]);
    // The first row, until another is chosen.
    assert_eq!(selected(&model), 4711);
    letters(&mut model, "jj");
    assert_eq!(selected(&model), 1);
    // By size, the largest first; then the smallest.
    letters(&mut model, "<<");
    assert_eq!(pids(&model), [815, 4711, 77, 1]);
    assert_eq!(selected(&model), 1);
    letters(&mut model, "I");
    assert_eq!(pids(&model), [1, 77, 4711, 815]);
    letters(&mut model, "G");
    assert_eq!(selected(&model), 815);
    letters(&mut model, "g");
    assert_eq!(selected(&model), 1);
    press(&mut model, KeyCode::PageDown);
    assert_eq!(selected(&model), 815);
}

#[test]
fn a_filter_is_typed() {
    let mut model = watching(8);
    assert_eq!(letters(&mut model, "/LEq"), []);
    assert_eq!((model.mode, model.filter()), (Mode::Typing, "LEq"));
    press(&mut model, KeyCode::Backspace);
    assert_eq!(pids(&model), [4711]);
    press(&mut model, KeyCode::Enter);
    assert_eq!((model.mode, pids(&model)), (Mode::Command, vec![4711]));
    press(&mut model, KeyCode::Esc);
    assert_eq!(pids(&model).len(), 4);
    // Ids are found as well; Escape takes it all back.
    letters(&mut model, "/81");
    assert_eq!(pids(&model), [815]);
    press(&mut model, KeyCode::Esc);
    assert_eq!((model.mode, pids(&model).len()), (Mode::Command, 4));
    let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
    letters(&mut model, "/x");
    assert_eq!(model.key(control('u')), None);
    assert_eq!(model.filter(), "");
    assert_eq!(model.key(control('c')), Some(Effect::Quit));
}

#[test]
fn a_baseline_shows_what_grew_since() {
    let mut model = watching(8);
    letters(&mut model, "b");
    assert_eq!(pids(&model), [0; 0]);
    super::look(&mut model, 9);
    assert_eq!(pids(&model), [4711]);
    assert_eq!(model.processes.table.shown()[0].grown, 1 << 20);
    assert_eq!(model.marked_ago_ns(), Some(super::SECOND));
    letters(&mut model, "B");
    assert_eq!((pids(&model).len(), model.marked_ago_ns()), (4, None));
    assert_eq!(model.processes.table.shown()[0].grown, 9 << 20);
}

#[test]
fn a_reused_id_is_another_process() {
    let mut model = watching(8);
    letters(&mut model, "b");
    let mut report = model.processes.report.clone().expect("a report");
    report.processes.retain(|process| process.pid == 1);
    let started = [(1, 999_999)].into();
    let look = crate::tui::model::processes::Look { report, started };
    model.take(Update::Processes(Box::new(look)));
    assert_eq!(model.processes.table.shown()[0].grown, 1000 * 4096);
}

#[test]
fn one_process_is_traced_at_a_time() {
    let mut model = tracing(2);
    assert_eq!(
        (model.tab, &model.stacks.state),
        (Tab::Stacks, &State::Tracing)
    );
    // The same again: its trace goes on.
    letters(&mut model, "1");
    assert_eq!(press(&mut model, KeyCode::Enter), None);
    assert_eq!(model.tab, Tab::Stacks);
    letters(&mut model, "1j");
    let effect = press(&mut model, KeyCode::Enter);
    assert_eq!(effect, Some(Effect::Trace(vec![77], 2)));
    // The first one's last words are not about the second.
    model.take(Update::Trace(1, News::Report(Box::new(heap(9)))));
    model.take(Update::Trace(1, News::Ended));
    assert!(model.stacks.report.is_none() && model.stacks.state == State::Starting);
    assert_eq!(letters(&mut model, "x"), [Effect::EndTrace]);
    assert_eq!(letters(&mut model, "x"), []);
    model.take(Update::Trace(2, News::Ended));
    assert_eq!(model.stacks.state, State::Ended);
    // It may be begun again.
    letters(&mut model, "1");
    assert_eq!(
        press(&mut model, KeyCode::Enter),
        Some(Effect::Trace(vec![77], 3))
    );
}

#[test]
fn stacks_are_opened_and_left() {
    let mut model = tracing(5);
    press(&mut model, KeyCode::Enter);
    assert!(matches!(model.stacks.page, Page::Stack(_)));
    letters(&mut model, "G");
    press(&mut model, KeyCode::Esc);
    assert_eq!((model.tab, model.stacks.page), (Tab::Stacks, Page::List));
    letters(&mut model, "/shop");
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.stacks.table.shown().len(), 1);
    press(&mut model, KeyCode::Left);
    assert_eq!((model.tab, model.filter()), (Tab::Stacks, ""));
    press(&mut model, KeyCode::Left);
    assert_eq!(model.tab, Tab::Processes);
}

#[test]
fn stacks_grow_from_the_baseline() {
    let mut model = tracing(5);
    letters(&mut model, "b");
    assert_eq!(model.stacks.table.shown().len(), 0);
    model.take(Update::Trace(1, News::Report(Box::new(heap(7)))));
    let shown = model.stacks.table.shown();
    // The mapping has not grown.
    assert_eq!((shown.len(), shown[0].grown), (1, 2 * 400 * 1024));
    assert_eq!(model.marked_ago_ns(), Some(2 * super::SECOND));
    assert_eq!(shown[0].history().last(), Some(&(7 * 400 * 1024)));
    assert_eq!(shown[0].history()[0], 0);
}

#[test]
fn figures_wait_while_paused() {
    let mut model = tracing(5);
    letters(&mut model, "p");
    super::look(&mut model, 20);
    model.take(Update::Memory(Ok(Box::new(memory(1, 1)))));
    model.take(Update::Trace(1, News::Report(Box::new(heap(9)))));
    model.take(Update::Trace(1, News::Ended));
    let seconds = |model: &Model| {
        let report = model.stacks.report.as_ref().expect("a report");
        report.duration_ns / super::SECOND
    };
    let watched = model
        .processes
        .report
        .as_ref()
        .expect("a report")
        .duration_ns;
    assert_eq!((watched, seconds(&model)), (8 * super::SECOND, 5));
    assert!(model.memory.report.is_none());
    assert!(screen(&mut model, 80, 24).contains("PAUSED"));
    // The last report of a trace that has ended is not lost.
    letters(&mut model, "p");
    assert_eq!(seconds(&model), 9);
}

#[test]
fn what_is_shown_is_saved() {
    let mut model = Model::new(crate::report::Style::default());
    assert_eq!(model.document(), None);
    let schema = |model: &Model| {
        let (about, document) = model.document().expect("a document");
        let value: serde_json::Value = serde_json::from_slice(&document).expect("JSON");
        (
            about,
            value["schema"].as_str().expect("a schema").to_owned(),
        )
    };
    let mut traced = tracing(5);
    assert_eq!(letters(&mut traced, "s"), [Effect::Save]);
    let heap = ("heap-4711".to_owned(), "memtrace.heap.v1".to_owned());
    assert_eq!(schema(&traced), heap);
    letters(&mut traced, "1");
    let growth = ("growth".to_owned(), "memtrace.growth.v1".to_owned());
    assert_eq!(schema(&traced), growth);
    letters(&mut traced, "3");
    assert_eq!(traced.document(), None);
    traced.take(Update::Memory(Ok(Box::new(memory(1, 1)))));
    let sheet = ("meminfo".to_owned(), "memtrace.meminfo.v1".to_owned());
    assert_eq!(schema(&traced), sheet);
    letters(&mut model, "i");
    assert!(model.status.is_some());
}

#[test]
fn several_processes_are_told_apart() {
    let mut model = watching(1);
    let effect = model.open(&[4711, 4712]);
    assert_eq!(effect, Some(Effect::Trace(vec![4711, 4712], 1)));
    assert!(screen(&mut model, 80, 24).contains("2 processes: placing probes"));
    let mut report = heap(5);
    report.processes.push(report.processes[0].clone());
    report.processes[1].pid = 4712;
    report.processes[1].comm = "worker".to_owned();
    report.stacks[1] = report.stacks[0].clone();
    report.stacks[1].pid = 4712;
    model.take(Update::Trace(1, News::Report(Box::new(report))));
    assert_eq!(model.stacks.table.shown().len(), 2);
    letters(&mut model, "/WORKER");
    let shown = screen(&mut model, 132, 24);
    let row = "worker (pid 4712): shop::grow(int):12 ← main";
    assert!(
        shown.contains(row) && !shown.contains("leak (pid"),
        "{shown}"
    );
    press(&mut model, KeyCode::Enter);
    press(&mut model, KeyCode::Enter);
    assert!(screen(&mut model, 80, 24).contains("in worker (pid 4712)"));
}

#[test]
fn lines_of_the_sheet_are_filtered() {
    let mut model = watching(1);
    model.take(Update::Memory(Ok(Box::new(memory(1, 100_000)))));
    letters(&mut model, "3G");
    assert!(model.memory.scroll.first > 0);
    letters(&mut model, "/shmem");
    let shown = screen(&mut model, 80, 24);
    assert!(
        shown.contains("680,000 kB") && !shown.contains("PageTables"),
        "{shown}"
    );
    press(&mut model, KeyCode::Esc);
    assert!(screen(&mut model, 80, 24).contains("PageTables"));
    // A sheet has no other order.
    letters(&mut model, ">");
    assert!(model.status.is_some());
}

#[test]
fn help_is_left_by_any_key() {
    let mut model = watching(1);
    letters(&mut model, "?jjj");
    assert_eq!(model.mode, Mode::Help);
    letters(&mut model, "s");
    assert_eq!(model.mode, Mode::Command);
    letters(&mut model, "?");
    assert_eq!(letters(&mut model, "q"), [Effect::Quit]);
}

#[test]
fn messages_go_with_the_next_key() {
    let mut model = watching(1);
    model.say_alarm("bad\x1b[2J news");
    let shown = screen(&mut model, 80, 24);
    assert!(shown.contains("bad\u{fffd}[2J news"), "{shown}");
    letters(&mut model, "j");
    assert_eq!(model.status, None);
}
