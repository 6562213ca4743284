//! The table of page frames as memory: the kernel side writes it, this reads.
#![expect(unsafe_code, reason = "memory that the kernel shares")]
use std::{io, os::fd::AsFd, ptr::NonNull, sync::atomic::AtomicU64};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::pages::sections::SECTION_WORDS;

/// The table.
pub(super) struct FrameMemory {
    start: NonNull<AtomicU64>,
    sections: usize,
}

impl FrameMemory {
    /// Maps the whole of an array map that is large enough for so many sections.
    ///
    /// # Errors
    /// The map is smaller, or none that can be mapped.
    pub(super) fn map(map: impl AsFd, sections: usize) -> io::Result<Self> {
        let length = bytes(sections);
        // SAFETY: a new mapping where the kernel likes; nothing else is there.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ,
                MapFlags::SHARED,
                map,
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, sections })
    }

    /// The words of the section at this place; none beyond the end.
    pub(super) fn section(&self, place: usize) -> &[AtomicU64] {
        if place >= self.sections {
            return &[];
        }
        // SAFETY: within the mapping, which is as long as `sections` says.
        let first = unsafe { self.start.add(place * SECTION_WORDS) };
        // SAFETY: mapped as long as `self` lives, aligned to pages. The kernel
        // side changes words meanwhile, therefore they are atomic; they are
        // only loaded here, which needs no right to write.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), SECTION_WORDS) }
    }
}

fn bytes(sections: usize) -> usize {
    sections.saturating_mul(SECTION_WORDS * size_of::<AtomicU64>())
}

impl Drop for FrameMemory {
    fn drop(&mut self) {
        let length = bytes(self.sections);
        // SAFETY: the mapping of `map`, of which nothing is borrowed any more.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), length) };
        if let Err(error) = unmapped {
            log::debug!("cannot unmap the table of page frames: {error}");
        }
    }
}
