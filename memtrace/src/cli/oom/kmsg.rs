//! The kernel's log as it is written.
use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
};

use tokio::io::unix::AsyncFd;

use crate::{
    event::poll::readable,
    oom::{Kill, log::Stream},
};

/// The longest record (`PRINTKRB_RECORD_MAX`, `CONSOLE_EXT_LOG_MAX`).
const LONGEST: usize = 8192;

/// What comes from now on.
pub(super) struct KernelLog {
    file: AsyncFd<File>,
    stream: Stream,
    buffer: Box<[u8]>,
}

impl KernelLog {
    pub(super) fn open() -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self {
            file: readable(file)?,
            stream: Stream::default(),
            buffer: vec![0; LONGEST].into(),
        })
    }

    /// Completes when there is more.
    pub(super) async fn wait(&self) {
        if let Ok(mut ready) = self.file.readable().await {
            ready.clear_ready();
        }
    }

    /// The kills that are complete, after reading all that is there.
    pub(super) fn drain(&mut self) -> Vec<Kill> {
        let mut kills = Vec::new();
        loop {
            match self.file.get_mut().read(&mut self.buffer) {
                Ok(0) => break,
                Ok(length) => {
                    let bytes = self.buffer.get(..length).unwrap_or_default();
                    kills.extend(self.stream.record(&String::from_utf8_lossy(bytes)));
                }
                // Overwritten before it was read: the next read goes on behind.
                Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        kills
    }
}
