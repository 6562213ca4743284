//! Takes user stacks at the return of a function, when all callee-saved
//! registers are the caller's own. Part of the stack is copied once and the copy is walked;
//! each distinct stack is sent once, events carry its hash.
use core::mem::size_of;

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_USER_STACK, pt_regs},
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_user, generated, generated::bpf_ringbuf_output,
    },
};
use aya_log_ebpf::debug;
use memtrace_common::{
    Cookie, Counter, EventKind,
    event::{StackFlags, StackHead},
    limit::{MAX_FRAMES, STACK_COPY, STACK_WINDOW},
};

use crate::{
    arch, cache, config, copy,
    count::count,
    hidden, maps,
    ring::{self, head, wake_up},
    thread::{self, Thread},
    trail,
    unwind::{self, Registers, Step},
};

/// The user's stack pointer.
#[inline(always)]
pub fn pointer(regs: *mut pt_regs) -> u64 {
    arch::SP.read(regs)
}

/// Makes the thread's frame that of the caller of a function that has returned,
/// or is at its `ret` instruction (`at_ret`).
#[inline(always)]
pub fn at_return(regs: *mut pt_regs, thread: &mut Thread, at_ret: bool) -> bool {
    let (mut ip, mut sp) = (arch::IP.read(regs), pointer(regs));
    let fp = arch::FP.read(regs);
    if at_ret {
        match arch::return_address(regs, sp) {
            Some(address) => ip = hidden::true_return(sp, address).0,
            None => return false,
        }
        sp = sp.wrapping_add(arch::PUSHED);
    }
    thread.frame = Registers { ip, sp, fp };
    thread.link = 0;
    true
}

/// Makes the thread's frame that of the caller of a function that is behind
/// its system call.
#[inline(always)]
pub fn behind_system_call(regs: *mut pt_regs, thread: &mut Thread, probe: Cookie) -> bool {
    let sp = pointer(regs);
    let slot = sp.wrapping_add(probe.depth());
    let Some(ip) = arch::return_address(regs, slot) else {
        return false;
    };
    let fp = match probe.frame_pointer() {
        None => arch::FP.read(regs),
        Some(offset) => {
            let saved = sp.wrapping_add(offset);
            // SAFETY: the helper checks the address.
            match unsafe { bpf_probe_read_user(saved as *const u64) } {
                Ok(fp) => fp,
                Err(_) => return false,
            }
        }
    };
    let sp = slot.wrapping_add(arch::PUSHED);
    let (ip, _) = hidden::true_return(slot, ip);
    thread.frame = Registers { ip, sp, fp };
    thread.link = 0;
    true
}

/// Takes the stack from the thread's frame on, sends it if it is new, and
/// returns its hash.
#[inline(always)]
pub fn capture(thread: &mut Thread) -> u64 {
    let Registers { ip, sp, fp } = unwind::current(thread);
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let mappings = unwind::mappings(pid);
    // User space moves the list of mappings when it changes, and remembered
    // walks go with it.
    let process = mix(
        (u64::from(pid) << 32) | u64::from(mappings.generation),
        u64::from(mappings.first),
    );
    let mut seed = mix(mix(process, ip), sp);
    if arch::LINKS {
        seed = mix(seed, thread.link);
    }
    if let Some(hash) = cache::begin(thread, sp, seed, fp) {
        return hash;
    }
    trail::begin(thread, process);
    thread.guessed = 0;
    thread.lost_depth = 0;
    thread.fp_slot = 0;
    thread.depth = 0;
    thread.hash = (u64::from(mappings.generation) << 32) | u64::from(pid);
    thread.mappings = mappings;
    push(thread);
    // Each round takes in a frame at least.
    for _ in 0..MAX_FRAMES {
        if trail::trail_follow() == trail::COMPLETE {
            thread.known = (thread.hash, u64::from(thread.depth));
            thread.end = Step::End as u64;
            break;
        }
        if stack_walk_part() != Step::Next as u64 || thread.depth as usize >= MAX_FRAMES {
            break;
        }
    }
    let end = thread.end;
    let whole = end == Step::End as u64 && thread.guessed == 0;
    if config::REMEMBER.load() != 0 {
        trail::trail_keep(u32::from(whole));
    }
    // In code that is not known to be mapped (a library that has just been
    // loaded, or no code at all) a frame pointer may lead on, or astray. Where
    // it does not lead back to known code, that part is left out.
    let (hash, depth) = thread.known;
    let flags = if whole { 0 } else { StackFlags::TRUNCATED };
    begin_record(thread, hash, depth as u32, flags);
    let copied = if copy::is_wanted(thread, process) {
        copy::stack_copy()
    } else {
        0
    };
    if copied != 0 {
        thread.stack.start.hash = copied;
        thread.stack.start.head.flags = StackFlags::TRUNCATED | StackFlags::COPIED;
        send_if_new(thread);
        return copied;
    }
    const NEXT: u64 = Step::Next as u64;
    const UNREADABLE: u64 = Step::Unreadable as u64;
    const NO_RULE: u64 = Step::NoRule as u64;
    let cut = match end {
        NEXT => Some(Counter::StacksTooDeep),
        UNREADABLE => Some(Counter::StacksUnreadable),
        NO_RULE => Some(Counter::StacksNoRule),
        _ => None,
    };
    if let Some(reason) = cut {
        count(reason);
        let Registers { ip, sp, fp } = unwind::current(thread);
        debug!(
            (),
            "stack cut ({}) at ip {:x} sp {:x} fp {:x}", reason as u32, ip, sp, fp
        );
    }
    let (hash, sent) = send_if_new(thread);
    // What could not be read may be there the next time.
    if sent && end != UNREADABLE {
        cache::remember(thread, seed, fp, hash);
    }
    hash
}

