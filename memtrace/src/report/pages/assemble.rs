//! Makes the report: names the stacks, finds who asked, and adds pages up.
use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::{
    By, Consumer, PagesReport, SCHEMA, Stack, Totals,
    balance::{balance, hole, losses},
};
use crate::{
    kernel::{
        allocator::{Layer, plumbing},
        gfp::Numbering,
        pages::migratetype,
    },
    pages::{
        accounting::{Accounted, account, account_by_stack},
        found::Found,
        ledger::{Origin, Tally},
        plumbing::{KernelFrame, consumer},
    },
    report::heap::Frame,
};

/// What to show, and how.
#[derive(Clone)]
pub struct Choice {
    /// What consumers are told apart by.
    pub by: By,
    /// Most consumers.
    pub top: usize,
    /// Leave out what something counts.
    pub untracked_only: bool,
    /// Leave out pages of requests of a lower order.
    pub min_order: u32,
    /// Leave out other zones.
    pub zone: Option<String>,
    /// Leave out pages that other processes asked for; empty: none.
    pub pids: Vec<u32>,
    /// How the kernel numbers allocation flags.
    pub gfp: Numbering,
    /// Bytes of a page.
    pub page_size: u64,
}

/// Names of kernel functions at return addresses, with the offset in each.
pub type Names<'a> = &'a dyn Fn(&[u64]) -> Vec<Option<(String, u64)>>;

