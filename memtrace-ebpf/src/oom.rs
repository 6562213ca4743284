//! Out-of-memory kills: what the kernel knows at the moment, taken where user
//! space would come too late. Where things are is [`config::OOM`].
use aya_ebpf::{
    EbpfContext,
    bindings::BPF_RB_FORCE_WAKEUP,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel,
        bpf_probe_read_kernel_str_bytes,
        generated::{bpf_get_current_task, bpf_get_stack},
    },
    macros::{fentry, kprobe, raw_tracepoint, tracepoint},
    programs::{FEntryContext, ProbeContext, RawTracePointContext, TracePointContext},
};
use memtrace_common::{
    Counter, Head,
    oom::{
        GROUP_LEVELS, KERNEL_FRAMES, KILL, Known, OomKill, OomLayout, Request, Retry, SIGNAL,
        UNKNOWN, UNKNOWN_ADJ,
    },
};

use crate::{config, count::count, maps};

/// The kernel marks a victim: `(task, uid)` since 6.9, `(pid)` before.
#[raw_tracepoint(tracepoint = "mark_victim")]
fn oom_mark_victim(ctx: RawTracePointContext) -> i32 {
    let layout = config::OOM.load();
    let first: u64 = ctx.arg(0);
    if layout.mark_has_task != 0 {
        let uid: u64 = ctx.arg(1);
        send(&ctx, &layout, Occasion::kill(first, u32::MAX, uid as u32));
    } else {
        send(&ctx, &layout, Occasion::kill(0, first as u32, UNKNOWN));
    }
    0
}

/// The same by its classic tracepoint, whose record has the id alone that all
/// kernels put there.
#[tracepoint]
fn oom_mark_victim_classic(ctx: TracePointContext) -> u32 {
    let layout = config::OOM.load();
    if layout.mark_pid != UNKNOWN {
        // SAFETY: the helper refuses what lies outside of the record.
        if let Ok(pid) = unsafe { ctx.read_at::<u32>(layout.mark_pid as usize) } {
            send(&ctx, &layout, Occasion::kill(0, pid, UNKNOWN));
        }
    }
    0
}

/// What is sent, and about whom.
#[derive(Clone, Copy)]
struct Occasion {
    kind: u16,
    signal: u32,
    /// The victim's `task_struct`, or 0.
    task: u64,
    /// Its id where the task is not known.
    pid: u32,
    uid: u32,
}

impl Occasion {
    #[inline(always)]
    fn kill(task: u64, pid: u32, uid: u32) -> Self {
        Self {
            kind: KILL,
            signal: SIGKILL,
            task,
            pid,
            uid,
        }
    }
}

const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;
/// `SEND_SIG_PRIV`: the kernel itself sends it.
const FROM_KERNEL: u64 = 1;

/// A signal is sent: `(signal, info, task, …)`. Taken in if it is SIGKILL, or
/// SIGTERM, with which killers begin, from another process.
#[raw_tracepoint(tracepoint = "signal_generate")]
fn oom_signal(ctx: RawTracePointContext) -> i32 {
    let signal: u64 = ctx.arg(0);
    let info: u64 = ctx.arg(1);
    let signal = signal as u32;
    if !matches!(signal, SIGKILL | SIGTERM) || info == FROM_KERNEL {
        return 0;
    }
    let layout = config::OOM.load();
    let task: u64 = ctx.arg(2);
    let sender = (bpf_get_current_pid_tgid() >> 32) as u32;
    let target: Option<u32> = read(task, layout.task_tgid);
    if target.is_some_and(|target| target != sender) {
        let occasion = Occasion {
            kind: SIGNAL,
            signal,
            task,
            pid: u32::MAX,
            uid: UNKNOWN,
        };
        send(&ctx, &layout, occasion);
    }
    0
}

/// Direct reclaim begins: `(order, gfp_flags)`, before 5.2 with another in
/// between. The last of a thread that then runs out of memory was for its request.
#[raw_tracepoint(tracepoint = "mm_vmscan_direct_reclaim_begin")]
fn oom_direct_reclaim(ctx: RawTracePointContext) -> i32 {
    reclaim(&ctx, Known::DIRECT_RECLAIM)
}

