//! Records one behind the other: what travels between tasks, and what a
//! capture file's blocks hold.
use bytes::{BufMut, Bytes, BytesMut};
use memtrace_common::{DecodeError, Record};

/// Puts records together.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    bytes: BytesMut,
}

impl BatchBuilder {
    /// Takes one record in, as the kernel side wrote it.
    pub fn push(&mut self, record: &[u8]) {
        // The ring buffer's own records are shorter than 2³⁰ bytes.
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        self.bytes.reserve(4 + record.len());
        self.bytes.put_u32_ne(length);
        self.bytes.put_slice(record);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All records since the last call.
    pub fn take(&mut self) -> Batch {
        Batch {
            bytes: self.bytes.split().freeze(),
        }
    }
}

/// A number of records.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Bytes,
}

impl Batch {
    /// Records as an earlier batch held them.
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// Its bytes: whole records if the range begins and ends where
    /// [`Self::records`] says that records end.
    pub fn bytes(&self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Decodes them in order, each with the place where it ends. What cannot
    /// be decoded is an item, too.
    pub fn records(&self) -> impl Iterator<Item = (usize, Result<Record<'_>, DecodeError>)> {
        let mut rest: &[u8] = &self.bytes;
        let next = move || {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let length = u32::from_ne_bytes(*length) as usize;
            let Some((record, behind)) = behind.split_at_checked(length) else {
                rest = &[];
                let length = behind.len();
                return Some((self.len(), Err(DecodeError::Short { length })));
            };
            rest = behind;
            let end = self.len() - rest.len();
            Some((end, Record::decode(record)))
        };
        std::iter::from_fn(next)
    }
}
