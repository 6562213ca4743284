//! Stacks, each kept once under the hash that the kernel side gave it, with
//! every frame's module and offset noted as soon as the stack arrives: names
//! can wait until the process is gone.
mod copy;

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
};

pub use copy::{Copied, Copies, WalkedOn};

use crate::process::{ModuleId, Modules, modules::MappedModule};

/// One frame: a return address and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The address behind the call instruction.
    pub ip: u64,
    /// The file mapped there and the ELF virtual address in it; `None` for
    /// code that was made at run time.
    pub module: Option<(ModuleId, u64)>,
}

/// One distinct stack of one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// Whether the walk ended before the outermost frame.
    pub truncated: bool,
    /// Whether an allocator was at work on its own account: the stack leads
    /// through one of its functions (`free` has no return probe, so what it maps
    /// for itself, a thread's arena for example, cannot be told apart in the
    /// kernel; and a call may be older than the probes), or the caller is an
    /// allocator's library.
    pub by_allocator: bool,
    /// Innermost first; the first is the caller of the allocation function.
    pub frames: Box<[Location]>,
}

/// All stacks seen, by hash.
#[derive(Debug, Default)]
pub struct StackTable {
    stacks: HashMap<u64, Stack>,
    /// The first hash of each stack, by what it leads through.
    first: HashMap<u64, u64>,
}

impl StackTable {
    /// Takes a stack in. One that is known already (the kernel side forgets)
    /// stays as it was: its modules were noted closer to its first use. Returns
    /// the hash under which the same stack came before: the kernel side knows a
    /// stack that it could not walk to its end by more than its frames.
    pub fn insert(
        &mut self,
        hash: u64,
        truncated: bool,
        addresses: impl Iterator<Item = u64>,
        modules: &Modules,
    ) -> Option<u64> {
        let Entry::Vacant(place) = self.stacks.entry(hash) else {
            return None;
        };
        let mut by_allocator = false;
        let mut caller = true;
        let frames = addresses
            .map(|ip| {
                let mapped = modules.find(ip.wrapping_sub(1));
                by_allocator |= mapped.is_some_and(|mapped| {
                    in_allocator(mapped, ip) || caller && mapped.module.is_allocator
                });
                caller = false;
                locate(ip, mapped)
            })
            .collect();
        let stack = place.insert(Stack {
            truncated,
            by_allocator,
            frames,
        });
        let content = BuildHasherDefault::<DefaultHasher>::default().hash_one(&*stack);
        let first = *self.first.entry(content).or_insert(hash);
        // Two contents with one hash are not the same.
        (first != hash && self.stacks.get(&first) == self.stacks.get(&hash)).then_some(first)
    }

    /// The stack with this hash, if its record arrived.
    pub fn get(&self, hash: u64) -> Option<&Stack> {
        self.stacks.get(&hash)
    }

    /// All of them, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Stack> {
        self.stacks.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }
}

/// The call instruction lies before the return address, which may belong to
/// the next function, or lie behind the mapping: `mapped` was looked up so.
fn locate(ip: u64, mapped: Option<&MappedModule>) -> Location {
    Location {
        ip,
        module: mapped.map(|mapped| (mapped.module.id, ip.wrapping_sub(mapped.bias))),
    }
}

fn in_allocator(mapped: &MappedModule, ip: u64) -> bool {
    let vaddr = ip.wrapping_sub(mapped.bias).wrapping_sub(1);
    mapped
        .module
        .function_at(vaddr)
        .is_some_and(|defined| !defined.function.role().is_mapping())
}

#[cfg(test)]
mod tests {
    use super::StackTable;
    use crate::process::Modules;

    #[test]
    fn the_same_stack_under_another_hash() {
        let modules = Modules::default();
        let mut stacks = StackTable::default();
        let mut insert = |hash, truncated, frames: &[u64]| {
            stacks.insert(hash, truncated, frames.iter().copied(), &modules)
        };
        assert_eq!(insert(1, false, &[0x1000, 0x2000]), None);
        assert_eq!(insert(2, false, &[0x1000, 0x2000]), Some(1));
        assert_eq!(insert(3, true, &[0x1000, 0x2000]), None);
        assert_eq!(insert(4, false, &[0x1000]), None);
        // The kernel side forgot it, and sends it again.
        assert_eq!(insert(2, false, &[0x1000, 0x2000]), None);
    }
}
