//! Chooses where in a function to put its probe.
//!
//! A uprobe on an instruction that the kernel emulates costs a third to a
//! fifteenth of one on any other ([`crate::kernel::uprobe`]), and functions
//! seldom begin with one. So the probe goes to the first emulated instruction
//! that every call of interest reaches with its arguments intact.
//!
//! What is not seen: jumps that enter from another function (a `.cold` part
//! that comes back) or through a table. Compilers make both lead to code behind
//! the first branches, and the search ends at the first of those (at the
//! second, if the first is a test for NULL).
use crate::kernel::uprobe::Emulated;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};

/// How far to look. Prologues of allocators are shorter, and every further
/// instruction is one more that might be entered from elsewhere.
const MOST_INSTRUCTIONS: usize = 16;

/// Registers of integer arguments, System V ABI for x86-64.
const ARGUMENTS: [Register; 6] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
];

/// What a probe needs to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// How many of the first integer arguments must still be in their
    /// registers.
    pub arguments: usize,
    /// Whether the return address must be at the stack pointer, as a return
    /// probe at the same site wants it.
    pub entry_stack: bool,
    /// Whether calls with NULL for a first argument are of no interest, so
    /// that the site may (and had better) lie behind a test for it.
    pub skip_null: bool,
}

/// A place for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Bytes from the function's start.
    pub offset: u64,
    /// Whether the kernel emulates the instruction there.
    pub emulated: bool,
    /// Bytes pushed before: the return address is at `rsp + sp_delta`.
    pub sp_delta: u32,
}

/// Chooses a site in the function with this `code` at virtual address `vaddr`.
/// `code` is the whole function, or its first 64 bytes where its size is not
/// known. Falls back to the entry. For other processors than x86-64 pass
/// [`Emulated::NONE`], which leads to the entry whatever the code.
pub fn choose(code: &[u8], vaddr: u64, need: Need, emulated: Emulated) -> Site {
    let mut walk = Walk::new(code, vaddr, need);
    let mut before_test = None;
    let mut decoder = decoder(code, vaddr);
    for _ in 0..MOST_INSTRUCTIONS {
        let start = decoder.position();
        if !decoder.can_decode() {
            break;
        }
        let instruction = decoder.decode();
        let bytes = &code[start..decoder.position()];
        let offset = start as u64;
        if instruction.is_invalid() || walk.entered_before(offset) {
            break;
        }
        if emulated.emulates(bytes) && (!need.entry_stack || walk.sp_delta == 0) {
            let site = Site {
                offset,
                emulated: true,
                sp_delta: walk.sp_delta,
            };
            if !need.skip_null || walk.past_null_test {
                return site;
            }
            before_test = before_test.or(Some(site));
        }
        if !walk.step(&instruction) {
            break;
        }
    }
    before_test.unwrap_or(Site {
        offset: 0,
        emulated: false,
        sp_delta: 0,
    })
}

fn decoder(code: &[u8], vaddr: u64) -> Decoder<'_> {
    Decoder::with_ip(64, code, vaddr, DecoderOptions::NONE)
}

/// What is known on the straight way from the entry to the next instruction.
struct Walk {
    need: Need,
    /// Offset of the first instruction, other than the entry, that something
    /// in the function jumps to.
    first_target: u64,
    info: InstructionInfoFactory,
    sp_delta: u32,
    first_argument_intact: bool,
    /// The zero flag says whether the first argument is NULL.
    flags_tell_null: bool,
    past_null_test: bool,
}

impl Walk {
    fn new(code: &[u8], vaddr: u64, need: Need) -> Self {
        Self {
            need,
            first_target: first_target(code, vaddr),
            info: InstructionInfoFactory::new(),
            sp_delta: 0,
            first_argument_intact: true,
            flags_tell_null: false,
            past_null_test: false,
        }
    }

    /// Whether a jump enters between the entry and `offset`, or at it.
    fn entered_before(&self, offset: u64) -> bool {
        offset >= self.first_target
    }

    /// Goes on behind `instruction`; false: what follows will not do.
    fn step(&mut self, instruction: &Instruction) -> bool {
        match instruction.flow_control() {
            FlowControl::Next => self.follow(instruction),
            FlowControl::ConditionalBranch => {
                let leaves_if_null = self.need.skip_null
                    && !self.past_null_test
                    && self.flags_tell_null
                    && matches!(instruction.code(), Code::Je_rel8_64 | Code::Je_rel32_64);
                self.past_null_test |= leaves_if_null;
                leaves_if_null
            }
            _ => false,
        }
    }

    fn follow(&mut self, instruction: &Instruction) -> bool {
        // Some versions of iced count it as a call, some as nothing special.
        if instruction.mnemonic() == Mnemonic::Syscall {
            return false;
        }
        if instruction.rflags_modified() != 0 {
            self.flags_tell_null = self.first_argument_intact && tests_first_argument(instruction);
        }
        let mut stack_written = false;
        for used in self.info.info(instruction).used_registers() {
            let reads_only = matches!(
                used.access(),
                OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            );
            if reads_only {
                continue;
            }
            let register = used.register().full_register();
            stack_written |= register == Register::RSP;
            self.first_argument_intact &= register != Register::RDI;
            if ARGUMENTS
                .iter()
                .take(self.need.arguments)
                .any(|&argument| argument == register)
            {
                return false;
            }
        }
        !stack_written || self.push(instruction)
    }

    /// Follows a change of the stack pointer, if it is one that can be.
    fn push(&mut self, instruction: &Instruction) -> bool {
        let from_rsp = instruction.op0_register() == Register::RSP;
        let bytes = match instruction.code() {
            Code::Sub_rm64_imm8 if from_rsp => instruction.immediate8to64(),
            Code::Sub_rm64_imm32 if from_rsp => instruction.immediate32to64(),
            _ if instruction.mnemonic() == Mnemonic::Push => {
                -i64::from(instruction.stack_pointer_increment())
            }
            _ => return false,
        };
        let sum = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| self.sp_delta.checked_add(bytes));
        self.sp_delta = sum.unwrap_or(self.sp_delta);
        sum.is_some()
    }
}

/// `test rdi, rdi` or `cmp rdi, 0`.
fn tests_first_argument(instruction: &Instruction) -> bool {
    let register = |operand| {
        instruction.op_kind(operand) == OpKind::Register
            && instruction.op_register(operand) == Register::RDI
    };
    match instruction.code() {
        Code::Test_rm64_r64 => register(0) && register(1),
        Code::Cmp_rm64_imm8 => register(0) && instruction.immediate8to64() == 0,
        _ => false,
    }
}

/// The lowest offset behind the entry that a branch in the function leads to.
fn first_target(code: &[u8], vaddr: u64) -> u64 {
    decoder(code, vaddr)
        .iter()
        .filter(|instruction| {
            // Calls too: nothing forbids one into the middle of a function.
            let near = [
                OpKind::NearBranch64,
                OpKind::NearBranch32,
                OpKind::NearBranch16,
            ];
            instruction.op_count() > 0 && near.contains(&instruction.op0_kind())
        })
        .map(|branch| branch.near_branch_target().wrapping_sub(vaddr))
        .filter(|&offset| offset != 0 && offset < code.len() as u64)
        .min()
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;
