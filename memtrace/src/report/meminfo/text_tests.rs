//! Golden test of the text, and the document as JSON.
use super::{Choice, MeminfoReport, SCHEMA, Since, assemble};
use crate::meminfo::{
    Holders, Machine, Moment,
    holders::{Holder, HolderKind, Mount, Process},
};
use crate::report::{Document as _, Style};

const OLD: &str = "MemTotal: 4000 kB\nMemFree: 1000 kB\nActive: 1500 kB\nInactive: 0 kB\nAnonPages: 200 kB\n\
    Cached: 1300 kB\nShmem: 1200 kB\nSlab: 400 kB\nSUnreclaim: 300 kB\nSReclaimable: 100 kB\nHugePages_New: 7\nNovelty: 12 kB\n";
const NEW: &str = "MemTotal: 4000 kB\nMemFree: 900 kB\nActive: 1500 kB\nInactive: 0 kB\nAnonPages: 200 kB\n\
    Cached: 1300 kB\nShmem: 1200 kB\nSlab: 500 kB\nSUnreclaim: 400 kB\nSReclaimable: 100 kB\n";

fn written(format: &str, report: &MeminfoReport) -> String {
    let mut out = Vec::new();
    let format = MeminfoReport::format(format).unwrap();
    (format.render)(report, &Style::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn holders() -> Holders {
    let process = |pid, comm: Option<&str>| Process {
        pid,
        comm: comm.map(str::to_owned),
    };
    Holders {
        named_kb: 1150,
        holders: vec![
            Holder {
                kind: HolderKind::TmpfsFile,
                name: "/dev/shm/big\u{1b}".to_owned(),
                kb: 900,
                at_least: false,
                creator: None,
                processes: (1..7).map(|pid| process(pid, Some("writer"))).collect(),
            },
            Holder {
                kind: HolderKind::Sysv,
                name: "shmid 3 (private, attached by nobody)".to_owned(),
                kb: 150,
                at_least: true,
                creator: Some(process(9, None)),
                processes: vec![],
            },
        ],
        mounts: vec![Mount {
            path: "/dev/shm".to_owned(),
            kb: Some(1000),
            limit_kb: None,
            seen_through_pid: None,
        }],
        notes: vec!["not all".to_owned()],
    }
}

fn report(previous: Option<(&Moment, &Since)>) -> MeminfoReport {
    let holders = holders();
    let choice = Choice {
        origin: "This machine",
        holders: Some(&holders),
        previous,
        top: 10,
        ..Choice::default()
    };
    let text = if previous.is_some() { NEW } else { OLD };
    assemble(&Moment::of(Machine::of_meminfo(text).unwrap()), &choice)
}

#[test]
fn text_of_a_sheet() {
    let text = written("text", &report(None));
    let (sheet, rest) = text.split_once("Findings").unwrap();
    assert_eq!(
        sheet,
        "\
This machine: MemTotal is 4,000 kB (3.91 MiB)

Programs and files                       1,500 kB   37.5 %
  Shmem                                  1,200 kB   30.0 %  tmpfs, memfds, System V segments, shared anonymous memory
  AnonPages                                200 kB    5.0 %  memory of programs that no file backs
  page cache                               100 kB    2.5 %  contents of files, can be reclaimed

The kernel                                 400 kB   10.0 %
  Slab                                     400 kB   10.0 %  kernel objects
    SUnreclaim                             300 kB    7.5 %  kernel objects that cannot be reclaimed
    SReclaimable                           100 kB    2.5 %  kernel objects that can be reclaimed

Free                                     1,000 kB   25.0 %
  MemFree                                1,000 kB   25.0 %  free pages

Not accounted for                        1,100 kB   27.5 %
  unaccounted                            1,100 kB   27.5 %  allocated page by page (drivers, network buffers, graphics, hypervisor) and counted nowhere

In no row, since nobody says what they count: HugePages_New 7, Novelty 12 kB.

"
    );
    let (_, held) = rest.split_once("Shared memory").unwrap();
    assert_eq!(
        held,
        ": 1,200 kB in Shmem, 1,150 kB found with its holders
            900 kB  file /dev/shm/big\u{fffd}, in the hands of 1 (writer), 2 (writer), 3 (writer), 4 (writer) and 2 more
            150 kB  at least System V segment shmid 3 (private, attached by nobody), made by 9 (ended)
          1,000 kB  in all in the tmpfs /dev/shm (no limit)

Note: not all
"
    );
}

#[test]
fn text_of_changes() {
    let old = Moment::of(Machine::of_meminfo(OLD).unwrap());
    let since = Since {
        origin: "This machine".to_owned(),
        interval_ns: Some(2_000_000_000),
    };
    let text = written("text", &report(Some((&old, &since))));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "Changes in the last 2.0 s");
    let slab = lines
        .iter()
        .find(|line| line.contains("SUnreclaim  "))
        .unwrap();
    assert_eq!(
        *slab,
        "    SUnreclaim                             400 kB   10.0 %          +100 kB      +50 KiB/s"
    );
    let free = lines
        .iter()
        .find(|line| line.contains("  MemFree "))
        .unwrap();
    assert!(free.ends_with("-100 kB      -50 KiB/s"), "{free}");
}

#[test]
fn json_keeps_everything() {
    let mut report = report(None);
    let text = written("json", &report);
    assert!(text.lines().count() > 100);
    let back: MeminfoReport = serde_json::from_str(&text).unwrap();
    assert_eq!(back.schema, SCHEMA);
    report.shmem.as_mut().unwrap().notes.clear();
    assert_eq!(back, report);
    report.is_one_of_many = true;
    assert_eq!(written("json", &report).lines().count(), 1);
}
