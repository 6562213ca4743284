//! Real programs under a load that can be asked for again and again.
use crate::shell::{Guard, find, run};
use anyhow::{Context as _, Result, ensure};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A running program, and one round of work for it.
pub(super) struct Target {
    child: Guard,
    work: Work,
}

enum Work {
    /// A request on standard input, answered by a line `done`.
    Ask {
        request: String,
        answers: BufReader<ChildStdout>,
    },
    /// A run of redis-benchmark.
    Redis { port: String, pipeline: u32 },
}

/// Requests in one round of each of redis-benchmark's tests, by how many wait
/// for an answer at once.
const fn requests(pipeline: u32) -> u32 {
    if pipeline > 1 { 40_000 } else { 10_000 }
}

impl Target {
    /// `tests/programs/walks.cpp`, asked for `shape`, `depth` and a number of
    /// pairs.
    pub(super) fn walks(root: &Path, folder: &Path, request: &str) -> Result<Self> {
        Self::built(root, &folder.join("walks"), "-fomit-frame-pointer", request)
    }

    /// The same with frame pointers: only there the kernel's own walk sees more
    /// than a frame or two.
    pub(super) fn walks_with_frame_pointers(
        root: &Path,
        folder: &Path,
        request: &str,
    ) -> Result<Self> {
        let flag = "-fno-omit-frame-pointer";
        Self::built(root, &folder.join("walks_fp"), flag, request)
    }

    fn built(root: &Path, program: &Path, flag: &str, request: &str) -> Result<Self> {
        if !program.exists() {
            run(Command::new("c++")
                .args(["-O2", "-g", "-fno-optimize-sibling-calls", flag, "-o"])
                .args([program, &root.join("tests/programs/walks.cpp")]))?;
        }
        Self::asking(Command::new(program), format!("{request}\n"))
    }

    /// sqlite3 with a table in memory that is filled, indexed and searched.
    pub(super) fn sqlite() -> Result<Self> {
        let request = "DROP TABLE IF EXISTS t;\n\
            CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c REAL);\n\
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)\n\
            INSERT INTO t SELECT i, hex(randomblob(20)), i * 1.5 FROM n;\n\
            CREATE INDEX u ON t(b);\n\
            SELECT count(*) FROM (SELECT group_concat(b, '-') FROM t GROUP BY a % 2000);\n\
            SELECT count(*) FROM t WHERE upper(b) LIKE '%A1%';\n\
            .print done\n";
        let mut command = Command::new("sqlite3");
        command.arg(":memory:");
        Self::asking(command, request.to_owned())
    }

    /// python3, which makes, sorts and joins lists of objects.
    pub(super) fn python() -> Result<Self> {
        const PROGRAM: &str = "import sys, json\n\
            for line in sys.stdin:\n\
            \x20   rows = [{'key': str(i), 'list': [str(j) * 90 for j in range(i % 9)]} for i in range(4000)]\n\
            \x20   rows.sort(key=lambda row: row['key'])\n\
            \x20   text = json.dumps(rows)\n\
            \x20   del rows\n\
            \x20   json.loads(text)\n\
            \x20   print('done', flush=True)\n";
        let mut command = Command::new("python3");
        command.args(["-c", PROGRAM]);
        Self::asking(command, "\n".to_owned())
    }

    /// `walks`, started by another program or with variables of its own.
    pub(super) fn walks_under(
        root: &Path,
        folder: &Path,
        request: &str,
        start: impl FnOnce(&Path) -> Command,
    ) -> Result<Self> {
        // Builds it, where it is not there yet.
        drop(Self::walks(root, folder, request)?);
        Self::asking(start(&folder.join("walks")), format!("{request}\n"))
    }

    fn asking(mut command: Command, request: String) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = Guard(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("cannot run {name}"))?,
        );
        let answers = child.0.stdout.take().context("it has an output")?;
        let answers = BufReader::new(answers);
        Ok(Self {
            child,
            work: Work::Ask { request, answers },
        })
    }

    /// redis-server on a free port of the loopback interface.
    pub(super) fn redis(folder: &Path, pipeline: u32) -> Result<Self> {
        for program in ["redis-server", "redis-benchmark"] {
            ensure!(find(program).is_some(), "{program} is not installed");
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = free.local_addr()?;
        drop(free);
        let port = address.port().to_string();
        let child = Guard(
            Command::new("redis-server")
                .args(["--port", &port, "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no", "--dir"])
                .arg(folder)
                .stdout(Stdio::null())
                .spawn()?,
        );
        while TcpStream::connect(address).is_err() {
            sleep(Duration::from_millis(20));
        }
        Ok(Self {
            child,
            work: Work::Redis { port, pipeline },
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// One round. Returns how long it took, in seconds on the clock.
    pub(super) fn timed_round(&mut self) -> Result<f64> {
        let since = Instant::now();
        self.round()?;
        Ok(since.elapsed().as_secs_f64())
    }

    /// One round. Returns the processor time that it took, nanoseconds of all
    /// threads: unlike time on the clock it holds on a busy machine.
    pub(super) fn round(&mut self) -> Result<f64> {
        let before = processor_ns(self.pid())?;
        match &mut self.work {
            Work::Ask { request, answers } => {
                let input = self.child.0.stdin.as_mut().context("it has an input")?;
                input.write_all(request.as_bytes())?;
                let mut line = String::new();
                while line.trim() != "done" {
                    line.clear();
                    ensure!(answers.read_line(&mut line)? > 0, "the program has ended");
                }
            }
            Work::Redis { port, pipeline } => {
                run(Command::new("redis-benchmark")
                    .args(["-h", "127.0.0.1", "-p", port, "-t", "set,get,lpush"])
                    .args(["-r", "1000", "-d", "64", "-q"])
                    .args([
                        "-n",
                        &requests(*pipeline).to_string(),
                        "-P",
                        &pipeline.to_string(),
                    ])
                    .stdout(Stdio::null()))?;
            }
        }
        Ok(processor_ns(self.pid())? - before)
    }
}

/// A program that waits for a line, works, and says what each piece of it took.
pub(super) struct Waiting(Guard);

impl Waiting {
    /// Builds it from `tests/programs` and starts it.
    pub(super) fn start(
        root: &Path,
        folder: &Path,
        name: &str,
        arguments: [u64; 2],
    ) -> Result<Self> {
        let program = folder.join(name);
        if !program.exists() {
            let source = root.join("tests/programs").join(name).with_extension("c");
            run(Command::new("cc")
                .args(["-O2", "-pthread", "-o"])
                .args([&program, &source]))?;
        }
        let mut command = Command::new(program);
        command.args(arguments.map(|argument| argument.to_string()));
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Self(Guard(pipes.spawn()?)))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.0.id()
    }

    /// Lets it work. Returns the number that it gives the label, once it has
    /// ended.
    pub(super) fn work(mut self, label: &str) -> Result<f64> {
        let child = &mut self.0.0;
        let mut input = child.stdin.take().context("it has an input")?;
        input.write_all(b"\n")?;
        let mut line = String::new();
        let output = child.stdout.take().context("it has an output")?;
        BufReader::new(output).read_line(&mut line)?;
        ensure!(child.wait()?.success(), "the program failed");
        let number = line.trim().strip_prefix(label);
        let number = number.with_context(|| format!("the program says no {label}: {line}"))?;
        Ok(number.trim().parse()?)
    }
}

/// Processor time of all threads so far, also of those that have ended.
pub(super) fn processor_ns(pid: u32) -> Result<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?;
    let time = Duration::from(clock_gettime(clock)?);
    Ok(time.as_secs_f64() * 1e9)
}
