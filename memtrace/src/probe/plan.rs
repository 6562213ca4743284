//! The attach plan: which program goes to which instruction of which file. A
//! pure function of what the modules define and what the kernel emulates.
use std::{cell::OnceCell, collections::HashSet, sync::Arc};

use memtrace_common::{Cookie, Function, cookie::Place, function::Role};

use super::remarks::remark;
use crate::{
    elf::{
        DefinedFunction, Image, Machine, Need, choose,
        flow::{Flow, follow},
        layout::Layout,
    },
    kernel::uprobe::Emulated,
    process::{Module, Modules},
};

/// One program at one instruction.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The eBPF program.
    pub program: &'static str,
    /// Whether it runs when the function that begins at the instruction has
    /// returned, instead of at the instruction itself.
    pub at_return: bool,
    /// What the program is told.
    pub cookie: Cookie,
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

impl Attachment {
    /// Whether calls that it misses are missing in a report.
    pub fn is_counted(&self) -> bool {
        self.program != MODULES_PROGRAM
    }
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
    /// What else a reader of the report should know, in sentences.
    pub remarks: Vec<String>,
}

/// What to plan for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Also the functions that map pages.
    pub mappings: bool,
    /// Blocks of the allocator in this file alone, by its path in the process.
    pub allocator: Option<&'a Module>,
    /// What the kernel emulates.
    pub emulated: Emulated,
}

/// The program for everything that has a result.
pub const RETURN_PROGRAM: &str = "call_return";

/// The program for the dynamic linker's breakpoint for debuggers.
pub(super) const MODULES_PROGRAM: &str = "modules_changed";

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
        Role::Allocate | Role::AllocateOrThrow | Role::Map | Role::Break => 2,
    }
}

/// The program for the entries of a role's functions; `None`: they are probed
/// at their results alone.
fn enter_program(role: Role) -> Option<&'static str> {
    match role {
        Role::Allocate | Role::AllocateOrThrow => Some("allocate_enter"),
        Role::Reallocate => Some("reallocate_enter"),
        Role::Free => Some("free_enter"),
        Role::Unmap | Role::Remap => Some("unmap_enter"),
        Role::Map | Role::Break => None,
    }
}

/// Plans the probes for one process's modules.
pub fn plan(modules: &Modules, wanted: Wanted<'_>) -> Plan {
    let mut chosen: Vec<(u32, Vec<Attachment>)> = Vec::new();
    let mut plan = Plan::default();
    for module in modules.files() {
        let Ok(image) = &module.image else { continue };
        if let Some(probe) = linker_breakpoint(module, image) {
            chosen.push((0, vec![probe]));
        }
        plan.remarks.extend(remark(module));
        if is_bootstrap_linker(module) {
            continue;
        }
        let planner = Planner::new(module, image, wanted);
        let mut names = Vec::new();
        for defined in planner.functions() {
            let role = defined.function.role();
            if let Some(programs) = planner.probes(defined) {
                if !role.is_mapping() {
                    names.extend(Function::name(defined.id));
                }
                chosen.push((rank(role), programs));
            }
        }
        let others = || modules.files().filter(|other| other.id != module.id);
        if planner.misses_new() && (!module.is_library() || others().any(|other| uses_new(other))) {
            plan.unseen.push(format!(
                "{}: its C++ operator new cannot be probed (its instructions cannot be followed to their end); what it allocates is missing here",
                module.name()
            ));
        }
        if !names.is_empty() {
            plan.allocators.push((module.name(), names));
        }
    }
    chosen.sort_by_key(|(rank, _)| *rank);
    let mut places = HashSet::new();
    plan.attachments = chosen
        .into_iter()
        .flat_map(|(_, programs)| programs)
        // Functions may end in the same instructions.
        .filter(|new| places.insert((new.module.id, new.file_offset, new.program, new.at_return)))
        .collect();
    plan
}

/// Tells that a process maps or unmaps code.
pub(super) fn linker_breakpoint(module: &Arc<Module>, image: &Image) -> Option<Attachment> {
    let file_offset = image.file_offset(image.symbol(MODULES_SYMBOL)?)?;
    Some(Attachment {
        program: MODULES_PROGRAM,
        at_return: false,
        cookie: Cookie::default(),
        module: Arc::clone(module),
        file_offset,
        label: MODULES_SYMBOL.to_owned(),
        emulated: false,
    })
}

