//! Who holds the kernel's pages, and what counts them.
//!
//! [`plumbing`] names who asked for a page by its stack, [`accounting`] says
//! what counts it, by its flags and its stack. [`zones`] tells where a page frame
//! lies, [`kpageflags`] reads what all page frames are now, and [`before`] who
//! had memory before anybody looked. Only the last two read files, from roots
//! that they are given.
pub mod accounting;
pub mod found;
pub mod kpageflags;
pub mod ledger;
pub mod plumbing;
pub mod sections;
pub mod zones;
