//! Sizes that both sides must agree on.

/// The most frames that one stack carries.
pub const MAX_FRAMES: usize = 128;

/// Bytes of user stack copied at once, before the copy is walked. A power of
/// two. Copying 2 KiB costs 345 ns, reading ten frames one by one 1,010 ns.
pub const STACK_WINDOW: usize = 2048;
