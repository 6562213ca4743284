//! Logs of many kernels.
use super::{
    super::{Cause, Charge, Constraint, Kill},
    parse,
};

macro_rules! log {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/data/oom/", $name))
    };
}

fn only(log: &str) -> Kill {
    let mut kills = parse(log, None);
    assert_eq!(kills.len(), 1, "{kills:#?}");
    kills.remove(0)
}

fn flags(kill: &Kill) -> String {
    kill.trigger
        .as_ref()
        .map_or_else(String::new, |trigger| trigger.gfp_flags.join("|"))
}

#[test]
fn recorded_6_18_memcg() {
    let kill = only(log!("recorded-6.18-memcg.txt"));
    assert_eq!(kill.time.as_deref(), Some("1177.145750"));
    assert_eq!(kill.kernel.as_deref(), Some("6.18.44-fc-v669"));
    assert_eq!(kill.constraint, Constraint::Memcg);
    assert_eq!(kill.cgroup.as_deref(), Some("/oomx1"));
    let trigger = kill.trigger.as_ref().expect("it is in the log");
    assert_eq!((trigger.pid, trigger.comm.as_str()), (Some(17450), "hog"));
    assert_eq!((trigger.order, trigger.oom_score_adj), (Some(0), Some(0)));
    assert_eq!(flags(&kill), "GFP_KERNEL");
    // Without the frames that the unwinder doubts.
    let frames: Vec<&str> = trigger
        .frames
        .iter()
        .map(|frame| frame.symbol.as_str())
        .collect();
    assert_eq!(frames[4], "mem_cgroup_out_of_memory");
    assert_eq!(frames.len(), 13);
    assert!(!frames.contains(&"___pte_offset_map"));
    let victim = kill.victim.as_ref().expect("it is in the log");
    assert_eq!(
        (victim.pid, victim.comm.as_str(), victim.uid),
        (17450, "hog", Some(0))
    );
    assert_eq!(
        (
            victim.total_vm_kb,
            victim.anon_rss_kb,
            victim.file_rss_kb,
            victim.pgtables_kb
        ),
        (Some(10700), Some(8064), Some(956), Some(64))
    );
    assert_eq!(victim.cgroup.as_deref(), Some("/oomx1"));
    let usage = kill.cgroup_usage.as_ref().expect("it is in the log");
    assert_eq!(
        (usage.usage_kb, usage.limit_kb, usage.failures),
        (8192, 8192, 19)
    );
    assert_eq!(usage.stat.get("rss"), Some(&8_298_496));
    assert_eq!(usage.stat.get("total_unevictable"), Some(&0));
    assert_eq!(kill.candidates[0].pid, 17450);
    assert_eq!(kill.candidates[0].oom_score, (2255 * 4 + 64) * 1000 / 8192);
}

