//! A heap for people.
use std::io::{self, Write};

use super::{Arena, FreeSizes, HeapWalk, Kind};
use crate::{
    report::{
        Style, findings,
        lines::Lines,
        name::printable,
        style::Paint,
        words::{number, percent},
    },
    unit::{Bytes, Count},
};

/// Arenas of threads that are shown one by one: those with most memory.
const THREADS: usize = 8;
/// Characters of the longest bar.
const BAR: u64 = 24;

/// Writes the whole report.
pub(super) fn render(heap: &HeapWalk, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let mut text = Text { style, out };
    text.head(heap)?;
    text.totals(heap)?;
    for arena in shown(heap) {
        text.line("")?;
        text.arena(arena)?;
    }
    let hidden = heap.arenas.len() - shown(heap).count();
    if hidden > 0 {
        text.line("")?;
        text.line(&format!(
            "{} with less memory are not shown; --format json has all",
            number(hidden as u64, "thread's arena", "threads' arenas")
        ))?;
    }
    if !heap.findings.is_empty() {
        text.line("")?;
        findings::render(&heap.findings, style, text.out)?;
    }
    for note in &heap.notes {
        text.sentence(2, None, &format!("Note: {note}"))?;
    }
    Ok(())
}

/// The main arena, the largest of threads, and blocks with mappings.
fn shown(heap: &HeapWalk) -> impl Iterator<Item = &Arena> {
    let of = |kind| heap.arenas.iter().filter(move |arena| arena.kind == kind);
    let mut threads: Vec<&Arena> = of(Kind::Thread).collect();
    threads.sort_by_key(|arena| std::cmp::Reverse(arena.system_bytes));
    threads.truncate(THREADS);
    of(Kind::Main).chain(threads).chain(of(Kind::Mmapped))
}

struct Text<'a> {
    style: &'a Style,
    out: &'a mut dyn Write,
}

impl Lines for Text<'_> {
    fn style(&self) -> &Style {
        self.style
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }
}

