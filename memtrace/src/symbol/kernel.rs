//! Names of the kernel's functions. They are read when it is made, so that
//! nothing is read when memory is short.
use blazesym::{
    MaybeDefault,
    symbolize::{
        Input, Symbolized, Symbolizer,
        source::{Kernel, Source},
    },
};

/// The running kernel's symbols.
pub struct KernelSymbols {
    symbolizer: Symbolizer,
    source: Source<'static>,
}

impl Default for KernelSymbols {
    fn default() -> Self {
        let kernel = Kernel {
            // Names will do, and an image takes long to read.
            vmlinux: MaybeDefault::None,
            debug_syms: false,
            ..Kernel::default()
        };
        let symbols = Self {
            symbolizer: Symbolizer::builder().enable_code_info(false).build(),
            source: Source::Kernel(kernel),
        };
        // Any address makes it read them all.
        let _ = symbols.names(&[u64::MAX]);
        symbols
    }
}

impl KernelSymbols {
    /// The functions of return addresses, with the offset in each; `None`
    /// where there is no name.
    pub fn names(&self, addresses: &[u64]) -> Vec<Option<(String, u64)>> {
        let calls: Vec<u64> = addresses
            .iter()
            .map(|address| address.saturating_sub(1))
            .collect();
        let found = self
            .symbolizer
            .symbolize(&self.source, Input::AbsAddr(&calls));
        let Ok(found) = found else {
            return vec![None; addresses.len()];
        };
        let names = found.iter().map(|symbolized| match symbolized {
            Symbolized::Sym(symbol) => {
                let offset = u64::try_from(symbol.offset).unwrap_or(0);
                Some((symbol.name.to_string(), offset.saturating_add(1)))
            }
            Symbolized::Unknown(_) => None,
        });
        names.collect()
    }
}
