//! A real browser without a screen, driven by the W3C's `WebDriver` protocol over loopback.
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lines::Lines;
use crate::patience;
use crate::target::Guard;

/// Nothing but the page: no updates, no reports, nothing in anybody's home.
const ARGUMENTS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1300,1000",
];

/// How long it may take to start, or to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// The key under which the protocol names elements (`WebDriver`, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys as the protocol names them.
pub const ENTER: &str = "\u{e007}";
/// Escape.
pub const ESCAPE: &str = "\u{e00c}";
/// Arrow down.
pub const DOWN: &str = "\u{e015}";
/// Arrow up.
pub const UP: &str = "\u{e013}";

/// A browser with one page.
pub struct Browser {
    session: String,
    port: u16,
    _driver: Guard,
    /// Its other end of the pipe must not be closed.
    _output: Lines,
    _profile: TempDir,
}

/// Whether there is one.
pub fn is_there() -> bool {
    let version = |program: &str| {
        Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .status()
    };
    ["chromium", "chromedriver"]
        .iter()
        .all(|program| version(program).is_ok_and(|status| status.success()))
}

impl Browser {
    /// Opens a file.
    pub fn open(file: &Path) -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("HOME", profile.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().context("starting chromedriver")?;
        let mut lines = Lines::of(child.stdout.take().context("no standard output")?);
        let driver = Guard(child);
        let line = lines.wait_for("chromedriver's port", PATIENCE, |line| {
            line.contains("successfully on port")
        })?;
        let digits: String = line
            .rsplit("port ")
            .next()
            .unwrap_or("")
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        let port = digits.parse().with_context(|| format!("no port: {line}"))?;
        let mut arguments: Vec<String> =
            ARGUMENTS.iter().map(|&argument| argument.into()).collect();
        arguments.push(format!(
            "--user-data-dir={}",
            profile.path().join("profile").display()
        ));
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let session = request(port, "POST", "/session", &wanted)?;
        let session = session["sessionId"]
            .as_str()
            .context("no session")?
            .to_owned();
        let browser = Self {
            session,
            port,
            _driver: driver,
            _output: lines,
            _profile: profile,
        };
        browser.post(
            "url",
            &json!({ "url": format!("file://{}", file.display()) }),
        )?;
        Ok(browser)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        request(
            self.port,
            "POST",
            &format!("/session/{}/{path}", self.session),
            body,
        )
    }

    /// Runs a function body on the page and returns its value.
    pub fn run(&self, script: &str) -> Result<Value> {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The text of an element.
    pub fn text(&self, selector: &str) -> Result<String> {
        let script = format!(
            "return document.querySelector({}).textContent",
            json!(selector)
        );
        let text = self.run(&script)?;
        Ok(text
            .as_str()
            .with_context(|| format!("{selector} has no text"))?
            .to_owned())
    }

    /// How many elements there are.
    pub fn count(&self, selector: &str) -> Result<u64> {
        let script = format!(
            "return document.querySelectorAll({}).length",
            json!(selector)
        );
        self.run(&script)?.as_u64().context("no number")
    }

    /// The first element that an `XPath` expression finds, scrolled to.
    fn find(&self, path: &str) -> Result<String> {
        let found = self.post("element", &json!({ "using": "xpath", "value": path }));
        let found = found.with_context(|| format!("looking for {path}"))?;
        Ok(found[ELEMENT].as_str().context("no element")?.to_owned())
    }

    /// Clicks as a mouse does.
    pub fn click(&self, path: &str) -> Result<()> {
        let element = self.find(path)?;
        self.post(&format!("element/{element}/click"), &json!({}))?;
        Ok(())
    }

    /// Types into an element.
    pub fn type_into(&self, path: &str, text: &str) -> Result<()> {
        let element = self.find(path)?;
        self.post(
            &format!("element/{element}/value"),
            &json!({ "text": text }),
        )?;
        Ok(())
    }

    /// Presses a key, wherever the focus is.
    pub fn press(&self, key: &str) -> Result<()> {
        let actions =
            json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let keyboard =
            json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.post("actions", &keyboard)?;
        Ok(())
    }

    /// As on a machine that is set to dark colours, or to light ones.
    pub fn prefer(&self, scheme: &str) -> Result<()> {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let parameters =
            json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": features } });
        self.post("goog/cdp/execute", &parameters)?;
        Ok(())
    }

    /// What the console has said since the last time.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let entries = self.post("se/log", &json!({ "type": "browser" }))?;
        let entries = entries.as_array().context("no log")?;
        Ok(entries.iter().map(Value::to_string).collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with the session.
        let _ = request(
            self.port,
            "DELETE",
            &format!("/session/{}", self.session),
            &json!({}),
        );
    }
}

/// One request of the protocol; an answer that says `error` is one.
fn request(port: u16, method: &str, path: &str, body: &Value) -> Result<Value> {
    let body = body.to_string();
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting to chromedriver")?;
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let answer = answer(&mut stream).with_context(|| format!("{method} {path}"))?;
    let answer: Value = serde_json::from_slice(&answer).context("an answer that is no JSON")?;
    let value = answer["value"].clone();
    if let Some(error) = value.get("error").filter(|error| error.is_string()) {
        bail!("{method} {path}: {error}: {}", value["message"]);
    }
    Ok(value)
}

/// The body of an answer. The driver may keep the connection open.
fn answer(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let deadline = Instant::now() + patience(PATIENCE);
    let mut bytes = Vec::new();
    loop {
        if let Some(body) = whole(&bytes)? {
            return Ok(body);
        }
        ensure!(Instant::now() < deadline, "no whole answer in time");
        let mut part = vec![0; 1 << 16];
        let length = stream.read(&mut part)?;
        ensure!(length > 0, "the answer was cut off");
        bytes.extend_from_slice(&part[..length]);
    }
}

/// The body, as soon as all of it is there.
fn whole(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length
        .context("an answer without a length")?
        .trim()
        .parse()?;
    Ok(bytes.get(end + 4..end + 4 + length).map(<[u8]>::to_vec))
}