/// The same for a memory cgroup. Its flags are not the request's.
#[raw_tracepoint(tracepoint = "mm_vmscan_memcg_reclaim_begin")]
fn oom_memcg_reclaim(ctx: RawTracePointContext) -> i32 {
    reclaim(&ctx, Known::MEMCG_RECLAIM)
}

#[inline(always)]
fn reclaim(ctx: &RawTracePointContext, known: u32) -> i32 {
    let order: u64 = ctx.arg(0);
    let second: u64 = ctx.arg(1);
    let third: u64 = if config::OOM.load().reclaim_gfp_argument == 2 {
        ctx.arg(2)
    } else {
        second
    };
    remember(&Request {
        known,
        gfp: third as u32,
        order: order as i32,
        ..Request::NONE
    });
    0
}

/// `oom_kill_process(struct oom_control *, const char *)`.
#[kprobe]
fn oom_request_kprobe(ctx: ProbeContext) -> u32 {
    control(ctx.arg(0).unwrap_or(0), Known::CONTROL);
    0
}

/// The same where the kernel has fentry but no kprobes.
#[fentry(function = "oom_kill_process")]
fn oom_request_fentry(ctx: FEntryContext) -> i32 {
    let address: *const u8 = ctx.arg(0);
    control(address as u64, Known::CONTROL);
    0
}

/// `out_of_memory(struct oom_control *)`, where that one is not to be had.
#[kprobe]
fn oom_entry_kprobe(ctx: ProbeContext) -> u32 {
    control(ctx.arg(0).unwrap_or(0), Known::CONTROL_BEFORE);
    0
}

/// The same by fentry.
#[fentry(function = "out_of_memory")]
fn oom_entry_fentry(ctx: FEntryContext) -> i32 {
    let address: *const u8 = ctx.arg(0);
    control(address as u64, Known::CONTROL_BEFORE);
    0
}

#[inline(always)]
fn control(control: u64, known: u32) {
    let layout = config::OOM.load();
    let (Some(gfp), Some(order)) = (
        read(control, layout.control_gfp),
        read(control, layout.control_order),
    ) else {
        return;
    };
    let memcg = read(control, layout.control_memcg).unwrap_or(0);
    let mut request = Request {
        known,
        gfp,
        order,
        limit_group: group_of(&layout, memcg, layout.memcg_css),
        ..Request::NONE
    };
    if known == Known::CONTROL {
        request.constraint = read(control, layout.control_constraint).unwrap_or(UNKNOWN);
        request.total_pages = read(control, layout.control_total).unwrap_or(0);
        request.chosen_points = read(control, layout.control_points).unwrap_or(0);
    }
    remember(&request);
}

#[inline(always)]
fn remember(request: &Request) {
    let thread = bpf_get_current_pid_tgid() as u32;
    // Evicts the oldest where it is full; it fails for no other reason.
    let _ = maps::OOM_REQUESTS.insert(thread, request, 0);
}

/// Reads a member of a structure in the kernel's memory.
#[inline(always)]
pub fn read<T: Copy>(structure: u64, offset: u32) -> Option<T> {
    if structure == 0 || offset == UNKNOWN {
        return None;
    }
    let address = structure.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper refuses addresses that cannot be read.
    unsafe { bpf_probe_read_kernel(address) }.ok()
}

/// The `kernfs_node` of the group whose `cgroup_subsys_state` is there.
#[inline(always)]
fn group_of(layout: &OomLayout, structure: u64, css: u32) -> u64 {
    if structure == 0 || css == UNKNOWN {
        return 0;
    }
    let css = structure.wrapping_add(u64::from(css));
    let cgroup = read(css, layout.css_cgroup).unwrap_or(0);
    read(cgroup, layout.cgroup_kn).unwrap_or(0)
}

