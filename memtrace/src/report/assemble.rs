//! Puts a report together: what is outstanding, whose stacks those are, and
//! what the code there is called.
use std::{cmp::Reverse, collections::HashSet, sync::Arc};

use memtrace_common::Function;
use serde::{Deserialize, Serialize};

use super::heap::{
    self, AgeClass, Environment, Frame, HeapReport, Kind, Moment, Process, SCHEMA, SizeClass,
    Stack, Totals,
};
use crate::{
    live::{self, Class, Filter, Live, Outstanding, Snapshot, is_mapping},
    process::{Module, modules::ModuleCache},
    stack::{Location, StackTable},
    symbol::{ModuleFile, Symbolizer, demangle},
};

/// What a report says of the run as a whole.
pub struct Facts<'a> {
    /// What is outstanding.
    pub live: &'a Live,
    /// Every stack.
    pub stacks: &'a StackTable,
    /// Every module.
    pub modules: &'a ModuleCache,
    /// The traced processes.
    pub processes: Vec<Process>,
    /// When tracing began, on the events' clock.
    pub started_ns: u64,
    /// The moment that the report is about.
    pub now_ns: u64,
    /// Events that were dropped.
    pub lost_events: u64,
    /// When the last of them was, on the events' clock; 0: none was.
    pub last_loss_ns: u64,
    /// Whether every way to allocate that the processes have is probed.
    pub complete: bool,
    /// What else a reader must know.
    pub notes: Vec<String>,
    /// Where, when and how, as far as known.
    pub environment: Option<Environment>,
}

/// Orders of stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Outstanding bytes, most first.
    #[default]
    Bytes,
    /// Outstanding blocks, most first.
    Count,
}

impl Order {
    /// Puts the stacks of a report in this order; equal ones keep their places.
    pub fn sort(self, stacks: &mut [Stack]) {
        match self {
            Self::Bytes => stacks.sort_by_key(|stack| Reverse(stack.bytes)),
            Self::Count => stacks.sort_by_key(|stack| Reverse(stack.count)),
        }
    }
}

/// What of it to show.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Which allocations count.
    pub filter: Filter,
    /// Order of the stacks.
    pub order: Order,
    /// How many of them.
    pub top: usize,
    /// Whether stacks whose allocations have all been freed are there, too.
    pub ended: bool,
}

/// Assembles a heap report.
pub fn heap(facts: &Facts<'_>, choice: &Choice, symbolizer: &mut Symbolizer) -> HeapReport {
    let Snapshot {
        sites: mut outstanding,
        ended,
        ages,
        sizes,
    } = facts
        .live
        .snapshot(facts.now_ns, facts.last_loss_ns, &choice.filter);
    if choice.ended {
        outstanding.extend(ended);
    }
    // The hash last, so that equal sites keep their places between reports.
    outstanding.sort_by_key(|site| {
        let (first, second) = match choice.order {
            Order::Bytes => (site.bytes, site.count),
            Order::Count => (site.count, site.bytes),
        };
        (Reverse(first), Reverse(second), site.site.key.stack)
    });
    let sums = facts.live.totals();
    let sum = |of: fn(&Outstanding) -> u64| outstanding.iter().map(of).fold(0, u64::saturating_add);
    let totals = Totals {
        outstanding_bytes: sum(|site| site.bytes),
        outstanding_count: sum(|site| site.count),
        outstanding_mapping_bytes: sum(|site| {
            if is_mapping(site.site.key.function) {
                site.bytes
            } else {
                0
            }
        }),
        allocated_bytes: sums.allocated_bytes,
        allocated_count: sums.allocated_count,
        freed_bytes: sums.freed_bytes,
        freed_count: sums.freed_count,
        unmatched_frees: sums.unmatched_frees,
        doubtful_bytes: sum(|site| site.doubtful_bytes),
        doubtful_count: sum(|site| site.doubtful_count),
    };
    let mut notes = facts.notes.clone();
    if sums.reused_addresses > 0 {
        notes.push(format!(
            "{} blocks were handed out again without a free that memtrace saw; they are counted as freed",
            sums.reused_addresses
        ));
    }
    let files = files(facts.modules);
    let stacks: Vec<Stack> = outstanding
        .iter()
        .take(choice.top)
        .map(|site| stack(site, facts, &files, symbolizer))
        .collect();
    notes.extend_from_slice(symbolizer.warnings());
    HeapReport {
        schema: SCHEMA.to_owned(),
        duration_ns: facts.now_ns.saturating_sub(facts.started_ns),
        exact: facts.complete
            && facts.lost_events == 0
            && sums.reused_addresses == 0
            && facts.live.sample_bytes() == 0,
        lost_events: facts.lost_events,
        sample_bytes: facts.live.sample_bytes(),
        notes,
        processes: facts.processes.clone(),
        totals,
        stacks_total: outstanding.len() as u64,
        environment: facts.environment.clone(),
        timeline: timeline(facts),
        ages: ages.into_iter().map(AgeClass::from).collect(),
        sizes: sizes.into_iter().map(SizeClass::from).collect(),
        modules: modules(facts, &stacks),
        stacks,
        heap_walk: vec![],
    }
}

