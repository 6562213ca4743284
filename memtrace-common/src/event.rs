//! Ring buffer records: one row of the `events!` table for each kind. The
//! table makes the structs, the kinds and the decoder.
use crate::limit::MAX_FRAMES;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, NativeEndian, U64};

/// The start of every record. 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Head {
    /// An [`EventKind`].
    pub kind: u16,
    /// A [`crate::Function`], or 0.
    pub function: u16,
    /// Process id (the kernel's tgid), in the initial namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// A [`StackFlags`] value in stack records, a [`FreeFlags`] value in
    /// frees, otherwise 0.
    pub flags: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
}

/// Bits of [`Head::flags`] in stack records.
pub struct StackFlags;
impl StackFlags {
    /// The walk stopped before the outermost frame.
    pub const TRUNCATED: u32 = 1;
    /// The [`StackCopy`] records before it, of the same hash, say how it goes on.
    pub const COPIED: u32 = 2;
}

/// Bits of [`Head::flags`] in [`Free`] records.
pub struct FreeFlags;
impl FreeFlags {
    /// The thread's last free was of the same address: one function that frees
    /// may have called another.
    pub const SAME_ADDRESS: u32 = 1;
}

/// Why a record could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than its kind requires.
    Short {
        /// Bytes there were.
        length: usize,
    },
    /// No such kind of event.
    UnknownKind {
        /// The number found.
        kind: u16,
    },
    /// A stack that claims more frames, or a copy more words, than it carries.
    BadDepth {
        /// The depth claimed.
        depth: u32,
    },
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $id:literal { $($(#[$fdoc:meta])* $field:ident: $ty:ty,)* })*) => {
        /// What a record says. The numbers are the wire format: never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum EventKind { $($(#[$doc])* $name = $id,)* /// A stack seen for the first time: [`StackRecord`].
            Stack = 64,
            /// A piece of a stack's memory: [`StackCopyHead`].
            StackCopy = 65 }

        $($(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name {
            /// Who and when.
            pub head: Head,
            $($(#[$fdoc])* pub $field: $ty,)*
        })*

        /// A decoded record. A stack's frames are borrowed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Record<'a> {
            $($(#[$doc])* $name($name),)*
            /// A stack seen for the first time.
            Stack(Stack<'a>),
            /// A piece of a stack's memory.
            StackCopy(StackCopy<'a>),
        }

        impl<'a> Record<'a> {
            /// Decodes one record, at any alignment; trailing bytes are
            /// padding.
            pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
                let short = DecodeError::Short { length: bytes.len() };
                let (head, _) = Head::read_from_prefix(bytes).map_err(|_| short)?;
                match head.kind {
                    $($id => $name::read_from_prefix(bytes)
                        .map(|(record, _)| Self::$name(record)).map_err(|_| short),)*
                    64 => Stack::decode(bytes).map(Self::Stack),
                    65 => StackCopy::decode(bytes).map(Self::StackCopy),
                    kind => Err(DecodeError::UnknownKind { kind }),
                }
            }

            /// Who and when.
            pub fn head(&self) -> &Head {
                match self {
                    $(Self::$name(record) => &record.head,)*
                    Self::Stack(stack) => &stack.head,
                    Self::StackCopy(copy) => &copy.start.head,
                }
            }
        }
    };
}

events! {
    /// A block was handed out.
    Alloc = 1 {
        /// Where.
        address: u64,
        /// As requested, bytes.
        size: u64,
        /// The stack's hash.
        stack: u64,
    }
    /// A block is about to end (seen when the function is entered).
    Free = 2 {
        /// Which.
        address: u64,
    }
    /// A reallocation begins: the old block's address may be handed out to
    /// others from here on.
    ReallocBegin = 3 {
        /// The old block, never 0.
        old: u64,
    }
    /// A reallocation returned.
    ReallocEnd = 4 {
        /// The old block, or 0.
        old: u64,
        /// The new block; 0: failed, or freed where `size` is 0.
        address: u64,
        /// As requested, bytes.
        size: u64,
        /// The stack's hash.
        stack: u64,
    }
    /// Pages were mapped.
    Map = 5 {
        /// Where.
        address: u64,
        /// As requested, bytes.
        length: u64,
        /// The stack's hash.
        stack: u64,
    }
    /// Pages are about to be unmapped.
    UnmapBegin = 6 {
        /// From.
        address: u64,
        /// Bytes.
        length: u64,
    }
    /// The thread's last [`UnmapBegin`] failed: the pages are still there.
    UnmapFailed = 7 {
        /// From.
        address: u64,
        /// Bytes.
        length: u64,
    }
    /// A mapping is about to be moved or resized.
    RemapBegin = 8 {
        /// From.
        old: u64,
        /// Bytes.
        old_length: u64,
    }
    /// A mapping was moved or resized.
    RemapEnd = 9 {
        /// From.
        old: u64,
        /// Bytes; 0 asks for a second mapping of shared pages.
        old_length: u64,
        /// Where it is now; 0: failed, the old one is still there.
        address: u64,
        /// Bytes.
        length: u64,
        /// The stack's hash.
        stack: u64,
        /// Whether the old mapping stays (`MREMAP_DONTUNMAP`): 0 or 1.
        keeps_old: u64,
    }
    /// The process runs another program: all its memory is gone.
    Exec = 16 {}
    /// The dynamic linker has mapped or unmapped libraries.
    Modules = 17 {}
}

/// The start of a stack record; `depth` addresses follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackHead {
    /// Who and when; the flags are [`StackFlags`].
    pub head: Head,
    /// Hash of the process id and all frames.
    pub hash: u64,
    /// Number of frames.
    pub depth: u32,
    /// Always 0.
    pub reserved: u32,
}

/// A stack record as the kernel side builds it; only the first `depth`
/// frames are sent.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackRecord {
    /// The start.
    pub start: StackHead,
    /// Return addresses, innermost first.
    pub frames: [u64; MAX_FRAMES],
}

/// A decoded stack record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack<'a> {
    /// Who and when.
    pub head: Head,
    /// Hash of the process id and all frames.
    pub hash: u64,
    /// Return addresses, innermost first.
    pub frames: &'a [U64<NativeEndian>],
}

impl<'a> Stack<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let short = DecodeError::Short {
            length: bytes.len(),
        };
        let (start, rest) = StackHead::read_from_prefix(bytes).map_err(|_| short)?;
        let bad = DecodeError::BadDepth { depth: start.depth };
        let depth = start.depth as usize;
        if depth > MAX_FRAMES {
            return Err(bad);
        }
        let (frames, _) =
            <[U64<NativeEndian>]>::ref_from_prefix_with_elems(rest, depth).map_err(|_| bad)?;
        Ok(Self {
            head: start.head,
            hash: start.hash,
            frames,
        })
    }

    /// Whether the walk stopped before the outermost frame.
    pub fn truncated(&self) -> bool {
        self.head.flags & StackFlags::TRUNCATED != 0
    }

    /// Whether user space is to walk on.
    pub fn copied(&self) -> bool {
        self.head.flags & StackFlags::COPIED != 0
    }
}

