//! Keys and screens of the live view, with figures that are made up.
mod bindings;
mod keys;
mod panics;
mod screens;

use std::collections::HashMap;

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    model::{Effect, Model, Update, memory, processes, stacks::News},
    views,
};
use crate::{
    growth::Ranking,
    meminfo::{Holders, Machine, Moment},
    process::Glance,
    report::{Style, growth::assemble::ranked, heap::AgeClass, heap::HeapReport, tests::leak},
};

const SECOND: u64 = 1_000_000_000;
const PAGE: u64 = 4096;

/// A view with four processes that were looked at for so many seconds: one
/// grows by 1 MiB a second, one shrinks, two do nothing.
fn watching(seconds: u64) -> Model {
    let mut model = Model::new(Style::default());
    model.settle((80, 24));
    for second in 0..=seconds {
        look(&mut model, second);
    }
    model
}

fn glance(pid: u32, comm: &str, resident: u64) -> Glance {
    Glance {
        pid,
        start_time: 100,
        comm: comm.to_owned(),
        resident,
    }
}

fn look(model: &mut Model, second: u64) {
    let mut ranking = Ranking::default();
    for second in 0..=second {
        let glances = vec![
            glance(1, "init", 1000),
            glance(4711, "leak", 512 + 256 * second),
            glance(815, "shrink", 100_000 - 128 * second),
            glance(77, "bad\x1b[2Jname", 2000),
        ];
        ranking.look(second * SECOND, PAGE, glances);
    }
    let ranks = ranking.ranked();
    let started = ranks.iter().map(|one| (one.pid, one.start_time));
    let look = processes::Look {
        started: started.collect::<HashMap<_, _>>(),
        report: ranked(&ranks, |_| None, SECOND, usize::MAX, Vec::new()),
    };
    model.take(Update::Processes(Box::new(look)));
}

/// A report of the leak after so many seconds, in which it has grown.
fn heap(seconds: u64) -> HeapReport {
    let mut report = leak();
    report.duration_ns = seconds * SECOND;
    report.stacks[0].bytes = seconds * 400 * 1024;
    report.stacks[0].count = seconds;
    report.stacks[0].allocated_count = seconds;
    let age = |min_ns, max_ns, count: u64| AgeClass {
        min_ns,
        max_ns,
        bytes: count * 400 * 1024,
        count,
    };
    report.stacks[0].ages = vec![
        age(0, SECOND / 100 - 1, 1),
        age(SECOND / 100, SECOND - 1, 0),
        age(SECOND, u64::MAX, seconds - 1),
    ];
    report.totals.outstanding_bytes = report.stacks.iter().map(|stack| stack.bytes).sum();
    report.totals.outstanding_count = report.stacks.iter().map(|stack| stack.count).sum();
    report
}

/// The same view, with the leak being traced for so many seconds.
fn tracing(seconds: u64) -> Model {
    let mut model = watching(8);
    let effect = press(&mut model, KeyCode::Enter);
    assert_eq!(effect, Some(Effect::Trace(vec![4711], 1)));
    model.take(Update::Trace(1, News::Began));
    for second in 1..=seconds {
        model.take(Update::Trace(1, News::Report(Box::new(heap(second)))));
    }
    model
}

const MEMINFO: &str = "MemTotal: 1000000 kB\nMemFree: 100000 kB\nMemAvailable: 150000 kB\n\
    Buffers: 10000 kB\nCached: 700000 kB\nSwapCached: 0 kB\nActive(anon): 690000 kB\n\
    Inactive(anon): 100000 kB\nActive(file): 15000 kB\nInactive(file): 15000 kB\nUnevictable: 0 kB\n\
    AnonPages: 100000 kB\nMapped: 5000 kB\nShmem: 680000 kB\nSlab: 50000 kB\nSReclaimable: 20000 kB\n\
    SUnreclaim: 30000 kB\nKernelStack: 2000 kB\nPageTables: 3000 kB\n";

/// The memory of a machine on which a tmpfs is full.
fn memory(second: u64, free: u64) -> memory::Look {
    let text = MEMINFO.replace("MemFree: 100000", &format!("MemFree: {free}"));
    memory::Look {
        time_ns: second * SECOND,
        moment: Moment::of(Machine::of_meminfo(&text).expect("a meminfo")),
        holders: Holders::default(),
    }
}

fn press(model: &mut Model, code: KeyCode) -> Option<Effect> {
    model.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn letters(model: &mut Model, letters: &str) -> Vec<Effect> {
    let letters = letters.chars();
    letters
        .filter_map(|letter| press(model, KeyCode::Char(letter)))
        .collect()
}

/// What a terminal of this size shows.
fn screen(model: &mut Model, columns: u16, lines: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).expect("a terminal");
    let drawn = terminal.draw(|frame| {
        let area = frame.area();
        model.settle((area.width, area.height));
        views::draw(model, area, frame.buffer_mut());
    });
    let buffer = drawn.expect("a drawing").buffer;
    let rows = buffer.content().chunks(usize::from(columns));
    let text = |row: &[ratatui::buffer::Cell]| {
        let symbols: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        symbols.trim_end().to_owned()
    };
    rows.map(text).collect::<Vec<_>>().join("\n") + "\n"
}
