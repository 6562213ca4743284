//! All that differs between processors: where registers are in what the kernel
//! hands out, where a return address lies, what a signal frame looks like, and
//! numbers. Everything else is the same code for all of them; what does not
//! apply to the processor in hand is a constant here, and compiled away.
//!
//! aarch64 has its return address in a register, `x30`, until the function
//! saves it anywhere it likes. Three things are less exact there for it:
//!
//! - Whether a call in flight still has its stack frame is told by the kernel's
//!   list of pending return probes and the stack pointer alone: see
//!   [`Call::is_around`](crate::thread::Call). One that a `longjmp` has left
//!   hides calls made deeper in the stack, until the stack is shorter once.
//! - A walk does not go on along the last one ([`crate::trail`]) where the
//!   return address is not the word below the caller's frame: the cache of
//!   whole walks is what makes it cheap.
//! - Pages are taken to have 4 KiB.
use aya_ebpf::{bindings::pt_regs, helpers::bpf_probe_read_kernel};

#[cfg(bpf_target_arch = "aarch64")]
pub use aarch64::*;
#[cfg(not(bpf_target_arch = "aarch64"))]
pub use x86_64::*;

/// Where a register is in `pt_regs`: bytes from its start.
#[derive(Clone, Copy)]
pub struct Register(usize);

impl Register {
    #[inline(always)]
    fn of(self, regs: *const pt_regs) -> *const u64 {
        regs.cast::<u8>().wrapping_add(self.0).cast()
    }

    /// From a program's context.
    #[inline(always)]
    pub fn read(self, regs: *const pt_regs) -> u64 {
        // SAFETY: the context of a program of a probe or a perf event; the
        // verifier checks it. Volatile: it refuses a context's pointer that was
        // computed, which is what a compiler makes of a choice between fields.
        unsafe { core::ptr::read_volatile(self.of(regs)) }
    }

    /// From registers that the kernel has saved.
    #[inline(always)]
    pub fn read_saved(self, regs: *const pt_regs) -> Option<u64> {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(self.of(regs)) }.ok()
    }
}

/// Bytes from the stack pointer of a signal frame to the registers of what it
/// interrupted.
pub struct SignalFrame {
    pub fp: u64,
    pub sp: u64,
    pub ip: u64,
    /// Only where [`LINKS`].
    pub link: u64,
}

/// Numbers of system calls.
pub struct SystemCalls {
    pub mmap: u64,
    pub munmap: u64,
    pub brk: u64,
    pub mremap: u64,
}

/// Where a function has put what belongs to its caller: addresses.
pub struct Saved {
    /// The frame pointer; the canonical frame address itself: still in its
    /// register.
    pub fp: u64,
    /// The return address; 0: still in its register.
    pub ip: u64,
}

#[cfg(not(bpf_target_arch = "aarch64"))]
mod x86_64 {
    use core::mem::offset_of;

    use aya_ebpf::{bindings::pt_regs, helpers::bpf_probe_read_user};

    use super::{Register, Saved, SignalFrame, SystemCalls};

    pub const IP: Register = Register(offset_of!(pt_regs, rip));
    pub const SP: Register = Register(offset_of!(pt_regs, rsp));
    pub const FP: Register = Register(offset_of!(pt_regs, rbp));

    /// Integer arguments of functions (System V ABI).
    pub const ARGUMENTS: [Register; 6] = [
        Register(offset_of!(pt_regs, rdi)),
        Register(offset_of!(pt_regs, rsi)),
        Register(offset_of!(pt_regs, rdx)),
        Register(offset_of!(pt_regs, rcx)),
        Register(offset_of!(pt_regs, r8)),
        Register(offset_of!(pt_regs, r9)),
    ];

    /// The first arguments of system calls.
    pub const CALL_ARGUMENTS: [Register; 4] = [
        ARGUMENTS[0],
        ARGUMENTS[1],
        ARGUMENTS[2],
        Register(offset_of!(pt_regs, r10)),
    ];

    /// Number of the system call, while it is made.
    pub const CALL_NUMBER: Register = Register(offset_of!(pt_regs, orig_rax));
    /// Its result.
    pub const CALL_RESULT: Register = Register(offset_of!(pt_regs, rax));

    /// asm/unistd_64.h.
    pub const CALLS: SystemCalls = SystemCalls {
        mmap: 9,
        munmap: 11,
        brk: 12,
        mremap: 25,
    };

    /// Bytes of a page.
    pub const PAGE: u64 = 4096;

    /// What says in which mode the processor was: the code segment.
    pub const MODE: Register = Register(offset_of!(pt_regs, cs));

    /// Whether [`MODE`] says user mode.
    #[inline(always)]
    pub fn is_user(mode: u64) -> bool {
        mode & 3 == 3
    }

    // From the start of the `ucontext` (`struct rt_sigframe`, uapi
    // sigcontext.h): the general registers begin at 40.
    pub const SIGNAL_FRAME: SignalFrame = SignalFrame {
        fp: 40 + 10 * 8,
        sp: 40 + 15 * 8,
        ip: 40 + 16 * 8,
        link: 0,
    };

