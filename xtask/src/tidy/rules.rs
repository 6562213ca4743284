//! The rules of `tidy`, each a function; `tests` holds a violation of each.
use super::tables::{
    BACKWARD, FLOW, FORBIDDEN, IMPURE, KERNEL_PLACES, KERNEL_WORDS, LONG, MAXIMUM_LINES,
    NO_PURPOSE, OUTSIDE_FLOW, PURE, PURE_PLACES, UNSAFE,
};
use super::{File, Finding};
use clap::CommandFactory as _;

type FileRule = fn(&File, &mut Vec<Finding>);
type TreeRule = fn(&[File], &mut Vec<Finding>);

/// Rules that look at one file.
pub(super) const FILE_RULES: &[FileRule] = &[
    flow,
    pure,
    unsafe_code,
    purpose,
    length,
    kernel_knowledge,
    whitespace,
    forbidden,
    commands_exist,
];

/// Rules that look at all files.
pub(super) const TREE_RULES: &[TreeRule] = &[tables_name_files];

fn report(findings: &mut Vec<Finding>, file: &File, line: usize, what: String) {
    findings.push(Finding {
        path: file.path.clone(),
        line,
        what,
    });
}

/// No module names a later one.
pub(super) fn flow(file: &File, findings: &mut Vec<Finding>) {
    let Some(module) = file
        .module()
        .filter(|module| !OUTSIDE_FLOW.contains(module))
    else {
        return;
    };
    let Some(place) = FLOW.iter().position(|found| *found == module) else {
        let what = format!("the module {module} has no place in FLOW");
        return report(findings, file, 0, what);
    };
    let lines: Vec<_> = file.code().map(|(_, line)| line).collect();
    let text = lines.join("\n");
    for named in named_modules(&text) {
        let later = FLOW
            .iter()
            .position(|found| *found == named)
            .is_some_and(|at| at > place);
        let excused = |row: &(&str, &str, &str)| row.0 == file.path && row.1 == named;
        if later && !BACKWARD.iter().any(excused) {
            let line = file
                .code()
                .find(|(_, line)| line.contains(named))
                .map_or(0, |(at, _)| at);
            report(
                findings,
                file,
                line,
                format!("{module} names {named}, which comes after it"),
            );
        }
    }
}

/// The modules behind each `crate::`, one or a list in braces.
fn named_modules(text: &str) -> Vec<&str> {
    let mut named = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            named.push(first_word(rest));
            continue;
        };
        let mut depth = 0_usize;
        let mut starts = true;
        for (at, letter) in list.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => starts = true,
                _ if starts && !letter.is_whitespace() => {
                    starts = false;
                    named.push(first_word(list.get(at..).unwrap_or_default()));
                }
                _ => {}
            }
        }
    }
    named
}

fn first_word(text: &str) -> &str {
    let word = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.split(|letter| !word(letter))
        .next()
        .unwrap_or_default()
}

/// What a capture drives does no I/O and reads no clock.
pub(super) fn pure(file: &File, findings: &mut Vec<Finding>) {
    let is_pure = file.module().is_some_and(|module| PURE.contains(&module))
        || PURE_PLACES.iter().any(|place| file.path.starts_with(place));
    if !is_pure || file.is_test() {
        return;
    }
    for (at, line) in file.code() {
        for word in IMPURE.iter().filter(|word| line.contains(**word)) {
            report(
                findings,
                file,
                at,
                format!("I/O or a clock in a pure module: {word}"),
            );
        }
    }
}

/// `unsafe` is where the table says, as often as it says.
pub(super) fn unsafe_code(file: &File, findings: &mut Vec<Finding>) {
    if !file.has_extension("rs") {
        return;
    }
    let count: usize = file.code().map(|(_, line)| unsafe_words(line)).sum();
    let row = UNSAFE.iter().find(|(path, ..)| *path == file.path);
    let allowed = row.map_or(0, |(_, allowed, _)| *allowed);
    if count != allowed {
        let what = format!("{count} times unsafe, the table says {allowed}");
        report(findings, file, 0, what);
    }
}

