//! What memtrace needs to know of an ELF file: where its allocation functions
//! are ([`image`]), where in them a probe is cheap ([`site`]) or sees a result
//! ([`flow`]), and how to walk a
//! stack through it ([`unwind`], [`walk()`]).
pub mod flow;
pub mod frame_pointer;
mod header;
pub mod image;
pub mod layout;
mod rules;
pub mod site;
pub mod source;
pub mod unwind;
mod walk;

pub use image::{DefinedFunction, Image, Machine, Segment};
pub use site::{Need, Site, choose};
pub use source::ElfError;
pub use unwind::{UnwindError, UnwindTable};
pub use walk::{Registers, Walk, walk};
