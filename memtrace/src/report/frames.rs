//! The frames of one stack as two columns: function, and where it is.
use super::heap::Frame;
use super::name::{self, printable};

/// Columns before a frame.
pub const INDENT: usize = 6;
/// Beyond this, a long name does not push the file names of its stack aside.
const NAME_COLUMN: usize = 44;
/// Between name and place.
const GAP: &str = "  ";

/// What the frames' lines say: names, padded to a column, and places.
pub fn rows(frames: &[Frame], width: Option<usize>) -> Vec<(String, String)> {
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(INDENT).max(20));
    let names: Vec<(String, String)> = frames
        .iter()
        .map(|frame| {
            let place = place(frame);
            // What the place needs, but two fifths at most.
            let taken = match place.chars().count() {
                0 => 0,
                length => length.min(room / 5 * 2) + GAP.len(),
            };
            let mark = if frame.inlined { " (inlined)" } else { "" };
            let name = name::of(frame);
            let name = printable(&name);
            let name = name::shorten(&name, room.saturating_sub(taken + mark.len()));
            (format!("{name}{mark}"), place)
        })
        .collect();
    let column = names
        .iter()
        .filter(|(_, place)| !place.is_empty())
        .map(|(name, _)| name.chars().count())
        .filter(|length| *length <= NAME_COLUMN.min(room / 5 * 3))
        .max()
        .unwrap_or(0);
    names
        .into_iter()
        .map(|(name, place)| {
            if place.is_empty() {
                return (name, place);
            }
            let taken = name.chars().count().max(column) + GAP.len();
            let place = name::shorten_path(&place, room.saturating_sub(taken));
            (format!("{name:column$}{GAP}"), place.into_owned())
        })
        .collect()
}

/// Source file and line, else the module of a symbol.
fn place(frame: &Frame) -> String {
    match (&frame.file, frame.line, &frame.symbol, &frame.module) {
        (Some(file), Some(line), ..) => format!("{}:{line}", printable(file)),
        (Some(file), None, ..) => printable(file).into_owned(),
        (None, _, Some(_), Some(module)) => format!("[{}]", printable(name::base(module))),
        _ => String::new(),
    }
}
