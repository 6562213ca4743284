//! Where this kernel can be watched as it kills, and where it keeps what the kill
//! is about.
use std::path::Path;

use memtrace_common::oom::{OomLayout, UNKNOWN};

use super::{btf::Btf, uprobe::Version};

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// `fentry` of a function: 5.5 and later, with type information.
    Fentry(&'static str),
    /// A kprobe on a function.
    Kprobe(&'static str),
    /// A raw tracepoint.
    Tracepoint(&'static str),
    /// A tracepoint with its record: category and name.
    Classic(&'static str, &'static str),
}

/// One way to learn something.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidate {
    /// As the option that forces it calls it.
    pub name: &'static str,
    /// The object's program.
    pub program: &'static str,
    /// How it is attached.
    pub mechanism: Mechanism,
    /// What it does not tell; empty: nothing.
    pub loses: &'static str,
}

/// A thing to learn, and the ways to it, the best first.
#[derive(Debug)]
pub struct Hook {
    /// What is missing without it.
    pub tells: &'static str,
    /// Tried in this order.
    pub candidates: &'static [Candidate],
    /// Whether there is no recording without it.
    pub needed: bool,
}

const fn raw(
    name: &'static str,
    program: &'static str,
    tracepoint: &'static str,
    loses: &'static str,
) -> Candidate {
    Candidate {
        name,
        program,
        mechanism: Mechanism::Tracepoint(tracepoint),
        loses,
    }
}

/// All hooks. The tracepoints are in every kernel that has ring buffers.
///
/// Kills are seen where the kernel marks a victim, not where it chooses one: it
/// may then kill another in its place, or a whole group.
pub const HOOKS: &[Hook] = &[
    Hook {
        tells: "kills",
        candidates: &[
            raw("mark-victim", "oom_mark_victim", "mark_victim", ""),
            Candidate {
                name: "mark-victim-classic",
                program: "oom_mark_victim_classic",
                mechanism: Mechanism::Classic("oom", "mark_victim"),
                loses: "the victim's sizes, user and cgroup where the kernel's log does not have them",
            },
        ],
        needed: true,
    },
    Hook {
        tells: "the request: flags, order, constraint, points",
        candidates: &[
            Candidate {
                name: "fentry",
                program: "oom_request_fentry",
                mechanism: Mechanism::Fentry("oom_kill_process"),
                loses: "",
            },
            Candidate {
                name: "kprobe",
                program: "oom_request_kprobe",
                mechanism: Mechanism::Kprobe("oom_kill_process"),
                loses: "",
            },
            Candidate {
                name: "fentry-entry",
                program: "oom_entry_fentry",
                mechanism: Mechanism::Fentry("out_of_memory"),
                loses: CHOICE,
            },
            Candidate {
                name: "kprobe-entry",
                program: "oom_entry_kprobe",
                mechanism: Mechanism::Kprobe("out_of_memory"),
                loses: CHOICE,
            },
            raw(
                "reclaim",
                "oom_direct_reclaim",
                "mm_vmscan_direct_reclaim_begin",
                "flags of requests for a cgroup, the constraint, and the points of the victim",
            ),
        ],
        needed: false,
    },
    Hook {
        tells: "whether it was for a cgroup",
        candidates: &[raw(
            "memcg-reclaim",
            "oom_memcg_reclaim",
            "mm_vmscan_memcg_reclaim_begin",
            "",
        )],
        needed: false,
    },
    Hook {
        tells: "how reclaim failed",
        candidates: &[raw(
            "reclaim-retry",
            "oom_reclaim_retry",
            "reclaim_retry_zone",
            "",
        )],
        needed: false,
    },
    Hook {
        tells: "how compaction failed",
        candidates: &[raw(
            "compact-retry",
            "oom_compact_retry",
            "compact_retry",
            "",
        )],
        needed: false,
    },
    Hook {
        tells: "kills by other processes",
        candidates: &[raw("signal", "oom_signal", "signal_generate", "")],
        needed: false,
    },
];

/// What is not known yet as the kernel begins to choose.
const CHOICE: &str = "cpuset and memory policy, and the points of the victim";

impl Hook {
    /// The candidates to try: those that are forced, or all.
    pub fn candidates(&self, forced: &[String]) -> Vec<&'static Candidate> {
        let is_forced = |candidate: &&Candidate| forced.iter().any(|name| name == candidate.name);
        let chosen: Vec<_> = self.candidates.iter().filter(is_forced).collect();
        if chosen.is_empty() {
            self.candidates.iter().collect()
        } else {
            chosen
        }
    }
}

