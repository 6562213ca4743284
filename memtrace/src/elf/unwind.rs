//! Boils a module's unwinding information down to the rows that the kernel
//! side walks stacks with: of all registers only the stack pointer, the frame
//! pointer and the return address, and of all rules only those that compilers
//! emit for them.
//!
//! Code that has no information becomes [`CfaRule::Unknown`], where a walk goes
//! on by frame pointers. What the rows cannot say becomes
//! [`CfaRule::Inexpressible`], where it ends: on x86-64 code whose canonical
//! frame address hangs on another register (a few instructions of functions
//! that realign their stack, the dynamic linker while it binds a symbol late,
//! hand-written cryptography), on aarch64 frames that keep frame pointer and
//! return address apart.
use super::image::{Image, Machine};
use super::rules::{Bytes, Rules};
use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, EhFrameHdr,
    FrameDescriptionEntry, LittleEndian, UnwindContext, UnwindSection, Vendor,
};
use memtrace_common::unwind::{CfaRule, UnwindRow};

/// Of a real file's common entries none is near this: every one is evaluated
/// again for each of its functions, which a hostile file could make last.
const LONGEST_COMMON_ENTRY: usize = 4096;

/// 128 MiB of rows.
const MOST_ROWS: usize = 1 << 24;

/// Fewer bytes than this between two functions are padding, where no call is.
/// A return address behind it was made up, to begin a stack with a function that
/// is never called (glibc's `makecontext`): the walk ends. More may be code that
/// has no information, where frame pointers may lead on.
const SMALLEST_GAP: u32 = 16;

/// Why a module has no unwinding table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnwindError {
    /// Neither `.eh_frame` nor `.debug_frame`.
    #[error("the file has neither .eh_frame nor an uncompressed .debug_frame")]
    Missing,
    /// Rows have 32 bits for an address.
    #[error("the file has code at {0:#x}, beyond 4 GiB")]
    TooHigh(u64),
    /// More than the kernel side could hold.
    #[error("the file has more than {MOST_ROWS} unwinding rows")]
    TooMany,
}

/// A module's unwinding rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnwindTable {
    /// Sorted by `pc`, neighbours differ, the first one's `pc` is 0.
    pub rows: Vec<UnwindRow>,
    /// Functions whose information is damaged. Their addresses are `Unknown`.
    /// An entry that hides where the next one begins counts as one.
    pub damaged: usize,
}

impl UnwindTable {
    /// Evaluates `.eh_frame`, and `.debug_frame` for code that the former does
    /// not know: a program that was built without `.eh_frame` still has that of
    /// its start-up code.
    pub fn build(image: &Image) -> Result<Self, UnwindError> {
        let mut collector = Collector::new(image)?;
        let vendor = match image.machine() {
            Machine::X86_64 => Vendor::Default,
            Machine::Aarch64 => Vendor::AArch64,
        };
        let (frames, debug) = (eh_frame(image), image.section(".debug_frame"));
        if frames.is_none() && debug.is_none() {
            return Err(UnwindError::Missing);
        }
        if let Some((address, bytes)) = frames {
            let mut section = EhFrame::new(&bytes, LittleEndian);
            section.set_address_size(8);
            section.set_vendor(vendor);
            collector.collect(&section, &BaseAddresses::default().set_eh_frame(address))?;
        }
        if let Some((_, bytes)) = debug {
            let mut section = DebugFrame::new(&bytes, LittleEndian);
            section.set_address_size(8);
            section.set_vendor(vendor);
            collector.collect(&section, &BaseAddresses::default())?;
        }
        Ok(collector.finish())
    }

    /// The row that holds at `pc`.
    pub fn rule_at(&self, pc: u32) -> UnwindRow {
        let next = self.rows.partition_point(|row| row.pc <= pc);
        let row = next.checked_sub(1).and_then(|last| self.rows.get(last));
        row.copied().unwrap_or(Rules::UNKNOWN.at(0))
    }
}

/// Address and contents of `.eh_frame`; without section headers it is found
/// through its search table.
pub(super) fn eh_frame(image: &Image) -> Option<(u64, Vec<u8>)> {
    image.section(".eh_frame").or_else(|| {
        let (address, header) = image.eh_frame_header()?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(address);
        let header = EhFrameHdr::new(&header, LittleEndian)
            .parse(&bases, 8)
            .ok()?;
        let start = header.eh_frame_ptr().direct().ok()?;
        // It ends at its own terminator.
        Some((start, image.rest_of_segment(start)?))
    })
}

/// The rules from one address to another.
struct Span {
    start: u32,
    end: u32,
    rules: Rules,
}

struct Collector {
    machine: Machine,
    /// Start and end of every piece of code.
    code: Vec<(u64, u64)>,
    spans: Vec<Span>,
    damaged: usize,
}

