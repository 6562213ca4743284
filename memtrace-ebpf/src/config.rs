//! What user space sets before loading: constants to the verifier, so that
//! code that is switched off costs nothing.
use aya_ebpf::Global;
use memtrace_common::oom::OomLayout;
use memtrace_common::pages::PagesLayout;
use memtrace_common::unwind::{HiddenReturns, Method};

/// Bytes waiting in the ring buffer from which the reader is woken. Below it
/// the reader's timer collects them.
#[unsafe(no_mangle)]
pub static WAKE_BYTES: Global<u64> = Global::new(64 * 1024);

/// Always 0; see [`crate::probe::keep_kernel_stack`].
#[unsafe(no_mangle)]
pub static NEVER: Global<u8> = Global::new(0);

/// Bytes waiting in the ring buffer from which no stacks are sent, so that
/// events still find room: a stack goes with a later event.
#[unsafe(no_mangle)]
pub static SHED_BYTES: Global<u64> = Global::new(768 * 1024);

/// Whether probes have attach cookies (since Linux 5.15): 0 or 1. Otherwise
/// [`crate::maps::COOKIES`] has them.
#[unsafe(no_mangle)]
pub static HAS_COOKIES: Global<u8> = Global::new(1);

/// Blocks below and above these sizes are left out.
#[unsafe(no_mangle)]
pub static MIN_SIZE: Global<u64> = Global::new(0);

/// See [`MIN_SIZE`].
#[unsafe(no_mangle)]
pub static MAX_SIZE: Global<u64> = Global::new(u64::MAX);

/// Mean bytes between samples; 0: every block is taken in.
#[unsafe(no_mangle)]
pub static SAMPLE_BYTES: Global<u64> = Global::new(0);

/// A [`Method`]: how stacks are walked.
#[unsafe(no_mangle)]
pub static UNWIND: Global<u8> = Global::new(Method::Auto as u8);

/// Whether walks are remembered: 0 or 1.
#[unsafe(no_mangle)]
pub static REMEMBER: Global<u8> = Global::new(1);

/// Whether copies of stacks are sent where a walk cannot go on here: 0 or 1.
#[unsafe(no_mangle)]
pub static COPIES: Global<u8> = Global::new(0);

/// See [`HiddenReturns`].
#[unsafe(no_mangle)]
pub static HIDDEN_RETURNS: Global<HiddenReturns> = Global::new(HiddenReturns {
    known: 0,
    utask: 0,
    return_instances: 0,
    stack: 0,
    original: 0,
    next: 0,
});

/// Whether stacks are walked this way: a constant to the verifier.
#[inline(always)]
pub fn unwinds_by(method: Method) -> bool {
    UNWIND.load() == method as u8
}
/// Where the kernel keeps what a kill is about; see [`crate::oom`].
#[unsafe(no_mangle)]
pub static OOM: Global<OomLayout> = Global::new(OomLayout::NONE);

/// How page frames are told; see [`crate::pages`].
#[unsafe(no_mangle)]
pub static PAGES: Global<PagesLayout> = Global::new(PagesLayout::NONE);

/// Whether kernel stacks are remembered: 0 or 1; see [`crate::recall`].
#[unsafe(no_mangle)]
pub static RECALL: Global<u8> = Global::new(1);

/// The thread whose pages are noted, to work out [`PagesLayout::memory_map`].
#[unsafe(no_mangle)]
pub static SAMPLED_THREAD: Global<u32> = Global::new(0);
