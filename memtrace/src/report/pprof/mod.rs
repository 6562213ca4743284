//! Profiles as pprof, Pyroscope, Parca and speedscope read them: gzipped
//! `profile.proto`. The same report gives the same bytes.
//!
//! Addresses are ELF virtual addresses, and a mapping lies where its file's
//! code says, as if it had been loaded at 0: so they mean the same in every
//! process and every run, and whatever has the file finds the code. As pprof
//! wants it, an address is inside of the call, one less than where it returns.
mod proto;

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    io::{self, Write},
};

use flate2::{Compression, GzBuilder};
use prost::Message as _;

use super::{
    heap::{Frame, HeapReport, Kind, Stack},
    name,
};
use proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

/// Name, unit, and a stack's number of it.
type SampleType = (&'static str, &'static str, fn(&Stack) -> u64);

/// The sample types of Go's heap profiles, which tools know.
const SAMPLE_TYPES: [SampleType; 4] = [
    ("alloc_objects", "count", |stack| stack.allocated_count),
    ("alloc_space", "bytes", |stack| stack.allocated_bytes),
    ("inuse_objects", "count", |stack| stack.count),
    ("inuse_space", "bytes", |stack| stack.bytes),
];

/// The type that is shown where none is asked for.
const DEFAULT_TYPE: &str = "inuse_space";

/// Pages that code is mapped in.
const PAGE: u64 = 4096;

/// Writes the profile.
pub fn render(report: &HeapReport, out: &mut dyn Write) -> io::Result<()> {
    let bytes = profile(report).encode_to_vec();
    // Without the time of writing.
    let mut gzip = GzBuilder::new().mtime(0).write(out, Compression::default());
    gzip.write_all(&bytes)?;
    gzip.finish()?.flush()
}

fn profile(report: &HeapReport) -> Profile {
    let mut builder = Builder::new(report);
    let samples = report.stacks.iter().map(|stack| builder.sample(stack));
    let sample = samples.collect();
    let value_type = |builder: &mut Builder, kind, unit| ValueType {
        kind: builder.strings.index(kind),
        unit: builder.strings.index(unit),
    };
    let types = SAMPLE_TYPES.iter();
    let sample_type = types.map(|(kind, unit, _)| value_type(&mut builder, kind, unit));
    let sample_type = sample_type.collect();
    let period_type = Some(value_type(&mut builder, "space", "bytes"));
    let comments = comments(report);
    let comment = comments.iter().map(|text| builder.strings.index(text));
    let comment = comment.collect();
    let began = report.environment.as_ref();
    let began = began.map_or(0, |environment| environment.began_unix_ns);
    Profile {
        sample_type,
        sample,
        time_nanos: signed(began.saturating_add(report.duration_ns)),
        duration_nanos: signed(report.duration_ns),
        period_type,
        // Every allocation is every byte.
        period: signed(report.sample_bytes.max(1)),
        comment,
        default_sample_type: builder.strings.index(DEFAULT_TYPE),
        mapping: builder.mappings,
        location: builder.locations.list,
        function: builder.functions.list,
        string_table: builder.strings.table(),
    }
}

/// What a reader must know: `pprof -comments` shows it.
fn comments(report: &HeapReport) -> Vec<String> {
    let mut comments = vec![format!(
        "memtrace: outstanding allocations, {}",
        if report.exact { "exact" } else { "NOT EXACT" }
    )];
    if report.lost_events > 0 {
        comments.push(format!("events lost: {}", report.lost_events));
    }
    if report.sample_bytes > 0 {
        let distance = report.sample_bytes;
        comments.push(format!(
            "sampled, one allocation for {distance} bytes; all figures are estimates"
        ));
    }
    let left_out = report
        .stacks_total
        .saturating_sub(report.stacks.len() as u64);
    if left_out > 0 {
        comments.push(format!("stacks left out: {left_out}"));
    }
    comments.extend(report.notes.iter().cloned());
    comments
}

/// What samples refer to, each thing once.
struct Builder {
    strings: Strings,
    mappings: Vec<Mapping>,
    by_path: HashMap<String, u64>,
    locations: Interned<Location>,
    functions: Interned<Function>,
}

impl Builder {
    fn new(report: &HeapReport) -> Self {
        let mut builder = Self {
            strings: Strings::default(),
            mappings: Vec::new(),
            by_path: HashMap::new(),
            locations: Interned::default(),
            functions: Interned::default(),
        };
        builder.strings.index("");
        // The first one stands for the program.
        let exes: BTreeSet<&str> = report
            .processes
            .iter()
            .map(|process| &*process.exe)
            .collect();
        let (programs, libraries): (Vec<_>, Vec<_>) = report
            .modules
            .iter()
            .partition(|module| exes.contains(&*module.path));
        for module in programs.into_iter().chain(libraries) {
            let mapping = Mapping {
                build_id: builder
                    .strings
                    .index(module.build_id.as_deref().unwrap_or("")),
                ..builder.mapping(&module.path)
            };
            builder.mappings.push(match place(module) {
                None => mapping,
                Some((memory_start, memory_limit, file_offset)) => Mapping {
                    memory_start,
                    memory_limit,
                    file_offset,
                    ..mapping
                },
            });
        }
        builder
    }

