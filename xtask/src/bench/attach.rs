//! How fast memtrace is there and gone again, in a process with many libraries.
use super::goals::Lab;
use super::watcher::Watcher;
use crate::shell::{Guard, run};
use anyhow::{Context as _, Result};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const LIBRARIES: u32 = 300;

/// Milliseconds from memtrace's start until it traces.
pub(super) fn attached(lab: &Lab<'_>) -> Result<Vec<f64>> {
    each(lab, |watcher| Ok(watcher.attached_in.as_secs_f64()))
}

/// Milliseconds from Ctrl-C to memtrace's end.
pub(super) fn detached(lab: &Lab<'_>) -> Result<Vec<f64>> {
    each(lab, |watcher| Ok(watcher.end()?.ended_in.as_secs_f64()))
}

fn each(lab: &Lab<'_>, seconds: fn(Watcher) -> Result<f64>) -> Result<Vec<f64>> {
    let target = with_libraries(lab.folder)?;
    let mut figures = Vec::new();
    for _ in 0..lab.runs {
        let watcher = Watcher::memtrace(lab.root, target.0.id(), &[])?;
        figures.push(seconds(watcher)? * 1e3);
    }
    Ok(figures)
}

/// A process that has mapped as many libraries, each a file with a build id and
/// a table of its own.
fn with_libraries(folder: &Path) -> Result<Guard> {
    let folder = folder.join("libraries");
    if !folder.exists() {
        fs::create_dir(&folder)?;
        for number in 0..LIBRARIES {
            let source = folder.join("one.c");
            let code = format!(
                "#include <stdlib.h>\nint f{number}(int x) {{ return x < 1 ? {number} : f{number}(x / 2) + (malloc(x) != 0); }}\n"
            );
            fs::write(&source, code)?;
            run(Command::new("cc")
                .args(["-O1", "-shared", "-fPIC", "-o"])
                .arg(folder.join(format!("lib{number}.so")))
                .arg(&source))?;
        }
        let source = folder.join("main.c");
        let code = format!(
            "#include <dlfcn.h>\n#include <stdio.h>\nint main(int n, char **a) {{ char p[4096]; for (int i = 0; i < {LIBRARIES}; i++) {{ snprintf(p, sizeof p, \"%s/lib%d.so\", a[1], i); if (!dlopen(p, RTLD_NOW)) return 1; }} puts(\"ready\"); fflush(stdout); return getchar(); }}\n"
        );
        fs::write(&source, code)?;
        run(Command::new("cc")
            .arg("-o")
            .args([folder.join("main"), source]))?;
    }
    let mut child = Guard(
        Command::new(folder.join("main"))
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let output = child.0.stdout.take().context("it has an output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    anyhow::ensure!(line.trim() == "ready", "the libraries were not loaded");
    Ok(child)
}
