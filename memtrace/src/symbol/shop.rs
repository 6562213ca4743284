//! The C++ program that the tests of this module symbolize.
use super::{Options, debug_file};
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// The program of `shop.cpp` and the addresses it printed.
pub(super) struct Shop {
    pub(super) dir: TempDir,
    pub(super) sites: HashMap<String, u64>,
}

impl Shop {
    /// `None`, loudly, where there is no compiler.
    pub(super) fn build() -> Option<Self> {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("shop.cpp"), include_str!("shop.cpp")).unwrap();
        let built = run(
            &dir,
            "g++ -O2 -g -rdynamic -Wl,--build-id shop.cpp -o full && \
             objcopy --only-keep-debug full full.debug && strip full -o stripped",
        );
        let Some(()) = built else {
            eprintln!("SKIPPED: no g++ and binutils here, so nothing to symbolize");
            return None;
        };
        let output = Command::new(dir.path().join("full")).output().unwrap();
        let sites = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| {
                let (place, address) = line.split_once(' ').unwrap();
                (place.to_owned(), u64::from_str_radix(address, 16).unwrap())
            })
            .collect();
        Some(Self { dir, sites })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn build_id(&self) -> Option<String> {
        debug_file::build_id_of(&self.path("full"))
    }

    /// Puts the debug file where its build id says, below a directory of debug files.
    pub(super) fn install_debug_file(&self) -> Options {
        let id = self.build_id().unwrap();
        let directory = self.path("debug/.build-id").join(&id[..2]);
        fs::create_dir_all(&directory).unwrap();
        fs::copy(
            self.path("full.debug"),
            directory.join(format!("{}.debug", &id[2..])),
        )
        .unwrap();
        Options {
            debug_dirs: vec![self.path("debug")],
            ..Options::default()
        }
    }
}

pub(super) fn run(dir: &TempDir, script: &str) -> Option<()> {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(dir.path());
    command.status().ok()?.success().then_some(())
}

/// The line of `shop.cpp` that is marked so.
pub(super) fn line(mark: &str) -> u32 {
    let marked = |text: &str| text.ends_with(&format!("// here: {mark}"));
    let index = include_str!("shop.cpp").lines().position(marked);
    u32::try_from(index.unwrap()).unwrap() + 1
}