    /// A new one, of which nothing else is known.
    fn mapping(&mut self, path: &str) -> Mapping {
        let id = self.mappings.len() as u64 + 1;
        self.by_path.insert(path.to_owned(), id);
        Mapping {
            id,
            memory_limit: u64::MAX,
            filename: self.strings.index(path),
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
            ..Mapping::default()
        }
    }

    fn mapping_id(&mut self, path: &str) -> u64 {
        if let Some(id) = self.by_path.get(path) {
            return *id;
        }
        // A report may come without its list of modules.
        let mapping = self.mapping(path);
        self.mappings.push(mapping);
        mapping.id
    }

    fn sample(&mut self, stack: &Stack) -> Sample {
        let calls = stack.frames.split_inclusive(|frame| !frame.inlined);
        let location_id = calls.map(|frames| self.location(frames)).collect();
        let text = |builder: &mut Self, key, text| Label {
            key: builder.strings.index(key),
            str: builder.strings.index(text),
            num: 0,
        };
        let kind = match stack.kind {
            Kind::Heap => "heap",
            Kind::Mapping => "mapping",
        };
        let label = vec![
            text(self, "kind", kind),
            text(self, "allocator", &stack.function),
            Label {
                key: self.strings.index("pid"),
                str: 0,
                num: i64::from(stack.pid),
            },
        ];
        let values = SAMPLE_TYPES.iter().map(|(.., of)| signed(of(stack)));
        Sample {
            location_id,
            value: values.collect(),
            label,
        }
    }

    /// The frames of one address: those inlined into another, and that.
    fn location(&mut self, frames: &[Frame]) -> u64 {
        let outer = frames.last();
        let module = outer.and_then(|frame| frame.module.as_deref());
        let mapping_id = module.map_or(0, |path| self.mapping_id(path));
        let address = outer.map(|frame| frame.offset.as_ref().unwrap_or(&frame.ip));
        let address = address.and_then(|text| number(text)).unwrap_or(0);
        let line = frames.iter().map(|frame| self.line(frame)).collect();
        let location = Location {
            id: 0,
            mapping_id,
            address: address.saturating_sub(1),
            line,
        };
        self.locations.id(location, |location, id| location.id = id)
    }

    fn line(&mut self, frame: &Frame) -> Line {
        let name = self.strings.index(&name::of(frame));
        let function = Function {
            id: 0,
            name,
            // So that pprof shortens it, as far as its user wants that.
            system_name: name,
            filename: self.strings.index(frame.file.as_deref().unwrap_or("")),
        };
        Line {
            function_id: self.functions.id(function, |function, id| function.id = id),
            line: i64::from(frame.line.unwrap_or(0)),
        }
    }
}

/// Where the code of a file lies that was loaded at 0: start, end, file offset.
fn place(module: &super::heap::Module) -> Option<(u64, u64, u64)> {
    let vaddr = number(module.code_vaddr.as_ref()?)?;
    let end = vaddr.checked_add(module.code_size?)?;
    let before = vaddr % PAGE;
    let offset = module.code_offset?.checked_sub(before)?;
    let limit = end.checked_next_multiple_of(PAGE)?;
    Some((vaddr - before, limit, offset))
}

/// `"0x…"`.
fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// The format knows no unsigned numbers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Things that are the same once, with ids from 1.
struct Interned<T> {
    list: Vec<T>,
    ids: HashMap<T, u64>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            ids: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Interned<T> {
    /// `thing` has no id yet; `set` gives it one.
    fn id(&mut self, thing: T, set: impl FnOnce(&mut T, u64)) -> u64 {
        if let Some(id) = self.ids.get(&thing) {
            return *id;
        }
        let id = self.list.len() as u64 + 1;
        let mut numbered = thing.clone();
        set(&mut numbered, id);
        self.list.push(numbered);
        self.ids.insert(thing, id);
        id
    }
}

/// The string table.
#[derive(Default)]
struct Strings {
    list: Vec<String>,
    indices: HashMap<String, i64>,
}

impl Strings {
    fn index(&mut self, text: &str) -> i64 {
        if let Some(index) = self.indices.get(text) {
            return *index;
        }
        let index = signed(self.list.len() as u64);
        self.list.push(text.to_owned());
        self.indices.insert(text.to_owned(), index);
        index
    }

    fn table(self) -> Vec<String> {
        self.list
    }
}

#[cfg(test)]
mod tests;
