//! Files that are opened before the run that fills them: one that comes to
//! nothing leaves no empty file behind.
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// Removes a file that was made and is still empty, when this is dropped.
#[derive(Debug)]
pub struct Fresh {
    /// Absent where it was there before, or where it is to stay.
    path: Option<PathBuf>,
}

impl Fresh {
    /// Opens a file to write to. What is in it already stays.
    ///
    /// # Errors
    /// It cannot be written to, or not be made.
    pub fn open(path: &Path) -> io::Result<(File, Self)> {
        match File::create_new(path) {
            Ok(file) => {
                let path = Some(path.to_owned());
                Ok((file, Self { path }))
            }
            // Also a device, or a pipe.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let mut options = File::options();
                let file = options
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)?;
                Ok((file, Self { path: None }))
            }
            Err(error) => Err(error),
        }
    }

    /// It is as it is meant to be, also where that is empty.
    pub fn keep(&mut self) {
        self.path = None;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let Some(path) = &self.path else { return };
        let is_empty = fs::symlink_metadata(path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
        if is_empty {
            // Where it cannot be removed, it stays: that harms nobody.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn only_what_was_made_and_is_empty_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        let open = || Fresh::open(&path).unwrap();
        drop(open());
        assert!(!path.exists());
        open().1.keep();
        assert!(path.exists(), "an empty report is one");
        drop(open());
        assert!(path.exists(), "it was there before");
        fs::remove_file(&path).unwrap();
        let (mut file, fresh) = open();
        file.write_all(b"a report").unwrap();
        drop(fresh);
        assert_eq!(fs::read(&path).unwrap(), b"a report");
        let nowhere = Fresh::open(Path::new("/nonexistent/report"));
        assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::NotFound);
    }
}
