//! Which kind of memory explains a process's growth.
use serde::{Deserialize, Serialize};

use super::sample::{Kind, Sample};

/// Where growth comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The heap below the program break.
    Brk,
    /// Anonymous mappings: large blocks, arenas of threads, other allocators.
    Mmap,
    /// The first thread's stack.
    Stack,
    /// Pages of mapped files.
    File,
    /// Shared memory.
    Shm,
    /// Memory that was mapped before and is now touched for the first time.
    Touch,
}

impl Source {
    /// What people read.
    pub fn label(self) -> &'static str {
        match self {
            Self::Brk => "the heap below the program break (brk)",
            Self::Mmap => "anonymous mappings (mmap)",
            Self::Stack => "the stack",
            Self::File => "pages of mapped files",
            Self::Shm => "shared memory",
            Self::Touch => "first touches of memory that was mapped before",
        }
    }
}

/// What explains most of the growth from `first` to `last`; `None` where there
/// is none, or their mappings are not known.
pub fn source(first: &Sample, last: &Sample) -> Option<Source> {
    let (before, now) = (first.reading, last.reading);
    let anonymous = now.anonymous.saturating_add(now.swap);
    let anonymous = anonymous.saturating_sub(before.anonymous.saturating_add(before.swap));
    let pages = [
        (anonymous, None),
        (now.file.saturating_sub(before.file), Some(Source::File)),
        (now.shared.saturating_sub(before.shared), Some(Source::Shm)),
    ];
    let (grown, source) = pages.into_iter().max_by_key(|(grown, _)| *grown)?;
    if grown == 0 {
        return None;
    }
    if source.is_some() {
        return source;
    }
    let mapped = |kind| {
        let (now, before) = (last.size(kind)?, first.size(kind)?);
        Some(now.bytes.saturating_sub(before.bytes))
    };
    let kinds = [
        (mapped(Kind::Heap)?, Source::Brk),
        (mapped(Kind::Anonymous)?, Source::Mmap),
        (mapped(Kind::Stack)?, Source::Stack),
    ];
    let (space, source) = kinds.into_iter().max_by_key(|(space, _)| *space)?;
    // Less new space than new pages: most of them were there before.
    let explains = space >= anonymous / 2;
    Some(if explains { source } else { Source::Touch })
}
