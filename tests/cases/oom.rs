//! `memtrace oom`: what it says about kernel logs, and the kills that it records.
//! The kernel kills in small memory cgroups alone.
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use memtrace_tests::group::Group;
use memtrace_tests::recorder::{documents, finding, record, stop};
use memtrace_tests::target::{Guard, brief};
use memtrace_tests::tracer;
use memtrace_tests::{check, need_root, skip, turn};
use nix::sys::signal::Signal;
use serde_json::Value;

/// No log takes long.
const SOON: Duration = Duration::from_secs(10);

fn data(name: &str) -> String {
    format!("{}/data/oom/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The case that memtrace began with: both root causes, with their figures.
#[test]
fn tmpfs_and_cma() -> Result<()> {
    let (log, meminfo) = (
        data("reported-5.4-shmem.txt"),
        data("reported-5.4-meminfo.txt"),
    );
    let arguments = ["oom", "--from", &log, "--meminfo", &meminfo];
    let outcome = tracer::run(&[&arguments[..], &["-f", "json"]].concat(), SOON)?;
    let [document] = &documents(&outcome)?[..] else {
        bail!("not one document: {}", outcome.context())
    };
    ensure!(
        document["schema"] == "memtrace.oom.v1",
        "{}",
        brief(document)
    );
    ensure!(
        finding(document, 0) == "cma_only_free",
        "{}",
        brief(document)
    );
    ensure!(finding(document, 1) == "shmem_hog", "{}", brief(document));
    let text = tracer::run(&arguments, SOON)?;
    let said = String::from_utf8_lossy(&text.stdout);
    for figure in [
        "142,612 kB",
        "137,876 kB",
        "4,736 kB",
        "774,444 kB",
        "772,112 kB",
    ] {
        ensure!(said.contains(figure), "{figure}: {said}");
    }
    Ok(())
}

/// Several kills in one log, through a pipe, are one document a line.
#[test]
fn many_kills_through_a_pipe() -> Result<()> {
    let mut command = tracer::command()?;
    command.args(["oom", "--from", "-", "-f", "json"]);
    let log = fs::read(data("made-6.1-forkbomb.txt"))?;
    let both = [log.clone(), fs::read(data("made-2.6.32-global.txt"))?].concat();
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("log");
    fs::write(&path, both)?;
    command.stdin(fs::File::open(&path)?);
    let outcome = tracer::spawn(&mut command)?.finish(SOON)?;
    let victims: Vec<u64> = documents(&outcome)?
        .iter()
        .filter_map(|document| document["victim"]["pid"].as_u64())
        .collect();
    ensure!(victims == [1200, 8801, 3001], "{victims:?}");
    Ok(())
}

/// A bare mask is decoded by the version that is given.
#[test]
fn the_kernels_version_may_be_given() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("log");
    fs::write(
        &path,
        "x invoked oom-killer: gfp_mask=0x201da, order=0, oom_score_adj=0\n",
    )?;
    let path = path.display().to_string();
    let outcome = tracer::run(
        &["oom", "--from", &path, "--kernel", "4.1", "-f", "json"],
        SOON,
    )?;
    let documents = documents(&outcome)?;
    let flags = &documents[0]["trigger"]["gfp_flags"];
    ensure!(
        *flags == serde_json::json!(["GFP_HIGHUSER_MOVABLE", "__GFP_COLD"]),
        "{flags}"
    );
    Ok(())
}

#[test]
fn what_is_no_log_is_refused() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("log");
    fs::write(&path, b"Mar  4 02:11:09 db1 kernel: all is well \xff\xfe\n")?;
    let path = path.display().to_string();
    check::refused(
        &tracer::run(&["oom", "--from", &path], SOON)?,
        &["no out-of-memory kill", "dmesg"],
    )?;
    let missing = format!("{path}-is-not-there");
    check::refused(
        &tracer::run(&["oom", "--from", &missing], SOON)?,
        &["cannot read", "No such file"],
    )?;
    let log = data("reported-5.4-shmem.txt");
    check::refused(
        &tracer::run(&["oom", "--from", &log, "--meminfo", &path], SOON)?,
        &["MemFree"],
    )?;
    check::misused(&tracer::run(&["oom", "--meminfo", &path], SOON)?, "--from")?;
    let top = tracer::run(&["oom", "--from", &path, "--top", "3"], SOON)?;
    check::misused(&top, "cannot be used with")?;
    check::misused(
        &tracer::run(&["oom", "--from", &log, "--kernel", "new"], SOON)?,
        "version",
    )
}

