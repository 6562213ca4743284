//! Events of the kernel side, joined with logs and looks.
use memtrace_common::{
    Head,
    oom::{COMM, GROUP_LEVELS, GROUP_NAME, KERNEL_FRAMES, Request, Retry},
};
use zerocopy::IntoBytes as _;

use super::*;
use crate::oom::{history::Sample, log};

fn name<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    bytes
}

fn event(kind: u16) -> OomKill {
    OomKill {
        head: Head {
            kind,
            function: 0,
            pid: 41,
            tid: 42,
            flags: 0,
            time_ns: 1,
        },
        request: Request {
            known: Known::MEMCG_RECLAIM,
            gfp: 0x0010_0cca,
            order: 0,
            ..Request::NONE
        },
        retry: Retry::NONE,
        victim: 50,
        victim_uid: 7,
        victim_adj: -5,
        trigger_adj: UNKNOWN_ADJ,
        limit_level: UNKNOWN,
        depth: 1,
        signal: SIGKILL,
        reserved: 0,
        total_vm: 1000,
        // Counts that are not added up yet.
        rss: [10, 20, 0, 3_u64.wrapping_neg()],
        pgtables_bytes: 8192,
        trigger_comm: name::<COMM>("asker"),
        victim_comm: name::<COMM>("hog"),
        stack: [0; KERNEL_FRAMES],
        groups: [
            name::<GROUP_NAME>("b"),
            name("a"),
            name(""),
            name(""),
            name(""),
            name(""),
        ],
    }
}

fn scene(functions: &[&str]) -> Scene {
    let frames = functions.iter().map(|name| Some(((*name).to_owned(), 1)));
    let look = Look {
        meminfo: [
            ("MemTotal".to_owned(), 4000),
            ("MemAvailable".to_owned(), 100),
        ]
        .into(),
        candidates: vec![
            Candidate {
                pid: 60,
                comm: "seen".into(),
                cgroup: Some("/a/b".into()),
                ..Candidate::default()
            },
            Candidate {
                pid: 61,
                cgroup: Some("/a/bc".into()),
                ..Candidate::default()
            },
        ],
        sample: Sample::default(),
    };
    Scene {
        time: "2026-11-25T02:00:00Z".into(),
        kernel: "6.18.44".into(),
        frames: frames.collect(),
        look: look.into(),
        limit: None,
        page_kb: 4,
    }
}

/// As `mark_victim` is before 6.9.
#[test]
fn a_victim_known_by_its_process_id() {
    let mut event = event(KILL);
    event.victim_comm = name("");
    let named = |event: &OomKill, log| {
        let kill = kill(event, scene(&[]), log);
        kill.victim.expect("it is in the event").comm
    };
    assert_eq!(named(&event, None), "");
    let log = Kill {
        victim: Some(Victim {
            pid: 50,
            comm: "logged".into(),
            ..Victim::default()
        }),
        ..Kill::default()
    };
    assert_eq!(named(&event, Some(log)), "logged");
    event.victim = 60;
    assert_eq!(named(&event, None), "seen");
    event.victim = event.head.pid;
    assert_eq!(named(&event, None), "asker");
}

#[test]
fn an_event_alone() {
    let kill = kill(
        &event(KILL),
        scene(&["bpf_prog_1", "mark_oom_victim", "mem_cgroup_out_of_memory"]),
        None,
    );
    assert_eq!((kill.source, kill.cause), (Source::Live, Cause::Allocation));
    assert_eq!(
        (kill.constraint, kill.cgroup.as_deref()),
        (Constraint::Memcg, Some("/a/b"))
    );
    let victim = kill.victim.expect("it is in the event");
    assert_eq!(
        (
            victim.pid,
            victim.comm.as_str(),
            victim.uid,
            victim.oom_score_adj
        ),
        (50, "hog", Some(7), Some(-5))
    );
    assert_eq!(
        (victim.anon_rss_kb, victim.file_rss_kb, victim.pgtables_kb),
        (Some(80), Some(40), Some(8))
    );
    assert_eq!(victim.total_vm_kb, Some(4000));
    let trigger = kill.trigger.expect("it is in the event");
    assert_eq!(
        (trigger.pid, trigger.comm.as_str(), trigger.order),
        (Some(41), "asker", Some(0))
    );
    // Those of reclaim for a cgroup are not the request's.
    assert_eq!((trigger.gfp_mask, trigger.oom_score_adj), (None, None));
    let frames: Vec<&str> = trigger
        .frames
        .iter()
        .map(|frame| frame.symbol.as_str())
        .collect();
    assert_eq!(frames, ["mark_oom_victim", "mem_cgroup_out_of_memory"]);
    // Of those seen before, the ones in the group, and the victim first.
    let pids: Vec<u32> = kill
        .candidates
        .iter()
        .map(|candidate| candidate.pid)
        .collect();
    assert_eq!(pids, [50, 60]);
}

