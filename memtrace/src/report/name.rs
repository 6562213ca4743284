//! Names of functions and files: made printable, and made to fit.
use super::heap::Frame;
use std::borrow::Cow;

/// A frame's name: the symbol, else module and offset, else the address. Not yet
/// made printable.
pub fn of(frame: &Frame) -> Cow<'_, str> {
    match (&frame.symbol, &frame.module, &frame.offset) {
        (Some(symbol), ..) => symbol.into(),
        (None, Some(module), Some(offset)) => format!("{}+{offset}", base(module)).into(),
        (None, Some(module), None) => format!("{} {}", base(module), frame.ip).into(),
        (None, None, _) => frame.ip.as_str().into(),
    }
}

/// Beginnings of the names of functions through which others allocate: the
/// languages' own, and wrappers that everybody has.
const PLUMBING: &[&str] = &[
    "operator new",
    "std::",
    "__gnu_cxx::",
    "alloc::",
    "<alloc::",
    "core::",
    "<core::",
    "hashbrown::",
    "__rust_alloc",
    "__rdl_alloc",
    "__rg_alloc",
    "__rust_realloc",
    "__rdl_realloc",
    "xmalloc",
    "xcalloc",
    "xrealloc",
    "g_malloc",
    "g_realloc",
    "g_slice_alloc",
    "PyMem_",
    "_PyMem_",
    "PyObject_Malloc",
    "_PyObject_Malloc",
    "_PyObject_Realloc",
];

/// Whether a function allocates on behalf of others, so that its name says
/// little of why. Demangled templates begin with what they return.
pub fn is_plumbing(name: &str) -> bool {
    let head = name.split(['<', '(']).next().unwrap_or(name);
    let starts = |text: &str| PLUMBING.iter().any(|prefix| text.starts_with(prefix));
    starts(name) || head.rsplit_once(' ').is_some_and(|(_, last)| starts(last))
}

/// The last component of a path.
pub fn base(path: &str) -> &str {
    match path.rsplit('/').next() {
        Some(base) if !base.is_empty() => base,
        _ => path,
    }
}

/// Names come from files and processes of anybody: what would drive the
/// terminal is shown as a mark.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.replace(char::is_control, "\u{fffd}").into()
    } else {
        text.into()
    }
}

/// A function's name in at most `width` characters: template arguments go
/// first, the inner ones before the outer ones, then parameters, then the end.
pub fn shorten(name: &str, width: usize) -> Cow<'_, str> {
    if fits(name, width) {
        return name.into();
    }
    let mut shortest = name.to_owned();
    for (brackets, depth) in [(ANGLES, 3), (ANGLES, 2), (ANGLES, 1), (PARENTHESES, 1)] {
        shortest = collapse(&shortest, brackets, depth);
        if fits(&shortest, width) {
            return shortest.into();
        }
    }
    cut_end(&shortest, width).into()
}

/// A path in at most `width` characters: leading directories go first.
pub fn shorten_path(path: &str, width: usize) -> Cow<'_, str> {
    if fits(path, width) {
        return path.into();
    }
    let starts = path.match_indices('/').map(|(at, _)| at);
    for start in starts.filter(|start| *start > 0) {
        let tail = &path[start..];
        if fits(tail, width.saturating_sub(1)) {
            return format!("…{tail}").into();
        }
    }
    // Not even the last component fits: its end says most.
    let tail: Vec<char> = path.chars().rev().take(width.saturating_sub(1)).collect();
    format!("…{}", tail.into_iter().rev().collect::<String>()).into()
}

fn fits(text: &str, width: usize) -> bool {
    text.chars().count() <= width
}

fn cut_end(text: &str, width: usize) -> String {
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}

const ANGLES: (char, char) = ('<', '>');
const PARENTHESES: (char, char) = ('(', ')');

/// Replaces what is in brackets at nesting `depth` and below by `…`. Names whose
/// brackets do not balance are left alone.
fn collapse(name: &str, (open, close): (char, char), depth: usize) -> String {
    let mut text = String::with_capacity(name.len());
    let mut level = 0_usize;
    let mut hidden = false;
    for (at, character) in name.char_indices() {
        let bracket = !is_operator(name, at);
        if bracket && character == close {
            let Some(outer) = level.checked_sub(1) else {
                return name.into();
            };
            level = outer;
            if level + 1 == depth && hidden {
                text.push('…');
                hidden = false;
            }
        }
        if level < depth {
            text.push(character);
        } else {
            hidden = true;
        }
        if bracket && character == open {
            level += 1;
        }
    }
    if level == 0 { text } else { name.into() }
}

/// Whether the bracket at `at` belongs to the name of an operator:
/// `operator<`, `operator->`, `operator<<`, `operator()`, or to an arrow.
fn is_operator(name: &str, at: usize) -> bool {
    let before = name[..at].trim_end_matches(['<', '>', '=', '-', '(']);
    before.ends_with("operator") || name[..at].ends_with('-')
}
