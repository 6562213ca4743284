//! What processes held over time, as curves: one panel a process.
use std::{
    fmt::Write as _,
    io::{self, Write},
};

use super::{GrowthReport, Point, Process};
use crate::{
    report::name::printable,
    unit::{Bytes, Elapsed},
};

// Pixels.
const WIDTH: u32 = 900;
const PANEL: u32 = 260;
const LEFT: u32 = 100;
const TOP: u32 = 46;
const PLOT_WIDTH: u32 = 660;
const PLOT_HEIGHT: u32 = 170;

/// One curve: its name, its colour (told apart also by those who see few), and
/// how to get it.
type Curve = (&'static str, &'static str, fn(&Point) -> Option<u64>);

const CURVES: &[Curve] = &[
    ("resident", "#0072b2", |point| Some(point.rss_bytes)),
    ("heap (brk)", "#d55e00", |point| point.brk_bytes),
    ("anonymous mappings", "#009e73", |point| point.mmap_bytes),
    ("swapped out", "#7f7f7f", |point| {
        (point.swap_bytes > 0).then_some(point.swap_bytes)
    }),
];

/// Writes the curves of all processes of the report.
pub(super) fn render(report: &GrowthReport, out: &mut dyn Write) -> io::Result<()> {
    let panels = u32::try_from(report.processes.len().max(1)).unwrap_or(u32::MAX);
    let height = panels.saturating_mul(PANEL);
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    )?;
    if report.processes.is_empty() {
        writeln!(out, "<text x=\"20\" y=\"40\">No process was seen</text>")?;
    }
    let mut top = 0_u32;
    for process in &report.processes {
        out.write_all(panel(process, top).as_bytes())?;
        top = top.saturating_add(PANEL);
    }
    writeln!(out, "</svg>")
}

/// Where a process's points lie in its panel.
struct Scale {
    top: u32,
    /// Nanoseconds over the whole width.
    duration: u64,
    /// Bytes over the whole height.
    most: u64,
}

impl Scale {
    fn x(&self, time_ns: u64) -> f64 {
        f64::from(LEFT) + time_ns as f64 / self.duration as f64 * f64::from(PLOT_WIDTH)
    }

    fn y(&self, bytes: u64) -> f64 {
        let share = bytes as f64 / self.most as f64;
        f64::from(self.top + TOP) + (1.0 - share) * f64::from(PLOT_HEIGHT)
    }
}

fn panel(process: &Process, top: u32) -> String {
    let points = &process.samples;
    let sizes = |curve: &Curve| points.iter().filter_map(curve.2).max();
    let scale = Scale {
        top,
        duration: points
            .iter()
            .map(|point| point.time_ns)
            .max()
            .unwrap_or(0)
            .max(1),
        most: CURVES.iter().filter_map(sizes).max().unwrap_or(0).max(1),
    };
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"{}\" font-size=\"15\">{} (pid {}): {} now, {}</text>",
        top + 26,
        escaped(&process.comm),
        process.pid,
        Bytes(process.rss_bytes),
        verdict(process),
    );
    axes(&mut text, &scale);
    for (row, (name, colour, size)) in (0_u32..).zip(CURVES) {
        let line: Vec<String> = points
            .iter()
            .filter_map(|point| {
                let bytes = size(point)?;
                Some(format!(
                    "{:.1},{:.1}",
                    scale.x(point.time_ns),
                    scale.y(bytes)
                ))
            })
            .collect();
        if line.is_empty() {
            continue;
        }
        let at = top + TOP + 12 + row * 18;
        let _ = writeln!(
            text,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\n<text x=\"{}\" y=\"{at}\" fill=\"{colour}\">{name}</text>",
            line.join(" "),
            LEFT + PLOT_WIDTH + 10,
        );
    }
    text
}

fn verdict(process: &Process) -> String {
    let slope = process.rss_slope_bytes_per_s;
    let sign = if slope < 0 { '−' } else { '+' };
    format!("{sign}{}/s", Bytes(slope.unsigned_abs()))
}

/// Lines at quarters of the height with their sizes, and the times at both ends.
fn axes(text: &mut String, scale: &Scale) {
    for quarter in 0..=4 {
        let bytes = scale.most / 4 * quarter;
        let y = scale.y(bytes);
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT + PLOT_WIDTH,
            LEFT - 8,
            y + 4.0,
            Bytes(bytes),
        );
    }
    let below = scale.top + TOP + PLOT_HEIGHT + 18;
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"{below}\">0 s</text>\n<text x=\"{}\" y=\"{below}\" text-anchor=\"end\">{}</text>",
        LEFT + PLOT_WIDTH,
        Elapsed(scale.duration),
    );
}

/// A name that may be anything, as text of XML.
fn escaped(name: &str) -> String {
    printable(name)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
