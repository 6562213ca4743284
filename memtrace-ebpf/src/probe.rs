//! What a probe's cookie and the processor's registers say.
use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_attach_cookie},
    programs::ProbeContext,
};
use memtrace_common::{Cookie, Counter, cookie::ProcessAddress};

use crate::{arch, config, count::count, maps};

/// To be called by every program that a probe runs, and by nothing else.
///
/// Since Linux 6.13 programs with a large stack get a private one, a single one
/// per CPU, on the assumption that they are not entered twice. But uprobe
/// programs can be preempted, and another thread's then overwrites the stack:
/// Linux 7.3 with a preemptible kernel died of it. Programs with a tail call
/// are left on the kernel's stack (`check_max_stack_depth`,
/// kernel/bpf/verifier.c), and one that is never executed is enough.
#[inline(always)]
pub fn keep_kernel_stack(ctx: &impl EbpfContext) {
    if config::NEVER.load() != 0 {
        // SAFETY: the context of this program.
        unsafe { maps::NO_PROGRAMS.tail_call(ctx, 0) };
    }
}

/// The cookie of the probe that was hit. All zero at a return probe.
#[inline(always)]
pub fn cookie(ctx: &ProbeContext) -> Cookie {
    if config::HAS_COOKIES.load() != 0 {
        // SAFETY: the context of a uprobe program.
        return Cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    }
    let address = arch::IP.read(ctx.regs);
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let key = ProcessAddress {
        address,
        pid,
        reserved: 0,
    };
    // SAFETY: written whole, by one system call.
    let mut found = unsafe { maps::COOKIES.get(key) };
    if found.is_none() {
        // It runs another program than when the probe was placed.
        let key = ProcessAddress::within_page(pid, address);
        // SAFETY: as above.
        found = unsafe { maps::COOKIES.get(key) };
    }
    found.copied().map_or(Cookie::UNKNOWN, Cookie)
}

/// The same where it must be known.
#[inline(always)]
pub fn known_cookie(ctx: &ProbeContext) -> Option<Cookie> {
    let cookie = cookie(ctx);
    if cookie == Cookie::UNKNOWN {
        count(Counter::CookieUnknown);
        return None;
    }
    Some(cookie)
}

/// The registers of integer arguments. Read once a program, all of them: see
/// [`arch::Register::read`].
#[derive(Clone, Copy)]
pub struct Registers([u64; 6]);

impl Registers {
    #[inline(always)]
    pub fn read(ctx: &ProbeContext) -> Self {
        Self(arch::ARGUMENTS.map(|argument| argument.read(ctx.regs)))
    }

    /// The argument with this number, where all still are in registers;
    /// `absent` where there is none.
    #[inline(always)]
    pub fn argument(&self, number: u16, absent: u64) -> u64 {
        match number {
            0 => self.0[0],
            1 => self.0[1],
            2 => self.0[2],
            3 => self.0[3],
            4 => self.0[4],
            5 => self.0[5],
            _ => absent,
        }
    }
}
