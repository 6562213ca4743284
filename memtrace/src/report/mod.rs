//! Reports: one model for each document of the interface, and renderers over
//! it. No I/O but the writer that is handed in, no clock.
pub mod heap;