/// Whoever wants to die first is first.
#[test]
fn the_list_has_the_likeliest_first() -> Result<()> {
    let child = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::null())
        .spawn()?;
    let willing = Guard(child);
    let pid = willing.0.id();
    fs::write(format!("/proc/{pid}/oom_score_adj"), "1000")?;
    let outcome = tracer::run(&["oom", "--list", "--top", "0", "-f", "json"], SOON)?;
    ensure!(outcome.status.success(), "{}", outcome.context());
    let list: Value = serde_json::from_slice(&outcome.stdout)?;
    let candidates = list["candidates"].as_array().context("no candidates")?;
    let place = candidates
        .iter()
        .position(|candidate| candidate["pid"] == pid);
    let own = &candidates[place.context("it is not in the list")?];
    ensure!(
        own["oom_score_adj"] == 1000 && own["comm"] == "sleep",
        "{own}"
    );
    let scores: Vec<i64> = candidates
        .iter()
        .filter_map(|candidate| candidate["oom_score"].as_i64())
        .collect();
    ensure!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    ensure!(own["oom_score"].as_i64() >= Some(666), "{own}");
    Ok(())
}

/// What every record of these kills must say.
fn right(document: &Value, pid: u32, group: &Group) -> Result<()> {
    let said = || brief(document);
    ensure!(document["source"] == "live", "{}", said());
    ensure!(document["constraint"] == "memcg", "{}", said());
    ensure!(
        document["cgroup"] == group.name.as_str(),
        "{}: {}",
        group.name,
        said()
    );
    for (role, name) in [("victim", "hog"), ("trigger", "hog")] {
        ensure!(document[role]["pid"] == pid, "{role}: {}", said());
        ensure!(document[role]["comm"] == name, "{role}: {}", said());
    }
    ensure!(
        document["victim"]["anon_rss_kb"]
            .as_u64()
            .is_some_and(|kb| (4096..=8192).contains(&kb)),
        "{}",
        said()
    );
    ensure!(document["trigger"]["order"] == 0, "{}", said());
    ensure!(document["cgroup_usage"]["limit_kb"] == 8192, "{}", said());
    ensure!(
        document["meminfo"]["MemTotal"].as_u64() > Some(0),
        "{}",
        said()
    );
    ensure!(finding(document, 0) == "cgroup_limit", "{}", said());
    ensure!(document["lost_kills"] == 0, "{}", said());
    let frames = document["trigger"]["frames"]
        .as_array()
        .context("no frames")?;
    ensure!(
        frames
            .iter()
            .any(|frame| frame["symbol"] == "out_of_memory"),
        "{}",
        said()
    );
    Ok(())
}

/// A hundred kills, a hundred records; the recorder lives on. Of so many in a row
/// the kernel describes about ten in its own log.
#[test]
fn a_hundred_kills() -> Result<()> {
    let _turn = turn();
    need_root!("a_hundred_kills");
    let Some(group) = Group::make("hundred")? else {
        skip!("a_hundred_kills", "no memory cgroup can be made here");
    };
    let mut recorder = record(&[])?;
    let pids: Vec<u32> = (0..100).map(|_| group.kill()).collect::<Result<_>>()?;
    ensure!(recorder.runs(), "the recorder ended");
    let records = stop(recorder)?;
    let mine: Vec<&Value> = records
        .iter()
        .filter(|record| record["cgroup"] == group.name.as_str())
        .collect();
    ensure!(
        mine.len() == pids.len(),
        "{} records of {} kills",
        mine.len(),
        pids.len()
    );
    for pid in pids {
        let record = mine.iter().find(|record| record["victim"]["pid"] == pid);
        right(
            record.with_context(|| format!("no record of {pid}"))?,
            pid,
            &group,
        )?;
    }
    let last = mine.last().context("no record")?;
    let history = last["history"].as_array().context("no history")?;
    ensure!(
        !history.is_empty() && history[0]["MemFree"].as_u64() > Some(0),
        "{}",
        brief(last)
    );
    Ok(())
}