/// Frames that [`stack_walk_part`] takes in: the verifier follows so many, and
/// each part costs a look for the thread.
const PART: usize = 8;

/// Walks on, a few frames. Returns how the last [`Step`] ended.
///
/// Of global linkage and without arguments, so that the verifier checks it once:
/// a walk of 128 frames in one piece is beyond its limit. It leaves the last
/// walk to its caller: before 6.12 the frames of functions that are within each other
/// have to fit into 512 bytes, each rounded up to 32.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn stack_walk_part() -> u64 {
    let Some(thread) = thread::find() else {
        return Step::Unreadable as u64;
    };
    let mut end = Step::Next as u64;
    for frame in 0..PART {
        if frame > 0 && trail::is_known(thread) {
            break;
        }
        end = unwind::step(thread) as u64;
        // The first is an address that the program is about to return to,
        // mapped or not.
        if thread.mapped != 0 || thread.depth == 1 {
            thread.known = (thread.hash, u64::from(thread.depth));
        }
        if end != Step::Next as u64 || thread.depth as usize >= MAX_FRAMES {
            break;
        }
        push(thread);
    }
    thread.end = end;
    end
}

/// Adds the frame that the walk has reached to the stack.
#[inline(always)]
fn push(thread: &mut Thread) {
    let ip = unwind::current(thread).ip;
    trail::note(thread);
    let depth = thread.depth as usize;
    thread.stack.frames[depth & (MAX_FRAMES - 1)] = ip;
    thread.hash = mix(thread.hash, ip);
    thread.depth = depth as u32 + 1;
}

/// Takes the stack by the kernel's own walk, to measure what that costs.
#[inline(always)]
pub fn by_kernel(ctx: &impl EbpfContext, thread: &mut Thread) -> u64 {
    // SAFETY: the frames have room for that many bytes.
    let length = unsafe {
        generated::bpf_get_stack(
            ctx.as_ptr(),
            (&raw mut thread.stack.frames).cast(),
            (MAX_FRAMES * 8) as u32,
            u64::from(BPF_F_USER_STACK),
        )
    };
    let depth = (length.max(0) as usize / 8).min(MAX_FRAMES);
    let mut hash = bpf_get_current_pid_tgid() >> 32;
    for frame in 0..MAX_FRAMES {
        if frame >= depth {
            break;
        }
        hash = mix(hash, thread.stack.frames[frame]);
    }
    // By frame pointers: nobody knows whether it is whole.
    begin_record(thread, hash, depth as u32, StackFlags::TRUNCATED);
    send_if_new(thread).0
}

/// Puts the head of a stack's record together.
#[inline(always)]
fn begin_record(thread: &mut Thread, hash: u64, depth: u32, flags: u32) {
    let mut head = head(EventKind::Stack, 0);
    head.flags = flags;
    thread.stack.start = StackHead {
        head,
        // A cut stack is another stack than the same frames complete.
        hash: mix(hash, u64::from(flags)),
        depth,
        reserved: 0,
    };
}

