//! Late symbolization: from a module and an address in it to names and source
//! lines.
//!
//! Nothing here needs the process: a module is a file that can be opened and a
//! build id. What is reported is a fact or left out; a name is never stretched
//! beyond the end of its function.
mod debug_file;
pub mod kernel;
mod lookup;
pub use lookup::demangle;
#[cfg(test)]
mod shop;
#[cfg(test)]
mod tests;

use hashbrown::HashMap;
use lookup::Lookup;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// An executable or library that was mapped into a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModuleFile {
    /// As in the process's maps; for messages.
    pub path: PathBuf,
    /// Where its content can be read now: `/proc/self/fd/N`, or the real path.
    pub open_path: PathBuf,
    /// Lower-case hexadecimal digits.
    pub build_id: Option<String>,
}

/// What is known of one function at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Symbol {
    /// Demangled (C++, Rust without hashes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Source file, as the compiler recorded it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line of the call, not of the function's beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Whether it was inlined into the next one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inlined: bool,
}

impl Symbol {
    /// About the room that it takes, written down.
    pub fn bytes(&self) -> usize {
        let texts = [&self.name, &self.file];
        let texts = texts.into_iter().flatten().map(String::len);
        texts.sum::<usize>() + 64
    }
}

/// Where a [`Symbolizer`] looks, and for what.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directories of separate debug files. `.build-id/` in each is looked up
    /// first, then the names that `.gnu_debuglink` leads to.
    pub debug_dirs: Vec<PathBuf>,
    /// Whether to read DWARF: source lines and inlined functions, at the price
    /// of memory about the size of the debug information that is touched.
    pub debug_info: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            debug_dirs: vec!["/usr/lib/debug".into()],
            debug_info: true,
        }
    }
}

/// Names addresses. Each module is opened once, each address looked up once;
/// neither the process nor the file of a module already seen is needed again.
///
/// Not `Send`: make it on the thread that renders.
#[derive(Debug)]
pub struct Symbolizer {
    options: Options,
    modules: HashMap<Key, Module>,
    warnings: Vec<String>,
}

/// What makes two module files the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    BuildId(String),
    /// Device, inode, size and time of change: descriptors and inodes are reused.
    File(u64, u64, u64, i64),
    Unreadable(PathBuf),
}

#[derive(Debug)]
struct Module {
    /// Absent where nothing but `known` counts.
    lookup: Option<Lookup>,
    known: HashMap<u64, Rc<[Symbol]>>,
    /// What could not be read of it.
    warnings: Vec<String>,
    /// Whether these are among the symbolizer's.
    told: bool,
}

impl Symbolizer {
    /// Opens nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            modules: HashMap::new(),
            warnings: Vec::new(),
        }
    }

    /// Takes in what is known of a module from elsewhere, by return address:
    /// its file is not looked at then. `warnings` will be the report's as soon
    /// as anything of the module is named.
    pub fn provide(
        &mut self,
        module: &ModuleFile,
        addresses: impl IntoIterator<Item = (u64, Vec<Symbol>)>,
        warnings: &[String],
    ) {
        let Some(key) = key(module) else { return };
        let entry = self.modules.entry(key).or_insert_with(|| Module {
            lookup: None,
            known: HashMap::new(),
            warnings: Vec::new(),
            told: false,
        });
        for warning in warnings {
            if !entry.warnings.contains(warning) {
                entry.warnings.push(warning.clone());
            }
        }
        for (vaddr, symbols) in addresses {
            let known = entry.known.entry(call_before(vaddr));
            let known = known.or_insert_with(|| symbols.as_slice().into());
            if **known != *symbols {
                // Two files in one place, and no build ids: it may be either.
                *known = Rc::default();
            }
        }
    }

    /// Names the call before the return address `vaddr`, an ELF virtual address
    /// in `module`: the innermost inlined function first, the real function
    /// last. Empty where nothing is known.
    pub fn resolve(&mut self, module: &ModuleFile, vaddr: u64) -> Rc<[Symbol]> {
        self.resolve_exact(module, call_before(vaddr))
    }

    /// Names the instruction at `vaddr` itself, as for a sampled program counter.
    pub fn resolve_exact(&mut self, module: &ModuleFile, vaddr: u64) -> Rc<[Symbol]> {
        let Some(key) = key(module) else {
            return Rc::default();
        };
        let Self {
            options,
            modules,
            warnings,
        } = self;
        let before = warnings.len();
        let entry = modules.entry(key).or_insert_with(|| Module {
            lookup: Some(Lookup::open(module, options, warnings)),
            known: HashMap::new(),
            warnings: Vec::new(),
            told: true,
        });
        let Module { lookup, known, .. } = &mut *entry;
        let symbols = known
            .entry(vaddr)
            .or_insert_with(|| match lookup {
                Some(lookup) => lookup.find(vaddr, warnings).into(),
                None => Rc::default(),
            })
            .clone();
        if let Some(new) = warnings.get(before..) {
            entry.warnings.extend_from_slice(new);
        }
        if !std::mem::replace(&mut entry.told, true) {
            warnings.extend_from_slice(&entry.warnings);
        }
        symbols
    }

    /// What could not be read of one module so far.
    pub fn warnings_of(&self, module: &ModuleFile) -> &[String] {
        let found = key(module).and_then(|key| self.modules.get(&key));
        found.map_or(&[], |module| &module.warnings)
    }

    /// What could not be read, each once, for the report's notes. They also went
    /// to the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The call may be its function's last instruction: the return address is then
/// the next function's.
fn call_before(vaddr: u64) -> u64 {
    vaddr.saturating_sub(1)
}

/// `None` for what is no file: `[vdso]`, `[heap]`, anonymous memory.
fn key(module: &ModuleFile) -> Option<Key> {
    let first = module.path.as_os_str().as_encoded_bytes().first()?;
    if *first == b'[' {
        return None;
    }
    if let Some(id) = &module.build_id {
        return Some(Key::BuildId(id.clone()));
    }
    Some(match module.open_path.metadata() {
        Ok(meta) => Key::File(
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.ctime()
                .wrapping_mul(1_000_000_000)
                .wrapping_add(meta.ctime_nsec()),
        ),
        Err(_) => Key::Unreadable(module.open_path.clone()),
    })
}

fn warn(warnings: &mut Vec<String>, message: String) {
    log::warn!("{message}");
    warnings.push(message);
}

/// A path for messages.
fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}
