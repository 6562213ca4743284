//! The model of a balance sheet (`memtrace.meminfo.v1`): what every renderer
//! draws.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Document, Format, json};
use crate::finding::Finding;
use crate::meminfo::{
    Case, Holders, Machine, Moment, Row,
    explain::{Explanation, explanations},
    findings,
    machine::{HugePages, Node},
    tables::{Cache, change, compared},
    unknown_fields,
    vmalloc::{Caller, Vmalloc},
};

mod details;
mod text;
#[cfg(test)]
mod text_tests;

/// Names the document's version.
pub const SCHEMA: &str = "memtrace.meminfo.v1";

impl Document for MeminfoReport {
    const FORMATS: &'static [Format<Self>] = &[
        Format::text(text::render),
        Format {
            name: "json",
            extension: "json",
            render: |report, _, out| {
                if report.is_one_of_many {
                    json::line(report, out)
                } else {
                    json::render(report, out)
                }
            },
        },
    ];
}

/// Where the memory of a machine is. Figures in kB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeminfoReport {
    /// [`SCHEMA`].
    pub schema: String,
    /// Where the figures are from: `/proc`, or a file's name.
    pub origin: String,
    /// MemTotal.
    pub total_kb: u64,
    /// Rows without a parent add up to `total_kb`.
    pub rows: Vec<Row>,
    /// What is in no counter.
    pub unaccounted_kb: u64,
    /// Conclusions, the worst first.
    pub findings: Vec<Finding>,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// What the changes of rows are since; null where nothing was compared.
    pub since: Option<Since>,
    /// What people stumble over.
    pub explanations: Vec<Explanation>,
    /// Who holds shared memory; null where nobody looked.
    pub shmem: Option<Holders>,
    /// Free and managed memory by zone.
    pub zones: Vec<ZoneRow>,
    /// NUMA nodes.
    pub nodes: Vec<Node>,
    /// Huge pages by size.
    pub huge_pages: Vec<HugePages>,
    /// Caches of kernel objects, largest first.
    pub slab_caches: Vec<Cache>,
    /// Users of vmalloc by caller, largest first.
    pub vmalloc_callers: Vec<CallerRow>,
    /// Fields that are in no row, because nobody published what they are.
    pub unknown: Vec<UnknownField>,
    /// All fields as printed (kB, `HugePages_…` in pages).
    pub meminfo: BTreeMap<String, u64>,
    /// Whether more documents follow, so that JSON is one a line.
    #[serde(skip)]
    pub is_one_of_many: bool,
}

/// What was compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// Where the earlier figures are from.
    pub origin: String,
    /// Time between the two; null where it is not known.
    pub interval_ns: Option<u64>,
}

/// A zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneRow {
    /// NUMA node.
    pub node: u32,
    /// Name.
    pub zone: String,
    /// Given to the page allocator; null where the kernel does not tell.
    pub managed_kb: Option<u64>,
    /// On the zone's free lists.
    pub free_kb: u64,
    /// Of these in CMA areas.
    pub free_cma_kb: u64,
    /// On the lists of the CPUs.
    pub on_cpus_kb: u64,
    /// Below this only requests in need are served.
    pub min_kb: u64,
    /// Below this the kernel reclaims.
    pub low_kb: u64,
}

/// The areas of one caller of vmalloc.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerRow {
    /// Function, module, number of areas and pages.
    #[serde(flatten)]
    pub caller: Caller,
    /// Its pages in kB.
    pub kb: u64,
    /// Change since an earlier moment; null without one.
    #[serde(default)]
    pub change_kb: Option<i64>,
}

/// A field that is in no row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownField {
    /// As printed.
    pub name: String,
    /// As printed.
    pub value: u64,
    /// What is known of it.
    pub about: String,
}

/// What goes into a report beside the machine itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// Where the figures are from.
    pub origin: &'a str,
    /// Holders of shared memory, where they were searched for.
    pub holders: Option<&'a Holders>,
    /// The moment that changes are told against, and when it was.
    pub previous: Option<(&'a Moment, &'a Since)>,
    /// The moment that growth is told against.
    pub first: Option<&'a Moment>,
    /// Whether to explain everything.
    pub explain: bool,
    /// Rows of each list of details; `usize::MAX`: all.
    pub top: usize,
}

