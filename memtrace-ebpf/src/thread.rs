//! What is remembered for each thread: the outermost call in flight, and
//! scratch memory. It is per thread and not per CPU, because newer kernels
//! preempt uprobe programs, so that two of them share a CPU's scratch.
//!
//! One call is enough. What a traced function calls inside is its own business
//! (calloc → malloc → mmap), and the outermost call is told from inner ones by
//! where its return address lies on the stack.
use aya_ebpf::{
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user},
};
use aya_log_ebpf::debug;
use memtrace_common::{
    Cookie, Counter,
    event::{StackCopyHead, StackRecord},
    limit::STACK_WINDOW,
    unwind::ProcessMappings,
};

use crate::{
    arch,
    cache::Path,
    count::count,
    hidden::{is_pending, may_be_trampoline},
    maps,
    trail::Trail,
    unwind::Registers,
};

/// What a call in flight was asked for.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Arguments {
    /// Bytes.
    pub size: u64,
    /// The block that ends, or 0.
    pub old: u64,
    /// Where the new block's address will be written, or 0.
    pub out: u64,
}

/// A call in flight.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Call {
    /// The stack pointer at its entry, which on x86-64 is the address of its
    /// return address; 0: none.
    slot: u64,
    /// The return address itself, where no return probe replaces it; 0 where
    /// one does.
    return_address: u64,
    /// The cookie of its entry.
    pub cookie: Cookie,
    pub arguments: Arguments,
}

impl Call {
    #[inline(always)]
    fn ends(&self, slot: u64, at_ret: bool) -> bool {
        self.slot == slot && (self.return_address != 0) == at_ret
    }

    /// Whether it still has its stack frame, while one is called whose return
    /// address lies at `slot`.
    #[inline(always)]
    fn is_around(&self, slot: u64) -> bool {
        if self.slot < slot {
            return false;
        }
        if arch::LINKS {
            // Where the function keeps its return address is not known. The
            // kernel tells whether its return is pending; of a function without
            // a return probe, nobody.
            return if self.return_address == 0 {
                is_pending(self.slot)
            } else {
                slot != self.slot
            };
        }
        // SAFETY: the helper checks the address.
        let found = unsafe { bpf_probe_read_user(self.slot as *const u64) };
        let Ok(found) = found else { return false };
        if self.return_address == 0 {
            return may_be_trampoline(found);
        }
        // Where the slots are the same, it was called from the same place again
        // after an exception; or has ended in a jump to another function, which
        // then stands for it.
        found == self.return_address && slot != self.slot
    }
}

/// The state of one thread. All zero when new.
#[repr(C)]
pub struct Thread {
    /// The call in flight.
    pub call: Call,
    /// The call around it, if that is one that may throw. What such a function
    /// calls counts by itself: it may be an exception's memory, or what a
    /// handler does (`std::set_new_handler`), and outlive the call.
    outer: Call,
    /// What the last call inside `outer` returned.
    inner_result: u64,
    /// The block that was freed last.
    freed: u64,
    /// Stack memory from this address on could not be read.
    pub unreadable: u64,
    /// The frame that a walk has reached.
    pub frame: Registers,
    /// Where the frame's frame pointer was read; 0: it is in its register; or
    /// [`crate::trail::ELSEWHERE`].
    pub fp_slot: u64,
    /// The frame's return address, if its function may not have saved it:
    /// where [`arch::LINKS`], and the frame is the innermost or was
    /// interrupted; otherwise 0.
    pub link: u64,
    /// Of the process; see [`crate::unwind::mappings`].
    pub mappings: ProcessMappings,
    /// How the last [`crate::unwind::Step`] ended.
    pub end: u64,
    /// Number of frames so far.
    pub depth: u32,
    reserved: u32,
    /// Hash of the frames so far.
    pub hash: u64,
    /// Hash and number of the frames up to the last in mapped code.
    pub known: (u64, u64),
    /// Whether the frame is in mapped code: 0 or 1.
    pub mapped: u32,
    /// Whether any frame was not: 0 or 1.
    pub guessed: u32,
    /// The first frame that was not.
    pub lost: Registers,
    /// How many frames there were with it; 0: all were in mapped code.
    pub lost_depth: u32,
    /// Copies of stacks that were sent under the list of mappings `copies_of`.
    pub copies: u32,
    pub copies_of: u64,
    /// What the walk has read.
    pub path: Path,
    /// The last walk.
    pub trail: Trail,
    /// Where the copy in `window` is from.
    pub window_start: u64,
    /// Valid bytes of `window`.
    pub window_length: u64,
    /// What `window` is sent behind; see [`crate::copy`].
    pub copy: StackCopyHead,
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

impl Thread {
    /// Whether a call whose return address lies at `slot` was made by the call
    /// in flight, as far as blocks go: see [`Self::outer`].
    #[inline(always)]
    pub fn is_nested(&mut self, slot: u64) -> bool {
        let throws = self.call.return_address != 0;
        self.is_inside(slot) && !throws
    }

    /// Whether a call whose return address lies at `slot` was made by the call
    /// in flight: directly, deeper, or by a tail call. One that is gone is
    /// forgotten.
    #[inline(always)]
    pub fn is_inside(&mut self, slot: u64) -> bool {
        if self.call.slot == 0 {
            return false;
        }
        let throws = self.call.return_address != 0;
        if self.call.is_around(slot) {
            count(Counter::NestedCalls);
            return true;
        }
        // Its stack frame is gone: an exception, which is how one that throws
        // fails, a longjmp, or no return probe was placed.
        if !throws {
            count(Counter::AbandonedCalls);
            debug!((), "a call did not return to {:x}", self.call.slot);
        }
        self.call.slot = 0;
        false
    }

    /// Begins an allocator's function, unless it is nested in another.
    #[inline(always)]
    pub fn begin(&mut self, regs: *const pt_regs, cookie: Cookie, arguments: Arguments) -> bool {
        let slot = arch::SP.read(regs);
        if self.is_nested(slot) {
            return false;
        }
        if self.call.slot != 0 {
            self.outer = self.call;
        }
        self.call.return_address = 0;
        if cookie.is_return() {
            self.inner_result = 0;
            self.call.return_address = arch::return_address(regs, slot).unwrap_or(0);
        }
        self.call.slot = slot;
        self.call.cookie = cookie;
        self.call.arguments = arguments;
        true
    }

    /// Ends the call whose return address was at `slot`; `at_ret`: it is at its
    /// `ret` instruction. Several functions may end in the same one, of which
    /// some have a return probe, and end there.
    #[inline(always)]
    pub fn end(&mut self, slot: u64, at_ret: bool) -> bool {
        if slot == 0 {
            return false;
        }
        if !self.call.ends(slot, at_ret) {
            if !self.outer.ends(slot, at_ret) {
                if self.call.slot == 0 && !at_ret {
                    count(Counter::UnpairedReturns);
                }
                return false;
            }
            // What it called has returned, or is gone.
            self.call = self.outer;
            self.outer.slot = 0;
        }
        self.call.slot = 0;
        true
    }

    /// Whether the block that a call returned was handed out by one that it
    /// made, and has been told of.
    #[inline(always)]
    pub fn is_told(&mut self, address: u64) -> bool {
        let told = self.call.return_address != 0 && self.inner_result == address;
        // Inside what is around it, if anything is.
        self.inner_result = address;
        told
    }

    /// A block ends. Whether the thread's last one was at the same address.
    #[inline(always)]
    pub fn frees_again(&mut self, address: u64) -> bool {
        let again = self.freed == address;
        self.freed = address;
        if self.inner_result == address {
            self.inner_result = 0;
        }
        again
    }
}
