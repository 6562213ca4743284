//! The page's data: the report, with every name and every frame once. Stacks of
//! a program share most of theirs, and a page may hold a hundred thousand.
use std::{collections::HashMap, io};

use serde::Serialize;

use crate::report::{
    heap::{
        AgeClass, Environment, Frame, HeapReport, Kind, Moment, Process, SizeClass, Stack, Totals,
    },
    name,
};

/// All of it.
#[derive(Serialize)]
struct Data<'a> {
    duration_ns: u64,
    exact: bool,
    lost_events: u64,
    sample_bytes: u64,
    notes: &'a [String],
    processes: &'a [Process],
    totals: &'a Totals,
    environment: &'a Option<Environment>,
    timeline: &'a [Moment],
    ages: &'a [AgeClass],
    sizes: &'a [SizeClass],
    stacks_total: u64,
    strings: Vec<&'a str>,
    frames: Vec<FrameRow>,
    stacks: Vec<StackRow>,
}

/// Name, module, source file (numbers of strings), line, whether inlined.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize)]
struct FrameRow(usize, usize, usize, u32, u8);

/// Pid, whether a mapping, function (number of a string), bytes, count,
/// allocated bytes and count, age of the oldest and of the youngest, whether
/// cut, frames (innermost first).
#[derive(Serialize)]
struct StackRow(u32, u8, usize, u64, u64, u64, u64, u64, u64, u8, Vec<usize>);

/// Writes it as JSON.
pub(super) fn json(report: &HeapReport) -> io::Result<String> {
    // Those that have no symbol are named by their place.
    let names: Vec<Vec<_>> = report
        .stacks
        .iter()
        .map(|stack| stack.frames.iter().map(name::of).collect())
        .collect();
    let mut tables = Tables::default();
    tables.string("");
    let stacks = report.stacks.iter().zip(&names);
    let stacks = stacks
        .map(|(stack, names)| {
            let frames = stack.frames.iter().zip(names);
            let frames = frames.map(|(frame, name)| tables.frame(frame, name));
            let frames = frames.collect();
            row(stack, tables.string(&stack.function), frames)
        })
        .collect();
    let data = Data {
        duration_ns: report.duration_ns,
        exact: report.exact,
        lost_events: report.lost_events,
        sample_bytes: report.sample_bytes,
        notes: &report.notes,
        processes: &report.processes,
        totals: &report.totals,
        environment: &report.environment,
        timeline: &report.timeline,
        ages: &report.ages,
        sizes: &report.sizes,
        stacks_total: report.stacks_total,
        strings: tables.strings,
        frames: tables.frames,
        stacks,
    };
    Ok(serde_json::to_string(&data)?)
}

fn row(stack: &Stack, function: usize, frames: Vec<usize>) -> StackRow {
    StackRow(
        stack.pid,
        u8::from(stack.kind == Kind::Mapping),
        function,
        stack.bytes,
        stack.count,
        stack.allocated_bytes,
        stack.allocated_count,
        stack.oldest_ns,
        stack.newest_ns,
        u8::from(stack.truncated),
        frames,
    )
}

#[derive(Default)]
struct Tables<'a> {
    strings: Vec<&'a str>,
    string_numbers: HashMap<&'a str, usize>,
    frames: Vec<FrameRow>,
    frame_numbers: HashMap<FrameRow, usize>,
}

impl<'a> Tables<'a> {
    fn string(&mut self, text: &'a str) -> usize {
        let strings = &mut self.strings;
        *self.string_numbers.entry(text).or_insert_with(|| {
            strings.push(text);
            strings.len() - 1
        })
    }

    fn frame(&mut self, frame: &'a Frame, name: &'a str) -> usize {
        let row = FrameRow(
            self.string(name),
            self.string(frame.module.as_deref().unwrap_or("")),
            self.string(frame.file.as_deref().unwrap_or("")),
            frame.line.unwrap_or(0),
            u8::from(frame.inlined),
        );
        let frames = &mut self.frames;
        *self.frame_numbers.entry(row).or_insert_with(|| {
            frames.push(row);
            frames.len() - 1
        })
    }
}
