//! A terminal of a given size with a shell in it, as tmux has one: keys go in, the screen comes out.
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::patience;

/// How long a screen may take to show what is waited for. Placing probes takes a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at the screen.
const PAUSE: Duration = Duration::from_millis(50);

/// A terminal. Its server is its own: the socket is in a directory that nobody else has.
pub struct Terminal {
    directory: TempDir,
}

/// Whether there is tmux.
pub fn is_there() -> bool {
    let version = Command::new("tmux")
        .arg("-V")
        .stdout(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

impl Terminal {
    /// With a shell that waits for commands.
    pub fn start(columns: u16, lines: u16) -> Result<Self> {
        let terminal = Self {
            directory: tempfile::tempdir()?,
        };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let here = terminal
            .directory
            .path()
            .to_str()
            .context("a path that is no text")?;
        terminal.tmux(&[
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &lines,
            "-c",
            here,
            "env",
            "PS1=READY ",
            "TERM=screen-256color",
            "sh",
        ])?;
        terminal.wait_for("a shell", |screen| screen.contains("READY"))?;
        Ok(terminal)
    }

    /// The shell's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn tmux<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        let mut command = Command::new("tmux");
        // Not inside somebody's own.
        command
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command
            .args(["-u", "-f", "/dev/null", "-S"])
            .arg(self.directory.path().join("socket"));
        let output = command.args(arguments).output().context("starting tmux")?;
        ensure!(
            output.status.success(),
            "tmux: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    }

    /// Presses keys, as tmux names them: `Enter`, `Escape`, `NPage`, or letters.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        let mut arguments = vec!["send-keys"];
        arguments.extend(keys);
        self.tmux(&arguments).map(drop)
    }

    /// Types letters, whatever they would be the name of.
    pub fn type_in(&self, text: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", text]).map(drop)
    }

    /// Gives the terminal another size.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines])
            .map(drop)
    }

    /// What is seen, line by line.
    pub fn screen(&self) -> Result<String> {
        let output = self.tmux(&["capture-pane", "-p"])?;
        String::from_utf8(output.stdout).context("the screen is no text")
    }

    /// What tmux knows of the terminal, by its name there: `alternate_on`, `cursor_flag`.
    pub fn state(&self, name: &str) -> Result<String> {
        let format = format!("#{{{name}}}");
        let output = self.tmux(&["display-message", "-p", &format])?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Waits for a screen and returns it.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + patience(PATIENCE);
        loop {
            let screen = self.screen()?;
            if wanted(&screen) {
                return Ok(screen);
            }
            if Instant::now() > deadline {
                bail!("no {what} within {PATIENCE:?}; the screen:\n{screen}");
            }
            sleep(PAUSE);
        }
    }

    /// The same for a text on the screen.
    pub fn wait_for_text(&self, text: &str) -> Result<String> {
        self.wait_for(&format!("{text:?}"), |screen| screen.contains(text))
    }

    /// Runs a command of the shell and waits for its end.
    pub fn run(&self, command: &str) -> Result<()> {
        let done = self.directory().join("done");
        self.type_in(&format!("{command}; echo $? > done"))?;
        self.press(&["Enter"])?;
        self.wait_for(command, |_| done.exists())?;
        let status = std::fs::read_to_string(&done)?;
        std::fs::remove_file(&done)?;
        ensure!(status.trim() == "0", "{command}: status {status}");
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already where nobody listens.
        let _ = self.tmux(&["kill-server"]);
    }
}
