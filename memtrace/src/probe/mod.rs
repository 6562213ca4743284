//! What to probe, where, and by which mechanism: a plan as data, and the one
//! place that executes it through aya.
pub mod attach;
pub mod counters;
pub mod growth;
mod job;
mod laid_out;
mod load_error;
mod maps;
mod misses;
mod multi;
pub mod object;
pub mod oom;
pub mod pages;
pub mod plan;
mod pod;
mod remarks;
pub mod unwind;

pub use attach::{AttachError, Attached};
pub use job::Job;
pub use load_error::LoadError;
pub use object::Programs;
pub use oom::OomProbes;
pub use pages::PageProbes;
pub use plan::{Attachment, Plan, Wanted};
