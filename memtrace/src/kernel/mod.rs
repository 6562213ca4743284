//! All that differs between kernels.
pub mod accounting;
pub mod allocator;
pub mod btf;
pub mod gfp;
pub mod layout;
pub mod memory;
pub mod modules;
pub mod oom;
pub mod page_flags;
pub mod pages;
pub mod uprobe;

use std::io;

/// The programs that watch processes, with the raw tracepoint of each. These
/// are in every kernel since 3.4 (`include/trace/events/sched.h`).
pub const PROCESS_TRACEPOINTS: &[(&str, &str)] = &[
    ("thread_exit", "sched_process_exit"),
    ("process_exec", "sched_process_exec"),
];

/// The running kernel's version, as far as it says: distributions carry newer
/// features back, so this decides costs, never what is possible.
pub fn version() -> uprobe::Version {
    parse_version(&release()).unwrap_or((0, 0))
}

/// What the running kernel calls itself.
pub fn release() -> String {
    let name = rustix::system::uname();
    name.release().to_string_lossy().into_owned()
}

/// Major and minor number of a release as `uname -r` prints it.
pub fn parse_version(release: &str) -> Option<uprobe::Version> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether an uprobe-multi link for a process fires in all of its threads. It
/// did so in its main thread alone before 6.10 (fixed by 46ba0e49b642), and
/// nothing but the version tells.
pub fn filters_multi_by_process() -> bool {
    version() >= (6, 10)
}

/// Whether programs of perf events may use hash maps whose elements are made when
/// they are needed. 6.1 lifted that (96da3f7d489d); a kernel that took it back only
/// pays for elements that it need not have.
pub fn perf_events_take_any_map() -> bool {
    version() >= (6, 1)
}

/// Whether process ids here are those that eBPF programs see. The initial
/// namespace has a fixed inode (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
pub fn in_initial_pid_namespace(proc_root: &std::path::Path) -> bool {
    std::fs::read_link(proc_root.join("self/ns/pid"))
        .is_ok_and(|namespace| namespace.as_os_str() == "pid:[4026531836]")
}

/// A name from the kernel's memory: it ends with a zero byte, or is as long as it
/// may be.
pub fn text(bytes: &[u8]) -> String {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// Size of the ring buffer: 1/512 of the machine's memory, between 4 MiB and
/// 64 MiB, as a power of two.
///
/// # Errors
/// `/proc/meminfo` cannot be read.
pub fn ring_bytes(proc_root: &std::path::Path) -> io::Result<u32> {
    use procfs::{FromRead, Meminfo};
    let meminfo = Meminfo::from_file(proc_root.join("meminfo")).map_err(io::Error::other)?;
    let share = (meminfo.mem_total / 512).clamp(4 << 20, 64 << 20);
    Ok(u32::try_from(share.next_power_of_two()).unwrap_or(64 << 20))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions() {
        assert_eq!(parse_version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(parse_version("5.10.0-35-amd64"), Some((5, 10)));
        assert_eq!(parse_version("7.2-rc1"), Some((7, 2)));
        assert_eq!(parse_version("none"), None);
    }
}
