//! What other programs read: profiles by Go's pprof, flame graphs as XML.
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use memtrace_tests::report::Report;
use memtrace_tests::target::Target;
use memtrace_tests::tracer::{self, FINISH, Outcome};
use memtrace_tests::{check, need_root, turn};
use serde_json::Value;
use tempfile::TempDir;

const NOTHING: &[&str] = &[];

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// A capture of a program's work, and the whole report of it.
fn recorded(program: &str) -> Result<(TempDir, Report)> {
    let directory = tempfile::tempdir()?;
    let capture = directory.path().join("capture");
    let mut target = Target::start(program, NOTHING)?;
    let tracer = tracer::attach(&[target.pid()], &["--record", text(&capture)?])?;
    target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    target.end()?;
    Ok((directory, report))
}

/// `memtrace report CAPTURE -f FORMAT -o FILE`, where there is nothing to say.
fn written(directory: &Path, format: &str, more: &[&str]) -> Result<String> {
    let (capture, file) = (directory.join("capture"), directory.join(format));
    let file = text(&file)?;
    let arguments = [&["report", text(&capture)?, "-f", format, "-o", file], more].concat();
    let outcome = tracer::run(&arguments, FINISH)?;
    ensure!(
        outcome.status.success() && outcome.stderr.is_empty(),
        "{}",
        outcome.context()
    );
    Ok(file.to_owned())
}

/// `go tool pprof ARGUMENTS…`, offline and without the user's settings.
fn pprof(arguments: &[&str]) -> Result<Outcome> {
    let home = tempfile::tempdir()?;
    let mut command = Command::new("go");
    // Else it looks names up by itself, and cuts parameters and template arguments off.
    let names = "-symbolize=none";
    command.args(["tool", "pprof", names]).args(arguments);
    command
        .env("HOME", home.path())
        .env("PPROF_BINARY_PATH", home.path());
    command.env("GOFLAGS", "").env("GO111MODULE", "off");
    tracer::spawn(&mut command)?.finish(FINISH)
}

/// The rows of `pprof -top`: of each function, flat and cumulative.
fn top(file: &str, sample: &str) -> Result<Vec<(String, u64, u64)>> {
    let index = format!("-sample_index={sample}");
    let outcome = pprof(&[
        "-top",
        "-nodecount=100000",
        "-nodefraction=0",
        "-unit=B",
        &index,
        file,
    ])?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    let text = outcome.text();
    let rows = text
        .lines()
        .skip_while(|line| !line.contains("flat%"))
        .skip(1);
    rows.map(|row| {
        let mut words = row.split_whitespace();
        let mut number = || -> Result<u64> {
            let word = words.next().context("a short row")?.trim_end_matches('B');
            word.parse().with_context(|| format!("{row}: {word}"))
        };
        let flat = number()?;
        let cumulative = {
            let mut later = row.split_whitespace().skip(3);
            let word = later.next().context("a short row")?.trim_end_matches('B');
            word.parse().with_context(|| format!("{row}: {word}"))?
        };
        let name: Vec<&str> = row.split_whitespace().skip(5).collect();
        Ok((name.join(" ").replace(" (inline)", ""), flat, cumulative))
    })
    .collect()
}

/// What pprof should say of each function, by the report: flat of the innermost frame, cumulative of all, of a recursive
/// one once.
fn expected(report: &Report, key: &str) -> Result<Vec<(String, u64, u64)>> {
    let mut sums = std::collections::BTreeMap::<String, (u64, u64)>::new();
    for stack in report.stacks()? {
        let value = stack
            .0
            .get(key)
            .and_then(Value::as_u64)
            .context("no figure")?;
        let mut seen = Vec::new();
        for (depth, frame) in stack.frames().iter().enumerate() {
            let name = match frame["symbol"].as_str() {
                Some(name) => name.to_owned(),
                None => continue,
            };
            let sum = sums.entry(name.clone()).or_default();
            if depth == 0 {
                sum.0 += value;
            }
            if !seen.contains(&name) {
                sum.1 += value;
                seen.push(name);
            }
        }
    }
    // pprof leaves out what is 0.
    sums.retain(|_, sum| *sum != (0, 0));
    Ok(sums
        .into_iter()
        .map(|(name, (flat, all))| (name, flat, all))
        .collect())
}

/// Every figure of every function, as a reader that is not ours computes it.
#[test]
fn pprof_reads_profiles() -> Result<()> {
    let _turn = turn();
    need_root!("pprof_reads_profiles");
    for program in ["every_function", "stacks_O2"] {
        let (directory, report) = recorded(program)?;
        let file = written(directory.path(), "pprof", &[])?;
        // Of all that was ever allocated, the report holds the sums only.
        for (sample, key) in [
            ("alloc_space", "allocated_bytes"),
            ("alloc_objects", "allocated_count"),
        ] {
            let flat: u64 = top(&file, sample)?.iter().map(|(_, flat, _)| flat).sum();
            ensure!(
                flat == report.total(key)?,
                "{program}: {flat} {sample}, {} {key}",
                report.total(key)?
            );
        }
        for (sample, key) in [("inuse_space", "bytes"), ("inuse_objects", "count")] {
            let rows = top(&file, sample)?;
            let expected = expected(&report, key)?;
            ensure!(expected.len() > 5, "{expected:?}");
            for row in expected {
                ensure!(
                    rows.contains(&row),
                    "{program}, {sample}: {row:?} is not in {rows:#?}"
                );
            }
        }
        let shown = pprof(&["-top", &file])?.text();
        ensure!(shown.contains("Type: inuse_space"), "{shown}");
        ensure!(shown.contains(&format!("File: {program}")), "{shown}");
    }
    Ok(())
}

