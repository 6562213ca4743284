//! The live view in a terminal: `memtrace top` and `memtrace -p PID --tui`.
//!
//! Snapshots come in ([`model::Update`]), keys come in ([`keys`]); what is to be
//! done outside comes out ([`model::Effect`]). The [`model`] and the [`views`]
//! that draw it do no I/O; [`run()`] has the terminal, the threads that make
//! snapshots (`sources`, `tracer`) and the files.
pub mod keys;
pub mod model;
mod run;
mod save;
mod screen;
mod sources;
#[cfg(test)]
mod tests;
mod tracer;
pub mod views;

pub use run::{Options, TuiError, run};
