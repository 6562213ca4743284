//! Follows the instructions that a function can execute: to its `ret`s, also
//! those of functions that it ends in by a jump, and to its system calls.
//!
//! A probe at each `ret` sees a function's result without replacing its return
//! address, which C++ exceptions could not be thrown through. A probe behind a
//! system call sees arguments and result at once.
use std::collections::HashMap;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};

use super::{Image, Machine, layout::Layout};
use crate::kernel::uprobe::Emulated;

/// Functions of allocators end sooner; what does not is not followed.
const MOST_INSTRUCTIONS: usize = 8192;

/// Bytes that are read at once.
const CHUNK: u64 = 1024;

/// What a system call must leave alone until the probe behind it: its result,
/// those arguments that tell what was mapped, and the stack pointer.
const KEPT: [Register; 6] = [
    Register::RAX,
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::R10,
    Register::RSP,
];

/// A place behind a system call instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BehindSystemCall {
    /// Virtual address.
    pub vaddr: u64,
    /// Whether the kernel emulates the instruction there.
    pub emulated: bool,
    /// Bytes from the stack pointer to the return address.
    pub depth: u32,
    /// Bytes from the stack pointer to where the caller's frame pointer was
    /// saved; `None`: it is in its register.
    pub frame_pointer: Option<u32>,
}

/// Where a function's ways lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Virtual addresses of its `ret` instructions, ascending.
    pub returns: Vec<u64>,
    /// Behind its system calls.
    pub system_calls: Vec<BehindSystemCall>,
    /// Whether no way was lost (in a jump through a register, or for length).
    pub complete: bool,
}

/// What is known of the stack at an instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Frame {
    /// Bytes pushed since the entry; `None`: not known.
    depth: Option<u32>,
    /// The depth at which the caller's frame pointer was pushed.
    saved_fp: Option<u32>,
    /// The depth at which the frame pointer points into this frame.
    fp_depth: Option<u32>,
}

/// Follows the function at `entry`. Where one ends by `layout`, a call right
/// before does not return.
/// Ways through a call or jump to one of `barriers` are not followed on.
pub fn follow(
    image: &Image,
    entry: u64,
    layout: &Layout,
    barriers: &[u64],
    emulated: Emulated,
) -> Flow {
    let mut walk = Walk {
        image,
        layout,
        barriers,
        emulated,
        info: InstructionInfoFactory::new(),
        seen: HashMap::new(),
        todo: vec![(
            entry,
            Frame {
                depth: Some(0),
                ..Frame::default()
            },
        )],
        flow: Flow {
            complete: image.machine() == Machine::X86_64,
            ..Flow::default()
        },
    };
    while let Some((start, frame)) = walk.todo.pop() {
        if !walk.flow.complete {
            break;
        }
        walk.block(start, frame);
    }
    let mut flow = walk.flow;
    flow.returns.sort_unstable();
    flow.returns.dedup();
    flow
}

struct Walk<'a> {
    image: &'a Image,
    layout: &'a Layout,
    barriers: &'a [u64],
    emulated: Emulated,
    info: InstructionInfoFactory,
    seen: HashMap<u64, Frame>,
    todo: Vec<(u64, Frame)>,
    flow: Flow,
}

