//! What a probe tells its program: which function it belongs to, where that
//! function's arguments are, and where in the function the probe lies. One
//! program serves all functions of a kind, and reads this from the probe's
//! attach cookie (or, before Linux 5.15, from a table by address).
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which integer argument (0 to 5) is what; in four bits each, where
/// [`Arguments::ABSENT`] is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments(u16);

/// Where each field of [`Arguments`] begins.
const SIZE: u32 = 0;
const COUNT: u32 = 4;
const OLD: u32 = 8;
const OUT: u32 = 12;

impl Arguments {
    /// The number that is no argument's.
    pub const ABSENT: u16 = 0xf;
    /// No arguments of interest.
    pub const NONE: Self = Self(0xffff);

    const fn with(self, field: u32, argument: u16) -> Self {
        Self(self.0 & !(0xf << field) | (argument << field))
    }

    const fn get(self, field: u32) -> u16 {
        (self.0 >> field) & 0xf
    }

    /// `argument` is the size, bytes.
    #[must_use]
    pub const fn size(self, argument: u16) -> Self {
        self.with(SIZE, argument)
    }

    /// `argument` is a number that the size is multiplied by.
    #[must_use]
    pub const fn count(self, argument: u16) -> Self {
        self.with(COUNT, argument)
    }

    /// `argument` is the block that ends.
    #[must_use]
    pub const fn old(self, argument: u16) -> Self {
        self.with(OLD, argument)
    }

    /// `argument` is where the new block's address is written; the function
    /// returns an error number.
    #[must_use]
    pub const fn out(self, argument: u16) -> Self {
        self.with(OUT, argument)
    }

    /// How many of the leading arguments are read.
    pub fn used(self) -> usize {
        [SIZE, COUNT, OLD, OUT]
            .into_iter()
            .map(|field| self.get(field))
            .filter(|argument| *argument != Self::ABSENT)
            .map(|argument| argument as usize + 1)
            .max()
            .unwrap_or(0)
    }
}

/// Where in a function a probe lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Where all arguments are still in their registers; or a return probe.
    Entry,
    /// At a `ret` instruction: the return address is at the stack pointer.
    Return,
    /// Behind a system call instruction: its arguments and its result are in
    /// their registers.
    BehindSystemCall {
        /// Words of stack from the stack pointer to the return address.
        depth: u8,
        /// Words from the stack pointer to the caller's frame pointer; absent
        /// where it still is in its register.
        frame_pointer: Option<u8>,
    },
}

/// Everything above in one word: bits 0 to 15 the function's number, 16 to 31
/// [`Arguments`], 32 to 39 which [`Place`], 40 to 47 `depth`, 48 to 55
/// `frame_pointer`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Cookie(pub u64);

impl Cookie {
    /// No probe's: it is not known which one was hit.
    pub const UNKNOWN: Self = Self(0);
}

const ENTRY: u64 = 0;
const RETURN: u64 = 1;
const BEHIND_SYSTEM_CALL: u64 = 2;
const NO_FRAME_POINTER: u64 = 0xff;

impl Cookie {
    /// Packs.
    pub const fn new(function: u16, arguments: Arguments, place: Place) -> Self {
        let place = match place {
            Place::Entry => ENTRY,
            Place::Return => RETURN,
            Place::BehindSystemCall {
                depth,
                frame_pointer,
            } => {
                let frame_pointer = match frame_pointer {
                    Some(words) => words as u64,
                    None => NO_FRAME_POINTER,
                };
                BEHIND_SYSTEM_CALL | ((depth as u64) << 8) | (frame_pointer << 16)
            }
        };
        Self(function as u64 | ((arguments.0 as u64) << 16) | (place << 32))
    }

    /// The function's number, with the name.
    pub const fn function(self) -> u16 {
        self.0 as u16
    }

    const fn argument(self, field: u32) -> u16 {
        Arguments((self.0 >> 16) as u16).get(field)
    }

    /// See [`Arguments::size`].
    pub const fn size(self) -> u16 {
        self.argument(SIZE)
    }

    /// See [`Arguments::count`].
    pub const fn count(self) -> u16 {
        self.argument(COUNT)
    }

    /// See [`Arguments::old`].
    pub const fn old(self) -> u16 {
        self.argument(OLD)
    }

    /// See [`Arguments::out`].
    pub const fn out(self) -> u16 {
        self.argument(OUT)
    }

    /// Whether the probe is at a `ret` instruction.
    pub const fn is_return(self) -> bool {
        (self.0 >> 32) as u8 as u64 == RETURN
    }

    /// Whether the probe is behind a system call.
    pub const fn is_behind_system_call(self) -> bool {
        (self.0 >> 32) as u8 as u64 == BEHIND_SYSTEM_CALL
    }

    /// Bytes from the stack pointer to the return address, at such a probe.
    pub const fn depth(self) -> u64 {
        (self.0 >> 40) as u8 as u64 * 8
    }

    /// Bytes from the stack pointer to the caller's frame pointer, if it is
    /// there.
    pub const fn frame_pointer(self) -> Option<u64> {
        let words = (self.0 >> 48) as u8 as u64;
        if words == NO_FRAME_POINTER {
            None
        } else {
            Some(words * 8)
        }
    }
}

impl ProcessAddress {
    /// The key of all probes of a program whose instructions lie at the same
    /// place of a page: wherever a file is mapped, that does not change. It is
    /// no address of any process.
    pub const fn within_page(pid: u32, address: u64) -> Self {
        Self {
            address: address & 0xfff,
            pid,
            reserved: 0,
        }
    }
}

/// An address in the memory of a process: a key.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ProcessAddress {
    /// Address in the process's memory.
    pub address: u64,
    /// Process id.
    pub pid: u32,
    /// Always 0.
    pub reserved: u32,
}
