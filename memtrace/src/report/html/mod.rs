//! A page to look at a report in: one file, which needs no network and no
//! server. What it shows is data in it, and a script draws it.
//!
//! Names in a report come from anybody. They are data for the script, which
//! makes text of them and never markup; and the page's policy lets nothing be
//! loaded, from wherever.
mod data;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use super::{heap::HeapReport, name::printable, svg::subject};

/// The page, with a mark for each thing that is put in.
const PAGE: &str = include_str!("page.html");

/// What is put in where. Each comes once, in this order.
const TITLE: &str = "{{title}}";
const STYLE: (&str, &str) = ("{{style}}", include_str!("style.css"));
const DATA: &str = "{{data}}";
const SCRIPTS: &str = "{{scripts}}";

/// The script, in parts, which are one to a browser.
const PARTS: [&str; 5] = [
    include_str!("format.js"),
    include_str!("flame.js"),
    include_str!("table.js"),
    include_str!("charts.js"),
    include_str!("app.js"),
];

/// Writes the page.
pub fn render(report: &HeapReport, out: &mut dyn Write) -> io::Result<()> {
    let title = format!("memtrace: {}", printable(&subject(report)));
    let data = data::json(report)?;
    let mut rest = PAGE;
    for (mark, content) in [
        (TITLE, escaped(&title)),
        (STYLE.0, STYLE.1.to_owned()),
        (DATA, inert(&data)),
        (SCRIPTS, PARTS.concat()),
    ] {
        // A mark in what was put in is no mark.
        let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
        out.write_all(before.as_bytes())?;
        out.write_all(content.as_bytes())?;
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

/// Text in markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// JSON in a script element, which ends at the first `</script`, whatever that
/// is part of. In JSON these characters are only ever in strings.
fn inert(json: &str) -> String {
    json.replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
}
