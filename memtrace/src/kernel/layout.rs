//! Where the running kernel keeps what the eBPF programs read from its
//! structures.
use std::{fs, path::Path};

use memtrace_common::unwind::HiddenReturns;

use super::btf::Btf;

/// Below the root of `/sys`.
const BTF: &str = "kernel/btf/vmlinux";

/// Where return addresses are that return probes hide. Not known: the kernel
/// has no type information, or no uprobes.
pub fn hidden_returns(sys_root: &Path) -> HiddenReturns {
    let path = sys_root.join(BTF);
    let data = match fs::read(&path) {
        Ok(data) => data,
        Err(error) => {
            log::debug!(
                "{}: {error}: stacks below another tool's return probe are cut",
                path.display()
            );
            return HiddenReturns::default();
        }
    };
    match Btf::parse(&data) {
        Ok(btf) => hidden_returns_by(&btf).unwrap_or_default(),
        Err(error) => {
            log::debug!("{}: {error}", path.display());
            HiddenReturns::default()
        }
    }
}

fn hidden_returns_by(btf: &Btf<'_>) -> Option<HiddenReturns> {
    Some(HiddenReturns {
        known: 1,
        utask: btf.member_offset("task_struct", "utask")?,
        return_instances: btf.member_offset("uprobe_task", "return_instances")?,
        stack: btf.member_offset("return_instance", "stack")?,
        original: btf.member_offset("return_instance", "orig_ret_vaddr")?,
        next: btf.member_offset("return_instance", "next")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_without_type_information() {
        let nowhere = tempfile::tempdir().expect("a directory");
        assert_eq!(hidden_returns(nowhere.path()), HiddenReturns::default());
    }

    #[test]
    fn known_on_this_kernel() {
        // Every kernel that memtrace is built for has both.
        let found = hidden_returns(Path::new("/sys"));
        assert_eq!(found.known, 1);
        assert!(found.stack < found.original, "{found:?}");
    }
}