/// Blocks, functions, implementations; not attributes such as
/// `#[unsafe(no_mangle)]`, and not strings.
fn unsafe_words(line: &str) -> usize {
    let line = line.replace("\\\"", "");
    let code = line.split('"').step_by(2);
    let after = code.flat_map(|part| part.split("unsafe ").skip(1));
    after
        .filter(|rest| {
            ["{", "fn ", "impl", "extern", "trait "]
                .iter()
                .any(|word| rest.starts_with(word))
        })
        .count()
}

/// Every Rust file says what it is for.
pub(super) fn purpose(file: &File, findings: &mut Vec<Finding>) {
    let excused = NO_PURPOSE.contains(&file.path.as_str());
    if file.has_extension("rs") && !excused && !file.text.starts_with("//! ") {
        report(
            findings,
            file,
            1,
            "does not start with `//!` and what it is for".to_owned(),
        );
    }
}

/// Files stay small enough to hold in the head.
pub(super) fn length(file: &File, findings: &mut Vec<Finding>) {
    let excused = LONG.iter().any(|(path, _)| *path == file.path);
    let lines = file.text.lines().count();
    if file.has_extension("rs") && !excused && lines > MAXIMUM_LINES {
        let what = format!("{lines} lines, more than {MAXIMUM_LINES}, and no reason listed");
        report(findings, file, 0, what);
    }
}

/// What differs between kernels is known in one place.
pub(super) fn kernel_knowledge(file: &File, findings: &mut Vec<Finding>) {
    let elsewhere = !KERNEL_PLACES
        .iter()
        .any(|place| file.path.starts_with(place));
    if file.module().is_none() || !elsewhere || file.is_test() {
        return;
    }
    for (at, line) in file.code() {
        for word in KERNEL_WORDS.iter().filter(|word| line.contains(**word)) {
            report(
                findings,
                file,
                at,
                format!("knowledge of kernels outside its place: {word}"),
            );
        }
    }
}

/// No space at the end of a line. In Markdown and recorded data it may mean
/// something.
pub(super) fn whitespace(file: &File, findings: &mut Vec<Finding>) {
    let ours = [".rs", ".toml", ".c", ".cc", ".h", ".sh", ".ci/run"];
    if !ours.iter().any(|end| file.path.ends_with(end)) {
        return;
    }
    for (at, line) in file
        .lines()
        .filter(|(_, line)| line.ends_with([' ', '\t', '\r']))
    {
        report(findings, file, at, format!("space at the end of {line:?}"));
    }
}

/// Nothing of one machine, no host of a registry.
pub(super) fn forbidden(file: &File, findings: &mut Vec<Finding>) {
    for (at, line) in file.lines() {
        for (word, why) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
            report(findings, file, at, format!("{word}: {why}"));
        }
    }
}

/// Commands that the documents name exist.
pub(super) fn commands_exist(file: &File, findings: &mut Vec<Finding>) {
    if !file.has_extension("md") {
        return;
    }
    let known = crate::Arguments::command();
    for (at, line) in file.lines() {
        for rest in line.split("cargo xtask ").skip(1) {
            let end = |letter: char| !letter.is_ascii_lowercase() && letter != '-';
            let name = rest.split(end).next().unwrap_or_default();
            let exists = name == "help" || known.find_subcommand(name).is_some();
            if !exists && !name.is_empty() {
                report(
                    findings,
                    file,
                    at,
                    format!("there is no `cargo xtask {name}`"),
                );
            }
        }
    }
}

/// A table names only files that are there.
pub(super) fn tables_name_files(files: &[File], findings: &mut Vec<Finding>) {
    let unsafe_files = UNSAFE.iter().map(|row| row.0);
    let long = LONG.iter().map(|row| row.0);
    let backward = BACKWARD.iter().map(|row| row.0);
    for path in unsafe_files
        .chain(long)
        .chain(backward)
        .chain(NO_PURPOSE.iter().copied())
    {
        if !files.iter().any(|file| file.path == path) {
            let what = "a table of tidy names it, but it is not there".to_owned();
            findings.push(Finding {
                path: path.to_owned(),
                line: 0,
                what,
            });
        }
    }
}