    /// Whether a call leaves its return address in a register.
    pub const LINKS: bool = false;

    /// That register. There is none: any will do.
    pub const LINK: Register = IP;

    /// Bytes that a call puts on the stack and a return takes off: the return
    /// address.
    pub const PUSHED: u64 = 8;

    /// The address that a function returns to which has its stack pointer where
    /// it had it at its entry.
    #[inline(always)]
    pub fn return_address(_: *const pt_regs, sp: u64) -> Option<u64> {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_user(sp as *const u64) }.ok()
    }

    /// Of a frame with this canonical frame address, whose row says that its
    /// caller's frame pointer is saved so many bytes below.
    #[inline(always)]
    pub fn saved(cfa: u64, fp_below: u64) -> Saved {
        Saved {
            fp: cfa.wrapping_sub(fp_below),
            ip: cfa.wrapping_sub(8),
        }
    }

    /// An address of code, as it is kept in a register or on the stack.
    #[inline(always)]
    pub fn code(address: u64) -> u64 {
        address
    }
}

#[cfg(bpf_target_arch = "aarch64")]
mod aarch64 {
    use core::mem::offset_of;

    use aya_ebpf::bindings::pt_regs;

    use super::{Register, Saved, SignalFrame, SystemCalls};

    const fn x(number: usize) -> Register {
        Register(offset_of!(pt_regs, regs) + number * 8)
    }

    pub const IP: Register = Register(offset_of!(pt_regs, pc));
    pub const SP: Register = Register(offset_of!(pt_regs, sp));
    pub const FP: Register = x(29);

    /// The first integer arguments of functions (AAPCS64 has eight; nothing
    /// that is traced has a seventh).
    pub const ARGUMENTS: [Register; 6] = [x(0), x(1), x(2), x(3), x(4), x(5)];

    /// The first arguments of system calls.
    pub const CALL_ARGUMENTS: [Register; 4] = [x(0), x(1), x(2), x(3)];

    /// Number of the system call: the program's own register, which the kernel
    /// leaves alone.
    pub const CALL_NUMBER: Register = x(8);
    /// Its result.
    pub const CALL_RESULT: Register = x(0);

    /// uapi asm-generic/unistd.h.
    pub const CALLS: SystemCalls = SystemCalls {
        mmap: 222,
        munmap: 215,
        brk: 214,
        mremap: 216,
    };

    /// Bytes of a page, where the kernel was not built for larger ones.
    pub const PAGE: u64 = 4096;

    /// What says in which mode the processor was.
    pub const MODE: Register = Register(offset_of!(pt_regs, pstate));

    /// Whether [`MODE`] says user mode (`PSR_MODE_MASK`, `PSR_MODE_EL0t`, uapi
    /// asm/ptrace.h).
    #[inline(always)]
    pub fn is_user(mode: u64) -> bool {
        mode & 0xf == 0
    }

    /// Of `struct sigcontext`: behind `siginfo` (128 bytes) and what precedes it
    /// in `ucontext` (176, to its alignment of 16), and a fault's address.
    const X0: u64 = 128 + 176 + 8;
    pub const SIGNAL_FRAME: SignalFrame = SignalFrame {
        fp: X0 + 29 * 8,
        sp: X0 + 31 * 8,
        ip: X0 + 32 * 8,
        link: X0 + 30 * 8,
    };

    /// Whether a call leaves its return address in a register.
    pub const LINKS: bool = true;

    /// That register.
    pub const LINK: Register = x(30);

    /// Bytes that a call puts on the stack and a return takes off.
    pub const PUSHED: u64 = 0;

    /// The address that a function returns to which has its registers as they
    /// were at its entry.
    #[inline(always)]
    pub fn return_address(regs: *const pt_regs, _: u64) -> Option<u64> {
        Some(code(LINK.read(regs)))
    }

    /// Of a frame with this canonical frame address: what its row says of the
    /// place of the frame pointer, as bytes
    /// ([`UnwindRow::fp_words_below_cfa`](memtrace_common::unwind::UnwindRow)).
    #[inline(always)]
    pub fn saved(cfa: u64, fp_below: u64) -> Saved {
        let at = cfa.wrapping_sub(fp_below);
        if fp_below as i64 > 0 {
            return Saved {
                fp: at,
                ip: at.wrapping_add(8),
            };
        }
        let ip = cfa.wrapping_add(fp_below);
        Saved {
            fp: cfa,
            ip: if fp_below == 0 { 0 } else { ip },
        }
    }

    /// Bits of an address in user space (52-bit addresses are given only to
    /// programs that ask for them, and for data).
    const ADDRESS_BITS: u32 = 48;

    /// An address of code, without the signature that the function may have put
    /// into its upper bits (pointer authentication).
    #[inline(always)]
    pub fn code(address: u64) -> u64 {
        address & ((1 << ADDRESS_BITS) - 1)
    }
}