/// Plans for one file.
pub(super) struct Planner<'a> {
    module: &'a Arc<Module>,
    image: &'a Image,
    emulated: Emulated,
    layout: OnceCell<Layout>,
    functions: Vec<DefinedFunction>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(module: &'a Arc<Module>, image: &'a Image, wanted: Wanted<'a>) -> Self {
        let chosen = wanted.allocator.map(|allocator| allocator.id == module.id);
        let functions = match chosen {
            Some(true) => image.prefixed_functions(),
            _ => module.functions.clone(),
        };
        let has_malloc = functions.iter().any(|f| f.function == Function::Malloc);
        let functions = functions
            .into_iter()
            .filter(|defined| match defined.function {
                function if function.role().is_mapping() => wanted.mappings,
                _ if chosen == Some(false) => false,
                // Elsewhere they call malloc.
                Function::New | Function::NewArray | Function::Delete => has_malloc,
                _ => true,
            })
            .collect();
        let emulated = match image.machine() {
            Machine::X86_64 => wanted.emulated,
            Machine::Aarch64 => Emulated::NONE,
        };
        Self {
            module,
            image,
            emulated,
            layout: OnceCell::new(),
            functions,
        }
    }

    pub(super) fn functions(&self) -> impl Iterator<Item = &DefinedFunction> {
        self.functions
            .iter()
            .filter(|defined| !self.forwards(defined))
    }

    /// Whether all that a C++ operator does is to call a function of C that is
    /// probed: its stack says who it was.
    fn forwards(&self, defined: &DefinedFunction) -> bool {
        let to = match defined.function {
            Function::New | Function::NewArray => Role::Allocate,
            Function::Delete => Role::Free,
            _ => return false,
        };
        let others: Vec<u64> = self
            .functions
            .iter()
            .filter(|other| other.function != Function::Delete && other.function.role() == to)
            .map(|other| other.vaddr)
            .collect();
        let flow = self.follow(defined, &others);
        flow.complete && flow.returns.is_empty()
    }

    fn follow(&self, defined: &DefinedFunction, barriers: &[u64]) -> Flow {
        let layout = self.layout.get_or_init(|| Layout::read(self.image));
        follow(self.image, defined.vaddr, layout, barriers, self.emulated)
    }

    /// Whether there is an `operator new` that should be probed and cannot be.
    fn misses_new(&self) -> bool {
        self.functions().any(|defined| {
            defined.function.role() == Role::AllocateOrThrow && self.probes(defined).is_none()
        })
    }

    /// The probes of one function; `None`: it cannot be probed.
    fn probes(&self, defined: &DefinedFunction) -> Option<Vec<Attachment>> {
        let role = defined.function.role();
        let mut probes = match role {
            Role::Free => Vec::new(),
            Role::Allocate | Role::Reallocate => {
                let site = self.entry(defined)?;
                vec![self.attachment(RETURN_PROGRAM, true, Cookie::default(), defined, site)?]
            }
            Role::AllocateOrThrow => {
                let flow = self.follow(defined, &[]);
                let cookie = cookie(defined, Place::Return);
                flow.complete.then_some(())?;
                let at = |vaddr: &u64| {
                    self.attachment(RETURN_PROGRAM, false, cookie, defined, (*vaddr, false))
                };
                flow.returns.iter().map(at).collect::<Option<_>>()?
            }
            Role::Map | Role::Unmap | Role::Remap => {
                self.behind_system_calls(defined, RETURN_PROGRAM)?
            }
            Role::Break => return None,
        };
        if let Some(program) = enter_program(role) {
            let place = match role {
                Role::AllocateOrThrow => Place::Return,
                _ => Place::Entry,
            };
            let cookie = cookie(defined, place);
            let site = self.entry(defined)?;
            probes.push(self.attachment(program, false, cookie, defined, site)?);
        }
        // Results first: an entry without one would leave a call open.
        (!probes.is_empty()).then_some(probes)
    }

    /// Probes where its system calls have returned; `None`: it has none, or
    /// they cannot be found.
    pub(super) fn behind_system_calls(
        &self,
        defined: &DefinedFunction,
        program: &'static str,
    ) -> Option<Vec<Attachment>> {
        let flow = self.follow(defined, &[]);
        let words = |bytes: u32| u8::try_from(bytes / 8).ok();
        let places = flow.system_calls.iter().map(|behind| {
            let place = Place::BehindSystemCall {
                depth: words(behind.depth)?,
                frame_pointer: match behind.frame_pointer {
                    Some(bytes) => Some(words(bytes)?),
                    None => None,
                },
            };
            let site = (behind.vaddr, behind.emulated);
            self.attachment(program, false, cookie(defined, place), defined, site)
        });
        let places: Vec<Attachment> = places.collect::<Option<_>>()?;
        // One without a system call leads to another that has it.
        (!places.is_empty()).then_some(places)
    }

    /// Where to probe the entry: virtual address, and whether the kernel
    /// emulates the instruction.
    fn entry(&self, defined: &DefinedFunction) -> Option<(u64, bool)> {
        let DefinedFunction {
            function,
            vaddr,
            size,
            ..
        } = *defined;
        let length = if size == 0 { UNSIZED_BYTES } else { size };
        let role = function.role();
        let need = Need {
            arguments: match role {
                Role::Unmap | Role::Remap => 2,
                _ => function.arguments().used(),
            },
            entry_stack: matches!(
                role,
                Role::Allocate | Role::AllocateOrThrow | Role::Reallocate
            ),
            skip_null: role == Role::Free,
        };
        let code = self.image.code(vaddr, length).unwrap_or_default();
        let site = choose(&code, vaddr, need, self.emulated);
        Some((vaddr.checked_add(site.offset)?, site.emulated))
    }

    fn attachment(
        &self,
        program: &'static str,
        at_return: bool,
        cookie: Cookie,
        defined: &DefinedFunction,
        (vaddr, emulated): (u64, bool),
    ) -> Option<Attachment> {
        let name = Function::name(defined.id).unwrap_or_default();
        Some(Attachment {
            program,
            at_return,
            cookie,
            module: Arc::clone(self.module),
            file_offset: self.image.file_offset(vaddr)?,
            label: if at_return || program == RETURN_PROGRAM {
                format!("{name} (return)")
            } else {
                name.to_owned()
            },
            emulated,
        })
    }
}

fn cookie(defined: &DefinedFunction, place: Place) -> Cookie {
    Cookie::new(defined.id, defined.function.arguments(), place)
}

/// Whether code in this file allocates by `operator new` of another one.
fn uses_new(module: &Module) -> bool {
    let names = Function::New.names();
    module.image.as_ref().is_ok_and(|image| {
        image.symbol(names[0]).is_none() && names.iter().any(|name| image.imports(name))
    })
}

/// glibc's dynamic linker has a malloc of its own for the time before libc is
/// there. It never frees, and what it hands out is not the program's.
pub(super) fn is_bootstrap_linker(module: &Module) -> bool {
    let name = module.name();
    name.starts_with("ld-linux") || name.starts_with("ld-2.")
}
