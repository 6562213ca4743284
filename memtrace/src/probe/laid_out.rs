//! Hash maps with all elements laid out in advance, for kernels whose perf events take
//! no others. aya 0.14 cannot change a map's flags, so they are changed in the object
//! before aya reads it.
use std::ops::Range;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// `BPF_F_NO_PREALLOC` (uapi/linux/bpf.h).
const NO_PREALLOC: u32 = 1;
/// Where the flags are in a map's definition (`struct bpf_map_def`): behind type, key
/// size, value size and number of elements.
const FLAGS: Range<usize> = 16..20;
const DEFINITIONS: &str = "maps";

/// The object with that map laid out in advance. `None`: it has no such map.
pub(super) fn laid_out(object: &[u8], map: &str) -> Option<Vec<u8>> {
    let file = object::File::parse(object).ok()?;
    let section = file.section_by_name(DEFINITIONS)?;
    let (start, _) = section.file_range()?;
    let symbol = file.symbols().find(|symbol| {
        symbol.section_index() == Some(section.index()) && symbol.name() == Ok(map)
    })?;
    let at = symbol.address().checked_sub(section.address())?;
    let at = usize::try_from(start.checked_add(at)?).ok()?;
    let mut changed = object.to_vec();
    let bytes = changed.get_mut(at..)?.get_mut(FLAGS)?;
    let flags = u32::from_le_bytes(bytes.try_into().ok()?) & !NO_PREALLOC;
    bytes.copy_from_slice(&flags.to_le_bytes());
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{job::LAID_OUT, object::OBJECT};

    fn flags(object: &[u8], map: &str) -> u32 {
        aya_obj::Object::parse(object).unwrap().maps[map].map_flags()
    }

    #[test]
    fn only_that_flag_of_that_map_changes() {
        for (_, map, _) in LAID_OUT {
            assert_eq!(flags(OBJECT, map), NO_PREALLOC, "{map}");
            let changed = laid_out(OBJECT, map).unwrap();
            assert_eq!(flags(&changed, map), 0, "{map}");
            let differ = OBJECT.iter().zip(&changed).filter(|(old, new)| old != new);
            assert_eq!(differ.count(), 1, "{map}");
        }
        assert_eq!(laid_out(OBJECT, "NO_SUCH_MAP"), None);
        assert_eq!(laid_out(b"no object", "THREADS"), None);
    }
}
