//! Which module a kernel address belongs to, from `/proc/kallsyms`: the symbols
//! of modules stand there with the module's name in brackets.
use std::{collections::HashMap, fs, io, path::Path};

/// Addresses of symbols, each with its module.
#[derive(Clone, Debug, Default)]
pub struct ModuleMap {
    names: Vec<String>,
    /// Sorted by address; the index in `names`, or the kernel itself.
    starts: Vec<(u64, Option<usize>)>,
}

impl ModuleMap {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(proc_root: &Path) -> io::Result<Self> {
        let text = fs::read(proc_root.join("kallsyms"))?;
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    /// From lines of address, kind, name, and module in brackets. Whoever may not
    /// see addresses sees zeros, which are left out.
    pub fn parse(text: &str) -> Self {
        let mut map = Self::default();
        let mut known = HashMap::new();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let address = words.next().map(|word| u64::from_str_radix(word, 16));
            let Some(Ok(address @ 1..)) = address else {
                continue;
            };
            let module = words.nth(2).and_then(|word| {
                let name = word.strip_prefix('[')?.strip_suffix(']')?;
                Some(*known.entry(name).or_insert_with(|| {
                    map.names.push(name.to_owned());
                    map.names.len() - 1
                }))
            });
            map.starts.push((address, module));
        }
        map.starts.sort_by_key(|(address, _)| *address);
        // Only where it changes is of interest.
        map.starts.dedup_by_key(|(_, module)| *module);
        map
    }

    /// The module that the code at this address is of; `None`: the kernel itself, or
    /// not known.
    pub fn of(&self, address: u64) -> Option<&str> {
        let behind = self.starts.partition_point(|(start, _)| *start <= address);
        let (_, module) = self.starts.get(behind.checked_sub(1)?)?;
        self.names.get((*module)?).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_modules() {
        let map = ModuleMap::parse(
            "ffffffff81000000 T _text\n\
             ffffffff81000100 t f\n\
             ffffffffc0200000 t balloon_fill\t[virtio_balloon]\n\
             ffffffffc0200800 t balloon_leak\t[virtio_balloon]\n\
             ffffffffc0100000 t other\t[other]\n\
             0000000000000000 A fixed_percpu_data\n\
             nonsense\n",
        );
        assert_eq!(map.of(0xffff_ffff_8100_0123), None);
        assert_eq!(map.of(0xffff_ffff_c010_0001), Some("other"));
        assert_eq!(map.of(0xffff_ffff_c020_0900), Some("virtio_balloon"));
        assert_eq!(map.of(5), None);
    }
}
