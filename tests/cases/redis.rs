//! A real server under load: it keeps answering, and steady traffic is no leak. Debian's redis-server is linked with
//! jemalloc (docs/peers.md (asks); 7.2: 'Top 0 stacks' and no warning; 7.1: throughput −97 % under memleak).
use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use memtrace_tests::target::Guard;
use memtrace_tests::{check, need_root, say, skip, tracer, turn};

/// Requests of one run of redis-benchmark, for each of its two tests.
const BATCH: u64 = 10_000;

struct Redis {
    server: Guard,
    port: String,
    _directory: tempfile::TempDir,
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/bin"), PathBuf::from("/usr/local/bin")])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

impl Redis {
    fn start(program: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        // The port is free when the listener drops; nobody else takes one of these at random in between.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port()
            .to_string();
        let server = Command::new(program)
            .args([
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--daemonize",
                "no",
            ])
            .arg("--dir")
            .arg(directory.path())
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .context("starting redis-server")?;
        let mut redis = Self {
            server: Guard(server),
            port,
            _directory: directory,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while redis.ping().is_err() {
            ensure!(redis.server.runs(), "redis-server ended at once");
            ensure!(Instant::now() < deadline, "redis-server does not answer");
            sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    fn cli<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let output = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &self.port])
            .args(arguments)
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn ping(&self) -> Result<()> {
        let answer = self.cli(&["ping"])?;
        ensure!(answer == "PONG", "ping: {answer}");
        Ok(())
    }

    /// Requests a second, over at least `duration`.
    fn load(&self, duration: Duration) -> Result<f64> {
        let start = Instant::now();
        let mut requests = 0;
        while requests == 0 || start.elapsed() < duration {
            let output = Command::new("redis-benchmark")
                .args([
                    "-h",
                    "127.0.0.1",
                    "-p",
                    &self.port,
                    "-t",
                    "set,get",
                    "-r",
                    "1000",
                    "-d",
                    "64",
                    "-q",
                    "-P",
                    "16",
                ])
                .args(["-n", &BATCH.to_string()])
                .output()
                .context("running redis-benchmark")?;
            if !output.status.success() {
                bail!(
                    "redis-benchmark: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            requests += 2 * BATCH;
        }
        Ok(requests as f64 / start.elapsed().as_secs_f64())
    }
}

#[test]
fn redis_under_load() -> Result<()> {
    let _turn = turn();
    need_root!("redis_under_load");
    let (Some(server), Some(_), Some(_)) = (
        find("redis-server"),
        find("redis-benchmark"),
        find("redis-cli"),
    ) else {
        skip!(
            "redis_under_load",
            "redis-server, redis-benchmark and redis-cli are not installed (apt-get install redis)"
        );
    };
    let mut redis = Redis::start(&server)?;
    let pid = redis.server.0.id();
    let untraced = redis.load(Duration::from_secs(2))?;
    let outcome = check::leaving_nothing(|| {
        let mut tracer = tracer::attach(&[pid], &[])?;
        let under_trace = redis.load(Duration::from_secs(5))?;
        ensure!(tracer.runs(), "memtrace ended during the load");
        // Clients that have gone are cleaned up by the server's next turns.
        sleep(Duration::from_millis(300));
        let outcome = tracer.stop()?;
        let share = 100.0 * under_trace / untraced;
        say(&format!(
            "redis: {untraced:.0} requests/s untraced, {under_trace:.0} traced ({share:.0} %)"
        ));
        ensure!(
            share > 5.0,
            "slowed down to {share:.1} %: {under_trace:.0} of {untraced:.0} requests/s"
        );
        Ok((outcome, vec![pid]))
    })?;
    redis.ping().context("after the trace")?;
    ensure!(redis.server.runs(), "redis-server died");
    let report = outcome.report()?;
    report.must_be_exact()?;
    let (allocated, outstanding) = (
        report.total("allocated_bytes")?,
        report.total("outstanding_bytes")?,
    );
    let calls = report.total("allocated_count")?;
    say(&format!(
        "redis: {calls} allocations, {allocated} bytes, {outstanding} outstanding"
    ));
    ensure!(
        calls > 20_000,
        "{calls} allocations: was its allocator probed at all? {}",
        report.0
    );
    ensure!(
        outstanding < allocated / 20,
        "{outstanding} of {allocated} bytes outstanding:\n{}",
        report.describe()
    );
    let named = report
        .stacks()?
        .iter()
        .filter(|stack| stack.holds(&["main"]))
        .count();
    ensure!(named > 0, "no stack reaches main: {}", report.describe());
    Ok(())
}
