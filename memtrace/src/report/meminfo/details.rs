//! What the rows of the sheet are made of: zones, nodes, caches, callers.
use std::io;

use super::{
    CallerRow,
    text::{Text, kb, signed},
};
use crate::{
    meminfo::tables::Cache,
    report::{lines::Lines, name::printable, words::number},
    unit::Count,
};

impl Text<'_> {
    /// All that is known; next to changes only what changed.
    pub(super) fn details(&mut self) -> io::Result<()> {
        if self.report.since.is_none() {
            self.zones()?;
            self.nodes()?;
        }
        self.caches()?;
        self.callers()
    }

    fn zones(&mut self) -> io::Result<()> {
        let report = self.report;
        if report.zones.is_empty() {
            return Ok(());
        }
        self.heading("Free memory by zone")?;
        for zone in &report.zones {
            let cma = match zone.free_cma_kb {
                0 => String::new(),
                free => format!(", {} of it CMA", kb(free)),
            };
            let managed = zone
                .managed_kb
                .map_or_else(String::new, |kb| format!(" of {}", Count(kb)));
            self.line(&format!(
                "{:>18}  free{managed} kB in node {}, {}{cma}; on CPUs {}, min {}, low {}",
                kb(zone.free_kb),
                zone.node,
                printable(&zone.zone),
                kb(zone.on_cpus_kb),
                kb(zone.min_kb),
                kb(zone.low_kb),
            ))?;
        }
        Ok(())
    }

    fn nodes(&mut self) -> io::Result<()> {
        let nodes = &self.report.nodes;
        // One node is the machine.
        if nodes.len() < 2 {
            return Ok(());
        }
        self.heading("NUMA nodes")?;
        for node in nodes {
            self.line(&format!(
                "{:>18}  free of {} in node {}",
                kb(node.free_kb),
                kb(node.total_kb),
                node.node
            ))?;
        }
        Ok(())
    }

    fn caches(&mut self) -> io::Result<()> {
        let caches = self.report.slab_caches.iter();
        let shown: Vec<&Cache> = caches.filter(|cache| cache.change_kb != Some(0)).collect();
        if shown.is_empty() {
            return Ok(());
        }
        self.heading(self.title(
            "Largest caches of kernel objects",
            "Caches of kernel objects that changed most",
        ))?;
        for cache in shown {
            self.line(&format!(
                "{:>18}{}  {} ({} of {} of {} B in use)",
                kb(cache.kb),
                changed(cache.change_kb),
                printable(&cache.name),
                Count(cache.active),
                number(cache.objects, "object", "objects"),
                Count(cache.object_bytes),
            ))?;
        }
        Ok(())
    }

    fn callers(&mut self) -> io::Result<()> {
        let callers = self.report.vmalloc_callers.iter();
        let shown: Vec<&CallerRow> = callers.filter(|row| row.change_kb != Some(0)).collect();
        if shown.is_empty() {
            return Ok(());
        }
        self.heading(self.title(
            "Largest users of vmalloc",
            "Users of vmalloc that changed most",
        ))?;
        for row in shown {
            let module = row.caller.module.as_ref();
            let module = module.map_or_else(String::new, |module| format!(" [{module}]"));
            self.line(&format!(
                "{:>18}{}  {}{} in {}",
                kb(row.kb),
                changed(row.change_kb),
                printable(&row.caller.caller),
                printable(&module),
                number(row.caller.areas, "area", "areas"),
            ))?;
        }
        Ok(())
    }

    /// A heading by whether something was compared.
    fn title(&self, alone: &'static str, compared: &'static str) -> &'static str {
        if self.report.since.is_some() {
            compared
        } else {
            alone
        }
    }
}

/// The column of changes, where there is one.
fn changed(change_kb: Option<i64>) -> String {
    change_kb.map_or_else(String::new, |change| {
        format!(" {:>16}", signed(change, "+"))
    })
}
