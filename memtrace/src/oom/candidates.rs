//! Who would be killed now: the scores of all processes, from `/proc`.
use std::{fs, path::Path};

use super::{Candidate, NEVER, meminfo};

/// Reads all processes, the most likely victim first. Those that end meanwhile,
/// and the kernel's own threads, are left out. `root`: `/proc`, or a recorded one.
pub fn read(root: &Path) -> std::io::Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for entry in fs::read_dir(root)? {
        let pid = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        candidates.extend(pid.and_then(|pid| read_one(root, pid)));
    }
    candidates.sort_by_key(|candidate| {
        std::cmp::Reverse((candidate.oom_score, candidate.held_kb(), candidate.pid))
    });
    Ok(candidates)
}

/// One process; `None`: it is gone, or has no memory of its own.
pub fn read_one(root: &Path, pid: u32) -> Option<Candidate> {
    let directory = root.join(pid.to_string());
    let read = |name: &str| fs::read(directory.join(name)).ok();
    let text = |name: &str| read(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let mut candidate = parse(&text("status")?)?;
    candidate.pid = pid;
    candidate.oom_score = text("oom_score")?.trim().parse().ok()?;
    candidate.oom_score_adj = text("oom_score_adj")?.trim().parse().ok()?;
    candidate.cgroup = text("cgroup").and_then(|groups| memory_cgroup(&groups));
    Some(candidate)
}

/// `/proc/PID/status`; `None` for the kernel's threads, which have no sizes.
fn parse(status: &str) -> Option<Candidate> {
    let sizes = meminfo::parse(status);
    let name = status.lines().find_map(|line| line.strip_prefix("Name:"));
    Some(Candidate {
        comm: name?.trim().to_owned(),
        rss_kb: *sizes.get("VmRSS")?,
        swap_kb: sizes.get("VmSwap").copied().unwrap_or(0),
        pgtables_kb: sizes.get("VmPTE").copied().unwrap_or(0),
        ..Candidate::default()
    })
}

/// The memory cgroup of `/proc/PID/cgroup`: version 1's, or version 2's.
pub fn memory_cgroup(groups: &str) -> Option<String> {
    // Number, controllers, path; the path may hold colons.
    let lines = || {
        let rows = groups.lines().filter_map(|line| line.split_once(':'));
        rows.filter_map(|(_, rest)| rest.split_once(':'))
    };
    let of_memory =
        |(controllers, _): &(&str, &str)| controllers.split(',').any(|name| name == "memory");
    let v1 = lines().find(of_memory);
    v1.or_else(|| lines().find(|(controllers, _)| controllers.is_empty()))
        .map(|(_, path)| path.to_owned())
}

/// What would change the order, a sentence each.
pub fn remarks(candidates: &[Candidate]) -> Vec<String> {
    let mut remarks = Vec::new();
    let Some(first) = candidates.first() else {
        return remarks;
    };
    if let Some(second) = candidates.get(1) {
        let apart = first.oom_score.saturating_sub(second.oom_score);
        if apart > 0 {
            remarks.push(format!(
                "{} ({}) dies first; with an oom_score_adj lower by {} than its {}, {} ({}) would.",
                first.comm,
                first.pid,
                apart.saturating_add(1).saturating_mul(3) / 2,
                first.oom_score_adj,
                second.comm,
                second.pid
            ));
        }
    }
    let larger = candidates
        .iter()
        .filter(|candidate| candidate.oom_score_adj < first.oom_score_adj);
    if let Some(larger) = larger.max_by_key(|candidate| candidate.held_kb())
        && larger.held_kb() > first.held_kb()
    {
        let why = if larger.oom_score_adj <= NEVER {
            "never killed"
        } else {
            "spared"
        };
        remarks.push(format!(
            "{} ({}) holds more and is {why}, for its oom_score_adj of {}.",
            larger.comm, larger.pid, larger.oom_score_adj
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(root: &Path, pid: &str, files: [&str; 4]) {
        let directory = root.join(pid);
        fs::create_dir(&directory).expect("the folder is ours");
        for (name, text) in ["status", "oom_score", "oom_score_adj", "cgroup"]
            .iter()
            .zip(files)
        {
            fs::write(directory.join(name), text).expect("the folder is ours");
        }
    }

    #[test]
    fn order_and_remarks() {
        let root = tempfile::tempdir().expect("there is a place for temporary files");
        let status = |name: &str, kb: u32| {
            format!("Name:\t{name}\nVmRSS:\t{kb} kB\nVmSwap:\t4 kB\nVmPTE:\t8 kB\n")
        };
        process(
            root.path(),
            "10",
            [
                &status("small", 100),
                "667\n",
                "0\n",
                "4:memory:/a\n0::/b\n",
            ],
        );
        process(
            root.path(),
            "11",
            [&status("chosen", 500), "900\n", "300\n", "0::/c\n"],
        );
        process(
            root.path(),
            "12",
            [&status("safe", 9000), "0\n", "-1000\n", ""],
        );
        process(root.path(), "13", ["Name:\tkthreadd\n", "0\n", "0\n", ""]);
        fs::create_dir(root.path().join("sys")).expect("the folder is ours");
        let candidates = read(root.path()).expect("it can be read");
        let pids: Vec<u32> = candidates.iter().map(|candidate| candidate.pid).collect();
        assert_eq!(pids, [11, 10, 12]);
        assert_eq!(candidates[0].cgroup.as_deref(), Some("/c"));
        assert_eq!(candidates[1].cgroup.as_deref(), Some("/a"));
        assert_eq!((candidates[0].rss_kb, candidates[0].swap_kb), (500, 4));
        assert_eq!(
            remarks(&candidates),
            [
                "chosen (11) dies first; with an oom_score_adj lower by 351 than its 300, small (10) would.",
                "safe (12) holds more and is never killed, for its oom_score_adj of -1000.",
            ]
        );
    }
}