#[test]
fn the_kernels_own_structure_is_believed() {
    let mut event = event(KILL);
    event.request = Request {
        known: Known::CONTROL,
        gfp: 0xcc0,
        order: 3,
        constraint: 3,
        limit_group: 1,
        total_pages: 2048,
        chosen_points: 1024,
    };
    event.limit_level = 1;
    let kill = kill(&event, scene(&[]), None);
    let victim = kill.victim.as_ref().expect("it is in the event");
    assert_eq!(victim.oom_score, Some(500));
    assert_eq!(
        (kill.constraint, kill.cgroup.as_deref()),
        (Constraint::Memcg, Some("/a"))
    );
    let trigger = kill.trigger.expect("it is in the event");
    assert_eq!(
        (trigger.gfp_mask.as_deref(), trigger.order),
        (Some("0xcc0"), Some(3))
    );
    assert_eq!(trigger.gfp_flags, ["GFP_KERNEL"]);
}

#[test]
fn the_kernels_log_is_more_exact() {
    let text = "hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=2, oom_score_adj=9\nOut of memory: Killed process 50 (hog) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB";
    let log = log::parse(text, None).pop();
    let kill = kill(&event(KILL), scene(&[]), log);
    let victim = kill.victim.expect("it is in both");
    assert_eq!((victim.anon_rss_kb, victim.pgtables_kb), (Some(4), Some(8)));
    let trigger = kill.trigger.expect("it is in both");
    assert_eq!((trigger.order, trigger.oom_score_adj), (Some(2), Some(9)));
    assert_eq!(kill.constraint, Constraint::None);
}

#[test]
fn other_causes() {
    assert_eq!(
        kill(&event(SIGNAL), scene(&[]), None).cause,
        Cause::UserSpace
    );
    assert_eq!(
        kill(&event(KILL), scene(&["moom_callback"]), None).cause,
        Cause::Sysrq
    );
}

#[test]
fn kills_by_others_count_when_memory_is_short() {
    let mut look = scene(&[]).look.as_ref().clone();
    assert!(is_for_memory(&event(SIGNAL), &look));
    look.meminfo.insert("MemAvailable".into(), 3000);
    assert!(!is_for_memory(&event(SIGNAL), &look));
    let mut known = event(SIGNAL);
    known.trigger_comm = name("earlyoom");
    assert!(is_for_memory(&known, &look));
}

/// SIGTERM has other uses, unless its sender is known to send it for memory.
#[test]
fn killers_begin_with_a_plea() {
    let mut event = event(SIGNAL);
    event.signal = SIGTERM;
    let look = scene(&[]).look;
    assert!(!is_for_memory(&event, &look));
    event.trigger_comm = name("earlyoom");
    assert!(is_for_memory(&event, &look));
    let kill = kill(&event, scene(&[]), None);
    assert_eq!(kill.signal.as_deref(), Some("SIGTERM"));
}

/// As before the kernel has chosen: the group tells what for.
#[test]
fn a_request_read_before_the_choice() {
    let mut event = event(KILL);
    event.request.known = Known::CONTROL_BEFORE;
    let constraint = |event: &OomKill| kill(event, scene(&[]), None).constraint;
    assert_eq!(constraint(&event), Constraint::None);
    event.request.limit_group = 1;
    assert_eq!(constraint(&event), Constraint::Memcg);
}

#[test]
fn how_reclaim_and_compaction_failed() {
    let mut event = event(KILL);
    event.head.time_ns = 20_000_000_000;
    event.request.known = Known::DIRECT_RECLAIM;
    event.retry = Retry {
        zone_ns: 19_000_000_000,
        reclaimable: 25,
        available: 100,
        minimum: 200,
        no_progress: 3,
        zone: name("DMA32"),
        compact_ns: 19_000_000_000,
        order: 3,
        result: 5,
        retries: 16,
        max_retries: 16,
        ..Retry::NONE
    };
    let kill_of = |event: &OomKill| kill(event, scene(&["out_of_memory"]), None);
    let found = kill_of(&event);
    let explanation = crate::oom::explain::explain(&found);
    let evidence = |id: &str| {
        let mut all = explanation.findings.iter();
        all.find(|one| one.id == id).map(|one| one.evidence.clone())
    };
    assert_eq!(
        evidence("reclaim_gave_up").as_deref(),
        Some(
            "zone DMA32: 400 kB free and reclaimable, 100 kB of it reclaimable, minimum 800 kB; 3 rounds without progress"
        )
    );
    assert_eq!(
        evidence("compaction_failed").as_deref(),
        Some("order 3; attempt 16 of 16")
    );
    // Of an earlier request, and of one that a cgroup's limit stopped.
    event.head.time_ns = 40_000_000_000;
    assert_eq!(kill_of(&event).reclaim, None);
    event.head.time_ns = 20_000_000_000;
    let kill = kill(&event, scene(&["mem_cgroup_out_of_memory"]), None);
    assert_eq!((kill.reclaim, kill.compaction), (None, None));
}

#[test]
fn paths() {
    let mut event = event(KILL);
    assert_eq!(cgroup(&event, 1).as_deref(), Some("/a"));
    event.groups = [name(""); GROUP_LEVELS];
    assert_eq!(cgroup(&event, 0), None);
    event.groups = [name("x"); GROUP_LEVELS];
    assert_eq!(cgroup(&event, 0).as_deref(), Some("…/x/x/x/x/x/x"));
    assert_eq!(cgroup(&event, GROUP_LEVELS + 1), None);
}

#[test]
fn records_are_told_apart() {
    let mut other = event(KILL);
    assert_eq!(decode(other.as_bytes()), Some(other));
    assert_eq!(decode(&other.as_bytes()[..100]), None);
    other.head.kind = 1;
    assert_eq!(decode(other.as_bytes()), None);
}
