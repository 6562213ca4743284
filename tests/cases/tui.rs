//! The live view, driven in a real terminal (tmux): keys go in, screens come out, and the terminal is as it was
//! afterwards.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use memtrace_tests::check;
use memtrace_tests::target::Target;
use memtrace_tests::terminal::{self, Terminal};
use memtrace_tests::tracer::{self, FINISH};
use memtrace_tests::{need_root, program, skip, turn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

macro_rules! need_tmux {
    ($test:expr) => {
        if !terminal::is_there() {
            skip!($test, "needs tmux (`cargo xtask setup` installs it)");
        }
    };
}

/// A program that leaks 400 KiB every so often, all in one function.
fn leak(milliseconds: &str) -> Result<Target> {
    let path = program::path("seed_leak")?;
    Target::spawn(std::process::Command::new(path).args([milliseconds, "0"]))
}

/// A terminal whose settings are in the file `before`.
fn terminal() -> Result<Terminal> {
    let terminal = Terminal::start(80, 24)?;
    terminal.run("stty -g > before")?;
    Ok(terminal)
}

/// Begins a command whose process id goes into a file and whose status will.
fn begin(terminal: &Terminal, arguments: &str) -> Result<()> {
    let memtrace = tracer::binary()?;
    let command = format!(
        "sh -c 'echo $$ > pid; exec {} {arguments}'; echo $? > status",
        memtrace.display()
    );
    terminal.type_in(&command)?;
    terminal.press(&["Enter"])
}

/// Waits for the command's end: it ended well, and the terminal is as it was.
fn ended(terminal: &Terminal) -> Result<()> {
    let directory = terminal.directory();
    let status = directory.join("status");
    let status = || fs::read_to_string(&status).unwrap_or_default();
    terminal.wait_for("the end", |_| !status().is_empty())?;
    ensure!(status().trim() == "0", "it ended with {}", status());
    terminal.run("stty -g > after")?;
    let settings = |name: &str| fs::read_to_string(directory.join(name));
    ensure!(
        settings("before")? == settings("after")?,
        "the terminal's settings are others: {} {}",
        settings("before")?,
        settings("after")?
    );
    ensure!(
        terminal.state("alternate_on")? == "0",
        "the other screen is still shown"
    );
    ensure!(terminal.state("cursor_flag")? == "1", "there is no cursor");
    Ok(())
}

/// The only file of the directory with this ending.
fn saved(directory: &Path) -> Result<Value> {
    let files = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
    let files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    let [file] = files.as_slice() else {
        anyhow::bail!("one file was to be saved: {files:?}");
    };
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

/// From all processes to the line of source that leaks, and back to the shell.
#[test]
fn from_a_process_to_its_leak() -> Result<()> {
    let _turn = turn();
    need_root!("from_a_process_to_its_leak");
    need_tmux!("from_a_process_to_its_leak");
    let target = leak("50")?;
    check::leaving_nothing(|| {
        let terminal = terminal()?;
        begin(&terminal, "top -i 200ms")?;
        terminal.wait_for_text("COMMAND")?;
        choose(&terminal, &target)?;
        terminal.press(&["Enter"])?;
        terminal.wait_for("its stack", |screen| {
            screen.contains("leak_numbers") && screen.contains("exact")
        })?;
        terminal.press(&["Enter"])?;
        let screen = terminal.wait_for_text("By age")?;
        ensure!(
            screen.contains("seed_leak.cpp:11"),
            "no line of source:\n{screen}"
        );
        ensure!(screen.contains("none of"), "{screen}");
        // As text, with what makes it exact.
        terminal.press(&["i"])?;
        terminal.wait_for_text("Exact: every allocation was seen.")?;
        terminal.press(&["i"])?;
        terminal.wait_for_text("ALLOCATED BY")?;
        terminal.press(&["b"])?;
        terminal.wait_for("growth since the baseline", |screen| {
            screen.contains("since the baseline") && screen.contains("leak_numbers")
        })?;
        terminal.press(&["s"])?;
        terminal.wait_for_text("saved memtrace-heap-")?;
        let report = saved(terminal.directory())?;
        ensure!(
            report["schema"] == "memtrace.heap.v1" && report["exact"] == true,
            "{report}"
        );
        ensure!(
            report["stacks"][0].to_string().contains("leak_numbers"),
            "{report}"
        );
        let ages = report["stacks"][0]["ages"].as_array().context("no ages")?;
        let counts = ages.iter().filter_map(|class| class["count"].as_u64());
        ensure!(
            counts.sum::<u64>() == report["stacks"][0]["count"].as_u64().unwrap_or(0),
            "{report}"
        );
        sizes(&terminal)?;
        terminal.press(&["3"])?;
        terminal.wait_for_text("MemTotal is")?;
        terminal.press(&["?"])?;
        terminal.wait_for_text("the probes are taken out")?;
        terminal.press(&["Escape"])?;
        terminal.wait_for("the sheet again", |screen| {
            !screen.contains("the probes are taken out")
        })?;
        terminal.press(&["q"])?;
        ended(&terminal)?;
        Ok(((), vec![target.pid()]))
    })?;
    ensure!(
        fs::read_to_string(format!("/proc/{}/comm", target.pid()))?.trim() == "seed_leak",
        "it is gone"
    );
    Ok(())
}

/// Leaves only the row of this process, by its id: others may run the same program.
fn choose(terminal: &Terminal, target: &Target) -> Result<()> {
    let pid = target.pid().to_string();
    terminal.wait_for_text("COMMAND")?;
    terminal.type_in(&format!("/{pid}"))?;
    terminal.press(&["Enter"])?;
    let row = |line: &str| line.contains(&pid) && line.contains("seed_leak");
    terminal.wait_for("one row", |screen| {
        let mut rows = screen.lines().skip(3).take_while(|line| !line.is_empty());
        rows.next().is_some_and(row) && rows.next().is_none() && screen.contains("1 of ")
    })?;
    Ok(())
}

/// Whatever the size, it is drawn, and drawn again.
fn sizes(terminal: &Terminal) -> Result<()> {
    terminal.resize(40, 10)?;
    let screen = terminal.wait_for("a small screen", |screen| {
        screen.starts_with(" 1 Processes") && screen.lines().count() == 10
    })?;
    ensure!(
        screen.contains("OUTSTANDING") && screen.contains("q quit"),
        "{screen}"
    );
    terminal.resize(30, 5)?;
    terminal.wait_for_text("memtrace needs")?;
    terminal.resize(132, 40)?;
    let screen = terminal.wait_for_text("OLDEST")?;
    ensure!(
        screen.starts_with("memtrace  1 Processes") && screen.contains("leak_numbers"),
        "{screen}"
    );
    terminal.resize(80, 24)?;
    terminal.wait_for("no wide column", |screen| {
        !screen.contains("OLDEST") && screen.contains("leak_numbers")
    })?;
    Ok(())
}

/// `-p PID --tui`, told to end by somebody else.
#[test]
fn termination_gives_the_terminal_back() -> Result<()> {
    let _turn = turn();
    need_root!("termination_gives_the_terminal_back");
    need_tmux!("termination_gives_the_terminal_back");
    let target = leak("50")?;
    check::leaving_nothing(|| {
        let terminal = terminal()?;
        begin(
            &terminal,
            &format!("-p {} --tui -i 200ms --color never", target.pid()),
        )?;
        terminal.wait_for_text("leak_numbers")?;
        ensure!(
            terminal.state("alternate_on")? == "1",
            "it draws over the shell"
        );
        let pid = fs::read_to_string(terminal.directory().join("pid"))?;
        kill(Pid::from_raw(pid.trim().parse()?), Signal::SIGTERM)?;
        ended(&terminal)?;
        Ok(((), vec![target.pid()]))
    })
}

/// Ctrl-Z and fg, as of any program.
#[test]
fn the_shell_gets_the_terminal_for_a_while() -> Result<()> {
    let _turn = turn();
    need_tmux!("the_shell_gets_the_terminal_for_a_while");
    let terminal = terminal()?;
    terminal.type_in(&format!(
        "{} top -i 200ms; echo $? > status",
        tracer::binary()?.display()
    ))?;
    terminal.press(&["Enter"])?;
    terminal.wait_for_text("COMMAND")?;
    terminal.press(&["C-z"])?;
    terminal.wait_for("the shell", |screen| {
        screen.contains("READY") && !screen.contains("COMMAND")
    })?;
    ensure!(
        terminal.state("alternate_on")? == "0" && terminal.state("cursor_flag")? == "1",
        "not given back"
    );
    fs::remove_file(terminal.directory().join("status")).ok();
    terminal.type_in("fg; echo $? > status")?;
    terminal.press(&["Enter"])?;
    terminal.wait_for_text("COMMAND")?;
    terminal.press(&["F10"])?;
    ended(&terminal)
}

/// The target ends: its last figures stay on the screen.
#[test]
fn the_last_figures_stay() -> Result<()> {
    let _turn = turn();
    need_root!("the_last_figures_stay");
    need_tmux!("the_last_figures_stay");
    let mut target = leak("50")?;
    let terminal = terminal()?;
    begin(&terminal, &format!("-p {} --tui -i 200ms", target.pid()))?;
    terminal.wait_for_text("leak_numbers")?;
    target.kill()?;
    let screen = terminal.wait_for_text("; ended")?;
    ensure!(
        screen.contains("has exited") && screen.contains("leak_numbers"),
        "{screen}"
    );
    terminal.press(&["q"])?;
    ended(&terminal)
}

/// Without privileges the list is there, and a process that may not be traced says so.
#[test]
fn without_privileges_there_is_the_list() -> Result<()> {
    let _turn = turn();
    need_root!("without_privileges_there_is_the_list");
    need_tmux!("without_privileges_there_is_the_list");
    let target = leak("200")?;
    let terminal = terminal()?;
    // Wherever it was built, this user may not get there.
    let copy = terminal.directory().join("memtrace");
    fs::copy(tracer::binary()?, &copy)?;
    open(terminal.directory())?;
    open(&copy)?;
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups ./memtrace top -i 200ms";
    terminal.type_in(&format!("{nobody}; echo $? > status"))?;
    terminal.press(&["Enter"])?;
    choose(&terminal, &target)?;
    terminal.press(&["Enter"])?;
    let screen = terminal.wait_for_text("not permitted")?;
    ensure!(screen.contains("run as root (sudo)"), "{screen}");
    // In a directory of somebody else there is nothing to be saved.
    terminal.press(&["1", "s"])?;
    terminal.wait_for("a file or a reason", |screen| {
        screen.contains("cannot save") || screen.contains("saved ")
    })?;
    terminal.press(&["q"])?;
    ended(&terminal)
}

fn open(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// Nothing is drawn into a pipe, and what cannot be shown is refused.
#[test]
fn what_cannot_be_drawn_is_refused() -> Result<()> {
    let _turn = turn();
    check::refused(
        &tracer::run(&["top"], FINISH)?,
        &["not a terminal", "growth --all"],
    )?;
    let target = leak("200")?;
    let pid = target.pid().to_string();
    check::refused(
        &tracer::run(&["-p", &pid, "--tui"], FINISH)?,
        &["not a terminal"],
    )?;
    for extra in [
        &["-d", "1s"][..],
        &["-f", "json"],
        &["-o", "file"],
        &["--children"],
        &["--top", "3"],
    ] {
        let mut arguments = vec!["-p", &pid, "--tui"];
        arguments.extend(extra);
        check::misused(&tracer::run(&arguments, FINISH)?, "--tui")?;
    }
    check::misused(&tracer::run(&["--tui", "--", "true"], FINISH)?, "--tui")?;
    Ok(())
}
