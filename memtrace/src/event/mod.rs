//! Events on their way from the ring buffer: taken out in batches by a task
//! of their own, so that the ring does not fill while a report is written.
pub mod batch;
pub mod poll;
pub mod ring;

pub use batch::Batch;
