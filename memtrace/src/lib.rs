//! memtrace tells where memory went. Data flows one way:
//!
//! what this [`kernel`] can do, what an [`elf`] file holds and what a
//! [`process`] has mapped → plan and attach [`probe`]s → decode their
//! [`event`]s → intern [`stack`]s and account for what is [`live`] → name the
//! code ([`symbol`]) → [`report`]. A [`session`] puts the stages together for
//! the commands in [`cli`].
//!
//! Everything from [`live`] on is ordinary safe Rust that runs from any
//! stream of events, without root and without a kernel.
pub mod cli;
pub mod elf;
pub mod event;
pub mod kernel;
pub mod live;
pub mod probe;
pub mod process;
pub mod report;
pub mod session;
pub mod stack;
pub mod symbol;
pub mod unit;
