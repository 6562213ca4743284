//! The only writer of the ring buffer.
use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
};
use memtrace_common::{Counter, EventKind, Head};

use crate::{config, count::count, maps};

/// The wake-up that a record is sent with: none for most. One when the data
/// that waits crosses [`config::WAKE_BYTES`]; a window rather than an edge,
/// since several CPUs write at once.
#[inline(always)]
pub fn wake_up() -> u64 {
    let wake = config::WAKE_BYTES.load();
    if waiting().wrapping_sub(wake) < 4096 {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// Bytes that nobody has read yet.
#[inline(always)]
pub fn waiting() -> u64 {
    maps::EVENTS.query(u64::from(BPF_RB_AVAIL_DATA))
}

/// The head of a record of the current thread, now.
#[inline(always)]
pub fn head(kind: EventKind, function: u16) -> Head {
    let pid_tgid = bpf_get_current_pid_tgid();
    Head {
        kind: kind as u16,
        function,
        pid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        flags: 0,
        // SAFETY: no arguments, no preconditions.
        time_ns: unsafe { bpf_ktime_get_ns() },
    }
}

/// Sends one record, or counts that it was lost.
#[inline(always)]
pub fn send<T: 'static>(record: T) {
    submit(record, wake_up());
}

/// The same for what user space must act upon at once.
#[inline(always)]
pub fn send_now<T: 'static>(record: T) {
    submit(record, u64::from(BPF_RB_FORCE_WAKEUP));
}

#[inline(always)]
fn submit<T: 'static>(record: T, wake_up: u64) {
    match maps::EVENTS.reserve::<T>(0) {
        Some(mut entry) => {
            entry.write(record);
            entry.submit(wake_up);
            count(Counter::EventsSent);
        }
        None => count(Counter::RingFull),
    }
}