/// Makes the report of a moment.
pub fn assemble(moment: &Moment, choice: &Choice<'_>) -> MeminfoReport {
    let machine = &moment.machine;
    let findings = findings(&Case {
        machine,
        sheet: &moment.sheet,
        holders: choice.holders,
        before: choice.first,
    });
    let mut sheet = moment.sheet.clone();
    let previous = choice.previous.map(|(previous, _)| previous);
    if let Some((previous, since)) = choice.previous {
        sheet.compare(&previous.sheet, since.interval_ns);
    }
    let caches = match previous {
        None => machine.caches.clone(),
        Some(previous) => compared(&machine.caches, &previous.machine.caches),
    };
    let holders = choice.holders.cloned().map(|mut holders| {
        holders.holders.truncate(choice.top);
        holders
    });
    let mut notes = machine.meminfo.notes.clone();
    notes.extend(sheet.notes.iter().chain(&machine.notes).cloned());
    notes.extend(
        choice
            .holders
            .iter()
            .flat_map(|holders| holders.notes.iter().cloned()),
    );
    MeminfoReport {
        schema: SCHEMA.to_owned(),
        origin: choice.origin.to_owned(),
        total_kb: sheet.total_kb,
        rows: sheet.rows,
        unaccounted_kb: sheet.unaccounted_kb,
        findings,
        notes,
        since: choice.previous.map(|(_, since)| since.clone()),
        explanations: explanations(machine, &moment.sheet, choice.explain),
        shmem: holders,
        zones: zones(machine),
        nodes: machine.nodes.clone(),
        huge_pages: machine.huge.clone(),
        slab_caches: caches.into_iter().take(choice.top).collect(),
        vmalloc_callers: callers(machine, previous, choice.top),
        unknown: unknown_fields(machine)
            .into_iter()
            .map(|(name, value, about)| UnknownField {
                name,
                value,
                about: about.to_owned(),
            })
            .collect(),
        meminfo: machine
            .meminfo
            .fields()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        is_one_of_many: false,
    }
}

fn zones(machine: &Machine) -> Vec<ZoneRow> {
    let kb = |pages: u64| pages.saturating_mul(machine.page_kb);
    let zones = machine.zones.iter();
    zones
        .map(|zone| ZoneRow {
            node: zone.node,
            zone: zone.name.clone(),
            managed_kb: zone.managed.map(kb),
            free_kb: kb(zone.free),
            free_cma_kb: kb(zone.free_cma),
            on_cpus_kb: kb(zone.on_cpus),
            min_kb: kb(zone.min),
            low_kb: kb(zone.low),
        })
        // Kernels list zones that this machine has no memory in.
        .filter(|zone| zone.managed_kb != Some(0))
        .collect()
}

fn callers(machine: &Machine, previous: Option<&Moment>, top: usize) -> Vec<CallerRow> {
    let kb = |pages: u64| pages.saturating_mul(machine.page_kb);
    let callers = |areas: &'_ Option<Vmalloc>| areas.clone().unwrap_or_default().callers;
    let old = previous.map(|previous| callers(&previous.machine.vmalloc));
    let before = |now: &Caller| {
        let is_same = |old: &&Caller| old.caller == now.caller && old.module == now.module;
        let old = old.as_ref()?.iter().find(is_same);
        Some(kb(old.map_or(0, |old| old.pages)))
    };
    let mut rows: Vec<CallerRow> = callers(&machine.vmalloc)
        .into_iter()
        .map(|caller| CallerRow {
            kb: kb(caller.pages),
            change_kb: before(&caller).map(|before| change(kb(caller.pages), before)),
            caller,
        })
        .collect();
    // They come by size, and stay so among equals.
    rows.sort_by_key(|row| std::cmp::Reverse(row.change_kb.map(i64::unsigned_abs)));
    rows.truncate(top);
    rows
}
