//! What tests/programs/shim.c wrote down of a process's allocations, compared with a report of the same run: stack by
//! stack, return address by return address.
mod builds;
mod run;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub(crate) use builds::BUILDS;
pub use run::{Run, c_library};

use crate::report::{Report, Stack};
use crate::target::text;

/// The most frames that memtrace takes, its caller's included: `MAX_FRAMES` of `memtrace-common`.
const LIMIT: usize = 128;

/// The layout of the shim's file.
const MAGIC: u64 = 0x315f_4854_5552_5421;
const HEAD: usize = 2048;
const STACK: usize = 2040;
const PAUSED: usize = 24;

/// All allocations of one process, by stack.
#[derive(Debug)]
pub struct Truth {
    stacks: Vec<TrueStack>,
    /// Blocks without a stack.
    unrecorded: u64,
}

/// Return addresses, innermost first, from the caller of the allocation function on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TrueStack {
    frames: Vec<u64>,
    blocks: u64,
    /// Nothing is known of the outermost frame's code: whoever goes on from there may be right.
    stuck: bool,
}

/// A stack as the report has it.
#[derive(Debug, Default)]
struct Reported {
    blocks: u64,
    names: Vec<String>,
}

/// What came of comparing.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Allocations that the shim saw.
    pub blocks: u64,
    /// Of them those that the report has with the same stack.
    pub equal: u64,
    /// Of them those whose outermost frame is in code that the shim's unwinder knows nothing of.
    pub stuck: u64,
    /// Distinct stacks that the shim saw.
    pub stacks: usize,
    /// Of them those that differ.
    pub different: usize,
    /// Blocks that the report has with stacks that were cut short: the truth, as far as they go.
    pub cut: u64,
    /// Blocks that the report has with stacks that are not the truth, and do not say that they were cut.
    pub wrong: u64,
    /// The first that differ, side by side.
    examples: Vec<String>,
}

fn word(bytes: &[u8], offset: usize) -> Result<u64> {
    let bytes = bytes
        .get(offset..offset + 8)
        .context("the shim's file is too short")?;
    Ok(u64::from_le_bytes(bytes.try_into()?))
}

/// The shim's file for a process.
pub fn file(directory: &Path, pid: u64) -> PathBuf {
    directory.join(pid.to_string())
}

/// Lets a shim that was started with `TRUTH_PAUSED` begin to write.
pub fn resume(directory: &Path, pid: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let path = file(directory, pid);
    let open = fs::OpenOptions::new().write(true).open(&path);
    let open = open.with_context(|| format!("opening {}", path.display()))?;
    open.write_all_at(&0_u64.to_le_bytes(), PAUSED as u64)?;
    Ok(())
}

impl Truth {
    /// Reads the file of a process.
    pub fn read(directory: &Path, pid: u64) -> Result<Self> {
        let path = file(directory, pid);
        let read = || -> Result<Self> {
            let bytes = read_prefix(&path)?;
            ensure!(word(&bytes, 0)? == MAGIC, "it was not written by this shim");
            ensure!(word(&bytes, PAUSED)? == 0, "the shim was never resumed");
            let count = usize::try_from(word(&bytes, 8)?)?;
            let stacks = (0..count).map(|index| TrueStack::read(&bytes, HEAD + index * STACK));
            Ok(Self {
                stacks: stacks.collect::<Result<_>>()?,
                unrecorded: word(&bytes, 16)?,
            })
        };
        read().with_context(|| format!("reading {}", path.display()))
    }
}

