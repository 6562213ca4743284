//! Descriptors as futures.
use std::{io, os::fd::AsRawFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Makes a descriptor's owner wait for it to become readable. For types whose
/// descriptor stays the same and open as long as they live, which is all that
/// this crate calls it with.
///
/// # Errors
/// It cannot be polled.
#[expect(
    deprecated,
    reason = "tokio's replacement is unsafe; the condition above is what it asks for"
)]
pub fn readable<T: AsRawFd>(owner: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, Interest::READABLE)
}
