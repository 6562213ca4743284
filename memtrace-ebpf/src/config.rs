//! What user space sets before loading: constants to the verifier, so that
//! code that is switched off costs nothing.
use aya_ebpf::Global;

/// Bytes waiting in the ring buffer from which the reader is woken. Below it
/// the reader's timer collects them.
#[unsafe(no_mangle)]
pub static WAKE_BYTES: Global<u64> = Global::new(64 * 1024);
