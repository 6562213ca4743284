//! The wire between memtrace's two halves: every type that the eBPF programs
//! write and user space reads (or the other way round), defined once.
//!
//! Plain old data only: `#[repr(C)]`, explicit padding, no logic. `zerocopy`
//! proves at compile time that no type has implicit padding (the kernel would
//! leak its stack through it) and that every bit pattern decodes.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod cookie;
pub mod counter;
pub mod event;
pub mod function;
pub mod growth;
pub mod limit;
pub mod oom;
pub mod pages;
pub mod sampling;
pub mod unwind;

pub use cookie::Cookie;
pub use counter::Counter;
pub use event::{DecodeError, EventKind, Head, Record};
pub use function::Function;
