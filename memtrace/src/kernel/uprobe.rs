//! Which x86-64 instructions a kernel *emulates* under a uprobe. All others
//! are executed out of line in single-step mode, which costs a second trap:
//! three times as much on metal, fifteen times in some virtual machines.
//!
//! From `branch_setup_xol_ops` and `push_setup_xol_ops` in
//! `arch/x86/kernel/uprobes.c`. Patterns cover whole instructions, prefixes
//! included, because prefixes change the verdict: a branch with `66` is
//! refused, `41 90` is no `nop`, and `push` takes no other prefix than `41`.
//! Longer forms that some kernels emulate as well (`bnd jmp`) are left out:
//! taking an emulated instruction for a slow one is harmless.

/// A kernel version: major and minor number.
pub type Version = (u32, u32);

/// An instruction of `mask.len()` bytes and more is one of these if its
/// leading bytes, masked, are `value`, and its length is `length`.
struct Pattern {
    since: Version,
    length: usize,
    mask: &'static [u8],
    value: &'static [u8],
}

const fn exactly(since: Version, code: &'static [u8]) -> Pattern {
    const ONES: &[u8] = &[0xff; 8];
    Pattern {
        since,
        length: code.len(),
        mask: ONES.split_at(code.len()).0,
        value: code,
    }
}

const fn opcode(
    since: Version,
    length: usize,
    mask: &'static [u8],
    value: &'static [u8],
) -> Pattern {
    Pattern {
        since,
        length,
        mask,
        value,
    }
}

/// 3.16 brought the branches, 4.16 `push`. Before
/// 6.2 a uprobe on `66 90` is refused altogether. 6.16 compares with the
/// kernel's own `x86_nops`, of which those of nine bytes and more carry a
/// segment prefix and are refused.
const PATTERNS: &[Pattern] = &[
    opcode((3, 16), 2, &[0xff], &[0xeb]),             // jmp rel8
    opcode((3, 16), 5, &[0xff], &[0xe9]),             // jmp rel32
    opcode((3, 16), 5, &[0xff], &[0xe8]),             // call rel32
    opcode((3, 16), 2, &[0xf0], &[0x70]),             // jcc rel8
    opcode((3, 16), 6, &[0xff, 0xf0], &[0x0f, 0x80]), // jcc rel32
    exactly((3, 16), &[0x90]),
    opcode((4, 16), 1, &[0xf8], &[0x50]), // push rax … rdi
    opcode((4, 16), 2, &[0xff, 0xf8], &[0x41, 0x50]), // push r8 … r15
    exactly((6, 2), &[0x66, 0x90]),
    exactly((6, 16), &[0x0f, 0x1f, 0x00]),
    exactly((6, 16), &[0x0f, 0x1f, 0x40, 0x00]),
    exactly((6, 16), &[0x0f, 0x1f, 0x44, 0x00, 0x00]),
    exactly((6, 16), &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00]),
    exactly((6, 16), &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00]),
    exactly((6, 16), &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00]),
];

/// The instructions that one kernel emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulated {
    kernel: Version,
}

impl Emulated {
    /// For code of other processors than x86-64: nothing is known to be
    /// emulated, and probes stay at the entry.
    pub const NONE: Self = Self { kernel: (0, 0) };

    /// What the kernel of this version emulates. Distributions carry some
    /// changes back to older versions: what is missed is slow, not wrong.
    pub fn for_kernel(version: Version) -> Self {
        Self { kernel: version }
    }

    /// Whether the one instruction with exactly these bytes is emulated.
    pub fn emulates(self, code: &[u8]) -> bool {
        PATTERNS.iter().any(|pattern| {
            self.kernel >= pattern.since
                && code.len() == pattern.length
                && code
                    .iter()
                    .zip(pattern.mask)
                    .zip(pattern.value)
                    .all(|((byte, mask), value)| byte & mask == *value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_and_pushes() {
        let emulated = Emulated::for_kernel((5, 10));
        for code in [
            &[0x55][..],               // push rbp
            &[0x41, 0x54],             // push r12
            &[0x90],                   // nop
            &[0xeb, 0x10],             // jmp
            &[0xe9, 0, 0, 0, 0],       // jmp
            &[0x74, 0x10],             // je
            &[0x0f, 0x84, 0, 0, 0, 0], // je
            &[0xe8, 0, 0, 0, 0],       // call
        ] {
            assert!(emulated.emulates(code), "{code:02x?}");
            assert!(!Emulated::NONE.emulates(code), "{code:02x?}");
        }
    }

    #[test]
    fn everything_else_is_stepped() {
        let emulated = Emulated::for_kernel((7, 3));
        for code in [
            &[][..],
            &[0xf3, 0x0f, 0x1e, 0xfa], // endbr64
            &[0x48, 0x85, 0xff],       // test rdi,rdi
            &[0x48, 0x83, 0xec, 0x08], // sub rsp,8
            &[0xff, 0x25, 0, 0, 0, 0], // jmp [rip]
            &[0xff, 0xf0],             // push rax, the long form
            &[0x5d],                   // pop rbp
            &[0xc3],                   // ret
            &[0x0f, 0x05],             // syscall
            &[0x6a, 0x00],             // push 0
        ] {
            assert!(!emulated.emulates(code), "{code:02x?}");
        }
    }

    #[test]
    fn prefixes_change_the_verdict() {
        let emulated = Emulated::for_kernel((7, 3));
        for code in [
            &[0x41, 0x90][..],                              // xchg r8,rax
            &[0xf3, 0x90],                                  // pause
            &[0x66, 0xe8, 0, 0, 0, 0],                      // call with an operand-size prefix
            &[0x2e, 0x74, 0x10],                            // je, hinted
            &[0x49, 0x50],                                  // push r8 with a needless REX.W
            &[0x66, 0x50],                                  // push ax
            &[0x2e, 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], // the 10-byte nop
        ] {
            assert!(!emulated.emulates(code), "{code:02x?}");
        }
    }

    #[test]
    fn long_nops_came_late() {
        let nop2 = &[0x66, 0x90];
        let nop5 = &[0x0f, 0x1f, 0x44, 0x00, 0x00];
        for (kernel, two, five) in [
            ((5, 10), false, false),
            ((6, 1), false, false),
            ((6, 12), true, false),
            ((6, 16), true, true),
        ] {
            let emulated = Emulated::for_kernel(kernel);
            assert_eq!(emulated.emulates(nop2), two, "{kernel:?}");
            assert_eq!(emulated.emulates(nop5), five, "{kernel:?}");
        }
    }
}
