//! Writing a capture: whole blocks, by a thread of its own, so that no disk
//! makes events wait.
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;

use super::{
    Fresh,
    format::{self, Kind, LARGEST_BLOCK},
};

/// Bytes that may wait for the disk: several seconds of the fastest programs.
const MOST_WAITING: usize = 256 << 20;

/// Why a capture is not what it should be.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file could not be made.
    #[error(
        "cannot write the capture to {path}: {source}; give --record a file in a directory that exists and that you may write to"
    )]
    Create {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Writing failed, mostly since the disk is full.
    #[error("the capture in {path} ends early: {source}; `memtrace report` shows what is in it")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk could not keep up.
    #[error(
        "the capture in {path} ends early: more than {} MiB waited to be written; use a faster disk, or --sample-bytes for fewer events",
        MOST_WAITING >> 20
    )]
    TooSlow {
        /// Which file.
        path: PathBuf,
    },
    /// More than fits into a block.
    #[error("the capture in {path} ends early: what the run maps does not fit into a block")]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
}

struct Block {
    kind: Kind,
    payload: Bytes,
}

/// A capture that is being written. After an error, which is logged when it
/// happens, it takes no more.
pub struct Recorder {
    path: PathBuf,
    /// A run that is refused leaves no file.
    _fresh: Fresh,
    /// Absent after an error.
    blocks: Option<Sender<Block>>,
    waiting: Arc<AtomicUsize>,
    error: Option<RecordError>,
    thread: Option<JoinHandle<Result<(), RecordError>>>,
}

impl Recorder {
    /// Opens the file; what an earlier run left in it stays until the first
    /// block.
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let failed = |source| RecordError::Create {
            path: path.to_owned(),
            source,
        };
        let (file, fresh) = Fresh::open(path).map_err(failed)?;
        let (sender, receiver) = mpsc::channel();
        let waiting = Arc::default();
        let writer = Writer {
            path: path.to_owned(),
            file,
            waiting: Arc::clone(&waiting),
        };
        let thread = thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            _fresh: fresh,
            blocks: Some(sender),
            waiting,
            error: None,
            thread: Some(thread),
        })
    }

    /// Writes a block when its turn comes.
    pub fn put(&mut self, kind: Kind, payload: Bytes) {
        let Some(blocks) = &self.blocks else { return };
        let path = || self.path.clone();
        let length = payload.len();
        if length > LARGEST_BLOCK {
            let error = RecordError::TooLarge { path: path() };
            return self.give_up(error);
        }
        let before = self.waiting.fetch_add(length, Ordering::Relaxed);
        if before + length > MOST_WAITING {
            let error = RecordError::TooSlow { path: path() };
            return self.give_up(error);
        }
        if blocks.send(Block { kind, payload }).is_err() {
            // The thread has said why.
            self.blocks = None;
        }
    }

    /// The same for what is written as JSON.
    pub fn put_json(&mut self, kind: Kind, value: &impl Serialize) {
        match serde_json::to_vec(value) {
            Ok(json) => self.put(kind, json.into()),
            // Cannot be: no map has keys that are no strings.
            Err(error) => log::warn!("failed to write JSON: {error}"),
        }
    }

    fn give_up(&mut self, error: RecordError) {
        log::warn!("{error}; tracing goes on");
        self.error = Some(error);
        self.blocks = None;
    }

    /// Waits until all is written.
    pub fn close(mut self) -> Result<(), RecordError> {
        self.blocks = None;
        let written = self.thread.take().map(JoinHandle::join);
        match (written, self.error) {
            (Some(Ok(written)), None) => written,
            (_, Some(error)) => Err(error),
            (_, None) => Err(RecordError::Write {
                path: self.path,
                source: io::Error::other("its thread has failed"),
            }),
        }
    }
}

/// The thread's.
struct Writer {
    path: PathBuf,
    file: File,
    waiting: Arc<AtomicUsize>,
}

impl Writer {
    fn run(self, blocks: &Receiver<Block>) -> Result<(), RecordError> {
        let Self {
            path,
            file,
            waiting,
        } = self;
        write(file, blocks, &waiting).map_err(|source| {
            let error = RecordError::Write { path, source };
            log::warn!("{error}; tracing goes on");
            error
        })
    }
}

fn write(file: File, blocks: &Receiver<Block>, waiting: &AtomicUsize) -> io::Result<()> {
    let Ok(mut next) = blocks.recv() else {
        return Ok(());
    };
    // Pipes and devices have no length to cut.
    let _ = file.set_len(0);
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&format::header())?;
    loop {
        let Block { kind, payload } = next;
        out.write_all(&format::block_head(kind, &payload))?;
        out.write_all(&payload)?;
        waiting.fetch_sub(payload.len(), Ordering::Relaxed);
        next = match blocks.try_recv() {
            Ok(block) => block,
            Err(TryRecvError::Empty) => {
                // So that little is missing should memtrace be killed.
                out.flush()?;
                match blocks.recv() {
                    Ok(block) => block,
                    Err(_) => return Ok(()),
                }
            }
            Err(TryRecvError::Disconnected) => return out.flush(),
        };
    }
}