/// Makes the report.
pub fn assemble(found: &Found, names: Names<'_>, choice: &Choice) -> PagesReport {
    let named = name_all(found, names);
    let mut totals = Totals {
        traced_pages: found.sums.allocated,
        freed_pages: found.sums.freed,
        freed_unseen_pages: found.sums.freed_unseen,
        ..Totals::default()
    };
    let nobody = Named::default();
    let mut groups: HashMap<Key<'_>, Group> = HashMap::new();
    for tally in found.tallies.all() {
        let who = named.get(&tally.origin).unwrap_or(&nobody);
        let accounted = who.account(tally.flags);
        add(&mut totals.outstanding_pages, tally.pages);
        let by_name = totals.accounted.entry(accounted.name().to_owned());
        add(by_name.or_default(), tally.pages);
        if accounted == Accounted::Untracked {
            add(&mut totals.untracked_pages, tally.pages);
        }
        let place = place(found, tally.zone);
        if choice.wants(&tally, who, accounted, place.1) {
            let key = Key::of(choice.by, &tally, who, accounted, place);
            groups.entry(key).or_default().add(&tally);
        }
    }
    let mut consumers: Vec<(Key<'_>, Group)> = groups.into_iter().collect();
    consumers.sort_by(|(one, left), (other, right)| {
        let tracked = |key: &Key<'_>| key.accounted != Accounted::Untracked;
        tracked(one)
            .cmp(&tracked(other))
            .then(right.pages.cmp(&left.pages))
            .then_with(|| one.cmp(other))
    });
    let consumers_total = consumers.len() as u64;
    consumers.truncate(choice.top);
    let describe = Describe {
        found,
        named: &named,
        choice,
    };
    let consumers = consumers
        .iter()
        .map(|(key, group)| describe.consumer(key, group));
    let lost = found.sums.lost();
    PagesReport {
        schema: SCHEMA.to_owned(),
        duration_ns: found.duration_ns,
        exact: lost == 0 && found.notes.is_empty() && found.way.loses.is_empty(),
        lost_events: lost,
        page_size: choice.page_size,
        mechanism: found.way.label.to_owned(),
        by: choice.by,
        consumers: consumers.collect(),
        consumers_total,
        looks_ns: found.looks.points().iter().map(|(time, _)| *time).collect(),
        hole: hole(found, totals.untracked_pages),
        balance: balance(found),
        before: found.census.as_ref().map(|census| {
            let known = Accounted::all().map(|one| (one.name().to_owned(), census.of(one)));
            let known = known.filter(|(_, pages)| *pages > 0);
            known
                .chain([("no flag".to_owned(), census.silent())])
                .collect()
        }),
        losses: losses(&found.sums),
        notes: notes(found),
        totals,
    }
}

fn notes(found: &Found) -> Vec<String> {
    let loses = found.way.loses;
    let loses =
        (!loses.is_empty()).then(|| format!("by {}, these are not seen: {loses}", found.way.label));
    found.notes.iter().cloned().chain(loses).collect()
}

/// Node and zone.
fn place(found: &Found, zone: Option<usize>) -> (u32, &str) {
    let zone = zone.and_then(|zone| found.zones.all().get(zone));
    zone.map_or((0, "?"), |zone| (zone.node, zone.name.as_str()))
}

fn add(sum: &mut u64, pages: u64) {
    *sum = sum.saturating_add(pages);
}

impl Choice {
    fn wants(&self, tally: &Tally, who: &Named, accounted: Accounted, zone: &str) -> bool {
        (!self.untracked_only || accounted == Accounted::Untracked)
            && who.order >= self.min_order
            && self.zone.as_deref().is_none_or(|wanted| wanted == zone)
            && (self.pids.is_empty() || self.pids.contains(&tally.pid))
    }
}

/// A stack with names.
#[derive(Default)]
struct Named {
    frames: Vec<Frame>,
    /// Index of the consumer in `frames`.
    consumer: Option<usize>,
    order: u32,
    migratetype: u32,
    gfp: u32,
}

fn name_all(found: &Found, names: Names<'_>) -> HashMap<u32, Named> {
    let mut named = HashMap::new();
    for tally in found.tallies.all() {
        if let Some(origin) = found.origins.get(&tally.origin) {
            named
                .entry(tally.origin)
                .or_insert_with(|| Named::of(origin, found, names));
        }
    }
    named
}

impl Named {
    fn of(origin: &Origin, found: &Found, names: Names<'_>) -> Self {
        let names = names(&origin.stack);
        let mut frames: Vec<Frame> = origin
            .stack
            .iter()
            .zip(names)
            .map(|(address, name)| Frame {
                ip: format!("{address:#x}"),
                symbol: name
                    .filter(|(_, offset)| *offset < LONGEST)
                    .map(|(name, _)| name),
                module: found.module(address.saturating_sub(1)).map(str::to_owned),
                ..Frame::default()
            })
            .collect();
        frames.drain(..own(&frames));
        Self {
            consumer: consumer(&kernel_frames(&frames)),
            frames,
            order: origin.order,
            migratetype: origin.migratetype,
            gfp: origin.gfp,
        }
    }

    fn account(&self, flags: Option<u64>) -> Accounted {
        let symbols: Vec<&str> = self.frames.iter().map(symbol).collect();
        match flags {
            Some(flags) => account(flags, &symbols),
            None => account_by_stack(&symbols),
        }
    }

    /// The function that asked, and its module.
    fn caller(&self) -> (&str, Option<&str>) {
        let frame = self.consumer.and_then(|at| self.frames.get(at));
        match frame.or(self.frames.last()) {
            Some(frame) => (symbol(frame), frame.module.as_deref()),
            None => ("(not known)", None),
        }
    }
}

/// Bytes of a function, at most. What lies farther behind a symbol is no part of
/// it: generated code, where the kernel does not list it (`bpf_jit_kallsyms`).
const LONGEST: u64 = 64 << 10;

/// How far the innermost frames lead through tracing: memtrace's own programs
/// and what runs them. The first is always the program itself.
fn own(frames: &[Frame]) -> usize {
    let generated = frames.iter().take_while(|frame| frame.symbol.is_none());
    let generated = generated.count().max(1).min(frames.len());
    let inner = frames.iter().take_while(|frame| {
        let name = frame.symbol.as_deref();
        frame.module.is_some() || name.is_none_or(|name| plumbing(name).is_some())
    });
    let tracing = |frame: &Frame| {
        let name = frame.symbol.as_deref().unwrap_or_default();
        plumbing(name) == Some(Layer::Tracing)
    };
    let last = inner.enumerate().filter(|(_, frame)| tracing(frame)).last();
    last.map_or(generated, |(index, _)| generated.max(index + 1))
}

fn symbol(frame: &Frame) -> &str {
    frame.symbol.as_deref().unwrap_or(&frame.ip)
}

fn kernel_frames(frames: &[Frame]) -> Vec<KernelFrame<'_>> {
    let frames = frames.iter();
    frames
        .map(|frame| KernelFrame {
            symbol: symbol(frame),
            module: frame.module.as_deref(),
        })
        .collect()
}

/// What tells consumers apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key<'a> {
    accounted: Accounted,
    node: u32,
    zone: &'a str,
    migratetype: &'static str,
    module: Option<&'a str>,
    caller: Option<&'a str>,
    origin: Option<u32>,
}