/// The names of all candidates.
pub fn mechanisms() -> impl Iterator<Item = &'static str> {
    let candidates = HOOKS.iter().flat_map(|hook| hook.candidates);
    candidates.map(|candidate| candidate.name)
}

/// The kernel's functions by which a stack tells what the kill was for.
pub const CGROUP_FUNCTIONS: &[&str] = &["mem_cgroup_out_of_memory", "mem_cgroup_oom_synchronize"];
/// Of a kill through sysrq.
pub const SYSRQ_FUNCTION: &str = "moom_callback";

/// Where members are: a field of the layout, the structure, and the names that
/// the member had.
type Member = (
    fn(&mut OomLayout) -> &mut u32,
    &'static str,
    &'static [&'static str],
);

const MEMBERS: &[Member] = &[
    (|layout| &mut layout.task_tgid, "task_struct", &["tgid"]),
    (|layout| &mut layout.task_comm, "task_struct", &["comm"]),
    (|layout| &mut layout.task_mm, "task_struct", &["mm"]),
    (|layout| &mut layout.task_signal, "task_struct", &["signal"]),
    (
        |layout| &mut layout.task_cgroups,
        "task_struct",
        &["cgroups"],
    ),
    (
        |layout| &mut layout.signal_adj,
        "signal_struct",
        &["oom_score_adj"],
    ),
    (|layout| &mut layout.mm_total_vm, "mm_struct", &["total_vm"]),
    (
        |layout| &mut layout.mm_pgtables,
        "mm_struct",
        &["pgtables_bytes"],
    ),
    (
        |layout| &mut layout.css_cgroup,
        "cgroup_subsys_state",
        &["cgroup"],
    ),
    (|layout| &mut layout.cgroup_kn, "cgroup", &["kn"]),
    (|layout| &mut layout.kn_name, "kernfs_node", &["name"]),
    // Renamed in 6.15.
    (
        |layout| &mut layout.kn_parent,
        "kernfs_node",
        &["parent", "__parent"],
    ),
    (
        |layout| &mut layout.control_gfp,
        "oom_control",
        &["gfp_mask"],
    ),
    (
        |layout| &mut layout.control_order,
        "oom_control",
        &["order"],
    ),
    (
        |layout| &mut layout.control_constraint,
        "oom_control",
        &["constraint"],
    ),
    (
        |layout| &mut layout.control_memcg,
        "oom_control",
        &["memcg"],
    ),
    (
        |layout| &mut layout.control_total,
        "oom_control",
        &["totalpages"],
    ),
    (
        |layout| &mut layout.control_points,
        "oom_control",
        &["chosen_points"],
    ),
    (|layout| &mut layout.memcg_css, "mem_cgroup", &["css"]),
    (|layout| &mut layout.zoneref_zone, "zoneref", &["zone"]),
    (|layout| &mut layout.zone_name, "zone", &["name"]),
    (
        |layout| &mut layout.mark_pid,
        "trace_event_raw_mark_victim",
        &["pid"],
    ),
];

/// Results of compaction by their numbers (`enum compact_result` of
/// `include/linux/compaction.h`, since 4.8), in plain words.
pub const COMPACT_RESULTS: &[&str] = &[
    "no zone was suitable",
    "too little was free to compact with",
    "it was put off after earlier failures",
    "no page was suitable",
    "it was to go on",
    "it went through all memory and found nothing",
    "it went through a part of memory and found nothing",
    "it gave way to others",
    "it succeeded",
];

