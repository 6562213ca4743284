//! Looking up addresses in one module: which files to ask, in which order, and
//! what of the answers to believe.
use super::debug_file::{build_id_of, by_build_id};
use super::{ModuleFile, Options, Symbol, shown, warn};
use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// How many symbols without a size to step over in search of the one that
/// encloses an address. `AArch64` marks data in code by such symbols.
const STEPS: usize = 16;

/// The files that describe one module, best first.
#[derive(Debug)]
pub(super) struct Lookup {
    name: PathBuf,
    /// One for each module, never shared: it opens a path once and keeps to
    /// that file, although descriptors are reused.
    blazesym: Symbolizer,
    sources: Vec<Elf>,
}

impl Lookup {
    /// Opens what there is. That it is unreadable is said once, here.
    pub(super) fn open(module: &ModuleFile, options: &Options, warnings: &mut Vec<String>) -> Self {
        let mut lookup = Self {
            name: module.path.clone(),
            blazesym: Symbolizer::builder()
                .enable_auto_reload(false)
                .enable_demangling(false)
                .set_debug_dirs(Some(&options.debug_dirs))
                .build(),
            sources: Vec::new(),
        };
        let wanted = module.build_id.as_deref();
        let debug_file = wanted
            .filter(|_| options.debug_info)
            .and_then(|id| by_build_id(id, &options.debug_dirs));
        let separate = debug_file.is_some_and(|path| lookup.add(&path, true, warnings).is_some());

        let found = build_id_of(&module.open_path);
        if wanted.is_some() && found.is_some() && found.as_deref() != wanted {
            warn(
                warnings,
                format!(
                    "{}: the file has been replaced since the process mapped it (another build \
                     id): its symbols are not used",
                    shown(&module.path)
                ),
            );
            return lookup;
        }
        // First without debug information: that opens the file, and is what
        // remains where its debug information turns out to be broken.
        let Some(()) = lookup.add(&module.open_path, false, warnings) else {
            return lookup;
        };
        if options.debug_info && !separate {
            let plain = lookup.sources.pop();
            lookup.add(&module.open_path, true, warnings);
            lookup.sources.extend(plain);
        }
        lookup
    }

    fn add(&mut self, path: &Path, debug_info: bool, warnings: &mut Vec<String>) -> Option<()> {
        let mut source = Elf::new(path);
        source.debug_syms = debug_info;
        // Parses without looking anything up.
        match self.ask(&source, &[]) {
            Ok(_) => {
                self.sources.push(source);
                Some(())
            }
            Err(why) => {
                let what = if debug_info {
                    "debug information"
                } else {
                    "symbols"
                };
                let name = shown(&self.name);
                warn(warnings, format!("{name}: no {what}: {why}"));
                None
            }
        }
    }

    /// Innermost first; empty where nothing is known.
    pub(super) fn find(&mut self, vaddr: u64, warnings: &mut Vec<String>) -> Vec<Symbol> {
        let mut nameless = Vec::new();
        let mut index = 0;
        while let Some(source) = self.sources.get(index) {
            match self.find_in(source, vaddr) {
                Ok(symbols) if symbols.last().is_some_and(|last| last.name.is_some()) => {
                    return symbols;
                }
                Ok(symbols) => {
                    if nameless.is_empty() {
                        nameless = symbols;
                    }
                    index += 1;
                }
                Err(why) => {
                    let name = shown(&self.name);
                    warn(warnings, format!("{name}: some symbols are missing: {why}"));
                    self.sources.remove(index);
                }
            }
        }
        nameless
    }

    fn find_in(&self, source: &Elf, vaddr: u64) -> Result<Vec<Symbol>, String> {
        let Some(sym) = self.ask(source, &[vaddr])?.pop().flatten() else {
            return Ok(Vec::new());
        };
        Ok(match self.extent(source, &sym, vaddr)? {
            Extent::Covers => {
                let mut named = symbols(&sym);
                if let Some(last) = named.last_mut() {
                    last.name = self.qualified(source, last.name.take(), vaddr)?;
                }
                named
            }
            Extent::Unknown => {
                let mut named = symbols(&sym);
                if let Some(last) = named.last_mut() {
                    last.name = self.enclosing(source, sym.addr, vaddr)?;
                }
                named.retain(|symbol| *symbol != Symbol::default());
                named
            }
            Extent::Elsewhere => Vec::new(),
        })
    }

    /// Whether `sym` is known to cover `vaddr`.
    fn extent(&self, source: &Elf, sym: &Sym<'_>, vaddr: u64) -> Result<Extent, String> {
        Ok(match sym.size {
            // Functions that the linker dropped keep their debug information,
            // with an address of 0, where an ELF file has its header.
            Some(_) if sym.addr == 0 => Extent::Elsewhere,
            Some(_) if covers(sym, vaddr) => Extent::Covers,
            Some(_) => Extent::Elsewhere,
            // Of a function in several parts blazesym reports neither address
            // nor size, but has compared each part.
            None if sym.addr == 0 && source.debug_syms => match self.ask_table(source, vaddr)? {
                Some(other) if other.addr == 0 => Extent::Unknown,
                _ => Extent::Covers,
            },
            // A symbol of the symbol table without a size: blazesym takes it to
            // reach up to the next one, which is a guess.
            None if sym.addr == vaddr => Extent::Covers,
            None => Extent::Unknown,
        })
    }