/// Kills find room in the kernel while the recorder does not run at all.
#[test]
fn a_stopped_recorder_catches_up() -> Result<()> {
    let _turn = turn();
    need_root!("a_stopped_recorder_catches_up");
    let Some(group) = Group::make("stopped")? else {
        skip!(
            "a_stopped_recorder_catches_up",
            "no memory cgroup can be made here"
        );
    };
    let recorder = record(&[])?;
    recorder.signal(Signal::SIGSTOP)?;
    let pids: Vec<u32> = (0..20).map(|_| group.kill()).collect::<Result<_>>()?;
    recorder.signal(Signal::SIGCONT)?;
    let records = stop(recorder)?;
    for pid in pids {
        let record = records.iter().find(|record| record["victim"]["pid"] == pid);
        right(
            record.with_context(|| format!("no record of {pid}"))?,
            pid,
            &group,
        )?;
    }
    Ok(())
}

/// Files are written whole, one a kill, and a second run leaves those of the first.
#[test]
fn records_outlive_restarts() -> Result<()> {
    let _turn = turn();
    need_root!("records_outlive_restarts");
    let Some(group) = Group::make("restart")? else {
        skip!(
            "records_outlive_restarts",
            "no memory cgroup can be made here"
        );
    };
    let directory = tempfile::tempdir()?;
    let records = directory.path().join("made/by/memtrace");
    let mut pids = Vec::new();
    for _ in 0..2 {
        let recorder = record(&["-o", &records.display().to_string()])?;
        pids.push(group.kill()?);
        ensure!(
            stop(recorder)?.is_empty(),
            "something on standard output as well"
        );
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&records)? {
        let path = entry?.path();
        let document: Value = serde_json::from_slice(&fs::read(&path)?)
            .with_context(|| format!("{}", path.display()))?;
        if document["cgroup"] == group.name.as_str() {
            let pid = document["victim"]["pid"].as_u64().context("no victim")?;
            right(&document, u32::try_from(pid)?, &group)?;
            found.push(u32::try_from(pid)?);
        }
    }
    found.sort_unstable();
    pids.sort_unstable();
    ensure!(found == pids, "records of {found:?}, kills of {pids:?}");
    Ok(())
}

/// A program that kills others for memory is told from the kernel.
#[test]
fn kills_by_other_programs() -> Result<()> {
    let _turn = turn();
    need_root!("kills_by_other_programs");
    let directory = tempfile::tempdir()?;
    let killer = directory.path().join("earlyoom");
    fs::copy("/bin/sh", &killer)?;
    let mut target = Guard(
        Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()?,
    );
    let pid = target.0.id();
    let recorder = record(&[])?;
    let status = Command::new(&killer)
        .args(["-c", &format!("kill -9 {pid}")])
        .status()?;
    ensure!(status.success(), "{status}");
    target.wait(SOON)?;
    let records = stop(recorder)?;
    let record = records.iter().find(|record| record["victim"]["pid"] == pid);
    let record = record.context("no record of it")?;
    ensure!(record["cause"] == "user_space", "{}", brief(record));
    ensure!(record["trigger"]["comm"] == "earlyoom", "{}", brief(record));
    ensure!(record["signal"] == "SIGKILL", "{}", brief(record));
    ensure!(record["victim"]["comm"] == "sleep", "{}", brief(record));
    ensure!(
        finding(record, 0) == "userspace_killer",
        "{}",
        brief(record)
    );
    Ok(())
}