/// Size of a pointer, and of an `atomic_long_t`.
const WORD: u32 = 8;

/// What the kernel's type information says; without it, what its version does.
pub fn layout(btf: Option<&Btf<'_>>, version: Version) -> OomLayout {
    let mut layout = OomLayout {
        mark_has_task: u32::from(version >= (6, 9)),
        ..OomLayout::NONE
    };
    let Some(btf) = btf else {
        return layout;
    };
    // The record of the tracepoint got more than the id when the argument
    // became a task; distributions carried that back.
    let has_task = btf
        .member_offset("trace_event_raw_mark_victim", "uid")
        .is_some();
    layout.mark_has_task = u32::from(has_task);
    let reclaim = "trace_event_raw_mm_vmscan_direct_reclaim_begin_template";
    if btf.member_offset(reclaim, "may_writepage").is_some() {
        layout.reclaim_gfp_argument = 2;
    }
    for (field, structure, names) in MEMBERS {
        let offset = names
            .iter()
            .find_map(|name| btf.member_offset(structure, name));
        *field(&mut layout) = offset.unwrap_or(UNKNOWN);
    }
    if let Some((first, stride)) = counts(btf) {
        layout.mm_rss = first;
        layout.mm_rss_stride = stride;
    }
    layout.set_memory = memory_entry(btf).unwrap_or(UNKNOWN);
    layout
}

/// Where a process's pages are counted: the first count, and the way to the next.
fn counts(btf: &Btf<'_>) -> Option<(u32, u32)> {
    let stat = btf.member_offset("mm_struct", "rss_stat")?;
    // Plain counts until 6.1, an array of per-CPU counters since.
    if let Some(plain) = btf.member_offset("mm_rss_stat", "count") {
        return Some((stat.checked_add(plain)?, WORD));
    }
    let count = btf.member_offset("percpu_counter", "count")?;
    // Its last member.
    let counters = btf.member_offset("percpu_counter", "counters")?;
    Some((stat.checked_add(count)?, counters.checked_add(WORD)?))
}

/// The memory controller's pointer in a set of cgroups.
fn memory_entry(btf: &Btf<'_>) -> Option<u32> {
    let array = btf.member_offset("css_set", "subsys")?;
    let index = btf.enumerator("memory_cgrp_id")?;
    array.checked_add(index.checked_mul(WORD)?)
}

/// The running kernel's type information, as bytes for [`Btf::parse`].
pub fn type_information() -> std::io::Result<Vec<u8>> {
    std::fs::read(Path::new("/sys/kernel/btf/vmlinux"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_type_information_the_version_decides() {
        assert_eq!(layout(None, (6, 8)).mark_has_task, 0);
        assert_eq!(layout(None, (6, 9)).mark_has_task, 1);
    }

    #[test]
    fn what_is_forced_has_no_substitute() {
        let names = |hook: &Hook, forced: &[&str]| {
            let forced: Vec<String> = forced.iter().map(|name| (*name).to_owned()).collect();
            let candidates = hook.candidates(&forced);
            candidates.iter().map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&HOOKS[1], &["kprobe", "signal"]), ["kprobe"]);
        assert_eq!(names(&HOOKS[0], &["kprobe"]).len(), 2);
        // A name forces one candidate alone.
        let mut all: Vec<_> = mechanisms().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), mechanisms().count());
    }

    /// All offsets are found on the kernel that runs the test, where it has any.
    #[test]
    fn this_kernel() {
        let Ok(bytes) = type_information() else {
            return;
        };
        let btf = Btf::parse(&bytes).expect("the kernel's own is whole");
        let layout = layout(Some(&btf), (0, 0));
        for (field, structure, names) in MEMBERS {
            let mut layout = layout;
            assert_ne!(*field(&mut layout), UNKNOWN, "{structure}.{names:?}");
        }
        assert_ne!(layout.mm_rss, UNKNOWN);
        assert_ne!(layout.set_memory, UNKNOWN);
    }
}