/// Sends the stack that was put together, unless it was before. Returns its
/// hash, and whether user space knows it or will.
#[inline(always)]
fn send_if_new(thread: &mut Thread) -> (u64, bool) {
    // Read back from memory, like the registers in `unwind::current`, so that
    // the verifier does not follow the rest anew for each depth.
    // SAFETY: a reference is valid for reads.
    let StackHead { hash, depth, .. } =
        unsafe { core::ptr::read_volatile(&raw const thread.stack.start) };
    // SAFETY: the value is not read.
    if unsafe { maps::STACKS_SEEN.get(hash) }.is_some() {
        return (hash, true);
    }
    if ring::waiting() > config::SHED_BYTES.load() {
        count(Counter::StacksShed);
        return (hash, false);
    }
    let depth = (depth as usize).min(MAX_FRAMES);
    let length = size_of::<StackHead>() + depth * 8;
    // SAFETY: `length` bytes of `stack` are initialized: the map's memory is
    // zeroed and the frames up to `depth` were just written.
    let failed = unsafe {
        bpf_ringbuf_output(
            (&raw const maps::EVENTS).cast_mut().cast(),
            (&raw mut thread.stack).cast(),
            length as u64,
            wake_up(),
        )
    };
    if failed != 0 {
        count(Counter::StackRingFull);
        return (hash, false);
    }
    count(Counter::StacksSent);
    if maps::STACKS_SEEN.insert(hash, 1, 0).is_err() {
        count(Counter::SeenFull);
    }
    (hash, true)
}

/// One round of a 64-bit hash: the multiplier is that of Knuth's MMIX random
/// number generator, the shift brings high bits down.
#[inline(always)]
pub fn mix(hash: u64, value: u64) -> u64 {
    let product = (hash ^ value).wrapping_mul(6_364_136_223_846_793_005);
    product ^ (product >> 32)
}

/// The word of user stack at `address`, from the window; moves the window
/// there first where it must.
#[inline(always)]
pub fn word(thread: &mut Thread, address: u64) -> Option<u64> {
    if address & 7 != 0 {
        return None;
    }
    let mut offset = address.wrapping_sub(thread.window_start);
    if offset >= thread.window_length {
        if stack_refill(address) == 0 {
            return None;
        }
        offset = 0;
    }
    Some(thread.window[(offset / 8) as usize & (STACK_WINDOW / 8 - 1)])
}

/// Moves the current thread's window to `address`; 0 if that failed.
///
/// Of global linkage and with a scalar argument, so that the verifier checks
/// it once and not for each frame; the price is a second look for the thread.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn stack_refill(address: u64) -> u64 {
    match thread::find() {
        Some(thread) => u64::from(fill(thread, address)),
        None => 0,
    }
}

/// Copies the stack from `address` on, [`STACK_COPY`] bytes or up to where
/// memory ends.
#[inline(always)]
fn fill(thread: &mut Thread, address: u64) -> bool {
    fill_with(thread, address, STACK_COPY)
}

/// Copies so many bytes of the stack from `address` on, or as many as there are.
#[inline(always)]
pub fn fill_with(thread: &mut Thread, address: u64, wanted: u64) -> bool {
    let known = thread.unreadable.wrapping_sub(address);
    let wanted = if known < wanted { known } else { wanted };
    if copy(thread, address, wanted) {
        return true;
    }
    // A copy that crosses the end of the stack fails as a whole; this page is
    // there, the next is not. Remembered, because a failed copy costs 1.1 µs.
    let page_end = (address | 0xfff).wrapping_add(1);
    let copied = copy(thread, address, page_end.wrapping_sub(address));
    if copied {
        thread.unreadable = page_end;
    }
    copied
}

#[inline(always)]
fn copy(thread: &mut Thread, address: u64, length: u64) -> bool {
    let length = length & !7;
    if length == 0 || length > STACK_WINDOW as u64 {
        return false;
    }
    // SAFETY: the window has STACK_WINDOW bytes; the helper checks the
    // address.
    let failed = unsafe {
        generated::bpf_probe_read_user(
            (&raw mut thread.window).cast(),
            length as u32,
            address as *const _,
        )
    };
    if failed != 0 {
        thread.window_length = 0;
        return false;
    }
    thread.window_start = address;
    thread.window_length = length;
    true
}
