//! Files that the live view writes.
use std::{
    fs::File,
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
};

/// How many names are tried where files of the same second are there.
const TRIES: u32 = 100;

/// Writes a document into a new file of the directory: `memtrace-ABOUT-TIME.json`.
/// Returns its path.
///
/// # Errors
/// No file can be made there, or not be written.
pub(super) fn save(
    directory: &Path,
    about: &str,
    time: &str,
    document: &[u8],
) -> io::Result<PathBuf> {
    for attempt in 1..=TRIES {
        let more = match attempt {
            1 => String::new(),
            attempt => format!("-{attempt}"),
        };
        let path = directory.join(format!("memtrace-{about}-{time}{more}.json"));
        match File::create_new(&path) {
            Ok(mut file) => {
                file.write_all(document)?;
                return Ok(path);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let save = |text: &str| save(directory.path(), "heap-7", "noon", text.as_bytes());
        assert_eq!(name(save("one").unwrap()), "memtrace-heap-7-noon.json");
        let second = save("two").unwrap();
        assert_eq!(std::fs::read_to_string(&second).unwrap(), "two");
        assert_eq!(name(second), "memtrace-heap-7-noon-2.json");
        let nowhere = super::save(Path::new("/nonexistent"), "a", "b", b"");
        assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::NotFound);
    }
}
