//! The attach plan: which program goes to which instruction of which file. A
//! pure function of what the modules define and what the kernel emulates.
use std::sync::Arc;

use memtrace_common::{Function, function::Role};

use crate::{
    elf::{DefinedFunction, Machine, Need, calls, choose},
    kernel::uprobe::Emulated,
    process::{Module, Modules},
};

/// One program at one instruction.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The eBPF program.
    pub program: &'static str,
    /// The file to probe.
    pub module: Arc<Module>,
    /// The instruction's offset in the file.
    pub file_offset: u64,
    /// What is probed, for messages: `malloc` or `malloc (return)`.
    pub label: String,
    /// Whether the kernel emulates the instruction; otherwise it costs about
    /// ten times as much.
    pub emulated: bool,
}

/// What to attach, in this order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Programs at instructions.
    pub attachments: Vec<Attachment>,
    /// For each file with allocation functions: its name and their names.
    pub allocators: Vec<(String, Vec<&'static str>)>,
    /// What allocates past every probe, in sentences.
    pub unseen: Vec<String>,
}

/// The one program for the return of every function.
pub const RETURN_PROGRAM: &str = "call_return";

/// The program for the dynamic linker's breakpoint for debuggers.
const MODULES_PROGRAM: &str = "modules_changed";

/// The symbol it goes to: defined by the dynamic linkers of glibc and musl.
const MODULES_SYMBOL: &str = "_dl_debug_state";

/// Bytes of a function that are looked at where its symbol has no size.
const UNSIZED_BYTES: u64 = 64;

/// In which order functions are attached, so that nothing that begins in
/// between looks like a leak: what ends blocks first, what makes them last.
fn rank(role: Role) -> u32 {
    match role {
        Role::Free | Role::Unmap => 0,
        Role::Reallocate | Role::Remap => 1,
        Role::Allocate | Role::Map => 2,
    }
}

fn is_mapping(role: Role) -> bool {
    matches!(role, Role::Map | Role::Unmap | Role::Remap)
}

/// Plans the probes for one process's modules. `mappings`: also the functions
/// that map pages.
pub fn plan(modules: &Modules, mappings: bool, emulated: Emulated) -> Plan {
    let mut chosen: Vec<(u32, Vec<Attachment>)> = Vec::new();
    let mut allocators = Vec::new();
    let mut unseen = Vec::new();
    for module in modules.files() {
        let Ok(image) = &module.image else { continue };
        if let Some(offset) = image
            .symbol(MODULES_SYMBOL)
            .and_then(|at| image.file_offset(at))
        {
            chosen.push((
                0,
                vec![attachment(
                    module,
                    MODULES_PROGRAM,
                    offset,
                    MODULES_SYMBOL,
                    false,
                )],
            ));
        }
        if is_bootstrap_linker(module) {
            continue;
        }
        let mut names = Vec::new();
        for defined in &module.functions {
            let role = defined.function.role();
            if is_mapping(role) && !mappings {
                continue;
            }
            let Some(programs) = probe(module, defined, emulated) else {
                continue;
            };
            if !is_mapping(role) {
                names.push(defined.function.symbol());
            }
            chosen.push((rank(role), programs));
        }
        let others = || modules.files().filter(|other| other.id != module.id);
        if allocates_past_malloc(module) && others().any(|other| uses_new(other)) {
            unseen.push(format!(
                "{}: its C++ operator new does not go through malloc and is not probed yet; what it allocates is missing here",
                module.name()
            ));
        }
        if !names.is_empty() {
            allocators.push((module.name(), names));
        }
    }
    chosen.sort_by_key(|(rank, _)| *rank);
    Plan {
        attachments: chosen
            .into_iter()
            .flat_map(|(_, programs)| programs)
            .collect(),
        allocators,
        unseen,
    }
}

/// `operator new(size_t)`, by the Itanium C++ ABI where `size_t` is `unsigned long`.
const OPERATOR_NEW: &str = "_Znwm";

/// Bytes of `operator new` that are searched for a call of malloc.
const OPERATOR_NEW_BYTES: u64 = 256;

/// Whether an allocator brings an `operator new` that does not call its malloc:
/// jemalloc's and tcmalloc's have the fast path inlined. The one of libstdc++
/// is in a file without malloc, or calls it.
fn allocates_past_malloc(module: &Module) -> bool {
    let malloc = module
        .functions
        .iter()
        .find(|defined| defined.function == Function::Malloc);
    let (Ok(image), Some(malloc)) = (&module.image, malloc) else {
        return false;
    };
    image.symbol(OPERATOR_NEW).is_some_and(|new| {
        let code = image.code(new, OPERATOR_NEW_BYTES).unwrap_or_default();
        !calls(&code, new, malloc.vaddr)
    })
}

/// The forms of `operator new` for objects and for arrays, and those that
/// return NULL instead of throwing.
const OPERATORS_NEW: &[&str] = &[
    OPERATOR_NEW,
    "_Znam",
    "_ZnwmRKSt9nothrow_t",
    "_ZnamRKSt9nothrow_t",
];

/// Whether code in this file allocates by `operator new` of another one.
fn uses_new(module: &Module) -> bool {
    module.image.as_ref().is_ok_and(|image| {
        image.symbol(OPERATOR_NEW).is_none() && OPERATORS_NEW.iter().any(|name| image.imports(name))
    })
}

/// glibc's dynamic linker has a malloc of its own for the time before libc is
/// there. It never frees, and what it hands out is not the program's.
fn is_bootstrap_linker(module: &Module) -> bool {
    module.name().starts_with("ld-linux")
}

fn probe(
    module: &Arc<Module>,
    defined: &DefinedFunction,
    emulated: Emulated,
) -> Option<Vec<Attachment>> {
    let DefinedFunction {
        function,
        vaddr,
        size,
    } = *defined;
    let image = module.image.as_ref().ok()?;
    let length = if size == 0 { UNSIZED_BYTES } else { size };
    let role = function.role();
    let returns = role != Role::Free;
    let need = Need {
        arguments: function.arguments(),
        entry_stack: returns,
        skip_null: role == Role::Free,
    };
    let emulated = if image.machine() == Machine::X86_64 {
        emulated
    } else {
        Emulated::NONE
    };
    let code = image.code(vaddr, length).unwrap_or_default();
    let site = choose(&code, vaddr, need, emulated);
    let offset = image.file_offset(vaddr.checked_add(site.offset)?)?;
    let symbol = function.symbol();
    let mut programs = Vec::new();
    if returns {
        // The return first: an entry without it would leave a call open.
        let label = format!("{symbol} (return)");
        programs.push(attachment(
            module,
            RETURN_PROGRAM,
            offset,
            &label,
            site.emulated,
        ));
    }
    programs.push(attachment(
        module,
        function.enter_program(),
        offset,
        symbol,
        site.emulated,
    ));
    Some(programs)
}

fn attachment(
    module: &Arc<Module>,
    program: &'static str,
    file_offset: u64,
    label: &str,
    emulated: bool,
) -> Attachment {
    Attachment {
        program,
        module: Arc::clone(module),
        file_offset,
        label: label.to_owned(),
        emulated,
    }
}
