//! Matches the stacks of two reports and tells what became of each.
use std::{cmp::Reverse, collections::HashMap};

use super::{Change, DiffReport, SCHEMA, Side, State};
use crate::report::{
    heap::{Frame, HeapReport, Kind, Process, Stack},
    name,
};

/// What makes two stacks of different runs the same. Addresses are others in
/// every run, and lines move with every change of a file: they do not count,
/// so two calls in one function are one. Nor does a program's own file name,
/// where it is one process against one, nor what follows `.so` in a library's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    comm: String,
    kind: Kind,
    function: String,
    truncated: bool,
    /// Module and name of each frame.
    frames: Vec<(String, String)>,
}

/// Compares two reports; `files`: their names. Where both are of one process
/// they are compared whatever the processes are called.
pub fn compare(old: &HeapReport, new: &HeapReport, files: [&str; 2]) -> DiffReport {
    let alone = old.processes.len() <= 1 && new.processes.len() <= 1;
    let mut changes = Vec::<Change>::new();
    let mut places = HashMap::new();
    // The later one first: its frames are those that can be looked up now.
    for (report, is_new) in [(new, true), (old, false)] {
        for stack in &report.stacks {
            let place = places.entry(key(report, stack, alone)).or_insert_with(|| {
                changes.push(unchanged(report, stack));
                changes.len() - 1
            });
            let change = &mut changes[*place];
            let (bytes, count) = if is_new {
                (&mut change.new_bytes, &mut change.new_count)
            } else {
                (&mut change.old_bytes, &mut change.old_count)
            };
            *bytes = bytes.saturating_add(stack.bytes);
            *count = count.saturating_add(stack.count);
        }
    }
    for change in &mut changes {
        change.bytes = difference(change.new_bytes, change.old_bytes);
        change.count = difference(change.new_count, change.old_count);
        change.state = state(change);
    }
    changes.retain(|change| change.old_count > 0 || change.new_count > 0);
    changes.sort_by_key(|change| {
        (
            Reverse(change.bytes),
            Reverse(change.count),
            Reverse(change.new_bytes),
        )
    });
    let [old_file, new_file] = files;
    let notes = notes(old, "OLD").into_iter().chain(notes(new, "NEW"));
    let whole = |report: &HeapReport| report.exact && left_out(report) == 0;
    DiffReport {
        schema: SCHEMA.to_owned(),
        exact: whole(old) && whole(new),
        notes: notes.collect(),
        bytes: difference(new.totals.outstanding_bytes, old.totals.outstanding_bytes),
        count: difference(new.totals.outstanding_count, old.totals.outstanding_count),
        old: side(old, old_file),
        new: side(new, new_file),
        stacks_total: changes.len() as u64,
        stacks: changes,
    }
}

fn key(report: &HeapReport, stack: &Stack, alone: bool) -> Key {
    let process = report
        .processes
        .iter()
        .find(|process| process.pid == stack.pid);
    let comm = if alone {
        String::new()
    } else {
        report.comm(stack.pid).to_owned()
    };
    Key {
        comm,
        kind: stack.kind,
        function: stack.function.clone(),
        truncated: stack.truncated,
        frames: stack
            .frames
            .iter()
            .map(|frame| (module(frame, process), label(frame)))
            .collect(),
    }
}

/// The file that a frame is in, as far as it is the same in another version.
fn module(frame: &Frame, process: Option<&Process>) -> String {
    let Some(path) = &frame.module else {
        return String::new();
    };
    if process.is_some_and(|process| process.exe == *path) {
        return "[program]".to_owned();
    }
    let base = name::base(path);
    base.find(".so").map_or(base, |at| &base[..at]).to_owned()
}

/// Its function, else its place in the file. Code that is in no file has
/// another address in every run: all of it is one.
fn label(frame: &Frame) -> String {
    match (&frame.symbol, &frame.offset) {
        (Some(symbol), _) => symbol.clone(),
        (None, Some(offset)) => offset.clone(),
        (None, None) => String::new(),
    }
}

fn unchanged(report: &HeapReport, stack: &Stack) -> Change {
    Change {
        state: State::Unchanged,
        comm: report.comm(stack.pid).to_owned(),
        kind: stack.kind,
        function: stack.function.clone(),
        bytes: 0,
        count: 0,
        old_bytes: 0,
        old_count: 0,
        new_bytes: 0,
        new_count: 0,
        truncated: stack.truncated,
        frames: stack.frames.clone(),
    }
}

fn state(change: &Change) -> State {
    match (change.old_count, change.new_count) {
        (0, _) => State::New,
        (_, 0) => State::Gone,
        _ => match (change.bytes, change.count) {
            (0, 0) => State::Unchanged,
            (0, count) if count > 0 => State::Grown,
            (bytes, _) if bytes > 0 => State::Grown,
            _ => State::Shrunk,
        },
    }
}

/// As far as the type goes.
fn difference(new: u64, old: u64) -> i64 {
    let difference = i128::from(new) - i128::from(old);
    let most = if difference < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(difference).unwrap_or(most)
}

fn side(report: &HeapReport, file: &str) -> Side {
    Side {
        file: file.to_owned(),
        duration_ns: report.duration_ns,
        exact: report.exact,
        outstanding_bytes: report.totals.outstanding_bytes,
        outstanding_count: report.totals.outstanding_count,
        processes: report.processes.clone(),
    }
}

/// Stacks that `--top` cut off.
fn left_out(report: &HeapReport) -> u64 {
    report
        .stacks_total
        .saturating_sub(report.stacks.len() as u64)
}

fn notes(report: &HeapReport, which: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let missing = left_out(report);
    if missing > 0 {
        notes.push(format!(
            "{which} holds {} of {} stacks: what is in the others counts as not there; reports that --top 0 wrote hold all, captures too",
            report.stacks.len(),
            report.stacks_total
        ));
    }
    if report.sample_bytes > 0 {
        notes.push(format!("{which} is sampled, so its figures are estimates"));
    }
    if report.lost_events > 0 {
        notes.push(format!("{which} lost {} events", report.lost_events));
    }
    let further = report.notes.iter();
    notes.extend(further.map(|note| format!("{which}: {note}")));
    notes
}
