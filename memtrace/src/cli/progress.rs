//! Progress of long work: on a terminal, and only where it takes long.
use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    sync::mpsc::{self, Sender},
    thread::JoinHandle,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner needs no bar.
const LONG: Duration = Duration::from_millis(300);

/// How often a bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Of work whose length is not known, and of a file.
const SPINNER: &str = "{spinner} {msg}";
const BAR: &str = "{msg} {wide_bar} {bytes}/{total_bytes}";

/// A bar on standard error, until it is dropped.
pub(super) struct Progress {
    bar: ProgressBar,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Of work whose length is not known.
    pub(super) fn unknown(what: &'static str) -> Self {
        Self::start(ProgressBar::no_length(), SPINNER, what)
    }

    /// Of a file that is read.
    fn of_bytes(bytes: u64, what: &'static str) -> Self {
        Self::start(ProgressBar::new(bytes), BAR, what)
    }

    fn start(bar: ProgressBar, template: &str, what: &'static str) -> Self {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        let thread = io::stderr().is_terminal().then(|| {
            let (end, ended) = mpsc::channel();
            let bar = bar.clone();
            let show = move || {
                if ended.recv_timeout(LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.enable_steady_tick(TICK);
                }
            };
            (end, std::thread::spawn(show))
        });
        Self { bar, thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.thread.take() {
            drop(end);
            // It only draws: there is nothing to be told.
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}

/// A file, with a bar of how much of it has been read.
pub(super) struct Reading {
    file: File,
    progress: Progress,
}

impl Reading {
    pub(super) fn new(file: File, what: &'static str) -> Self {
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        Self {
            file,
            progress: Progress::of_bytes(bytes, what),
        }
    }
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.progress.bar.inc(length as u64);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_known() {
        for template in [SPINNER, BAR] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn a_file_is_read_whole() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &[7; 10_000]).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut reading = Reading::new(file, "reading");
        let mut bytes = Vec::new();
        reading.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [7; 10_000]);
        assert_eq!(reading.progress.bar.position(), 10_000);
    }
}
