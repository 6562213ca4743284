//! Who holds the kernel's pages.
pub mod sections;