/// What was written: the rest of the file is a hole.
fn read_prefix(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut file = fs::File::open(path)?;
    let mut bytes = vec![0; HEAD];
    file.read_exact(&mut bytes)?;
    let stacks = usize::try_from(word(&bytes, 8)?)?;
    let mut rest = file.take(stacks as u64 * STACK as u64);
    rest.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl TrueStack {
    fn read(bytes: &[u8], offset: usize) -> Result<Self> {
        let numbers = word(bytes, offset + 8)?;
        let depth = usize::try_from(numbers & u64::from(u32::MAX))?;
        let frames = (0..depth).map(|index| word(bytes, offset + 16 + index * 8));
        Ok(Self {
            blocks: word(bytes, offset)?,
            frames: frames.collect::<Result<_>>()?,
            stuck: numbers >> 32 != 0,
        })
    }
}

/// A stack's frames that are return addresses, without those in the shim.
fn frames(stack: Stack<'_>) -> Result<Vec<(u64, String)>> {
    let inlined =
        |frame: &serde_json::Value| frame.get("inlined").and_then(serde_json::Value::as_bool);
    let module = |frame| text(frame, "module").unwrap_or("?").to_owned();
    let real = stack
        .frames()
        .iter()
        .filter(|frame| inlined(frame) != Some(true));
    let outside = real.skip_while(|frame| module(frame).ends_with("libshim.so"));
    let read = outside.map(|frame| {
        let digits = text(frame, "ip")?.strip_prefix("0x").context("no 0x")?;
        let name = text(frame, "symbol").unwrap_or("?");
        let module = module(frame);
        let module = module.rsplit('/').next().unwrap_or_default();
        Ok((
            u64::from_str_radix(digits, 16)?,
            format!("{name} in {module}"),
        ))
    });
    read.collect()
}

/// Compares what a report says of the blocks of one process.
pub fn compare(report: &Report, pid: u64, truth: &Truth) -> Result<Comparison> {
    ensure!(
        truth.unrecorded == 0,
        "the shim took no stack of {} blocks",
        truth.unrecorded
    );
    let mut names = BTreeMap::new();
    let mut reported: HashMap<(Vec<u64>, bool), Reported> = HashMap::new();
    for stack in report.stacks()? {
        if stack.pid() != pid || stack.kind() != "heap" {
            continue;
        }
        let (ips, symbols): (Vec<_>, Vec<_>) = frames(stack)?.into_iter().unzip();
        names.extend(ips.iter().copied().zip(symbols.iter().cloned()));
        let entry = reported.entry((ips, stack.truncated()?)).or_default();
        entry.blocks += stack.count();
        entry.names = symbols;
    }
    let mut result = Comparison {
        stacks: truth.stacks.len(),
        ..Comparison::default()
    };
    let mut different = Vec::new();
    for stack in &truth.stacks {
        result.blocks += stack.blocks;
        result.stuck += u64::from(stack.stuck) * stack.blocks;
        let found = take(&mut reported, stack);
        result.equal += found;
        if found < stack.blocks {
            different.push((stack, found));
        }
    }
    result.different = different.len();
    for ((ips, truncated), rest) in reported.iter().filter(|(_, rest)| rest.blocks > 0) {
        let holds = different
            .iter()
            .any(|(stack, _)| stack.frames.starts_with(ips));
        if *truncated && holds {
            result.cut += rest.blocks;
        } else {
            result.wrong += rest.blocks;
        }
    }
    // Those that are not cut first: they are the worse ones.
    let common = |stack: &TrueStack, ips: &[u64]| {
        let same = stack.frames.iter().zip(ips).take_while(|(a, b)| a == b);
        same.count()
    };
    for (stack, found) in different.iter().take(5) {
        let left = reported.iter().filter(|(_, rest)| rest.blocks > 0);
        let nearest = left.max_by_key(|((ips, truncated), _)| (common(stack, ips), !*truncated));
        result
            .examples
            .push(example(stack, *found, nearest.map(|(key, _)| key), &names));
    }
    Ok(result)
}

/// Takes as many of a stack's blocks out of the report as it has with that stack.
fn take(reported: &mut HashMap<(Vec<u64>, bool), Reported>, stack: &TrueStack) -> u64 {
    // The shim's own frame is one of those that fit.
    let mut keys: Vec<(Vec<u64>, bool)> = Vec::new();
    for kept in [LIMIT - 1, LIMIT - 2] {
        if let Some(cut) = stack.frames.get(..kept) {
            keys.push((cut.to_vec(), true));
        }
    }
    if stack.frames.len() < LIMIT {
        keys.insert(0, (stack.frames.clone(), false));
        // Where one unwinder ends for want of information, so may the other, and says so.
        if stack.stuck {
            keys.push((stack.frames.clone(), true));
        }
    }
    let mut found = 0;
    for key in keys {
        if let Some(entry) = reported.get_mut(&key) {
            let taken = entry.blocks.min(stack.blocks - found);
            entry.blocks -= taken;
            found += taken;
        }
    }
    found
}

fn example(
    stack: &TrueStack,
    found: u64,
    nearest: Option<&(Vec<u64>, bool)>,
    names: &BTreeMap<u64, String>,
) -> String {
    let (ips, truncated) = nearest.map_or((&[][..], false), |(ips, cut)| (ips.as_slice(), *cut));
    let mut lines = format!(
        "{} blocks, {found} of them found; left: the unwinder of libgcc, right: the report{}\n",
        stack.blocks,
        if truncated { " (cut)" } else { "" },
    );
    let name = |ip: Option<&u64>| {
        ip.map_or(String::new(), |ip| {
            let name = names.get(ip).map_or("?", String::as_str);
            format!("{ip:#x} {}", name.chars().take(44).collect::<String>())
        })
    };
    for depth in 0..stack.frames.len().max(ips.len()) {
        let (left, right) = (stack.frames.get(depth), ips.get(depth));
        let mark = if left == right { ' ' } else { '*' };
        // Writing to a string cannot fail.
        let _ = writeln!(
            lines,
            " {mark}{depth:>4} {:<62} | {}",
            name(left),
            name(right)
        );
    }
    lines
}

impl Comparison {
    /// Adds another process.
    pub fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.equal += other.equal;
        self.stuck += other.stuck;
        self.stacks += other.stacks;
        self.different += other.different;
        self.cut += other.cut;
        self.wrong += other.wrong;
        self.examples.extend(other.examples);
    }

    /// Per cent of the blocks whose stacks are equal.
    pub fn share(&self) -> f64 {
        100.0 * self.equal as f64 / self.blocks.max(1) as f64
    }

    /// In one line.
    pub fn summary(&self) -> String {
        format!(
            "{} blocks from {} stacks: {:.3} % equal ({} stacks differ: {} blocks cut short, {} wrong; {} end in code without information)",
            self.blocks,
            self.stacks,
            self.share(),
            self.different,
            self.cut,
            self.wrong,
            self.stuck
        )
    }

    /// The first that differ, side by side.
    pub fn describe(&self) -> String {
        self.examples.join("\n")
    }
}