impl Walk<'_> {
    /// Follows straight code from `start` until it ends or was seen before.
    fn block(&mut self, start: u64, mut frame: Frame) {
        let mut vaddr = start;
        loop {
            let Some(code) = self.image.code(vaddr, CHUNK) else {
                self.flow.complete = false;
                return;
            };
            let mut decoder = Decoder::with_ip(64, &code, vaddr, DecoderOptions::NONE);
            while decoder.can_decode() {
                let at = decoder.ip();
                // An instruction is 15 bytes at most: read on where the rest
                // may be missing.
                if decoder.position() + 15 > code.len() && at > vaddr {
                    break;
                }
                let instruction = decoder.decode();
                if self.seen.insert(at, frame).is_some() {
                    return;
                }
                if self.seen.len() > MOST_INSTRUCTIONS {
                    self.flow.complete = false;
                    return;
                }
                if !self.step(&instruction, &code, vaddr, &mut frame) {
                    return;
                }
            }
            if decoder.ip() == vaddr {
                return;
            }
            vaddr = decoder.ip();
        }
    }

    /// Takes one instruction in; false: the straight way ends with it.
    fn step(
        &mut self,
        instruction: &Instruction,
        code: &[u8],
        base: u64,
        frame: &mut Frame,
    ) -> bool {
        if instruction.is_invalid() {
            return false;
        }
        if instruction.mnemonic() == Mnemonic::Syscall {
            self.system_call(instruction.next_ip(), code, base, *frame);
            return true;
        }
        match instruction.flow_control() {
            FlowControl::Next => {
                self.track(instruction, frame);
                true
            }
            FlowControl::ConditionalBranch => {
                self.branch(instruction, *frame);
                true
            }
            FlowControl::UnconditionalBranch => {
                self.branch(instruction, *frame);
                false
            }
            FlowControl::Return => {
                self.flow.returns.push(instruction.ip());
                false
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                let barred = instruction.flow_control() == FlowControl::Call
                    && self.barriers.contains(&instruction.near_branch_target());
                !barred && !self.layout.ends_function(instruction.next_ip())
            }
            FlowControl::IndirectBranch => {
                // As in stubs of dynamic linking.
                let slot = instruction
                    .is_ip_rel_memory_operand()
                    .then(|| instruction.ip_rel_memory_address());
                match slot.and_then(|slot| self.layout.slots.get(&slot)) {
                    Some(target) => self.go_on(*target, *frame),
                    None => self.flow.complete = false,
                }
                false
            }
            _ => false,
        }
    }

    fn branch(&mut self, instruction: &Instruction, frame: Frame) {
        let near = [
            OpKind::NearBranch16,
            OpKind::NearBranch32,
            OpKind::NearBranch64,
        ];
        if near.contains(&instruction.op0_kind()) {
            self.go_on(instruction.near_branch_target(), frame);
        } else {
            self.flow.complete = false;
        }
    }

    fn go_on(&mut self, target: u64, frame: Frame) {
        if !self.barriers.contains(&target) {
            self.todo.push((target, frame));
        }
    }

    /// Follows what an instruction does to the stack and frame pointers.
    fn track(&mut self, instruction: &Instruction, frame: &mut Frame) {
        let to = |register| {
            instruction.op0_kind() == OpKind::Register && instruction.op0_register() == register
        };
        let moves = |to: Register, from: Register| {
            instruction.code() == Code::Mov_rm64_r64 || instruction.code() == Code::Mov_r64_rm64
        } && instruction.op0_register() == to
            && instruction.op1_kind() == OpKind::Register
            && instruction.op1_register() == from;
        let increment = match instruction.code() {
            Code::Sub_rm64_imm8 if to(Register::RSP) => Some(instruction.immediate8to64()),
            Code::Sub_rm64_imm32 if to(Register::RSP) => Some(instruction.immediate32to64()),
            Code::Add_rm64_imm8 if to(Register::RSP) => Some(-instruction.immediate8to64()),
            Code::Add_rm64_imm32 if to(Register::RSP) => Some(-instruction.immediate32to64()),
            _ if matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Pop) => {
                Some(-i64::from(instruction.stack_pointer_increment()))
            }
            _ => None,
        };
        if let Some(increment) = increment {
            let moved = |depth: u32| u32::try_from(i64::from(depth) + increment).ok();
            frame.depth = frame.depth.and_then(moved);
            if instruction.mnemonic() == Mnemonic::Push
                && to(Register::RBP)
                && frame.saved_fp.is_none()
            {
                frame.saved_fp = frame.depth;
            }
            if instruction.mnemonic() == Mnemonic::Pop && to(Register::RBP) {
                frame.saved_fp = None;
                frame.fp_depth = None;
            }
        } else if moves(Register::RBP, Register::RSP) {
            frame.fp_depth = frame.depth;
        } else if moves(Register::RSP, Register::RBP) {
            frame.depth = frame.fp_depth;
        } else if instruction.mnemonic() == Mnemonic::Leave {
            frame.depth = frame.fp_depth.and_then(|depth| depth.checked_sub(8));
            frame.saved_fp = None;
            frame.fp_depth = None;
        } else if self.writes(instruction, &[Register::RSP]) {
            frame.depth = None;
        }
    }

    fn writes(&mut self, instruction: &Instruction, registers: &[Register]) -> bool {
        self.info
            .info(instruction)
            .used_registers()
            .iter()
            .any(|used| {
                let reads = matches!(
                    used.access(),
                    OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
                );
                !reads && registers.contains(&used.register().full_register())
            })
    }

    /// Notes a place behind a system call: the first emulated instruction that
    /// leaves alone what it tells, or the very next one.
    fn system_call(&mut self, next: u64, code: &[u8], base: u64, frame: Frame) {
        let Some(depth) = frame.depth else {
            self.flow.complete = false;
            return;
        };
        let mut place = BehindSystemCall {
            vaddr: next,
            emulated: false,
            depth,
            frame_pointer: frame.saved_fp.map(|saved| depth - saved.min(depth)),
        };
        let start = usize::try_from(next - base).unwrap_or(usize::MAX);
        let rest = code.get(start..).unwrap_or_default();
        let mut decoder = Decoder::with_ip(64, rest, next, DecoderOptions::NONE);
        // A comparison and a jump, where a compiler put them.
        for _ in 0..4 {
            if !decoder.can_decode() {
                break;
            }
            let (from, at) = (decoder.position(), decoder.ip());
            let instruction = decoder.decode();
            if self.emulated.emulates(&rest[from..decoder.position()]) {
                place.vaddr = at;
                place.emulated = true;
                break;
            }
            if instruction.is_invalid()
                || instruction.flow_control() != FlowControl::Next
                || self.writes(&instruction, &KEPT)
            {
                break;
            }
        }
        self.flow.system_calls.push(place);
    }
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
