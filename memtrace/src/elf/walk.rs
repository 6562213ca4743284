//! Walks a stack by [`UnwindRow`]s: the reference for what the kernel side
//! does, in ordinary code and over any memory.
use super::image::Machine;
use memtrace_common::unwind::{CfaRule, UnwindRow};

/// The registers of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub fp: u64,
    /// Link register, `x30` of aarch64: where a function that has not saved it
    /// returns to. Only known where `exact`.
    pub lr: u64,
    /// Whether `ip` is the address of the next instruction, as in an
    /// interrupted thread. Otherwise it is a return address, which may lie
    /// behind its function, and its rules are looked up one byte before.
    pub exact: bool,
}

/// The stack that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Instruction pointers, innermost first, the one given included.
    pub frames: Vec<u64>,
    /// Whether the outermost frame was reached.
    pub complete: bool,
}

/// Offsets from the stack pointer of a signal frame to the registers of what
/// it interrupted.
struct SignalFrame {
    ip: u64,
    sp: u64,
    fp: u64,
    /// `None`: there is no such register.
    lr: Option<u64>,
}

/// Bits of an address in user space; aarch64 may sign return addresses in those
/// above (52-bit addresses are given only to programs that ask for them, and
/// for data).
const ADDRESS_BITS: u32 = 48;

impl SignalFrame {
    /// From the kernel's `arch/*/include/uapi/asm/{sigcontext,ucontext}.h`.
    fn of(machine: Machine) -> Self {
        match machine {
            // `ucontext`: flags, link and stack (40 bytes), then r8 to r15,
            // rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
            Machine::X86_64 => Self {
                ip: 168,
                sp: 160,
                fp: 120,
                lr: None,
            },
            // `siginfo` (128 bytes), `ucontext` up to its registers (176),
            // fault address, x0 to x30, sp, pc.
            Machine::Aarch64 => Self {
                ip: 568,
                sp: 560,
                fp: 544,
                lr: Some(552),
            },
        }
    }
}

/// Walks from `start` to at most `limit` frames. `read_word` reads the 8 bytes
/// at an address of the stack. `lookup` gives the rules at an address of code;
/// `None`: there is no code, so the walk went astray. Where it answers
/// [`CfaRule::Unknown`], frame pointers are followed.
pub fn walk(
    machine: Machine,
    start: Registers,
    limit: usize,
    mut read_word: impl FnMut(u64) -> Option<u64>,
    mut lookup: impl FnMut(u64) -> Option<UnwindRow>,
) -> Walk {
    let mut walk = Walk {
        frames: Vec::new(),
        complete: false,
    };
    let mut registers = start;
    while walk.frames.len() < limit {
        walk.frames.push(registers.ip);
        let at = registers.ip.wrapping_sub(u64::from(!registers.exact));
        let Some(row) = lookup(at) else { break };
        if row.rule() == CfaRule::End as u8 {
            walk.complete = true;
            break;
        }
        let Some(caller) = caller(machine, registers, row, &mut read_word) else {
            break;
        };
        if caller.ip == 0 {
            // Where threads begin, if nothing says so.
            walk.complete = true;
            break;
        }
        registers = caller;
    }
    walk
}

/// The registers of the frame that called, or was interrupted.
fn caller(
    machine: Machine,
    at: Registers,
    row: UnwindRow,
    read_word: &mut impl FnMut(u64) -> Option<u64>,
) -> Option<Registers> {
    let words = |base: u64, words: i64| base.wrapping_add_signed(words.wrapping_mul(8));
    let offset = row.cfa_words();
    let is = |rule: CfaRule| row.rule() == rule as u8;
    if is(CfaRule::Signal) {
        // No demand on the stack pointer: handlers may have their own stack.
        let frame = SignalFrame::of(machine);
        let mut word = |offset| read_word(at.sp.wrapping_add(offset));
        return Some(Registers {
            ip: word(frame.ip)?,
            sp: word(frame.sp)?,
            fp: word(frame.fp)?,
            lr: frame.lr.map_or(Some(0), word)?,
            exact: true,
        });
    }
    // Where the caller's frame pointer is; `None`: in its register.
    let below = i64::from(row.fp_words_below_cfa);
    let below_cfa = |cfa| (below > 0).then(|| words(cfa, -below));
    let (cfa, saved) = if is(CfaRule::StackPointer) {
        let cfa = words(at.sp, offset);
        (cfa, below_cfa(cfa))
    } else if is(CfaRule::FramePointer) {
        let cfa = words(at.fp, offset);
        (cfa, below_cfa(cfa))
    } else if is(CfaRule::FrameRecord) {
        (words(at.fp, offset), Some(at.fp))
    } else if is(CfaRule::StackRecord) {
        (words(at.sp, offset), Some(at.sp))
    } else if is(CfaRule::DerefFramePointer) {
        (read_word(words(at.fp, offset))?, Some(at.fp))
    } else if is(CfaRule::Plt) {
        let pushed = i64::try_from(at.ip % 16).is_ok_and(|byte| byte >= offset);
        (words(at.sp, 1 + i64::from(pushed)), None)
    } else if is(CfaRule::Inexpressible) {
        return None;
    } else {
        (words(at.fp, 2), Some(at.fp))
    };
    // Only an innermost function, and none that calls, can do without a frame.
    let leaf = machine == Machine::Aarch64 && at.exact && saved.is_none() && below == 0;
    // A caller's frame is farther up: this also ends every cycle.
    if cfa < at.sp || (cfa == at.sp && !leaf) || cfa % 8 != 0 {
        return None;
    }
    let ip = match (machine, saved) {
        _ if leaf => at.lr,
        (Machine::X86_64, _) => read_word(words(cfa, -1))?,
        // A frame record: frame pointer, return address.
        (Machine::Aarch64, Some(saved)) => read_word(words(saved, 1))?,
        (Machine::Aarch64, None) if below < 0 => read_word(words(cfa, below))?,
        (Machine::Aarch64, None) => return None,
    };
    let fp = match saved {
        Some(place) => read_word(place)?,
        None => at.fp,
    };
    Some(Registers {
        ip: match machine {
            Machine::X86_64 => ip,
            Machine::Aarch64 => ip & ((1 << ADDRESS_BITS) - 1),
        },
        sp: cfa,
        fp,
        lr: 0,
        exact: false,
    })
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
