//! The code that the kernel maps into every process: an ELF file that is in no
//! file system.
use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use nix::sys::memfd::{MFdFlags, memfd_create};

/// How `maps` calls it.
pub(super) const NAME: &str = "[vdso]";

/// It has two to four pages; what else a process claims to be it is not copied.
const MOST_BYTES: u64 = 1 << 20;

/// A copy of what a process has mapped at these addresses, to be read as any
/// other file.
pub(super) fn copy(proc_root: &Path, pid: u32, start: u64, end: u64) -> io::Result<File> {
    let size = end.saturating_sub(start).min(MOST_BYTES);
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let memory = File::open(proc_root.join(format!("{pid}/mem")))?;
    memory.read_exact_at(&mut bytes, start)?;
    let mut file = File::from(memfd_create(NAME, MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::ModuleCache;
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn it_is_a_module_like_others() {
        use crate::elf::UnwindTable;

        let mut cache = ModuleCache::default();
        let pid = std::process::id();
        let modules = cache.read(Path::new("/proc"), pid).unwrap();
        let mut found = modules.iter();
        let mapped = found
            .find(|mapped| mapped.module.path.as_os_str() == NAME)
            .expect("every process on x86-64 has it");
        assert_eq!(mapped.bias, mapped.start);
        let inside = |&(start, end): &(u64, u64)| mapped.start < end && start < mapped.end;
        assert!(!modules.anonymous().iter().any(inside));
        let image = mapped.module.image.as_ref().unwrap();
        let table = UnwindTable::build(image).unwrap();
        assert!(table.rows.len() > 2, "{:?}", table.rows);
        let again = cache.read(Path::new("/proc"), pid).unwrap();
        assert_eq!(again.files().count(), modules.files().count());
    }
}