impl<'a> Key<'a> {
    fn of(
        by: By,
        tally: &Tally,
        who: &'a Named,
        accounted: Accounted,
        (node, zone): (u32, &'a str),
    ) -> Self {
        let (caller, module) = who.caller();
        Self {
            accounted,
            node,
            zone,
            migratetype: migratetype(who.migratetype),
            module,
            caller: (by != By::Module).then_some(caller),
            origin: (by == By::Stack).then_some(tally.origin),
        }
    }
}

/// Pages of one consumer.
#[derive(Default)]
struct Group {
    pages: u64,
    by_origin: BTreeMap<u32, u64>,
    by_pid: BTreeMap<u32, u64>,
    zones: Vec<Option<usize>>,
}

impl Group {
    fn add(&mut self, tally: &Tally) {
        add(&mut self.pages, tally.pages);
        add(self.by_origin.entry(tally.origin).or_default(), tally.pages);
        add(self.by_pid.entry(tally.pid).or_default(), tally.pages);
        if !self.zones.contains(&tally.zone) {
            self.zones.push(tally.zone);
        }
    }
}

/// Those with the most pages first.
fn ranked(sums: &BTreeMap<u32, u64>) -> Vec<(u32, u64)> {
    let mut ranked: Vec<(u32, u64)> = sums.iter().map(|(id, pages)| (*id, *pages)).collect();
    ranked.sort_by_key(|(id, pages)| (std::cmp::Reverse(*pages), *id));
    ranked
}

struct Describe<'a> {
    found: &'a Found,
    named: &'a HashMap<u32, Named>,
    choice: &'a Choice,
}

impl Describe<'_> {
    fn consumer(&self, key: &Key<'_>, group: &Group) -> Consumer {
        let nobody = Named::default();
        let named = |origin: &u32| self.named.get(origin).unwrap_or(&nobody);
        let mut orders = BTreeMap::new();
        for (origin, pages) in &group.by_origin {
            add(orders.entry(named(origin).order).or_default(), *pages);
        }
        let origins = ranked(&group.by_origin);
        let stacks = stacks(&origins, &named);
        let (first, others) = match stacks.split_first() {
            Some((first, others)) => (first.clone(), others.to_vec()),
            None => (Stack::default(), Vec::new()),
        };
        let most = origins.first().map_or(&nobody, |(origin, _)| named(origin));
        let (pid, pid_pages) = ranked(&group.by_pid).first().copied().unwrap_or_default();
        Consumer {
            caller: most.caller().0.to_owned(),
            module: key.module.map(str::to_owned),
            pages: group.pages,
            bytes: group.pages.saturating_mul(self.choice.page_size),
            zone: key.zone.to_owned(),
            node: key.node,
            migratetype: key.migratetype.to_owned(),
            orders,
            accounted_as: key.accounted.name().to_owned(),
            gfp: self.choice.gfp.names(u64::from(most.gfp)).join("|"),
            comm: self.found.comms.get(&pid).cloned().unwrap_or_default(),
            pid,
            pid_pages,
            processes: group.by_pid.len() as u64,
            trend: self.trend(group),
            frames: first.frames,
            frames_pages: first.pages,
            other_stacks: others,
        }
    }

    fn trend(&self, group: &Group) -> Vec<u64> {
        let points = self.found.looks.points().iter();
        points
            .map(|(_, pages)| {
                let keys = group.by_origin.keys();
                let keys = keys.flat_map(|origin| {
                    let zones = group.zones.iter();
                    zones.map(move |zone| (*origin, *zone))
                });
                let held = keys.filter_map(|key| pages.get(&key).copied());
                held.fold(0, u64::saturating_add)
            })
            .collect()
    }
}

/// Origins with the same frames are one stack.
fn stacks<'a>(ranked: &[(u32, u64)], named: &impl Fn(&u32) -> &'a Named) -> Vec<Stack> {
    let mut stacks: Vec<Stack> = Vec::new();
    let mut known: HashMap<Vec<&str>, usize> = HashMap::new();
    for (origin, pages) in ranked {
        let frames = &named(origin).frames;
        let addresses = frames.iter().map(|frame| frame.ip.as_str()).collect();
        let at = *known.entry(addresses).or_insert(stacks.len());
        match stacks.get_mut(at) {
            Some(stack) => add(&mut stack.pages, *pages),
            None => stacks.push(Stack {
                pages: *pages,
                frames: frames.clone(),
            }),
        }
    }
    stacks.sort_by_key(|stack| std::cmp::Reverse(stack.pages));
    stacks
}
