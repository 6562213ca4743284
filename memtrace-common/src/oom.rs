//! What is known of an out-of-memory kill at its moment, and where this kernel
//! keeps it.
use crate::Head;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Levels of cgroups, from the victim's upwards, that a record names.
pub const GROUP_LEVELS: usize = 6;
/// Bytes of each name, its end included.
pub const GROUP_NAME: usize = 96;
/// Frames of the trigger's kernel stack.
pub const KERNEL_FRAMES: usize = 32;
/// Bytes of a task's name.
pub const COMM: usize = 16;

/// An offset that this kernel does not have, or a number that is not known.
pub const UNKNOWN: u32 = u32::MAX;
/// An adjustment that is not known.
pub const UNKNOWN_ADJ: i32 = i32::MIN;

/// [`Head::kind`] of a kill by the kernel; [`crate::EventKind`] leaves it free.
pub const KILL: u16 = 32;
/// [`Head::kind`] of a SIGKILL or SIGTERM from another process.
pub const SIGNAL: u16 = 33;

/// Bytes of a zone's name.
pub const ZONE_NAME: usize = 8;

/// Bits of [`Request::known`].
pub struct Known;
impl Known {
    /// The kernel's `struct oom_control` was read as it had chosen: all is known.
    pub const CONTROL: u32 = 1;
    /// It was read before the kernel chose: flags, order and group are known.
    pub const CONTROL_BEFORE: u32 = 8;
    /// The thread's last reclaim was for the machine: flags and order are its.
    pub const DIRECT_RECLAIM: u32 = 2;
    /// The thread's last reclaim was for a memory cgroup.
    pub const MEMCG_RECLAIM: u32 = 4;
}

/// The request that could not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    /// A [`Known`] value.
    pub known: u32,
    /// `gfp_t`.
    pub gfp: u32,
    /// 2 to this power pages; -1: through sysrq.
    pub order: i32,
    /// `enum oom_constraint`.
    pub constraint: u32,
    /// The `kernfs_node` of the group whose limit was reached, or 0.
    pub limit_group: u64,
    /// Pages that points are measured by (`oom_control.totalpages`), or 0.
    pub total_pages: u64,
    /// The victim's points, in pages (`oom_control.chosen_points`).
    pub chosen_points: i64,
}

impl Request {
    /// Nothing is known.
    pub const NONE: Self = Self {
        known: 0,
        gfp: 0,
        order: 0,
        constraint: UNKNOWN,
        limit_group: 0,
        total_pages: 0,
        chosen_points: 0,
    };
}

/// How reclaim and compaction failed the request: what the kernel last said as it
/// decided whether to go on (`should_reclaim_retry`, `should_compact_retry` of
/// `mm/page_alloc.c`). Sizes in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Retry {
    /// When it last judged a zone; 0: never.
    pub zone_ns: u64,
    /// Of the zone that came nearest: what could be reclaimed from it.
    pub reclaimable: u64,
    /// That and what is free.
    pub available: u64,
    /// Its minimum watermark.
    pub minimum: u64,
    /// Rounds in a row that set nothing free.
    pub no_progress: i32,
    /// Whether what is available would have been enough: 0 or 1.
    pub enough: u32,
    /// The zone's name.
    pub zone: [u8; ZONE_NAME],
    /// When it last judged compaction; 0: never.
    pub compact_ns: u64,
    /// 2 to this power pages.
    pub order: i32,
    /// `enum compact_priority`.
    pub priority: i32,
    /// `enum compact_result`.
    pub result: i32,
    /// Attempts, and how many are made at most.
    pub retries: i32,
    /// See above.
    pub max_retries: i32,
    /// Keeps what follows at its place.
    pub reserved: u32,
}

impl Retry {
    /// The kernel said nothing.
    pub const NONE: Self = Self {
        zone_ns: 0,
        reclaimable: 0,
        available: 0,
        minimum: 0,
        no_progress: 0,
        enough: 0,
        zone: [0; ZONE_NAME],
        compact_ns: 0,
        order: 0,
        priority: 0,
        result: 0,
        retries: 0,
        max_retries: 0,
        reserved: 0,
    };
}

