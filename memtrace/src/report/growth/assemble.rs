//! Puts a growth report together from samples, sums and stacks.
use std::collections::{BTreeMap, HashMap};

use memtrace_common::growth::{GrowthKey, GrowthSum, Way};

use super::{GrowthReport, Hook, KindSize, Point, Process, SCHEMA, SourceStack, Total, WayKind};
use crate::{
    finding::Finding,
    growth::{Confidence, Kind, Ranked, Rollup, Sample, Series, Trend, advise, source, trend},
    process::modules::ModuleCache,
    report::{
        assemble::{files, frames},
        name::printable,
    },
    stack::StackTable,
    symbol::Symbolizer,
    unit::Bytes,
};

/// What is known of one process.
#[derive(Debug)]
pub struct Watched<'a> {
    /// Process id.
    pub pid: u32,
    /// The kernel's name for it.
    pub comm: &'a str,
    /// Whether it has ended.
    pub exited: bool,
    /// Its samples.
    pub series: &'a Series<Sample>,
    /// Exact figures at the end, where they could be read.
    pub rollup: Option<Rollup>,
}

/// What the kernel side has added up, and what names it.
#[derive(Debug)]
pub struct Probed<'a> {
    /// The sums.
    pub sums: &'a [(Way, GrowthKey, GrowthSum)],
    /// Their stacks.
    pub stacks: &'a StackTable,
    /// The stacks' modules.
    pub modules: &'a ModuleCache,
    /// How each hook was served.
    pub hooks: Vec<Hook>,
    /// Sums that were dropped.
    pub lost: u64,
}

/// A report about some processes.
pub fn watched(
    processes: &[Watched<'_>],
    probed: Option<&Probed<'_>>,
    interval_ns: u64,
    top: usize,
    mut notes: Vec<String>,
    symbolizer: &mut Symbolizer,
) -> GrowthReport {
    let reports = processes.iter().map(process);
    let (reports, findings): (Vec<Process>, Vec<Option<Finding>>) = reports.unzip();
    let (sources, totals) = match probed {
        None => (Vec::new(), Vec::new()),
        Some(probed) => (sources(probed, top, symbolizer), totals(probed.sums)),
    };
    if probed.is_some() {
        notes.extend(processes.iter().filter_map(huge_pages));
    }
    notes.extend_from_slice(symbolizer.warnings());
    GrowthReport {
        schema: SCHEMA.to_owned(),
        duration_ns: processes.iter().map(span).max().unwrap_or(0),
        interval_ns,
        lost_events: probed.map_or(0, |probed| probed.lost),
        hooks: probed.map_or_else(Vec::new, |probed| probed.hooks.clone()),
        notes,
        processes_total: reports.len() as u64,
        processes: reports,
        sources,
        totals,
        findings: findings.into_iter().flatten().collect(),
    }
}

/// A report about all processes of a machine: the `top` that grow fastest, in
/// this order. `sizes` are their mappings now, where they may be read.
pub fn ranked(
    ranked: &[Ranked],
    sizes: impl Fn(u32) -> Option<Sample>,
    interval_ns: u64,
    top: usize,
    notes: Vec<String>,
) -> GrowthReport {
    let time = |one: &Ranked| Some(one.held.last()?.0.saturating_sub(one.held.first()?.0));
    let shown = || ranked.iter().take(top);
    GrowthReport {
        schema: SCHEMA.to_owned(),
        duration_ns: ranked.iter().filter_map(time).max().unwrap_or(0),
        interval_ns,
        lost_events: 0,
        hooks: Vec::new(),
        notes,
        processes: shown()
            .map(|one| ranked_process(one, sizes(one.pid)))
            .collect(),
        processes_total: ranked.len() as u64,
        sources: Vec::new(),
        totals: Vec::new(),
        findings: shown()
            .filter(|one| one.trend.confidence > Confidence::Low)
            .filter_map(|one| advise(one.pid, &printable(&one.comm), &one.trend, one.ends(), None))
            .collect(),
    }
}

/// Where the sums of page faults are too small.
fn huge_pages(watched: &Watched<'_>) -> Option<String> {
    let huge = watched.rollup.map_or(0, |rollup| rollup.huge);
    (huge > 0).then(|| {
        format!(
            "process {} has {} in huge pages: one page fault brings 2 MiB of them, and counts as 4 KiB",
            watched.pid,
            Bytes(huge)
        )
    })
}

fn span(watched: &Watched<'_>) -> u64 {
    let time = |sample: Option<&Sample>| sample.map_or(0, |sample| sample.time_ns);
    time(watched.series.latest()).saturating_sub(time(watched.series.first()))
}

/// What is known of a process, and what to do about it.
fn process(watched: &Watched<'_>) -> (Process, Option<Finding>) {
    let samples = watched.series.points();
    let first = samples.first().copied().unwrap_or_default();
    let last = samples.last().copied().unwrap_or_default();
    let trend = trend(&watched.series.held());
    let sized = |sample: &&Sample| sample.sizes.is_some();
    let ends = samples.iter().find(sized).zip(samples.iter().rfind(sized));
    let source = ends.and_then(|(first, last)| source(first, last));
    let of = |kind| ends.and_then(|(_, last)| Some(last.size(kind)?.bytes));
    let grown = |kind| {
        let (first, last) = ends?;
        Some(difference(last.size(kind)?.bytes, first.size(kind)?.bytes))
    };
    let kinds = Kind::ALL.into_iter().filter_map(|kind| {
        let (_, last) = ends?;
        let size = last.size(kind)?;
        let growth_bytes = grown(kind)?;
        (size.bytes > 0 || growth_bytes != 0).then_some(KindSize {
            kind,
            bytes: size.bytes,
            mappings: size.mappings,
            growth_bytes,
        })
    });
    let point = |sample: &Sample| Point {
        time_ns: sample.time_ns.saturating_sub(first.time_ns),
        rss_bytes: sample.reading.rss,
        brk_bytes: sample.size(Kind::Heap).map(|size| size.bytes),
        mmap_bytes: sample.size(Kind::Anonymous).map(|size| size.bytes),
        swap_bytes: sample.reading.swap,
    };
    let finding = advise(
        watched.pid,
        &printable(watched.comm),
        &trend,
        (last.held(), first.held()),
        source,
    );
    let process = Process {
        exited: watched.exited,
        brk_bytes: of(Kind::Heap),
        mmap_bytes: of(Kind::Anonymous),
        pss_bytes: watched.rollup.map(|rollup| rollup.pss),
        swap_bytes: last.reading.swap,
        brk_growth_bytes: grown(Kind::Heap),
        mmap_growth_bytes: grown(Kind::Anonymous),
        source: source.filter(|_| last.held() > first.held()),
        kinds: kinds.collect(),
        samples_total: watched.series.seen(),
        samples: samples.iter().map(point).collect(),
        ..bare(
            (watched.pid, watched.comm),
            (last.reading.rss, first.reading.rss),
            &trend,
        )
    };
    (process, finding)
}

fn ranked_process(one: &Ranked, now: Option<Sample>) -> Process {
    let of = |kind| Some(now?.size(kind)?.bytes);
    let start = one.held.first().map_or(0, |(time, _)| *time);
    let point = |(time, bytes): &(u64, u64)| Point {
        time_ns: time.saturating_sub(start),
        rss_bytes: *bytes,
        brk_bytes: None,
        mmap_bytes: None,
        swap_bytes: 0,
    };
    Process {
        brk_bytes: of(Kind::Heap),
        mmap_bytes: of(Kind::Anonymous),
        swap_bytes: now.map_or(0, |now| now.reading.swap),
        samples_total: one.held.len() as u64,
        samples: one.held.iter().map(point).collect(),
        ..bare((one.pid, &one.comm), one.ends(), &one.trend)
    }
}

/// A process of which no more is known. `(now, first)`: resident bytes.
fn bare((pid, comm): (u32, &str), (now, first): (u64, u64), trend: &Trend) -> Process {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "casts of floats saturate, and no memory is that large"
    )]
    let whole = |bytes: f64| bytes.round() as i64;
    Process {
        pid,
        comm: comm.to_owned(),
        exited: false,
        brk_bytes: None,
        mmap_bytes: None,
        rss_bytes: now,
        pss_bytes: None,
        swap_bytes: 0,
        brk_growth_bytes: None,
        mmap_growth_bytes: None,
        rss_growth_bytes: difference(now, first),
        rss_slope_bytes_per_s: whole(trend.slope),
        rss_slope_low: whole(trend.low),
        rss_slope_high: whole(trend.high),
        verdict: trend.verdict,
        pattern: trend.pattern,
        confidence: trend.confidence,
        source: None,
        kinds: Vec::new(),
        samples_total: 0,
        samples: Vec::new(),
    }
}

