//! Flame graphs as SVG, drawn by inferno from folded stacks. The same report
//! gives the same bytes.
use std::io::{self, Write};

use inferno::flamegraph::{
    self, Options, TextTruncateDirection,
    color::{BasicPalette, Palette},
};

use super::{folded, heap::HeapReport, name::printable};
use crate::unit::{Bytes, Elapsed};

/// Pixels. A fixed width shows labels without JavaScript, too.
const WIDTH: usize = 1200;

/// inferno adds bytes up without a check, takes differences as signed numbers,
/// and multiplies these by 150. Nobody's memory is as large, but a report may
/// come from a file.
pub(super) const MOST_BYTES: u64 = 1 << 55;

/// What is written over and under a flame graph.
pub(super) struct Caption {
    /// What it shows.
    pub(super) title: String,
    /// What a reader must know; may be empty.
    pub(super) subtitle: String,
    /// What to draw where there is no stack at all.
    pub(super) nothing: String,
}

/// Writes a flame graph of outstanding bytes.
pub fn render(report: &HeapReport, out: &mut dyn Write) -> io::Result<()> {
    let mut room = MOST_BYTES;
    let lines: Vec<String> = folded::lines(report)
        .into_iter()
        .map(|(stack, bytes)| format!("{stack} {}", taken(&mut room, bytes)))
        .collect();
    let caption = Caption {
        title: format!(
            "Outstanding {} of {}",
            Bytes(report.totals.outstanding_bytes),
            subject(report)
        ),
        subtitle: subtitle(report),
        nothing: "Nothing is outstanding".into(),
    };
    draw(&caption, &lines, BasicPalette::Mem, out)
}

/// Draws folded stacks with one column of bytes, or with two: before and after.
pub(super) fn draw(
    caption: &Caption,
    lines: &[String],
    palette: BasicPalette,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut options = options(caption, palette);
    let shown = lines.iter().map(String::as_str);
    if lines.iter().all(|line| line.ends_with(" 0")) {
        options.title.clone_from(&caption.nothing);
        // inferno refuses to draw nothing.
        return flamegraph::from_lines(&mut options, ["[nothing] 1"], out);
    }
    flamegraph::from_lines(&mut options, shown, out)
}

fn options(caption: &Caption, palette: BasicPalette) -> Options<'static> {
    let mut options = Options::default();
    options.title.clone_from(&caption.title);
    options.subtitle = (!caption.subtitle.is_empty()).then(|| caption.subtitle.clone());
    options.colors = Palette::Basic(palette);
    options.bgcolors = "#ffffff".parse().ok();
    options.count_name = "bytes".into();
    options.name_type = "Function:".into();
    options.image_width = Some(WIDTH);
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.deterministic = true;
    // A little more than usual: browsers' monospace fonts differ.
    options.font_width = 0.62;
    options.min_width = 0.05;
    options
}

/// As much of `bytes` as there is room for.
pub(super) fn taken(room: &mut u64, bytes: u64) -> u64 {
    let bytes = bytes.min(*room);
    *room -= bytes;
    bytes
}

/// The process, or how many.
pub(super) fn subject(report: &HeapReport) -> String {
    match report.processes.as_slice() {
        [] => "no process".into(),
        [one] => format!("{} (pid {})", printable(&one.comm), one.pid),
        many => format!("{} processes", many.len()),
    }
}

fn subtitle(report: &HeapReport) -> String {
    let time = Elapsed(report.duration_ns);
    let exact = if report.exact { "exact" } else { "NOT EXACT" };
    let shown = report.stacks.len() as u64;
    let cut = match report.stacks_total.checked_sub(shown) {
        None | Some(0) => String::new(),
        Some(_) => format!(", {shown} of {} stacks", report.stacks_total),
    };
    format!("traced for {time}, {exact}{cut}; width: bytes allocated and not freed, by call stack")
}
