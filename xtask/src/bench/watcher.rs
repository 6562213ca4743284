//! Who watches a program while it works: memtrace in its ways, bpftrace with a
//! script that does the same, or nobody.
use crate::shell::{Guard, as_root, memtrace, run};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A way to watch.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// Not at all.
    Untraced,
    /// By memtrace with these options, before `-p PID`.
    Memtrace(&'static [&'static str]),
    /// By a bpftrace script that keeps what each stack has outstanding.
    Bpftrace,
}

/// Everything, with stacks, but without mappings: bpftrace's script has none.
pub(super) const MEMTRACE: Way = Way::Memtrace(&["--no-mmap"]);
/// The same probes with programs that return at once.
pub(super) const FLOOR: Way = Way::Memtrace(&["--no-mmap", "--unwind", "floor"]);

/// As libbpf's memleak does it: the size at the entry, the address and the
/// stack at the return, all in maps by address. The last probe is attached last.
const SCRIPT: &str = "
uprobe:LIBRARY:malloc { @size[tid] = arg0; }
uprobe:LIBRARY:calloc { @size[tid] = arg0 * arg1; }
uprobe:LIBRARY:realloc { @size[tid] = arg1; delete(@bytes[arg0]); delete(@stack[arg0]); }
uretprobe:LIBRARY:malloc, uretprobe:LIBRARY:calloc, uretprobe:LIBRARY:realloc
/@size[tid]/ { @bytes[retval] = @size[tid]; @stack[retval] = ustack; delete(@size[tid]); }
uprobe:LIBRARY:free /@bytes[arg0]/ { delete(@bytes[arg0]); delete(@stack[arg0]); }
interval:ms:100 { printf(\"ready\\n\"); }
END { clear(@size); clear(@bytes); clear(@stack); }
";

/// Libraries whose malloc programs call, the first that is mapped.
const ALLOCATORS: &[&str] = &["libjemalloc.so", "libc.so.6"];

/// One that is at work.
pub(super) struct Watcher {
    child: Guard,
    said: BufReader<Box<dyn Read + Send>>,
    /// From its start until it watches.
    pub(super) attached_in: Duration,
}

/// What it left.
pub(super) struct Said {
    /// On standard error, or output, as memtrace and bpftrace do.
    pub(super) text: String,
    /// From the request to end until its end.
    pub(super) ended_in: Duration,
}

impl Said {
    /// The number that memtrace's `-v` gives a label.
    pub(super) fn number(&self, label: &str) -> Result<f64> {
        let mut lines = self.text.lines();
        let found = lines.find_map(|line| {
            let rest = line.strip_prefix("memtrace: ")?.strip_prefix(label)?;
            rest.strip_prefix(':')?.trim().parse().ok()
        });
        found.with_context(|| format!("memtrace does not say {label}: {}", self.text))
    }
}

impl Way {
    /// Starts to watch a process and waits until it does.
    pub(super) fn watch(self, root: &Path, pid: u32) -> Result<Option<Watcher>> {
        match self {
            Self::Untraced => Ok(None),
            Self::Memtrace(options) => Watcher::memtrace(root, pid, options).map(Some),
            Self::Bpftrace => Watcher::bpftrace(pid).map(Some),
        }
    }
}

impl Watcher {
    /// `options` come before `-p PID`.
    pub(super) fn memtrace(root: &Path, pid: u32, options: &[&str]) -> Result<Self> {
        let mut command = as_root(memtrace(root), &[]);
        command.args(options);
        command.args([
            "-v",
            "-f",
            "json",
            "-o",
            "/dev/null",
            "-p",
            &pid.to_string(),
        ]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Self::start(command, ": tracing ")
    }

    fn bpftrace(pid: u32) -> Result<Self> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let mapped = |name: &&&str| {
            let mut lines = maps.lines();
            lines.find(|line| line.contains(**name))
        };
        let line = ALLOCATORS.iter().find_map(|name| mapped(&name));
        let library = line.and_then(|line| line.split_ascii_whitespace().nth(5));
        let library = library.context("the program has no allocator's library")?;
        let keys = [
            ("BPFTRACE_MAP_KEYS_MAX", "1000000"),
            ("BPFTRACE_MAX_MAP_KEYS", "1000000"),
        ];
        let mut command = as_root("bpftrace", &keys);
        let script = SCRIPT.replace("LIBRARY", library);
        command.args(["-p", &pid.to_string(), "-e", &script]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        Self::start(command, "ready")
    }

    fn start(mut command: Command, ready: &str) -> Result<Self> {
        let since = Instant::now();
        let mut child = Guard(command.stdin(Stdio::null()).spawn()?);
        let output: Box<dyn Read + Send> = match (child.0.stderr.take(), child.0.stdout.take()) {
            (Some(output), _) => Box::new(output),
            (None, Some(output)) => Box::new(output),
            (None, None) => Box::new(std::io::empty()),
        };
        let mut said = BufReader::new(output);
        let mut line = String::new();
        while !line.contains(ready) {
            line.clear();
            let name = command.get_program().to_string_lossy();
            ensure!(
                said.read_line(&mut line)? > 0,
                "{name} has ended before it began"
            );
        }
        Ok(Self {
            child,
            said,
            attached_in: since.elapsed(),
        })
    }

    /// Of the process that watches; through sudo it would be sudo's.
    pub(super) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Lets it end, as Ctrl-C does.
    pub(super) fn end(mut self) -> Result<Said> {
        let since = Instant::now();
        run(Command::new("kill").args(["-INT", &self.pid().to_string()]))?;
        let mut text = String::new();
        self.said.read_to_string(&mut text)?;
        ensure!(self.child.0.wait()?.success(), "it failed: {text}");
        Ok(Said {
            text,
            ended_in: since.elapsed(),
        })
    }
}
