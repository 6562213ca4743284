//! Unwind tables as the kernel side reads them: `.eh_frame` boiled down to
//! eight bytes a row.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How the canonical frame address (the stack pointer just before the call
/// instruction of the caller) follows from the registers. At most 16 of them:
/// a row has four bits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CfaRule {
    /// Nothing is known of this code: fall back to the frame pointer.
    Unknown = 0,
    /// The outermost frame: the walk is complete.
    End = 1,
    /// Stack pointer + [`UnwindRow::cfa_words`] × 8.
    StackPointer = 2,
    /// Frame pointer + `cfa_words` × 8.
    FramePointer = 3,
    /// The word at frame pointer + `cfa_words` × 8 (realigned stacks). The
    /// caller's frame pointer is the word at the frame pointer, whatever
    /// `fp_words_below_cfa` says.
    DerefFramePointer = 4,
    /// A signal frame: the interrupted registers are in the `ucontext` at the
    /// stack pointer (x86-64: frame pointer at + 120, stack pointer at + 160,
    /// instruction pointer at + 168). That instruction pointer is exact: its
    /// rule is not to be looked up one byte before.
    Signal = 5,
    /// A PLT stub: stack pointer + 8, + 8 more where the instruction pointer
    /// modulo 16 is `cfa_words` or more (here a number of bytes).
    Plt = 6,
    /// There is a rule, but no row can say it, or it is padding between
    /// functions: the walk ends here. The frame pointer need not be one, and
    /// could lead to a caller that is none.
    Inexpressible = 7,
    /// Frame pointer + [`UnwindRow::cfa_words`] × 8, and the caller's frame
    /// pointer and the return address are the two words at the frame pointer
    /// (aarch64, whose frames may begin far below the address they count from).
    FrameRecord = 8,
    /// The same with the stack pointer instead of the frame pointer.
    StackRecord = 9,
    /// As [`Self::Unknown`], in code that is known not to keep frame pointers:
    /// the walk goes on by what is in the register, and is marked as cut.
    Stray = 10,
}

/// Low bits of [`UnwindRow::rule_and_high`] that are the rule.
const RULE_BITS: u32 = 4;

/// Bits of an offset: those of `cfa_low` and the rest of `rule_and_high`.
const OFFSET_BITS: u32 = 16 + 8 - RULE_BITS;

/// One row: the rule that holds from `pc` to the next row's `pc`. 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnwindRow {
    /// First address the row holds for: an ELF virtual address, that is, an
    /// address in memory less the module's load bias.
    pub pc: u32,
    /// Low half of [`Self::cfa_words`].
    pub cfa_low: u16,
    /// Where the caller's frame pointer is saved, in words of 8 bytes below
    /// the canonical frame address; 0: still in its register.
    ///
    /// On x86-64 the return address is the word below the canonical frame
    /// address. On aarch64 it is the word above the saved frame pointer; where
    /// that is still in its register, so is the return address (0), or it is
    /// this many words, made negative, below the canonical frame address.
    pub fp_words_below_cfa: i8,
    /// [`Self::rule`] and the upper bits of [`Self::cfa_words`].
    pub rule_and_high: u8,
}

impl UnwindRow {
    /// A rule that needs no numbers, at address 0.
    pub const fn bare(rule: CfaRule) -> Self {
        Self {
            pc: 0,
            cfa_low: 0,
            fp_words_below_cfa: 0,
            rule_and_high: rule as u8,
        }
    }

    /// `None`: the offset is 4 MiB or more, which is half of what a stack
    /// usually may have.
    pub const fn new(
        pc: u32,
        rule: CfaRule,
        cfa_words: i64,
        fp_words_below_cfa: i8,
    ) -> Option<Self> {
        const LIMIT: i64 = 1 << (OFFSET_BITS - 1);
        if cfa_words < -LIMIT || cfa_words >= LIMIT {
            return None;
        }
        Some(Self {
            pc,
            cfa_low: cfa_words as u16,
            fp_words_below_cfa,
            rule_and_high: rule as u8 | ((cfa_words >> 16) as u8) << RULE_BITS,
        })
    }

    /// The number of a [`CfaRule`].
    #[inline(always)]
    pub const fn rule(&self) -> u8 {
        self.rule_and_high & ((1 << RULE_BITS) - 1)
    }

    /// Offset of the rule in words of 8 bytes.
    #[inline(always)]
    pub const fn cfa_words(&self) -> i64 {
        // An arithmetic shift: the upper bits carry the sign.
        let high = (self.rule_and_high as i8 >> RULE_BITS) as i64;
        high << 16 | self.cfa_low as i64
    }
}

/// How stacks are walked: `--unwind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// By tables, and by frame pointers where there is no rule.
    Auto = 0,
    /// By frame pointers alone. A zero in place of one ends the stack, as the
    /// ABI has it.
    FramePointers = 1,
    /// By tables alone: without a rule the stack is cut.
    Tables = 2,
    /// By the kernel's own walk (`bpf_get_stack`), for benchmarks.
    Kernel = 3,
    /// Not at all, for benchmarks.
    Nothing = 4,
    /// The programs return at once: what probes cost by themselves, for
    /// benchmarks.
    Floor = 5,
}

/// Where the kernel keeps the return addresses that return probes hide: each
/// a byte offset in a structure, from its BTF.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HiddenReturns {
    /// 1 if the rest is known.
    pub known: u32,
    /// `task_struct.utask`, a pointer.
    pub utask: u32,
    /// `uprobe_task.return_instances`, a pointer to the innermost.
    pub return_instances: u32,
    /// `return_instance.stack`: address of the hidden one.
    pub stack: u32,
    /// `return_instance.orig_ret_vaddr`: the hidden one.
    pub original: u32,
    /// `return_instance.next`, a pointer to the one around it.
    pub next: u32,
}

/// Rows in one element of the kernel's table: 4 KiB a map update.
pub const ROWS_PER_CHUNK: usize = 512;

/// An element of the kernel's row table.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RowChunk {
    /// Sorted by `pc`; rows past a module's end repeat its last row.
    pub rows: [UnwindRow; ROWS_PER_CHUNK],
}

/// One executable mapping of a process and where its rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// The module's load bias: an address in memory less this is an ELF
    /// virtual address.
    pub bias: u64,
    /// The module's first chunk.
    pub first_chunk: u32,
    /// The module's number of chunks; 0: no table, use frame pointers;
    /// [`STRAY`]: no table, and no frame pointers either.
    pub chunks: u32,
}

/// In place of a number of chunks: see [`CfaRule::Stray`].
pub const STRAY: u32 = u32::MAX;

/// Where a process's [`Mapping`]s are in the table of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessMappings {
    /// Index of the first.
    pub first: u32,
    /// How many, sorted by start.
    pub count: u32,
    /// Goes up when other code than before lies at some address: the same
    /// addresses are then another stack.
    pub generation: u32,
    /// Always 0.
    pub reserved: u32,
}
