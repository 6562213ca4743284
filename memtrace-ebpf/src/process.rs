//! What happens to whole processes and threads.
use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{raw_tracepoint, uprobe},
    programs::{ProbeContext, RawTracePointContext},
};
use memtrace_common::{
    EventKind,
    event::{Exec, Modules},
    unwind::ProcessMappings,
};

use crate::{
    maps,
    probe::keep_kernel_stack,
    ring::{head, send_now},
};

/// A thread of any process ended: forget it.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn thread_exit(_ctx: RawTracePointContext) -> i32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    // Fails for threads that were never traced, which are most.
    let _ = maps::THREADS.remove(tid);
    0
}

/// A process runs another program. Its memory, and the thread that called
/// execve as it was, are gone.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn process_exec(_ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let pid = (pid_tgid >> 32) as u32;
    // SAFETY: user space replaces the value as a whole.
    if let Some(known) = unsafe { maps::PROCESSES.get(pid) } {
        let _ = maps::THREADS.remove(pid_tgid as u32);
        // Other code may lie where the last program's lay. Until user space has
        // read what is there, stacks are copied, as for any code not known yet.
        let nothing = ProcessMappings {
            count: 0,
            generation: known.generation.wrapping_add(1),
            ..*known
        };
        let _ = maps::PROCESSES.insert(pid, nothing, 0);
        send_now(Exec {
            head: head(EventKind::Exec, 0),
        });
    }
    0
}

/// `_dl_debug_state`: the dynamic linker calls this empty function, meant for
/// debuggers, whenever it has mapped or is about to unmap libraries.
#[uprobe]
fn modules_changed(ctx: ProbeContext) -> u32 {
    keep_kernel_stack(&ctx);
    send_now(Modules {
        head: head(EventKind::Modules, 0),
    });
    0
}
