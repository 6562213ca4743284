//! The values of enumerators.
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{Btf, TypeHead, read};

const ENUMERATION: u32 = 6;

#[derive(Clone, Copy, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Enumerator {
    name: u32,
    value: u32,
}

impl Btf<'_> {
    /// The value of the enumerator of that name, in whichever enumeration of
    /// 32 bits it is.
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        self.starts.iter().find_map(|start| {
            let start = *start as usize;
            let head = read::<TypeHead>(self.types, start)?;
            let members = if head.kind() == ENUMERATION {
                head.members()
            } else {
                0
            };
            (0..members).find_map(|index| {
                let at = start + size_of::<TypeHead>() + index * size_of::<Enumerator>();
                let found = read::<Enumerator>(self.types, at)?;
                self.is_named(found.name, name).then_some(found.value)
            })
        })
    }
}
