//! Where the separate debug information of a module is.
//!
//! blazesym follows `.gnu_debuglink` only, and looks for a build id only where
//! there is such a link and the path of the module can be resolved. Here the
//! build id alone leads to the file, so that a module that is known by its
//! descriptor, or is gone, is still named.
use blazesym::helper::read_elf_build_id;
use std::path::{Path, PathBuf};

/// The build id in the file at `path`, as hexadecimal digits; `None` where the
/// file has none or cannot be read.
pub(super) fn build_id_of(path: &Path) -> Option<String> {
    let id = read_elf_build_id(path).ok()??;
    let digits = id.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

/// `DIR/.build-id/ab/cdef….debug` in the first of `dirs` that has it and where
/// the file's own build id is `build_id` as well.
pub(super) fn by_build_id(build_id: &str, dirs: &[PathBuf]) -> Option<PathBuf> {
    // A path is made of it: digits only. Shorter ones name too many files.
    if build_id.len() < 8 || !build_id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (directory, rest) = build_id.split_at(2);
    dirs.iter()
        .map(|dir| {
            dir.join(".build-id")
                .join(directory)
                .join(format!("{rest}.debug"))
        })
        .find(|path| build_id_of(path).as_deref() == Some(build_id))
}
