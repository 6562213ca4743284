//! What lets memtrace outlive the moment that it is to record: its memory stays
//! where it is, and the kernel kills others.
use std::fs;

use rustix::mm::{MlockAllFlags, mlockall};

/// `CAP_IPC_LOCK`, `include/uapi/linux/capability.h`.
const CAP_IPC_LOCK: u32 = 14;

/// Protects this process as far as it may, and says what it may not.
pub(super) fn protect() {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "-1000") {
        log::warn!(
            "cannot set its own oom_score_adj to -1000 ({error}): the kernel may kill memtrace too; it takes CAP_SYS_RESOURCE, or OOMScoreAdjust=-1000 in a systemd unit"
        );
    }
    // With a limit on locked memory, later allocations would fail.
    if !may_lock() {
        log::warn!(
            "cannot lock its memory: without CAP_IPC_LOCK memtrace may be slow when memory is short"
        );
        return;
    }
    // What is there now, and whatever comes when it is touched first.
    let locked = mlockall(MlockAllFlags::CURRENT)
        .and_then(|()| mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT));
    if let Err(error) = locked {
        log::warn!("cannot lock its memory ({error}): memtrace may be slow when memory is short");
    }
}

fn may_lock() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set >> CAP_IPC_LOCK & 1 != 0)
}