fn timeline(facts: &Facts<'_>) -> Vec<Moment> {
    let moment = |point: live::Moment| Moment {
        time_ns: point.time_ns.saturating_sub(facts.started_ns),
        bytes: point.bytes,
        count: point.count,
        peak_bytes: point.peak_bytes,
    };
    facts.live.timeline().map(moment).collect()
}

/// The programs, and the modules that frames of these stacks are in.
fn modules(facts: &Facts<'_>, stacks: &[Stack]) -> Vec<heap::Module> {
    let frames = stacks.iter().flat_map(|stack| &stack.frames);
    let mut named: HashSet<&str> = frames.filter_map(|frame| frame.module.as_deref()).collect();
    named.extend(facts.processes.iter().map(|process| &*process.exe));
    let paths = facts
        .modules
        .iter()
        .map(|module| (module, module.path.display().to_string()));
    // The first of several files that were at the same path.
    let paths = paths.filter(|(_, path)| named.remove(path.as_str()));
    paths
        .map(|(module, path)| heap::Module {
            path,
            build_id: module.build_id.clone(),
            code_vaddr: module.code.map(|code| format!("{:#x}", code.vaddr)),
            code_offset: module.code.map(|code| code.offset),
            code_size: module.code.map(|code| code.size),
        })
        .collect()
}

impl From<Class> for AgeClass {
    fn from(class: Class) -> Self {
        Self {
            min_ns: class.min,
            max_ns: class.max,
            bytes: class.bytes,
            count: class.count,
        }
    }
}

impl From<Class> for SizeClass {
    fn from(class: Class) -> Self {
        Self {
            min: class.min,
            max: class.max,
            bytes: class.bytes,
            count: class.count,
        }
    }
}

/// What the symbolizer needs of each module, by the number in its id.
pub fn files(modules: &ModuleCache) -> Vec<ModuleFile> {
    let file = |module: &Arc<Module>| ModuleFile {
        path: module.path.clone(),
        open_path: module.open_path.clone(),
        build_id: module.build_id.clone(),
    };
    modules.iter().map(file).collect()
}

/// One site, with names.
pub(super) fn stack(
    site: &Outstanding,
    facts: &Facts<'_>,
    files: &[ModuleFile],
    symbolizer: &mut Symbolizer,
) -> Stack {
    let key = site.site.key;
    let known = facts.stacks.get(key.stack);
    Stack {
        pid: key.pid,
        kind: if is_mapping(key.function) {
            Kind::Mapping
        } else {
            Kind::Heap
        },
        function: Function::name(key.function)
            .map_or_else(|| format!("function {}", key.function), demangle),
        bytes: site.bytes,
        count: site.count,
        allocated_bytes: site.site.allocated_bytes,
        allocated_count: site.site.allocated_count,
        doubtful_bytes: site.doubtful_bytes,
        doubtful_count: site.doubtful_count,
        oldest_ns: site.oldest_ns,
        newest_ns: site.newest_ns,
        ages: site
            .ages
            .classes()
            .into_iter()
            .map(AgeClass::from)
            .collect(),
        truncated: known.is_none_or(|stack| stack.truncated),
        frames: known
            .into_iter()
            .flat_map(|stack| stack.frames.iter())
            .flat_map(|location| frames(location, files, symbolizer))
            .collect(),
    }
}

/// The frames of one address: one, or more where functions were inlined.
pub(super) fn frames(
    location: &Location,
    files: &[ModuleFile],
    symbolizer: &mut Symbolizer,
) -> Vec<Frame> {
    let ip = format!("{:#x}", location.ip);
    let Some((id, vaddr)) = location.module else {
        return vec![Frame {
            ip,
            ..Frame::default()
        }];
    };
    let file = &files[id.0 as usize];
    let plain = Frame {
        ip,
        module: Some(file.path.display().to_string()),
        offset: Some(format!("{vaddr:#x}")),
        ..Frame::default()
    };
    let symbols = symbolizer.resolve(file, vaddr);
    if symbols.is_empty() {
        return vec![plain];
    }
    symbols
        .iter()
        .map(|symbol| Frame {
            symbol: symbol.name.clone(),
            file: symbol.file.clone(),
            line: symbol.line,
            inlined: symbol.inlined,
            ..plain.clone()
        })
        .collect()
}
