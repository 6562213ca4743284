//! Reading from processes without ever waiting for ever.
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::patience;

/// Lines of a pipe, read by a thread of their own so that the writer never blocks.
pub struct Lines {
    receiver: Receiver<String>,
    seen: Vec<String>,
    next: usize,
    ended: bool,
}

impl Lines {
    /// Starts to read.
    pub fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(length) if length > 0) {
                let text = String::from_utf8_lossy(&line)
                    .trim_end_matches(['\n', '\r'])
                    .to_owned();
                line.clear();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        Self {
            receiver,
            seen: Vec::new(),
            next: 0,
            ended: false,
        }
    }

    /// The next line; `None` at the end of the pipe or when the time is up.
    fn next_line(&mut self, deadline: Instant) -> Option<String> {
        if self.next == self.seen.len() {
            match self
                .receiver
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.seen.push(line),
                Err(error) => {
                    self.ended |= error == RecvTimeoutError::Disconnected;
                    return None;
                }
            }
        }
        self.next += 1;
        self.seen.get(self.next - 1).cloned()
    }

    /// Waits for a line that `wanted` accepts and consumes all up to it.
    pub fn wait_for(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + patience(timeout);
        while let Some(line) = self.next_line(deadline) {
            if wanted(&line) {
                return Ok(line);
            }
        }
        let why = if self.ended {
            "the output ended"
        } else {
            "timed out"
        };
        bail!(
            "waited for {what}: {why} after {timeout:?}; read so far:\n{}",
            self.seen.join("\n")
        );
    }

    /// All lines, also those consumed; waits for the end of the pipe.
    pub fn all(mut self, timeout: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience(timeout);
        while self.next_line(deadline).is_some() {}
        self.seen
    }

    /// What was read so far.
    pub fn so_far(&mut self) -> &[String] {
        while self.next_line(Instant::now()).is_some() {}
        &self.seen
    }
}

/// All bytes of a pipe, collected in the background.
pub struct Bytes(Receiver<Vec<u8>>);

impl Bytes {
    /// Starts to read.
    pub fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length) = pipe.read(&mut buffer) {
                let chunk = buffer.get(..length).unwrap_or_default().to_vec();
                if length == 0 || sender.send(chunk).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// Everything up to the end of the pipe, or as much as came in time.
    pub fn all(self, timeout: Duration) -> Vec<u8> {
        let deadline = Instant::now() + patience(timeout);
        let mut bytes = Vec::new();
        while let Ok(chunk) = self
            .0
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            bytes.extend(chunk);
        }
        bytes
    }
}
