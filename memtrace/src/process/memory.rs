//! The memory of another process, read while it runs.
use std::io::IoSliceMut;

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use thiserror::Error;

/// Why memory could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Nothing is mapped there, or nothing that may be read.
    #[error("nothing can be read at {address:#x}")]
    Unmapped {
        /// The first address that cannot be read, at the latest.
        address: u64,
    },
    /// The process belongs to somebody else, or may not be looked into.
    #[error("not permitted to read its memory")]
    NotPermitted,
    /// It has ended.
    #[error("it has ended")]
    Gone,
    /// Anything else that the system call said.
    #[error("reading its memory: {0}")]
    System(Errno),
}

/// Memory by address: a process's, or an image of it.
pub trait Memory {
    /// Fills `into` with what is at `address`, all of it.
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError>;

    /// A word, little-endian.
    fn word(&self, address: u64) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// A running process's memory, by `process_vm_readv`: it takes the permission
/// to trace the process, and does not disturb it.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMemory {
    pid: Pid,
}

impl ProcessMemory {
    /// Of the process with that id.
    pub fn of(pid: u32) -> Self {
        Self {
            pid: Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)),
        }
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = address.saturating_add(done as u64);
            let unmapped = ReadError::Unmapped { address: at };
            let remote = RemoteIoVec {
                base: usize::try_from(at).map_err(|_| unmapped)?,
                len: rest.len(),
            };
            // What lies before the first page that cannot be read arrives.
            match process_vm_readv(self.pid, &mut [IoSliceMut::new(rest)], &[remote]) {
                Ok(more @ 1..) => done += more,
                Err(Errno::EINTR) => {}
                Ok(0) | Err(Errno::EFAULT | Errno::EINVAL) => return Err(unmapped),
                Err(Errno::EPERM | Errno::EACCES) => return Err(ReadError::NotPermitted),
                Err(Errno::ESRCH) => return Err(ReadError::Gone),
                Err(other) => return Err(ReadError::System(other)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_process_and_says_where_it_cannot() {
        let memory = ProcessMemory::of(std::process::id());
        let there = [7_u8; 3 * 4096];
        let mut copy = vec![0; there.len()];
        memory.read(there.as_ptr() as u64, &mut copy).unwrap();
        assert_eq!(copy, there);
        let unmapped = |address| Err(ReadError::Unmapped { address });
        assert_eq!(memory.read(8, &mut [0; 4]), unmapped(8));
        assert_eq!(
            memory.read(u64::MAX - 1, &mut [0; 4]),
            unmapped(u64::MAX - 1)
        );
        let nobody = ProcessMemory::of(u32::MAX);
        assert_eq!(nobody.read(8, &mut [0; 4]), Err(ReadError::Gone));
    }
}
