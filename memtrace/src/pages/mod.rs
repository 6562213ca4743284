//! Who holds the kernel's pages, and what counts them.
//!
//! [`plumbing`] names who asked for a page by its stack, [`accounting`] says
//! what counts it, by its flags and its stack. [`zones`] tells where a page frame
//! lies and [`sections`] where there are any, [`kpageflags`] reads what all page
//! frames are now, [`ledger`] what was seen of each, and [`found`] adds up both.
//! Only `kpageflags` reads a file, from a path that it is given.
pub mod accounting;
pub mod found;
pub mod kpageflags;
pub mod ledger;
pub mod plumbing;
pub mod sections;
pub mod zones;
