//! Lets aya copy wire types into and out of maps.
#![expect(unsafe_code, reason = "aya asks for its own marker of plain bytes")]
use zerocopy::{FromBytes, IntoBytes};

/// Any type that zerocopy has proved to be plain bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Wire<T>(pub(super) T);

// SAFETY: `FromBytes` and `IntoBytes`: every bit pattern is a value and no
// byte is padding; `repr(transparent)` adds none.
unsafe impl<T: FromBytes + IntoBytes + Copy + 'static> aya::Pod for Wire<T> {}