/// A cgroup's, one through sysrq, and a machine full of tmpfs, in one log.
#[test]
fn recorded_6_1_three() {
    let kills = parse(log!("recorded-6.1-three.txt"), None);
    let found: Vec<_> = kills
        .iter()
        .map(|kill| {
            (
                kill.cause,
                kill.constraint,
                kill.victim.as_ref().map(|victim| victim.pid),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (Cause::Allocation, Constraint::Memcg, Some(121)),
            (Cause::Sysrq, Constraint::None, Some(123)),
            (Cause::Allocation, Constraint::None, Some(129)),
        ]
    );
    assert_eq!(kills[0].cgroup.as_deref(), Some("/g"));
    assert_eq!(kills[2].zones.len(), 2);
}

#[test]
fn reported_5_4() {
    let kill = only(log!("reported-5.4-shmem.txt"));
    assert_eq!(kill.time.as_deref(), Some("36822.664529@2"));
    assert_eq!(kill.kernel.as_deref(), Some("5.4.125-05785-g9f5d17a37be1"));
    let trigger = kill.trigger.as_ref().expect("it is in the log");
    assert_eq!(
        (trigger.pid, trigger.comm.as_str()),
        (Some(31837), "S44bluetooth")
    );
    assert_eq!(trigger.gfp_mask.as_deref(), Some("0x400dc2"));
    assert_eq!(flags(&kill), "GFP_KERNEL_ACCOUNT|__GFP_HIGHMEM|__GFP_ZERO");
    assert_eq!(kill.victim, None);
}

#[test]
fn made_2_6_32() {
    let kill = only(log!("made-2.6.32-global.txt"));
    assert_eq!(kill.time.as_deref(), Some("Mar  4 02:11:09"));
    assert_eq!(kill.kernel.as_deref(), Some("2.6.32-431.el6.x86_64"));
    assert_eq!(flags(&kill), "GFP_HIGHUSER_MOVABLE|__GFP_COLD");
    let trigger = kill.trigger.as_ref().expect("it is in the log");
    assert_eq!((trigger.pid, trigger.oom_score_adj), (Some(4127), Some(0)));
    assert_eq!(trigger.frames.len(), 2);
    let victim = kill.victim.as_ref().expect("it is in the log");
    assert_eq!(
        (victim.pid, victim.uid, victim.oom_score),
        (3001, Some(27), Some(562))
    );
    assert_eq!(victim.rss_kb(), Some(856_360));
    assert_eq!(kill.meminfo["MemFree"], 2212 * 4);
    assert_eq!(kill.meminfo["MemTotal"], (262_127 - 6852) * 4);
    assert_eq!(kill.meminfo["SwapTotal"], 524_280);
    assert_eq!(kill.meminfo["KernelStack"], 1648);
    assert_eq!(kill.meminfo["Cached"], (1120 - 973) * 4);
    assert_eq!(kill.zones.len(), 2);
    assert_eq!(kill.zones[0].lowmem_reserve, [0, 994, 994, 994]);
    assert_eq!(kill.zones[1].get("min"), Some(4864));
    assert_eq!(
        (kill.zones[1].buddy[0].count, kill.zones[1].buddy.len()),
        (412, 11)
    );
    assert_eq!(kill.candidates[0].comm, "mysqld");
    assert_eq!(kill.candidates[3].oom_score, 0);
}

#[test]
fn made_3_10_memcg() {
    let kill = only(log!("made-3.10-memcg.txt"));
    assert_eq!(kill.constraint, Constraint::Memcg);
    assert_eq!(
        kill.cgroup.as_deref(),
        Some("/system.slice/docker-7d1f.scope")
    );
    assert_eq!(flags(&kill), "GFP_KERNEL");
    let usage = kill.cgroup_usage.as_ref().expect("it is in the log");
    let swap = Charge {
        usage_kb: 2_097_152,
        limit_kb: 4_194_304,
        with_memory: true,
    };
    assert_eq!(usage.swap, Some(swap));
    assert_eq!(usage.stat["rss"], 2_096_996 * 1024);
    let victim = kill.victim.as_ref().expect("it is in the log");
    // The points were those of a thread's leader that the kernel then took.
    assert_eq!((victim.pid, victim.instead_of), (22871, Some(22901)));
    assert_eq!(victim.cgroup.as_deref(), kill.cgroup.as_deref());
}

#[test]
fn made_4_4_without_numa() {
    let kill = only(log!("made-4.4-lowmem.txt"));
    assert_eq!(flags(&kill), "GFP_KERNEL");
    let names: Vec<&str> = kill.zones.iter().map(|zone| zone.name.as_str()).collect();
    assert_eq!(names, ["DMA", "Normal", "HighMem"]);
    assert_eq!(kill.zones[1].buddy[0].types, "UE");
    assert_eq!(kill.candidates[0].comm, "Web Content");
    assert_eq!(kill.candidates[0].pgtables_kb, 314 * 4);
}

#[test]
fn made_4_15_fragmented() {
    let kill = only(log!("made-4.15-fragmented.txt"));
    let trigger = kill.trigger.as_ref().expect("it is in the log");
    assert_eq!(trigger.order, Some(3));
    // Lines that continue a record have no prefix.
    assert_eq!(kill.meminfo["MemFree"], 120_110 * 4);
    assert_eq!(kill.slabs.len(), 3);
    assert_eq!(
        (kill.slabs[1].name.as_str(), kill.slabs[1].total_kb),
        ("kmalloc-2048", 10240)
    );
    assert_eq!(kill.huge_pages[0].size_kb, 2048);
    assert_eq!(kill.victim.and_then(|victim| victim.reaped), Some(true));
}

#[test]
fn made_5_10_protected() {
    let kill = only(log!("made-5.10-protected.txt"));
    assert_eq!(kill.constraint, Constraint::None);
    let victim = kill.victim.as_ref().expect("it is in the log");
    assert_eq!(
        victim.cgroup.as_deref(),
        Some("/system.slice/postgresql.service")
    );
    assert_eq!(victim.oom_score_adj, Some(300));
    assert_eq!(kill.meminfo["Shmem"], 410 * 4);
}

#[test]
fn made_6_1_kills_in_a_row() {
    let kills = parse(log!("made-6.1-forkbomb.txt"), None);
    let victims: Vec<u32> = kills
        .iter()
        .filter_map(|kill| Some(kill.victim.as_ref()?.pid))
        .collect();
    assert_eq!(victims, [1200, 8801]);
    assert_eq!(kills[0].candidate_count, 241);
    assert_eq!(kills[0].candidates.len(), super::MOST_CANDIDATES);
    assert_eq!(kills[1].constraint, Constraint::Memcg);
    assert_eq!(
        kills[1].victim.as_ref().and_then(|victim| victim.reaped),
        Some(true)
    );
    assert_eq!(
        kills[0].victim.as_ref().and_then(|victim| victim.reaped),
        None
    );
}

#[test]
fn made_7_2_kmsg() {
    let kill = only(log!("made-7.2-slab.txt"));
    assert_eq!(kill.time.as_deref(), Some("77120001000"));
    assert_eq!(kill.meminfo["SUnreclaim"], 380_120 * 4);
    assert_eq!(kill.meminfo["MemFree"], 11010 * 4);
    assert_eq!(kill.slabs.len(), 4);
    assert_eq!(
        kill.trigger.as_ref().map(|trigger| trigger.frames.len()),
        Some(3)
    );
}

#[test]
fn made_6_8_sysrq() {
    let kill = only(log!("made-6.8-sysrq.txt"));
    assert_eq!(kill.cause, Cause::Sysrq);
    assert_eq!(kill.trigger.and_then(|trigger| trigger.order), None);
    assert_eq!(
        kill.victim.map(|victim| victim.comm),
        Some("gnome-shell".into())
    );
}

const ALL: &[&str] = &[
    log!("recorded-6.18-memcg.txt"),
    log!("reported-5.4-shmem.txt"),
    log!("made-2.6.32-global.txt"),
    log!("made-3.10-memcg.txt"),
    log!("made-4.4-lowmem.txt"),
    log!("made-4.15-fragmented.txt"),
    log!("made-5.10-protected.txt"),
    log!("made-7.2-slab.txt"),
    log!("made-6.8-sysrq.txt"),
];

#[test]
fn many_logs_in_one() {
    let all = ALL.concat();
    assert_eq!(parse(&all, None).len(), ALL.len());
}

/// Wherever a log begins or ends, what is there is read.
#[test]
fn cut_off_logs() {
    for log in ALL {
        let lines: Vec<&str> = log.lines().collect();
        for cut in 0..lines.len() {
            let head = lines[..cut].join("\n");
            assert_eq!(
                parse(&head, None).len(),
                usize::from(cut > 0 && !head.ends_with("Manual OOM execution")),
                "{head}"
            );
            let tail = parse(&lines[cut..].join("\n"), None);
            assert!(tail.len() <= 1, "{tail:?}");
        }
    }
    let killed = "Out of memory: Killed process 5 (x) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB";
    assert_eq!(only(killed).victim.map(|victim| victim.pid), Some(5));
}

/// Lines of others between every two, and those of a second report's reaper.
#[test]
fn mixed_logs() {
    for log in ALL {
        let noise = "\n[    1.000000] usb 1-1: new device number 5\nfree space: 12 kB [x]\n";
        let mixed: Vec<&str> = log.lines().collect();
        assert_eq!(parse(&mixed.join(noise), None), parse(log, None));
    }
}

#[test]
fn a_version_helps_where_the_log_has_none() {
    let line = "x invoked oom-killer: gfp_mask=0x14200ca, order=0, oom_score_adj=0";
    let kills = parse(line, Some((4, 14)));
    assert_eq!(flags(&kills[0]), "GFP_HIGHUSER_MOVABLE");
    let kills = parse(
        "x invoked oom-killer: gfp_mask=0x201da, order=0, oom_score_adj=0",
        None,
    );
    assert_eq!(flags(&kills[0]), "GFP_HIGHUSER_MOVABLE|__GFP_COLD");
}

/// `/dev/kmsg`: several lines in a record, fields behind it, and a kill as soon as
/// it is complete.
#[test]
fn a_log_that_is_being_written() {
    let mut stream = super::Stream::default();
    for record in [
        "4,1,10,-;x invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n SUBSYSTEM=cpu\n",
        "4,2,11,-;Mem-Info:\n",
        "4,3,12,-;active_anon:1 inactive_anon:2 isolated_anon:0\\x0a active_file:3 inactive_file:4 isolated_file:0\\x0a free:7 free_pcp:0 free_cma:0\n",
    ] {
        assert_eq!(stream.record(record), None, "{record}");
    }
    let last = "3,4,13,-;Out of memory: Killed process 5 (x) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB\n";
    let kill = stream.record(last).expect("it is complete");
    assert_eq!(kill.meminfo["MemFree"], 28);
    assert_eq!(kill.meminfo["Inactive(file)"], 16);
    assert_eq!(kill.victim.map(|victim| victim.pid), Some(5));
    assert_eq!(
        stream.record("4,5,14,-;oom_reaper: reaped process 5 (x)\n"),
        None
    );
}

/// Bytes changed, cut out and doubled at random, always the same: whatever is
/// read is explained, and nothing overflows.
#[test]
fn damaged_logs() {
    let mut state = 1_u64;
    let mut random = |below: usize| {
        // Knuth's multiplier; the high bits are the good ones.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap_or(0) % below.max(1)
    };
    let pieces = [
        "18446744073709551615",
        "-9223372036854775808",
        "(",
        ")",
        "[",
        "kB",
        ":",
        "\u{e9}",
        "\\x0a",
        "order=63",
    ];
    for log in ALL {
        for _ in 0..100 {
            let mut text = (*log).to_owned();
            for _ in 0..30 {
                let at = random(text.len());
                let end = (at + random(8)).min(text.len());
                if text.is_char_boundary(at) && text.is_char_boundary(end) {
                    text.replace_range(at..end, pieces[random(pieces.len())]);
                }
            }
            for kill in parse(&text, None) {
                super::super::explain::explain(&kill);
            }
        }
    }
}