/// Build ids, code's place, source lines and inlined functions, labels.
#[test]
fn profiles_hold_what_others_look_up() -> Result<()> {
    let _turn = turn();
    need_root!("profiles_hold_what_others_look_up");
    let (directory, report) = recorded("stacks_O2")?;
    let file = written(directory.path(), "pprof", &[])?;
    let raw = pprof(&["-raw", &file])?.text();
    let modules = report.0["modules"].as_array().context("no modules")?;
    ensure!(modules.len() >= 2, "{modules:?}");
    for module in modules {
        let (path, id) = (module["path"].as_str(), module["build_id"].as_str());
        let (path, id) = (path.context("no path")?, id.context("no build id")?);
        let line = format!(" {path} {id} [FN][FL][LN][IN]");
        ensure!(raw.contains(&line), "{line} is not in {raw}");
    }
    let stack = report.live_stacks()?;
    let frames: Vec<&Value> = stack.iter().flat_map(|stack| stack.frames()).collect();
    ensure!(
        frames.iter().any(|frame| frame["inlined"] == true),
        "nothing inlined"
    );
    for frame in frames.into_iter().filter(|frame| frame["line"].is_u64()) {
        let (symbol, file) = (frame["symbol"].as_str(), frame["file"].as_str());
        let place = format!(
            "{} {}:{}",
            symbol.unwrap_or("?"),
            file.unwrap_or("?"),
            frame["line"]
        );
        ensure!(raw.contains(&place), "{place} is not in {raw}");
    }
    let pid = stack.first().context("no stack")?.pid();
    ensure!(raw.contains(&format!("pid:[{pid}]")), "{raw}");
    ensure!(raw.contains("kind:[heap]"), "{raw}");
    Ok(())
}

/// The same bytes again, well-formed, and with what is outstanding in the title.
#[test]
fn flame_graphs_are_xml() -> Result<()> {
    let _turn = turn();
    need_root!("flame_graphs_are_xml");
    let (directory, report) = recorded("stacks")?;
    let first = std::fs::read(written(directory.path(), "svg", &[])?)?;
    let file = written(directory.path(), "svg", &[])?;
    ensure!(
        first == std::fs::read(&file)?,
        "two flame graphs of one capture differ"
    );
    let script = "import sys, xml.etree.ElementTree as tree\n\
        root = tree.parse(sys.argv[1]).getroot()\n\
        print(*[''.join(title.itertext()) for title in root.iter('{http://www.w3.org/2000/svg}title')], sep='\\n')";
    let outcome =
        tracer::spawn(Command::new("python3").args(["-c", script, &file]))?.finish(FINISH)?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    let titles = outcome.text();
    let bytes = report.total("outstanding_bytes")?;
    let all = titles
        .lines()
        .find(|title| title.starts_with("all ("))
        .context("no root")?;
    let digits: String = all
        .split(" bytes")
        .next()
        .unwrap_or("")
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    ensure!(digits == bytes.to_string(), "{bytes} bytes, drawn as {all}");
    for stack in report.live_stacks()? {
        for symbol in stack.symbols() {
            ensure!(titles.contains(symbol), "{symbol} is not in {titles}");
        }
    }
    Ok(())
}

/// Scripts that shells take, and that know the formats.
#[test]
fn completions_are_scripts() -> Result<()> {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = tracer::run(&["completions", shell], FINISH)?;
        ensure!(
            outcome.status.success() && outcome.stderr.is_empty(),
            "{}",
            outcome.context()
        );
        let script = outcome.text();
        ensure!(script.contains("older-than"), "{shell}: {script}");
    }
    // As bash asks for what may follow `memtrace report -f `.
    let ask = "source <(\"$0\" completions bash); COMP_WORDS=(memtrace report -f h); COMP_CWORD=3; \
        _memtrace memtrace h -f; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", ask]).arg(tracer::binary()?);
    let outcome = tracer::spawn(&mut bash)?.finish(FINISH)?;
    ensure!(outcome.text().trim() == "html", "{}", outcome.context());
    check::misused(&tracer::run(&["completions", "dos"], FINISH)?, "dos")
}

/// A document that cannot follow another takes its place.
#[test]
fn whole_documents_replace_each_other() -> Result<()> {
    let _turn = turn();
    need_root!("whole_documents_replace_each_other");
    let pid = std::process::id().to_string();
    let refused = tracer::run(&["-p", &pid, "-i", "1s", "-f", "svg"], FINISH)?;
    check::misused(&refused, "--output")?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("file.svg");
    let mut target = Target::start("every_function", NOTHING)?;
    let arguments = ["-f", "svg", "-i", "10ms", "-o", text(&file)?];
    let tracer = tracer::attach(&[target.pid()], &arguments)?;
    target.work()?;
    let outcome = tracer.stop()?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    target.end()?;
    let svg = std::fs::read_to_string(&file)?;
    ensure!(svg.matches("<?xml").count() == 1, "{svg}");
    ensure!(svg.trim_end().ends_with("</svg>"), "{svg}");
    Ok(())
}