/// A kill. Sizes are in pages, but for the page tables'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OomKill {
    /// [`KILL`] or [`SIGNAL`]; the process that asked for memory, or that
    /// sent the signal.
    pub head: Head,
    /// The request.
    pub request: Request,
    /// How it failed.
    pub retry: Retry,
    /// Who dies.
    pub victim: u32,
    /// Its user; [`UNKNOWN`] before Linux 6.9.
    pub victim_uid: u32,
    /// Its adjustment.
    pub victim_adj: i32,
    /// The trigger's adjustment.
    pub trigger_adj: i32,
    /// Which of [`Self::groups`] has the limit that was reached, or [`UNKNOWN`].
    pub limit_level: u32,
    /// Frames that [`Self::stack`] holds.
    pub depth: u32,
    /// The signal of a [`SIGNAL`].
    pub signal: u32,
    /// Keeps what follows at its place.
    pub reserved: u32,
    /// Address space.
    pub total_vm: u64,
    /// File pages, anonymous pages, swap entries, shared memory (`MM_FILEPAGES`
    /// and so on); `u64::MAX`: not known.
    pub rss: [u64; 4],
    /// Bytes of page tables; `u64::MAX`: not known.
    pub pgtables_bytes: u64,
    /// The trigger's name.
    pub trigger_comm: [u8; COMM],
    /// The victim's name.
    pub victim_comm: [u8; COMM],
    /// The trigger's kernel stack, innermost first.
    pub stack: [u64; KERNEL_FRAMES],
    /// Names of the victim's memory cgroup, its parent and so on, each ended by
    /// a zero byte. An empty name is the root.
    pub groups: [[u8; GROUP_NAME]; GROUP_LEVELS],
}

/// Offsets in the kernel's structures, bytes, or [`UNKNOWN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OomLayout {
    /// Whether `mark_victim` hands over the task (1, since Linux 6.9) or its
    /// thread group's id (0).
    pub mark_has_task: u32,
    /// Which argument of `mm_vmscan_*_reclaim_begin` is the flags.
    pub reclaim_gfp_argument: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.comm`.
    pub task_comm: u32,
    /// `task_struct.mm`.
    pub task_mm: u32,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `task_struct.cgroups`.
    pub task_cgroups: u32,
    /// `signal_struct.oom_score_adj`.
    pub signal_adj: u32,
    /// `mm_struct.total_vm`.
    pub mm_total_vm: u32,
    /// The first count in `mm_struct.rss_stat`.
    pub mm_rss: u32,
    /// From one count to the next.
    pub mm_rss_stride: u32,
    /// `mm_struct.pgtables_bytes`.
    pub mm_pgtables: u32,
    /// The memory controller's entry in `css_set.subsys`.
    pub set_memory: u32,
    /// `cgroup_subsys_state.cgroup`.
    pub css_cgroup: u32,
    /// `cgroup.kn`.
    pub cgroup_kn: u32,
    /// `kernfs_node.name`.
    pub kn_name: u32,
    /// `kernfs_node.parent`.
    pub kn_parent: u32,
    /// `oom_control.gfp_mask`.
    pub control_gfp: u32,
    /// `oom_control.order`.
    pub control_order: u32,
    /// `oom_control.constraint`.
    pub control_constraint: u32,
    /// `oom_control.memcg`.
    pub control_memcg: u32,
    /// `oom_control.totalpages`.
    pub control_total: u32,
    /// `oom_control.chosen_points`.
    pub control_points: u32,
    /// `mem_cgroup.css`.
    pub memcg_css: u32,
    /// `zoneref.zone`.
    pub zoneref_zone: u32,
    /// `zone.name`.
    pub zone_name: u32,
    /// Where the classic tracepoint's record has the victim's id.
    pub mark_pid: u32,
}

impl OomLayout {
    /// Nothing is known.
    pub const NONE: Self = Self {
        mark_has_task: 0,
        reclaim_gfp_argument: 1,
        task_tgid: UNKNOWN,
        task_comm: UNKNOWN,
        task_mm: UNKNOWN,
        task_signal: UNKNOWN,
        task_cgroups: UNKNOWN,
        signal_adj: UNKNOWN,
        mm_total_vm: UNKNOWN,
        mm_rss: UNKNOWN,
        mm_rss_stride: UNKNOWN,
        mm_pgtables: UNKNOWN,
        set_memory: UNKNOWN,
        css_cgroup: UNKNOWN,
        cgroup_kn: UNKNOWN,
        kn_name: UNKNOWN,
        kn_parent: UNKNOWN,
        control_gfp: UNKNOWN,
        control_order: UNKNOWN,
        control_constraint: UNKNOWN,
        control_memcg: UNKNOWN,
        control_total: UNKNOWN,
        control_points: UNKNOWN,
        memcg_css: UNKNOWN,
        zoneref_zone: UNKNOWN,
        zone_name: UNKNOWN,
        mark_pid: UNKNOWN,
    };
}
