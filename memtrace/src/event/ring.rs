//! The task that empties the ring buffer.
use std::{io, time::Duration};

use aya::maps::{MapData, RingBuf};
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, oneshot},
};

use super::{
    batch::{Batch, BatchBuilder},
    poll::readable,
};

/// How long a record may lie in the ring buffer before it is looked at. The
/// kernel side wakes the reader earlier when much has come together.
pub const TICK: Duration = Duration::from_millis(20);

/// From this size on a batch is passed on.
const BATCH_BYTES: usize = 256 * 1024;

/// Batches that may wait for the aggregator, 128 MiB in all, while it writes a
/// report or is slow; behind them records wait in the ring buffer.
const BATCHES: usize = 512;

/// The reading end of the task.
pub struct Reader {
    batches: mpsc::Receiver<Batch>,
    stop: Option<oneshot::Sender<()>>,
}

impl Reader {
    /// Starts the task. `tick`: how long a record may wait, as [`TICK`] says.
    ///
    /// # Errors
    /// The ring buffer's descriptor cannot be polled.
    pub fn start(ring: RingBuf<MapData>, tick: Duration) -> io::Result<Self> {
        let ring = readable(ring)?;
        let (sender, batches) = mpsc::channel(BATCHES);
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(read(ring, tick, sender, stopped));
        Ok(Self {
            batches,
            stop: Some(stop),
        })
    }

    /// The next batch; `None` after [`Reader::stop`] when all that was in the
    /// ring buffer has been read.
    pub async fn next(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }

    /// Tells the task to read what is there and end.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It has ended already where nobody listens.
            let _ = stop.send(());
        }
    }
}

async fn read(
    mut ring: AsyncFd<RingBuf<MapData>>,
    tick: Duration,
    batches: mpsc::Sender<Batch>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut tick = tokio::time::interval(tick);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = false;
    while !last {
        tokio::select! {
            _ = &mut stopped => last = true,
            _ = tick.tick() => {}
            ready = ring.readable() => match ready {
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => log::warn!("polling the ring buffer failed, its timer goes on: {error}"),
            }
        }
        let mut batch = BatchBuilder::default();
        while let Some(record) = ring.get_mut().next() {
            batch.push(&record);
            if batch.len() >= BATCH_BYTES {
                drop(record);
                if batches.send(batch.take()).await.is_err() {
                    return;
                }
            }
        }
        if !batch.is_empty() && batches.send(batch.take()).await.is_err() {
            return;
        }
    }
}
