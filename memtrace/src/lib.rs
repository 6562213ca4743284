//! memtrace tells where memory went. Data flows one way:
//!
//! what this [`kernel`] can do, what an [`elf`] file holds and what a
//! [`process`] has mapped → plan and attach [`probe`]s → decode their
//! [`event`]s → intern [`stack`]s and account for what is [`live`] → name the
//! code ([`symbol`]) → [`report`]. What events add up to is a [`trace`]: a
//! [`session`] feeds it from the kernel for the commands in [`cli`] and may
//! write all that it does into a [`capture`], which feeds another one later.
//!
//! [`meminfo`] answers from `/proc` alone where the machine's memory is.
//!
//! Everything from [`live`] on but sessions is ordinary safe Rust that runs
//! from any stream of events, without root and without a kernel.
pub mod capture;
pub mod cli;
pub mod elf;
pub mod event;
pub mod finding;
pub mod growth;
pub mod heapwalk;
pub mod kernel;
pub mod live;
pub mod meminfo;
pub mod oom;
pub mod pages;
pub mod probe;
pub mod process;
pub mod report;
pub mod sampling;
pub mod session;
pub mod stack;
pub mod symbol;
pub mod trace;
pub mod tui;
pub mod unit;