impl Text<'_> {
    fn head(&mut self, heap: &HeapWalk) -> io::Result<()> {
        let process = &heap.process;
        let version = heap.glibc.as_deref().unwrap_or("of unknown version");
        let head = format!(
            "{} (pid {}, {}): heap of glibc {version}",
            printable(&process.comm),
            process.pid,
            printable(&process.exe)
        );
        self.sentence(2, Some(Paint::Strong), &head)?;
        if heap.consistent {
            self.line(
                "Consistent: the heap held still while it was read, and all of it was found.",
            )?;
        } else {
            let mut reasons: Vec<&str> = Vec::new();
            for problem in heap
                .arenas
                .iter()
                .filter_map(|arena| arena.problem.as_deref())
            {
                if !reasons.contains(&problem) {
                    reasons.push(problem);
                }
            }
            let sentence = format!("NOT CONSISTENT: {}.", reasons.join("; "));
            self.sentence(2, Some(Paint::Alarm), &sentence)?;
        }
        self.line("")
    }

    fn totals(&mut self, heap: &HeapWalk) -> io::Result<()> {
        let totals = &heap.totals;
        let row = |label: &str, bytes: u64, rest: String| {
            format!("{label:<8} {:>9}{rest}", Bytes(bytes).to_string())
        };
        let of_all = |bytes| percent(bytes, totals.system_bytes);
        let in_use = row(
            "In use",
            totals.in_use_bytes,
            format!(
                " in {} ({})",
                number(totals.in_use_count, "block", "blocks"),
                of_all(totals.in_use_bytes)
            ),
        );
        self.sentence(9, Some(Paint::Strong), &in_use)?;
        self.sentence(
            9,
            None,
            &row(
                "Free",
                totals.free_bytes,
                format!(
                    " in {} between them ({}), {} of it whole pages",
                    number(totals.free_count, "block", "blocks"),
                    of_all(totals.free_bytes),
                    Bytes(totals.trim_bytes)
                ),
            ),
        )?;
        let arenas = heap
            .arenas
            .iter()
            .filter(|arena| arena.kind != Kind::Mmapped);
        let arenas = arenas.count() as u64;
        self.line(&row(
            "Top",
            totals.top_bytes,
            format!(" at the end of {}", number(arenas, "arena", "arenas")),
        ))?;
        self.line(&row("Overhead", totals.overhead_bytes, String::new()))?;
        let mapped = if totals.mapped_count > 0 {
            format!(
                ", {} of it in {} with {} own",
                Bytes(totals.mapped_bytes),
                number(totals.mapped_count, "block", "blocks"),
                if totals.mapped_count == 1 {
                    "a mapping of its"
                } else {
                    "mappings of their"
                }
            )
        } else {
            String::new()
        };
        self.sentence(9, None, &row("System", totals.system_bytes, mapped))
    }

    fn arena(&mut self, arena: &Arena) -> io::Result<()> {
        let address = arena.address.as_deref().unwrap_or_default();
        let title = match arena.kind {
            Kind::Main => format!("Main arena at {address}"),
            Kind::Thread => format!("Thread arena at {address}"),
            Kind::Mmapped => "Blocks with mappings of their own".to_owned(),
        };
        self.sentence(2, Some(Paint::Strong), &title)?;
        if arena.system_bytes == 0 {
            return self.line("  not used");
        }
        let sums = format!(
            "  {} from the system: {} in use in {}, {} free in {}, top {}",
            Bytes(arena.system_bytes),
            Bytes(arena.in_use_bytes),
            number(arena.in_use_count, "block", "blocks"),
            Bytes(arena.free_bytes),
            number(arena.free_count, "block", "blocks"),
            Bytes(arena.top_bytes),
        );
        if arena.kind != Kind::Mmapped {
            self.sentence(4, None, &sums)?;
        }
        self.free_sizes(arena)?;
        self.used_sizes(arena)?;
        self.pin(arena)
    }

    fn free_sizes(&mut self, arena: &Arena) -> io::Result<()> {
        if arena.free_by_size.is_empty() {
            return Ok(());
        }
        self.line(&format!(
            "  fragmentation {:.1} %, largest free block {}",
            arena.fragmentation * 100.0,
            Bytes(arena.largest_free)
        ))?;
        let most = arena.free_by_size.iter().map(|row| row.sizes.bytes).max();
        for FreeSizes { class, sizes } in &arena.free_by_size {
            self.size_row(&format!("free {class}"), sizes, most.unwrap_or(0))?;
        }
        Ok(())
    }

    fn used_sizes(&mut self, arena: &Arena) -> io::Result<()> {
        let most = arena.in_use_by_size.iter().map(|row| row.bytes).max();
        for sizes in &arena.in_use_by_size {
            self.size_row("in use", sizes, most.unwrap_or(0))?;
        }
        Ok(())
    }

    fn size_row(&mut self, what: &str, sizes: &super::Sizes, most: u64) -> io::Result<()> {
        let range = if sizes.min == sizes.max {
            Count(sizes.min).to_string()
        } else {
            format!("{}–{}", Count(sizes.min), Count(sizes.max))
        };
        let length = (u128::from(sizes.bytes) * u128::from(BAR)).div_ceil(u128::from(most.max(1)));
        let bar = "█".repeat(usize::try_from(length).unwrap_or(0));
        let line = format!(
            "    {what:<13} {range:>23} bytes {:>12} {:>9}  {bar}",
            Count(sizes.count),
            Bytes(sizes.bytes).to_string(),
        );
        self.line(line.trim_end())
    }

    fn pin(&mut self, arena: &Arena) -> io::Result<()> {
        let Some(pin) = &arena.pinned_by else {
            return Ok(());
        };
        let state = if pin.cached {
            ", which the program has freed and a thread's cache keeps"
        } else {
            ""
        };
        let text = format!(
            "  pinned by the block at {} ({}){state}: without it {} could return to the system",
            pin.address,
            Bytes(pin.size),
            Bytes(pin.releasable_below),
        );
        self.sentence(4, None, &text)?;
        for hole in &arena.holes {
            let text = format!(
                "  hole of {} at {}, below {} in use ({})",
                Bytes(hole.size),
                hole.address,
                number(hole.blocks_above, "block", "blocks"),
                Bytes(hole.bytes_above),
            );
            self.sentence(4, None, &text)?;
        }
        Ok(())
    }
}