#[inline(always)]
fn send(ctx: &impl EbpfContext, layout: &OomLayout, occasion: Occasion) {
    let Occasion { kind, task, .. } = occasion;
    let Some(mut entry) = maps::EVENTS.reserve::<OomKill>(0) else {
        count(Counter::RingFull);
        return;
    };
    // SAFETY: plain bytes, of which every pattern is a value, in memory that the
    // kernel has cleared or this program has written.
    let kill = unsafe { &mut *entry.as_mut_ptr() };
    let pid_tgid = bpf_get_current_pid_tgid();
    kill.head = Head {
        kind,
        function: 0,
        pid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        flags: 0,
        // SAFETY: no arguments, no preconditions.
        time_ns: unsafe { bpf_ktime_get_ns() },
    };
    kill.request = Request::NONE;
    if let Some(request) = maps::OOM_REQUESTS.get_ptr_mut(pid_tgid as u32) {
        // SAFETY: the thread's own, and it does one thing at a time.
        let request = unsafe { &mut *request };
        kill.request = *request;
        // The points are those of the first whom a request kills.
        request.total_pages = 0;
    }
    // SAFETY: the value is copied, and the thread itself writes it.
    let retry = unsafe { maps::OOM_RETRIES.get(pid_tgid as u32) };
    kill.retry = retry.copied().unwrap_or(Retry::NONE);
    kill.signal = occasion.signal;
    kill.reserved = 0;
    // SAFETY: no arguments, no preconditions.
    let current = unsafe { bpf_get_current_task() };
    kill.trigger_adj = adjustment(layout, current);
    kill.trigger_comm = bpf_get_current_comm().unwrap_or_default();
    victim(layout, kill, &occasion);
    groups(layout, kill, task);
    // SAFETY: the record's own memory, and its length.
    let bytes = unsafe {
        bpf_get_stack(
            ctx.as_ptr(),
            kill.stack.as_mut_ptr().cast(),
            (KERNEL_FRAMES * 8) as u32,
            0,
        )
    };
    kill.depth = if bytes > 0 { bytes as u32 / 8 } else { 0 };
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    count(Counter::EventsSent);
}

#[inline(always)]
fn adjustment(layout: &OomLayout, task: u64) -> i32 {
    let signal = read(task, layout.task_signal).unwrap_or(0);
    let adj: Option<i16> = read(signal, layout.signal_adj);
    adj.map_or(UNKNOWN_ADJ, i32::from)
}

#[inline(always)]
fn victim(layout: &OomLayout, kill: &mut OomKill, occasion: &Occasion) {
    let task = occasion.task;
    kill.victim = read(task, layout.task_tgid).unwrap_or(occasion.pid);
    kill.victim_uid = occasion.uid;
    kill.victim_adj = adjustment(layout, task);
    kill.victim_comm = read(task, layout.task_comm).unwrap_or_default();
    let mm = read(task, layout.task_mm).unwrap_or(0);
    kill.total_vm = read(mm, layout.mm_total_vm).unwrap_or(u64::MAX);
    kill.pgtables_bytes = read(mm, layout.mm_pgtables).unwrap_or(u64::MAX);
    for index in 0..4 {
        let offset = if layout.mm_rss == UNKNOWN {
            UNKNOWN
        } else {
            layout
                .mm_rss
                .wrapping_add(layout.mm_rss_stride.wrapping_mul(index))
        };
        kill.rss[index as usize] = read(mm, offset).unwrap_or(u64::MAX);
    }
}

/// The victim's memory cgroup and those above it, by name.
#[inline(always)]
fn groups(layout: &OomLayout, kill: &mut OomKill, task: u64) {
    kill.limit_level = UNKNOWN;
    let set = read(task, layout.task_cgroups).unwrap_or(0);
    let css = read(set, layout.set_memory).unwrap_or(0);
    let mut node = group_of(layout, css, 0);
    for level in 0..GROUP_LEVELS {
        kill.groups[level][0] = 0;
        if node == 0 {
            continue;
        }
        if node == kill.request.limit_group {
            kill.limit_level = level as u32;
        }
        let name: u64 = read(node, layout.kn_name).unwrap_or(0);
        if name != 0 {
            // SAFETY: the helper refuses addresses that cannot be read.
            let _ = unsafe {
                bpf_probe_read_kernel_str_bytes(name as *const u8, &mut kill.groups[level])
            };
        }
        node = read(node, layout.kn_parent).unwrap_or(0);
    }
}
