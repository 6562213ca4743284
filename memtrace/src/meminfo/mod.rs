//! Where the memory of the machine is: `/proc/meminfo` and what stands beside
//! it, as a balance sheet that adds up, with findings and with the holders of
//! shared memory.
//!
//! [`machine`] reads (its roots are parameters, so a folder with copies plays a
//! machine), [`holders`] searches the running system; all else is computed.
pub mod explain;
pub mod findings;
#[cfg(test)]
mod formulas_tests;
pub mod holders;
mod huge;
pub mod machine;
pub mod parse;
#[cfg(test)]
mod recorded_tests;
mod rows;
pub mod sheet;
#[cfg(test)]
mod sheet_tests;
pub mod tables;
pub mod vmalloc;
pub mod zoneinfo;

pub use findings::{Case, findings};
pub use holders::Holders;
pub use machine::{Machine, ReadError, Roots};
pub use sheet::{Kind, Moment, Row, Sheet};

use crate::kernel::memory::{Role, field_named};

/// Fields that are in no row, because nobody published what they are: their
/// names, values as printed, and what is known.
pub fn unknown_fields(machine: &Machine) -> Vec<(String, u64, &'static str)> {
    machine
        .meminfo
        .fields()
        .filter_map(|(name, value)| match field_named(name) {
            None => Some((name.to_owned(), value, "unknown")),
            Some(field) if field.role == Role::Vendor => {
                Some((name.to_owned(), value, field.meaning))
            }
            Some(_) => None,
        })
        .collect()
}
