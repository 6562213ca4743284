//! Sizes that both sides must agree on.

/// The most frames that one stack carries.
pub const MAX_FRAMES: usize = 128;

/// Bytes of user stack that can be looked at in a copy: a walk that stays
/// within them is remembered. A power of two.
pub const STACK_WINDOW: usize = 8192;

/// Pieces of so many bytes in which a stack is sent to user space at most.
pub const STACK_COPY_PARTS: usize = 8;

/// Bytes of user stack copied at once for a walk, before the copy is walked.
/// Copying 2 KiB costs 345 ns, reading ten frames one by one 1,010 ns.
pub const STACK_COPY: u64 = 2048;
