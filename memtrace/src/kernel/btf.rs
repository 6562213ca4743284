//! The running kernel's type information (BTF), as far as memtrace needs it:
//! where members of structures are. aya keeps its own reading to itself.
//!
//! The format is that of `include/uapi/linux/btf.h`.
mod enumerator;
mod function;

use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Why type information cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// Not BTF, or of another byte order.
    #[error("it does not begin as BTF does")]
    Foreign,
    /// Ends early, or refers to what is not there.
    #[error("it is damaged at byte {0} of its types")]
    Damaged(usize),
}

/// Little-endian 0xEB9F.
const MAGIC: u16 = 0xeb9f;

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Header {
    magic: u16,
    version: u8,
    flags: u8,
    length: u32,
    /// From the end of the header, bytes; likewise `strings_offset`.
    types_offset: u32,
    types_length: u32,
    strings_offset: u32,
    strings_length: u32,
}

#[derive(Clone, Copy, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct TypeHead {
    name: u32,
    /// Number of members in the low 16 bits, kind in bits 24 to 28, and in the
    /// top bit whether members' offsets also hold their size as bit fields.
    info: u32,
    size_or_type: u32,
}

#[derive(Clone, Copy, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Member {
    name: u32,
    type_id: u32,
    offset: u32,
}

const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// Bytes that follow a type of each kind: always, and for each member.
const TAILS: [(usize, usize); 20] = [
    (0, 0),
    (4, 0),  // integer
    (0, 0),  // pointer
    (12, 0), // array
    (0, 12), // structure
    (0, 12), // union
    (0, 8),  // enumeration
    (0, 0),  // forward
    (0, 0),  // typedef
    (0, 0),  // volatile
    (0, 0),  // const
    (0, 0),  // restrict
    (0, 0),  // function
    (0, 8),  // function prototype
    (4, 0),  // variable
    (0, 12), // section
    (0, 0),  // floating point
    (4, 0),  // declaration tag
    (0, 0),  // type tag
    (0, 12), // 64-bit enumeration
];

impl TypeHead {
    fn kind(self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    fn members(self) -> usize {
        (self.info & 0xffff) as usize
    }

    fn is_aggregate(self) -> bool {
        matches!(self.kind(), STRUCT | UNION)
    }
}

/// Type information.
pub struct Btf<'data> {
    types: &'data [u8],
    strings: &'data [u8],
    /// Where each type begins in `types`; the first is type 1.
    starts: Vec<u32>,
}

/// How deep unnamed structures are looked into.
const MOST_NESTED: u32 = 8;

impl<'data> Btf<'data> {
    /// Reads what `/sys/kernel/btf/vmlinux` holds.
    pub fn parse(data: &'data [u8]) -> Result<Self, BtfError> {
        let (header, _) = Header::read_from_prefix(data).map_err(|_| BtfError::Foreign)?;
        if header.magic != MAGIC {
            return Err(BtfError::Foreign);
        }
        let part = |offset: u32, length: u32| {
            let start = (header.length as usize).saturating_add(offset as usize);
            data.get(start..start.saturating_add(length as usize))
                .ok_or(BtfError::Damaged(0))
        };
        let types = part(header.types_offset, header.types_length)?;
        let strings = part(header.strings_offset, header.strings_length)?;
        let mut starts = Vec::new();
        let mut at = 0;
        while at < types.len() {
            let damaged = BtfError::Damaged(at);
            let head = read::<TypeHead>(types, at).ok_or(damaged.clone())?;
            let (always, each) = TAILS.get(head.kind() as usize).ok_or(damaged.clone())?;
            starts.push(u32::try_from(at).map_err(|_| damaged)?);
            at += size_of::<TypeHead>() + always + each * head.members();
        }
        Ok(Self {
            types,
            strings,
            starts,
        })
    }

