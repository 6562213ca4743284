//! Sizes that both sides must agree on.

/// The most frames that one stack carries.
pub const MAX_FRAMES: usize = 128;

/// Bytes of user stack copied at once, before the copy is walked. A power of
/// two. FACTS: copying 2 KiB costs 345 ns, reading frame by frame 1,010 ns.
pub const STACK_WINDOW: usize = 2048;