/// The start of a piece of a stack's memory; `words` words from `address` on
/// follow. It is for walking on where the kernel side could not, and for nothing
/// else: it may hold whatever the program has on its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackCopyHead {
    /// Who and when.
    pub head: Head,
    /// The stack's hash, which no other has.
    pub hash: u64,
    /// The frame from which to walk on: its return address,
    pub ip: u64,
    /// stack pointer,
    pub sp: u64,
    /// and frame pointer.
    pub fp: u64,
    /// Where this piece was.
    pub address: u64,
    /// The frame's number, from 1; those before it are in the stack's record.
    pub depth: u32,
    /// How many words.
    pub words: u32,
}

/// A decoded piece of a stack's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackCopy<'a> {
    /// The start.
    pub start: StackCopyHead,
    /// What was there.
    pub words: &'a [U64<NativeEndian>],
}

impl<'a> StackCopy<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let short = DecodeError::Short {
            length: bytes.len(),
        };
        let (start, rest) = StackCopyHead::read_from_prefix(bytes).map_err(|_| short)?;
        let bad = DecodeError::BadDepth { depth: start.words };
        let (words, _) =
            <[U64<NativeEndian>]>::ref_from_prefix_with_elems(rest, start.words as usize)
                .map_err(|_| bad)?;
        Ok(Self { start, words })
    }
}
