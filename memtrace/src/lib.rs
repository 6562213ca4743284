//! memtrace tells where memory went. Data flows one way:
//!
//! plan and attach probes ([`probe`]) → decode their events ([`event`]) →
//! account for them ([`live`]) → name the code ([`symbol`]) → [`report`].
//!
//! Everything from [`live`] on is ordinary safe Rust that runs from any
//! stream of events, without root and without a kernel.
pub mod elf;
pub mod process;
pub mod report;
pub mod symbol;