impl Collector {
    fn new(image: &Image) -> Result<Self, UnwindError> {
        let ends = |s: &super::Segment| (s.vaddr, s.vaddr.saturating_add(s.memory_size));
        let code: Vec<_> = image.executable_segments().map(ends).collect();
        if let Some(&(_, end)) = code.iter().find(|(_, end)| *end > u64::from(u32::MAX)) {
            return Err(UnwindError::TooHigh(end));
        }
        Ok(Self {
            machine: image.machine(),
            code,
            spans: Vec::new(),
            damaged: 0,
        })
    }

    fn collect<'data, S: UnwindSection<Bytes<'data>>>(
        &mut self,
        section: &S,
        bases: &BaseAddresses,
    ) -> Result<(), UnwindError> {
        let mut context = UnwindContext::new();
        let mut entries = section.entries(bases);
        // Functions share a few common entries, mostly one after the other.
        let mut common: Option<(S::Offset, CommonInformationEntry<Bytes<'data>>)> = None;
        loop {
            let function = match entries.next() {
                Ok(None) => return Ok(()),
                Ok(Some(CieOrFde::Cie(_))) => continue,
                Ok(Some(CieOrFde::Fde(function))) => function,
                Err(_) => {
                    self.damaged += 1;
                    return Ok(());
                }
            };
            let parsed = function.parse(|section, bases, offset| match &common {
                Some((at, entry)) if *at == offset => Ok(entry.clone()),
                _ => {
                    let entry = section.cie_from_offset(bases, offset)?;
                    common = Some((offset, entry.clone()));
                    Ok(entry)
                }
            });
            let evaluated =
                parsed.is_ok_and(|function| self.function(section, bases, &mut context, &function));
            self.damaged += usize::from(!evaluated);
            if self.spans.len() > MOST_ROWS {
                return Err(UnwindError::TooMany);
            }
        }
    }

    /// Adds the rows of one function; false: it is damaged.
    fn function<'data, S: UnwindSection<Bytes<'data>>>(
        &mut self,
        section: &S,
        bases: &BaseAddresses,
        context: &mut UnwindContext<usize>,
        function: &FrameDescriptionEntry<Bytes<'data>>,
    ) -> bool {
        let start = function.initial_address();
        let mut code = self.code.iter();
        let Some(&(_, end)) = code.find(|(first, end)| (*first..*end).contains(&start)) else {
            // Left over from a function that the linker dropped.
            return true;
        };
        let end = end.min(start.saturating_add(function.len()));
        if function.cie().entry_len() > LONGEST_COMMON_ENTRY {
            return false;
        }
        let Ok(mut rows) = function.rows(section, bases, context) else {
            return false;
        };
        loop {
            let row = match rows.next_row() {
                Ok(Some(row)) => row,
                Ok(None) => return true,
                Err(_) => return false,
            };
            let range = (row.start_address().max(start), row.end_address().min(end));
            if range.0 < range.1 {
                let rules = if function.is_signal_trampoline() {
                    Rules::bare(CfaRule::Signal)
                } else {
                    let return_address = function.cie().return_address_register();
                    Rules::of(self.machine, section, row, return_address)
                        .unwrap_or(Rules::INEXPRESSIBLE)
                };
                let (Ok(start), Ok(end)) = (u32::try_from(range.0), u32::try_from(range.1)) else {
                    return false;
                };
                self.spans.push(Span { start, end, rules });
            }
        }
    }

    fn finish(mut self) -> UnwindTable {
        // Stable: where two functions claim an address, the first one has it.
        self.spans.sort_by_key(|span| span.start);
        let mut rows: Vec<UnwindRow> = Vec::with_capacity(self.spans.len() + 2);
        let mut put = |pc: u32, rules: Rules| match rows.last() {
            Some(last) if rules.at(last.pc) == *last => {}
            _ => rows.push(rules.at(pc)),
        };
        if self.spans.first().is_none_or(|span| span.start > 0) {
            put(0, Rules::UNKNOWN);
        }
        let mut covered = 0;
        let mut previous = None;
        for span in &self.spans {
            if previous.replace(span.start) == Some(span.start) {
                continue;
            }
            match span.start.saturating_sub(covered) {
                0 => {}
                1..SMALLEST_GAP if covered > 0 => put(covered, Rules::INEXPRESSIBLE),
                _ => put(covered, Rules::UNKNOWN),
            }
            // Overlapping functions are damaged ones; the rest of the first
            // is lost with the gap behind the second.
            put(span.start, span.rules);
            covered = span.end;
        }
        if covered > 0 {
            put(covered, Rules::UNKNOWN);
        }
        UnwindTable {
            rows,
            damaged: self.damaged,
        }
    }
}

#[cfg(test)]
#[path = "unwind_tests.rs"]
mod tests;