    /// Where a member lies in the structure of this name, bytes. Members of
    /// unnamed structures in it count as its own. `None`: there is no such
    /// structure or member here, or it is a bit field.
    pub fn member_offset(&self, structure: &str, member: &str) -> Option<u32> {
        let candidates = self.starts.iter().filter(|start| {
            let head = read::<TypeHead>(self.types, **start as usize);
            head.is_some_and(|head| head.is_aggregate() && self.is_named(head.name, structure))
        });
        // A name may stand for several, of which some are other files' own.
        candidates
            .into_iter()
            .find_map(|start| self.member_in(*start, member, MOST_NESTED))
    }

    fn member_in(&self, start: u32, wanted: &str, nested: u32) -> Option<u32> {
        let start = start as usize;
        let head = read::<TypeHead>(self.types, start)?;
        let offsets_have_sizes = head.info >> 31 != 0;
        for index in 0..head.members() {
            let at = start + size_of::<TypeHead>() + index * size_of::<Member>();
            let member = read::<Member>(self.types, at)?;
            let (bits, bit_field) = if offsets_have_sizes {
                (member.offset & 0x00ff_ffff, member.offset >> 24 != 0)
            } else {
                (member.offset, false)
            };
            if self.is_named(member.name, wanted) {
                return (!bit_field && bits % 8 == 0).then_some(bits / 8);
            }
            if member.name == 0
                && nested > 0
                && let Some(inner) = self.aggregate(member.type_id)
                && let Some(offset) = self.member_in(inner, wanted, nested - 1)
            {
                return (bits / 8).checked_add(offset);
            }
        }
        None
    }

    /// Where a type begins, if it has members.
    fn aggregate(&self, type_id: u32) -> Option<u32> {
        let start = *self.starts.get(type_id.checked_sub(1)? as usize)?;
        let head = read::<TypeHead>(self.types, start as usize)?;
        head.is_aggregate().then_some(start)
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.strip_prefix(name.as_bytes())
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

fn read<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8], at: usize) -> Option<T> {
    let (value, _) = T::read_from_prefix(bytes.get(at..)?).ok()?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int a; struct { long b; }; }` and an enumeration before it.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0one\0";
        let (outer, a, b, one) = (1, 7, 9, 11);
        let mut types: Vec<u32> = Vec::new();
        types.extend([0, (6 << 24) | 1, 4, one, 1]); // 1: enum { one = 1 }
        types.extend([0, 1 << 24, 8, 64]); // 2: an integer
        types.extend([0, (4 << 24) | 1, 8, b, 2, 0]); // 3: struct { long b; }
        types.extend([outer, (4 << 24) | 2, 16, a, 2, 0, 0, 3, 64]); // 4
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let lengths = [types.len(), strings.len()].map(|length| u32::try_from(length).unwrap_or(0));
        let mut data = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, lengths[0], lengths[0], lengths[1]] {
            data.extend(word.to_le_bytes());
        }
        data.extend(types);
        data.extend(strings);
        data
    }

    #[test]
    fn members_have_offsets() {
        let data = sample();
        let btf = Btf::parse(&data).expect("it is whole");
        assert_eq!(btf.member_offset("outer", "a"), Some(0));
        assert_eq!(btf.member_offset("outer", "b"), Some(8));
        assert_eq!(btf.member_offset("outer", "c"), None);
        assert_eq!(btf.member_offset("out", "a"), None);
        assert_eq!((btf.size("outer"), btf.size("a")), (Some(16), None));
        assert_eq!(btf.parameters("outer"), None);
        assert_eq!(btf.enumerator("one"), Some(1));
        assert_eq!(btf.enumerator("two"), None);
    }

    #[test]
    fn damage_is_told() {
        let data = sample();
        for length in 0..data.len() {
            assert!(Btf::parse(&data[..length]).is_err(), "{length} bytes");
        }
        let mut foreign = data.clone();
        foreign[0] = 0;
        assert_eq!(Btf::parse(&foreign).err(), Some(BtfError::Foreign));
        let mut unknown = data;
        unknown[24 + 7] = 31;
        assert_eq!(Btf::parse(&unknown).err(), Some(BtfError::Damaged(0)));
    }
}