    /// Puts back the namespace of a static C++ function: its debug information
    /// has the bare name only, the symbol table all of it.
    fn qualified(
        &self,
        source: &Elf,
        bare: Option<String>,
        vaddr: u64,
    ) -> Result<Option<String>, String> {
        let Some(bare) = bare else { return Ok(None) };
        if !source.debug_syms || bare.contains(['(', ':', '<']) {
            return Ok(Some(bare));
        }
        let full = self
            .ask_table(source, vaddr)?
            .filter(|sym| covers(sym, vaddr))
            .and_then(|sym| name(&sym.name))
            .filter(|full| full.contains(&format!("{bare}(")));
        Ok(Some(full.unwrap_or(bare)))
    }

    /// The function that begins before the symbol without a size at `start` and
    /// has a size that reaches beyond `vaddr`.
    fn enclosing(&self, source: &Elf, start: u64, vaddr: u64) -> Result<Option<String>, String> {
        let mut before = start;
        for _ in 0..STEPS {
            let Some(address) = before.checked_sub(1) else {
                break;
            };
            match self.ask_table(source, address)? {
                Some(sym) if sym.size.is_none() => before = sym.addr,
                Some(sym) if covers(&sym, vaddr) => return Ok(name(&sym.name)),
                _ => break,
            }
        }
        Ok(None)
    }

    /// The symbol table's answer, without debug information.
    fn ask_table(&self, source: &Elf, vaddr: u64) -> Result<Option<Sym<'_>>, String> {
        let mut plain = source.clone();
        plain.debug_syms = false;
        Ok(self.ask(&plain, &[vaddr])?.pop().flatten())
    }

    /// blazesym's answers; an error where the file as a whole is unusable.
    ///
    /// The files come from anybody: a panic of a parser is one more way of being
    /// unreadable.
    fn ask(&self, source: &Elf, addresses: &[u64]) -> Result<Vec<Option<Sym<'_>>>, String> {
        let source = Source::Elf(source.clone());
        let asked = catch_unwind(AssertUnwindSafe(|| {
            self.blazesym
                .symbolize(&source, Input::VirtOffset(addresses))
        }));
        match asked {
            Ok(Ok(found)) => Ok(found.into_iter().map(Symbolized::into_sym).collect()),
            Ok(Err(why)) => Err(format!("{why:#}")),
            Err(_) => Err("the parser failed on it".into()),
        }
    }
}

/// Whether `sym` has a size and reaches to `vaddr`.
fn covers(sym: &Sym<'_>, vaddr: u64) -> bool {
    sym.size
        .is_some_and(|size| vaddr.wrapping_sub(sym.addr) < size as u64)
}

enum Extent {
    Covers,
    Unknown,
    Elsewhere,
}

/// The inlined functions, innermost first, then the function itself.
fn symbols(sym: &Sym<'_>) -> Vec<Symbol> {
    let inlined = sym
        .inlined
        .iter()
        .rev()
        .map(|inlined| symbol(&inlined.name, inlined.code_info.as_ref(), true));
    inlined
        .chain([symbol(&sym.name, sym.code_info.as_deref(), false)])
        .collect()
}

fn symbol(symbol_name: &str, code: Option<&CodeInfo<'_>>, inlined: bool) -> Symbol {
    Symbol {
        name: name(symbol_name),
        file: code.map(|code| code.to_path().to_string_lossy().into_owned()),
        line: code.and_then(|code| code.line),
        inlined,
    }
}

/// What compilers append to the name of a copy that they made of a function.
const COPIES: &[&str] = &[
    " [clone ",
    ".cold",
    ".constprop.",
    ".isra.",
    ".llvm.",
    ".lto_priv.",
    ".part.",
];

/// Only names that compilers mangled: `cpp_demangle` also takes `f` for the
/// type `float`, and C has functions of that name. So blazesym's own
/// demangling is off.
pub fn demangle(raw: &str) -> String {
    let mangled = ["_Z", "__Z", "_R"];
    if !mangled.iter().any(|prefix| raw.starts_with(prefix)) {
        return raw.to_owned();
    }
    if let Ok(rust) = rustc_demangle::try_demangle(raw) {
        return format!("{rust:#}");
    }
    let cpp = cpp_demangle::Symbol::new(raw).ok();
    cpp.and_then(|symbol| symbol.demangle().ok())
        .unwrap_or_else(|| raw.to_owned())
}

/// `None` for the empty name. The version that linkers append
/// (`open@@GLIBC_2.2.5`) and the marks of copies are no part of a name.
fn name(raw: &str) -> Option<String> {
    let demangled = demangle(raw);
    let raw = demangled.as_str();
    let plain = !raw.contains([' ', '(', '<']);
    let version = raw.find('@').filter(|_| plain);
    let copy = COPIES.iter().filter_map(|mark| raw.find(mark)).min();
    let end = version.into_iter().chain(copy).min().unwrap_or(raw.len());
    match &raw[..end] {
        "" if raw.is_empty() => None,
        "" => Some(raw.to_owned()),
        bare => Some(bare.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names_are_stripped_of_what_tools_append() {
        for (raw, bare) in [
            ("open@@GLIBC_2.2.5", "open"),
            ("pthread_create@GLIBC_2.2.5", "pthread_create"),
            ("grow.constprop.0.isra.1", "grow"),
            ("grow.part.0.cold", "grow"),
            ("a::b(int) [clone .cold]", "a::b(int)"),
            ("f(char @)", "f(char @)"),
            ("@odd", "@odd"),
            ("main.main", "main.main"),
            ("f", "f"),
            ("Pc", "Pc"),
            ("_Znwm", "operator new(unsigned long)"),
            (
                "_ZN4core3fmt5Write9write_str17h0123456789abcdefE",
                "core::fmt::Write::write_str",
            ),
        ] {
            assert_eq!(name(raw).as_deref(), Some(bare));
        }
        assert_eq!(name(""), None);
    }
}
