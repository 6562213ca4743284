//! Reading a capture block by block, as far as it is whole.
use std::io::{self, Read};

use super::{
    CaptureError,
    format::{BLOCK_HEAD, HEADER, LARGEST_BLOCK, MAGIC, MAJOR, checksum},
};

/// The blocks of a capture.
pub(super) struct Blocks<R> {
    input: R,
    /// Where the next block begins.
    offset: u64,
}

/// A block of any kind.
pub(super) struct Block {
    pub(super) kind: u32,
    pub(super) payload: Vec<u8>,
}

impl<R: Read> Blocks<R> {
    /// Reads the header.
    pub(super) fn open(mut input: R) -> Result<Self, CaptureError> {
        let mut header = Vec::with_capacity(HEADER);
        let read = (&mut input).take(HEADER as u64).read_to_end(&mut header);
        let begins = header
            .iter()
            .zip(MAGIC)
            .all(|(found, wanted)| *found == wanted);
        read.map_err(|error| CaptureError::Empty(error.to_string()))?;
        let versions = header
            .get(MAGIC.len()..)
            .and_then(|rest| rest.first_chunk());
        match versions.map(|major: &[u8; 2]| u16::from_le_bytes(*major)) {
            _ if !begins => Err(CaptureError::Foreign),
            Some(major) if major > MAJOR => Err(CaptureError::Newer { major }),
            Some(major) if major < MAJOR => Err(CaptureError::Foreign),
            _ if header.len() < HEADER => Err(CaptureError::Empty("it is cut off".to_owned())),
            _ => Ok(Self {
                input,
                offset: HEADER as u64,
            }),
        }
    }

    /// The next block, or in which way there is none.
    pub(super) fn next(&mut self) -> Result<Block, String> {
        let at = self.offset;
        let cut = || format!("it is cut off in the block at byte {at}");
        let mut head = [0; BLOCK_HEAD];
        let found = fill(&mut self.input, &mut head).map_err(|error| error.to_string())?;
        if found == 0 {
            return Err(format!("its end is missing behind byte {at}"));
        }
        let [kind, length, expected] = numbers(head);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if found < BLOCK_HEAD {
            return Err(cut());
        }
        if length > LARGEST_BLOCK {
            return Err(format!("the block at byte {at} is damaged"));
        }
        let mut payload = Vec::new();
        // Grows as bytes come, whatever the length says.
        let read = (&mut self.input)
            .take(length as u64)
            .read_to_end(&mut payload);
        read.map_err(|error| error.to_string())?;
        if payload.len() < length {
            return Err(cut());
        }
        // A fuzzer would not get past it.
        if !cfg!(fuzzing) && checksum(kind, &payload) != expected {
            return Err(format!("the block at byte {at} is damaged"));
        }
        self.offset += (BLOCK_HEAD + length) as u64;
        Ok(Block { kind, payload })
    }

    /// Where the next block begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }
}

fn numbers(head: [u8; BLOCK_HEAD]) -> [u32; 3] {
    let mut numbers = [0; 3];
    for (number, bytes) in numbers.iter_mut().zip(head.as_chunks().0) {
        *number = u32::from_le_bytes(*bytes);
    }
    numbers
}

/// Reads until `buffer` is full or nothing is left; returns how much there was.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut found = 0;
    while let Some(rest) = buffer.get_mut(found..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(more) => found += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
