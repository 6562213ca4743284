//! What is remembered for each thread: the outermost calls in flight, and
//! scratch memory. It is per thread and not per CPU, because newer kernels
//! preempt uprobe programs, so that two of them share a CPU's scratch.
//!
//! One of an allocator and one that maps are enough. What a traced function calls inside is its own
//! business (calloc → malloc → mmap), and the outermost call is told from
//! inner ones by where its return address lies on the stack.
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user};
use aya_log_ebpf::debug;
use memtrace_common::{Counter, event::StackRecord, limit::STACK_WINDOW};

use crate::{cache::Path, count::count, maps, unwind::Registers};

/// A call in flight.
#[repr(C)]
pub struct Call {
    /// Address of its return address; 0: none.
    slot: u64,
    arguments: [u64; 4],
    function: u32,
    _reserved: u32,
}

/// The state of one thread. All zero when new.
#[repr(C)]
pub struct Thread {
    /// Address of the return address of the call in flight; 0: none.
    pub slot: u64,
    /// Its arguments, as the function's entry program keeps them.
    pub arguments: [u64; 4],
    /// A [`memtrace_common::Function`].
    pub function: u32,
    _reserved: u32,
    /// The mapping function in flight. Apart from the allocator's: it never
    /// calls one, but a signal handler that interrupts it may.
    pub mapping: Call,
    /// Stack memory from this address on could not be read.
    pub unreadable: u64,
    /// The frame that a walk has reached.
    pub frame: Registers,
    /// Hash of the frames so far.
    pub hash: u64,
    /// Hash and number of the frames up to the last in mapped code.
    pub known: (u64, u64),
    /// Whether the frame is in mapped code: 0 or 1.
    pub mapped: u32,
    /// Whether any frame was not: 0 or 1.
    pub guessed: u32,
    /// What the walk has read.
    pub path: Path,
    /// Where the copy in `window` is from.
    pub window_start: u64,
    /// Valid bytes of `window`.
    pub window_length: u64,
    /// A copy of part of the user stack.
    pub window: [u64; STACK_WINDOW / 8],
    /// Where a stack is put together.
    pub stack: StackRecord,
}

/// The current thread's state, if it has any yet.
#[inline(always)]
pub fn find() -> Option<&'static mut Thread> {
    let tid = bpf_get_current_pid_tgid() as u32;
    // SAFETY: elements are removed only when their thread ends, and only the
    // thread itself gets here.
    maps::THREADS
        .get_ptr_mut(tid)
        .map(|thread| unsafe { &mut *thread })
}

/// The current thread's state.
#[inline(always)]
pub fn find_or_create() -> Option<&'static mut Thread> {
    if let Some(thread) = find() {
        return Some(thread);
    }
    let tid = bpf_get_current_pid_tgid() as u32;
    let new = maps::NEW_THREAD.get(0)?;
    debug!((), "thread {}: first traced call", tid);
    if maps::THREADS.insert(tid, new, 0).is_err() {
        count(Counter::ThreadsFull);
        return None;
    }
    find()
}

/// Whether a call whose return address lies at `slot` was made by the call in
/// flight whose own lies at `outer` (directly, deeper, or by a tail call). One
/// that is gone is forgotten.
#[inline(always)]
fn encloses(outer: &mut u64, slot: u64) -> bool {
    if *outer == 0 {
        return false;
    }
    if *outer >= slot && returns_to_probe(*outer) {
        count(Counter::NestedCalls);
        return true;
    }
    // Its stack frame is gone: a longjmp, or no return probe was placed.
    count(Counter::AbandonedCalls);
    debug!((), "a call did not return to {:x}", *outer);
    *outer = 0;
    false
}

impl Thread {
    /// Whether a call was made by the allocator's function in flight.
    #[inline(always)]
    pub fn is_nested(&mut self, slot: u64) -> bool {
        encloses(&mut self.slot, slot)
    }

    /// Begins an allocator's function, unless it is nested in another.
    #[inline(always)]
    pub fn begin(&mut self, slot: u64, function: u32, arguments: [u64; 4]) -> bool {
        if encloses(&mut self.slot, slot) {
            return false;
        }
        self.slot = slot;
        self.function = function;
        self.arguments = arguments;
        true
    }

    /// Begins a function that maps, unless it is nested in any other.
    #[inline(always)]
    pub fn begin_mapping(&mut self, slot: u64, function: u32, arguments: [u64; 4]) -> bool {
        if encloses(&mut self.slot, slot) || encloses(&mut self.mapping.slot, slot) {
            return false;
        }
        self.mapping = Call {
            slot,
            arguments,
            function,
            _reserved: 0,
        };
        true
    }

    /// Ends the call whose return address was at `slot`, and makes it the one
    /// that `function` and `arguments` tell of.
    #[inline(always)]
    pub fn end(&mut self, slot: u64) -> bool {
        if self.slot == slot {
            self.slot = 0;
            return true;
        }
        if self.mapping.slot == slot {
            self.mapping.slot = 0;
            self.function = self.mapping.function;
            self.arguments = self.mapping.arguments;
            return true;
        }
        if self.slot == 0 && self.mapping.slot == 0 {
            count(Counter::UnpairedReturns);
        }
        false
    }
}

/// Whether the return address at `slot` is the kernel's return trampoline. It
/// is the first byte of a page (`uprobe_get_trampoline_vaddr`), where no call
/// instruction returns to in practice.
#[inline(always)]
fn returns_to_probe(slot: u64) -> bool {
    // SAFETY: the helper checks the address.
    let address = unsafe { bpf_probe_read_user(slot as *const u64) };
    matches!(address, Ok(address) if address != 0 && address & 0xfff == 0)
}
