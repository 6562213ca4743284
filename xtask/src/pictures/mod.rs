//! `cargo xtask pictures`: the pictures of the documentation, made by memtrace
//! itself from the program of the tour (`docs/tour/orders.cpp`).
mod screen;

use crate::shell::{self, Guard, is_root, output, run};
use anyhow::{Context, Result, bail, ensure};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where they are kept.
const PICTURES: &str = "docs/images";

/// The program of the tour.
const TOUR: &str = "docs/tour";
const SOURCE: &str = "orders.cpp";

/// How long it is traced.
const SECONDS: &str = "10s";

/// Of the page and of the terminal.
const WINDOW: &str = "--window-size=1300,1000";
const COLUMNS: &str = "100";
const LINES: &str = "28";

/// Remake the pictures of the documentation from real runs
#[derive(clap::Args)]
pub(crate) struct Pictures {}

impl Pictures {
    #[expect(clippy::unused_self, reason = "it has no options yet")]
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        ensure!(is_root(), "run it as root: it traces");
        let memtrace = memtrace(root)?;
        let folder = tempfile::Builder::new().prefix("tour").tempdir()?;
        let program = folder.path().join("orders");
        run(Command::new("g++")
            .current_dir(root.join(TOUR))
            .arg(format!("-ffile-prefix-map={}=.", root.join(TOUR).display()))
            .args(["-O2", "-g", "-o"])
            .arg(&program)
            .arg(SOURCE))?;
        let target = Guard(Command::new(&program).stdin(Stdio::null()).spawn()?);
        let pid = target.0.id().to_string();
        let pictures = root.join(PICTURES);
        fs::create_dir_all(&pictures)?;
        let capture = folder.path().join("orders.cap");
        run(Command::new(&memtrace)
            .args(["-p", &pid, "-d", SECONDS, "--record"])
            .arg(&capture)
            .stdout(Stdio::null()))?;
        let report = |format: &str, file: &Path| {
            run(Command::new(&memtrace)
                .arg("report")
                .arg(&capture)
                .args(["-f", format, "-o"])
                .arg(file))
        };
        report("svg", &pictures.join("flamegraph.svg"))?;
        let page = folder.path().join("page.html");
        report("html", &page)?;
        photograph(&page, &pictures.join("page.png"), folder.path())?;
        live(&memtrace, &pid, folder.path(), &pictures)
    }
}

/// A release build, unless `$MEMTRACE_BIN` is another, as for the tests.
fn memtrace(root: &Path) -> Result<PathBuf> {
    if let Some(path) = env::var_os("MEMTRACE_BIN") {
        return Ok(path.into());
    }
    crate::run::build(root)?;
    Ok(shell::memtrace(root))
}

/// The page, as a browser shows it.
fn photograph(page: &Path, picture: &Path, folder: &Path) -> Result<()> {
    let profile = folder.join("profile");
    run(Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ])
        .args([
            "--no-first-run",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
        ])
        .arg(WINDOW)
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display()))
        .env("HOME", folder)
        .stderr(Stdio::null()))?;
    ensure!(picture.is_file(), "chromium made no {}", picture.display());
    Ok(())
}

/// The list of stacks, and one of them.
fn live(memtrace: &Path, pid: &str, folder: &Path, pictures: &Path) -> Result<()> {
    let terminal = Terminal {
        socket: folder.join("tmux"),
    };
    let program = format!("{} -p {pid} --tui --color always", memtrace.display());
    terminal.tmux(&["new-session", "-d", "-x", COLUMNS, "-y", LINES, &program])?;
    // Long enough for curves, and for old allocations.
    terminal.shows("login")?;
    sleep(Duration::from_secs(20));
    let keep = |name: &str| -> Result<()> {
        let screen = terminal.tmux(&["capture-pane", "-e", "-N", "-p"])?;
        let path = pictures.join(name);
        fs::write(&path, screen::svg(&screen)).with_context(|| format!("{}", path.display()))
    };
    keep("top.svg")?;
    terminal.tmux(&["send-keys", "Enter"])?;
    terminal.shows("By age")?;
    keep("top-stack.svg")?;
    terminal.tmux(&["send-keys", "q"]).map(drop)
}

/// A terminal of tmux's, on a socket of its own.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("tmux");
        command
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("NO_COLOR");
        command
            .args(["-u", "-f", "/dev/null", "-S"])
            .arg(&self.socket);
        output(command.args(arguments))
    }

    fn shows(&self, text: &str) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_mins(1) {
            if self.tmux(&["capture-pane", "-p"])?.contains(text) {
                return Ok(());
            }
            sleep(Duration::from_millis(200));
        }
        bail!("the live view never shows {text:?}");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended with its program, in the good case.
        let _ = self.tmux(&["kill-server"]);
    }
}
