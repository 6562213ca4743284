//! Sizes of structures and parameters of functions.
use super::{Btf, STRUCT, TypeHead, read};

const FUNCTION: u32 = 12;

impl Btf<'_> {
    /// Bytes of the structure of this name.
    pub fn size(&self, structure: &str) -> Option<u32> {
        let head = self.head_of(STRUCT, structure)?;
        Some(head.size_or_type)
    }

    /// How many parameters the function of this name has.
    pub fn parameters(&self, function: &str) -> Option<u32> {
        let head = self.head_of(FUNCTION, function)?;
        let start = *self
            .starts
            .get(head.size_or_type.checked_sub(1)? as usize)?;
        let prototype = read::<TypeHead>(self.types, start as usize)?;
        u32::try_from(prototype.members()).ok()
    }

    fn head_of(&self, kind: u32, name: &str) -> Option<TypeHead> {
        let heads = self.starts.iter();
        let mut heads = heads.filter_map(|start| read::<TypeHead>(self.types, *start as usize));
        heads.find(|head| head.kind() == kind && self.is_named(head.name, name))
    }
}