fn difference(now: u64, before: u64) -> i64 {
    let whole = i128::from(now) - i128::from(before);
    i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
}

fn way(way: Way) -> WayKind {
    match way {
        Way::Fault => WayKind::Fault,
        Way::Break => WayKind::Brk,
        Way::Map => WayKind::Mmap,
    }
}

/// The stacks, the most bytes first; at most `top` of each process and way.
fn sources(probed: &Probed<'_>, top: usize, symbolizer: &mut Symbolizer) -> Vec<SourceStack> {
    let mut sums: Vec<&(Way, GrowthKey, GrowthSum)> = probed.sums.iter().collect();
    sums.sort_by_key(|(way, key, sum)| {
        let bytes = sum.grown_bytes.max(sum.returned_bytes);
        (std::cmp::Reverse(bytes), key.pid, *way, key.stack)
    });
    let mut shown: HashMap<(u32, Way), usize> = HashMap::new();
    sums.retain(|(way, key, _)| {
        let position = shown.entry((key.pid, *way)).or_default();
        *position += 1;
        *position <= top
    });
    let files = files(probed.modules);
    let stack = |(kind, key, sum): &(Way, GrowthKey, GrowthSum)| {
        let known = probed.stacks.get(key.stack);
        let locations = known.into_iter().flat_map(|stack| stack.frames.iter());
        SourceStack {
            pid: key.pid,
            kind: way(*kind),
            bytes: sum.grown_bytes,
            count: sum.grown_count,
            returned_bytes: sum.returned_bytes,
            returned_count: sum.returned_count,
            truncated: known.is_none_or(|stack| stack.truncated),
            frames: locations
                .flat_map(|location| frames(location, &files, symbolizer))
                .collect(),
        }
    };
    sums.into_iter().map(stack).collect()
}

fn totals(sums: &[(Way, GrowthKey, GrowthSum)]) -> Vec<Total> {
    let mut totals: BTreeMap<(u32, WayKind), Total> = BTreeMap::new();
    for (kind, key, sum) in sums {
        let (pid, kind) = (key.pid, way(*kind));
        let total = totals.entry((pid, kind)).or_insert(Total {
            pid,
            kind,
            bytes: 0,
            count: 0,
            returned_bytes: 0,
            returned_count: 0,
            stacks: 0,
        });
        total.bytes = total.bytes.saturating_add(sum.grown_bytes);
        total.count = total.count.saturating_add(sum.grown_count);
        total.returned_bytes = total.returned_bytes.saturating_add(sum.returned_bytes);
        total.returned_count = total.returned_count.saturating_add(sum.returned_count);
        total.stacks += 1;
    }
    totals.into_values().collect()
}
