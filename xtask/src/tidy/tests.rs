//! A violation of each rule, and what looks like one but is none.
use super::rules;
use super::{File, Finding};

fn findings(rule: fn(&File, &mut Vec<Finding>), path: &str, text: &str) -> Vec<usize> {
    let mut findings = Vec::new();
    rule(
        &File {
            path: path.to_owned(),
            text: text.to_owned(),
        },
        &mut findings,
    );
    findings.into_iter().map(|finding| finding.line).collect()
}

const NONE: [usize; 0] = [];

#[test]
fn flow() {
    let live = "memtrace/src/live/heap.rs";
    let found = |text| findings(rules::flow, live, text);
    assert_eq!(found("use crate::event::Event;\n"), NONE);
    assert_eq!(found("//! x\nuse crate::report::Heap;\n"), [2]);
    assert_eq!(found("use crate::{event::{self, report}, stack};\n"), NONE);
    assert_eq!(
        found("use crate::{\n    event,\n    report::{Heap, Row},\n};\n"),
        [3]
    );
    assert_eq!(found("fn f() { crate::cli::run() }\n"), [1]);
    assert_eq!(found("// not crate::report, which\n"), NONE);
    assert_eq!(
        findings(rules::flow, "memtrace/src/live.rs", "use crate::symbol;\n"),
        [1]
    );
    assert_eq!(findings(rules::flow, "memtrace/src/novel.rs", ""), [0]);
    assert_eq!(
        findings(rules::flow, "memtrace/src/lib.rs", "pub use crate::cli;\n"),
        NONE
    );
    assert_eq!(
        findings(rules::flow, "xtask/src/run.rs", "use crate::cli;\n"),
        NONE
    );
}

#[test]
fn pure() {
    let impure = "//! x\nfn f() { let _ = std::fs::read(\"x\"); }\n";
    assert_eq!(
        findings(rules::pure, "memtrace/src/report/text.rs", impure),
        [2]
    );
    assert_eq!(
        findings(rules::pure, "memtrace/src/process/mod.rs", impure),
        NONE
    );
    assert_eq!(
        findings(rules::pure, "memtrace/src/report/text_tests.rs", impure),
        NONE
    );
    let tests = format!("//! x\n\n#[cfg(test)]\nmod tests {{\n{impure}}}\n");
    assert_eq!(
        findings(rules::pure, "memtrace/src/live/mod.rs", &tests),
        NONE
    );
}

#[test]
fn unsafe_code() {
    let found = |text| findings(rules::unsafe_code, "memtrace/src/live/mod.rs", text);
    assert_eq!(found("fn f() { unsafe { g() } }\n"), [0]);
    assert_eq!(found("unsafe impl Pod for X {}\n"), [0]);
    assert_eq!(
        found("#[unsafe(no_mangle)]\n#![forbid(unsafe_code)]\n// unsafe { }\n"),
        NONE
    );
    assert_eq!(found("let text = \"unsafe { }\";\n"), NONE);
}

#[test]
fn purpose() {
    assert_eq!(
        findings(rules::purpose, "xtask/src/x.rs", "use std::fs;\n"),
        [1]
    );
    assert_eq!(
        findings(rules::purpose, "xtask/src/x.rs", "//! For x.\n"),
        NONE
    );
    assert_eq!(findings(rules::purpose, "README.md", "# x\n"), NONE);
}

#[test]
fn length() {
    let found = |lines: usize| findings(rules::length, "xtask/src/x.rs", &"x\n".repeat(lines));
    assert_eq!(found(400), NONE);
    assert_eq!(found(401), [0]);
}

#[test]
fn kernel_knowledge() {
    let text = "//! x\nconst AT: &str = \"sched_process_exit\";\n";
    assert_eq!(
        findings(rules::kernel_knowledge, "memtrace/src/event/mod.rs", text),
        [2]
    );
    assert_eq!(
        findings(rules::kernel_knowledge, "memtrace/src/kernel/mod.rs", text),
        NONE
    );
    assert_eq!(
        findings(
            rules::kernel_knowledge,
            "memtrace-ebpf/src/process.rs",
            text
        ),
        NONE
    );
}

#[test]
fn whitespace() {
    assert_eq!(
        findings(rules::whitespace, "x.rs", "a\nb \n\tc\t\n"),
        [2, 3]
    );
    assert_eq!(findings(rules::whitespace, "x.md", "a  \n"), NONE);
}

#[test]
fn forbidden() {
    let path = format!("# in {}main\n", concat!("/wo", "rk/"));
    assert_eq!(findings(rules::forbidden, "README.md", &path), [1]);
    assert_eq!(
        findings(rules::forbidden, "README.md", "# in the workspace/\n"),
        NONE
    );
}

#[test]
fn commands_exist() {
    let found = |text| findings(rules::commands_exist, "README.md", text);
    assert_eq!(
        found("run `cargo xtask test`, then `cargo xtask run -- -p 1`\n"),
        NONE
    );
    assert_eq!(found("run `cargo xtask fly`\n"), [1]);
}

#[test]
fn tables_name_files() {
    let mut findings = Vec::new();
    rules::tables_name_files(&[], &mut findings);
    let rows = super::tables::UNSAFE.len() + super::tables::LONG.len();
    assert!(findings.len() >= rows);
}
