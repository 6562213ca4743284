//! `memtrace.heap.v1` as a script reads it: straight from the JSON, not through memtrace's own types, so that a key
//! that is renamed by mistake fails here.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Deserializer, Value};

use crate::target::{brief, number, text};

/// A heap report.
#[derive(Clone, Debug)]
pub struct Report(pub Value);

/// Outstanding blocks of some stacks together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Outstanding.
    pub bytes: u64,
    /// Outstanding.
    pub count: u64,
    /// Stacks with something outstanding.
    pub stacks: usize,
    /// The allocation functions of those.
    pub functions: Vec<String>,
    /// The kinds of those.
    pub kinds: Vec<String>,
}

/// One stack.
#[derive(Clone, Copy, Debug)]
pub struct Stack<'a>(pub &'a Value);

impl Report {
    /// Every document in a stream of them.
    pub fn parse_all(bytes: &[u8]) -> Result<Vec<Self>> {
        let documents = Deserializer::from_slice(bytes).into_iter::<Value>();
        documents
            .map(|document| {
                let report = Self(document.context("the report is no JSON")?);
                let schema = text(&report.0, "schema")?;
                ensure!(schema == "memtrace.heap.v1", "the schema is {schema}");
                Ok(report)
            })
            .collect()
    }

    /// The one document in a file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes =
            fs::read(path).with_context(|| format!("reading the report {}", path.display()))?;
        let mut reports = Self::parse_all(&bytes)?;
        ensure!(
            reports.len() == 1,
            "{} reports in {}",
            reports.len(),
            path.display()
        );
        reports.pop().context("no report")
    }

    /// A number at the top.
    pub fn number(&self, key: &str) -> Result<u64> {
        number(&self.0, key)
    }

    /// One of the totals.
    pub fn total(&self, key: &str) -> Result<u64> {
        number(self.0.get("totals").context("no totals")?, key)
    }

    /// Whether it claims to be exact.
    pub fn exact(&self) -> Result<bool> {
        self.0
            .get("exact")
            .and_then(Value::as_bool)
            .context("no 'exact'")
    }

    /// Fails where anything was sampled or lost.
    pub fn must_be_exact(&self) -> Result<()> {
        let lost = self.number("lost_events")?;
        let notes = self
            .0
            .get("notes")
            .map(Value::to_string)
            .unwrap_or_default();
        ensure!(lost == 0, "{lost} events lost; notes: {notes}");
        ensure!(self.exact()?, "not exact; notes: {notes}");
        ensure!(
            self.number("sample_bytes")? == 0,
            "sampled, without being asked to"
        );
        Ok(())
    }

    /// Fails where any event was lost. Sampling, and what a note says, are no loss.
    pub fn must_not_lose(&self) -> Result<()> {
        let lost = self.number("lost_events")?;
        ensure!(lost == 0, "{lost} events lost");
        Ok(())
    }

    /// The rows of all processes.
    pub fn processes(&self) -> Result<&[Value]> {
        let processes = self.0.get("processes").and_then(Value::as_array);
        Ok(processes.context("no processes")?)
    }

    /// The row of a process.
    pub fn process(&self, pid: u64) -> Result<&Value> {
        let processes = self
            .0
            .get("processes")
            .and_then(Value::as_array)
            .context("no processes")?;
        processes
            .iter()
            .find(|process| process.get("pid").and_then(Value::as_u64) == Some(pid))
            .with_context(|| format!("no process {pid} in {processes:?}"))
    }

    /// How many processes there are.
    pub fn process_count(&self) -> usize {
        self.0
            .get("processes")
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    }

    /// Whether the report says that a process has ended.
    pub fn exited(&self, pid: u64) -> Result<bool> {
        self.process(pid)?
            .get("exited")
            .and_then(Value::as_bool)
            .context("no 'exited'")
    }

    /// Its stacks, in their order.
    pub fn stacks(&self) -> Result<Vec<Stack<'_>>> {
        let stacks = self
            .0
            .get("stacks")
            .and_then(Value::as_array)
            .context("no stacks")?;
        Ok(stacks.iter().map(Stack).collect())
    }

    /// The stacks that something is outstanding of.
    pub fn live_stacks(&self) -> Result<Vec<Stack<'_>>> {
        Ok(self
            .stacks()?
            .into_iter()
            .filter(|stack| stack.count() > 0)
            .collect())
    }

    /// What is outstanding of the stacks that `wanted` accepts.
    pub fn sum(&self, wanted: impl Fn(Stack<'_>) -> bool) -> Result<Sum> {
        let mut sum = Sum::default();
        for stack in self
            .live_stacks()?
            .into_iter()
            .filter(|stack| wanted(*stack))
        {
            sum.bytes += stack.bytes();
            sum.count += stack.count();
            sum.stacks += 1;
            sum.functions.push(stack.function().to_owned());
            sum.kinds.push(stack.kind().to_owned());
        }
        Ok(sum)
    }

    /// What is outstanding of blocks that this function asked for itself.
    pub fn of_caller(&self, caller: &str) -> Result<Sum> {
        self.sum(|stack| stack.caller_is(caller))
    }

    /// What is outstanding of stacks that this function is anywhere on.
    pub fn of_function(&self, function: &str) -> Result<Sum> {
        self.sum(|stack| stack.holds(&[function]))
    }

    /// The stacks, for messages.
    pub fn describe(&self) -> String {
        let Ok(stacks) = self.stacks() else {
            return brief(&self.0);
        };
        let rows = stacks.iter().take(60).map(|stack| {
            format!(
                "{:>10} B {:>6} {} {}",
                stack.bytes(),
                stack.count(),
                stack.function(),
                stack.symbols().join(" < ")
            )
        });
        let totals = self
            .0
            .get("totals")
            .map(Value::to_string)
            .unwrap_or_default();
        rows.fold(totals, |text, row| text + "\n" + &row)
    }
}

impl<'a> Stack<'a> {
    fn get(self, key: &str) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or_default()
    }

    /// Outstanding.
    pub fn bytes(self) -> u64 {
        self.get("bytes")
    }

    /// Outstanding.
    pub fn count(self) -> u64 {
        self.get("count")
    }

    /// Of which process.
    pub fn pid(self) -> u64 {
        self.get("pid")
    }

    /// The allocation function.
    pub fn function(self) -> &'a str {
        text(self.0, "function").unwrap_or("?")
    }

    /// `heap` or `mapping`.
    pub fn kind(self) -> &'a str {
        text(self.0, "kind").unwrap_or("?")
    }

    /// Whether it says that it was cut.
    pub fn truncated(self) -> Result<bool> {
        self.0
            .get("truncated")
            .and_then(Value::as_bool)
            .context("no 'truncated'")
    }

    /// All frames, innermost first.
    pub fn frames(self) -> &'a [Value] {
        self.0
            .get("frames")
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    /// Frames that have a return address of their own.
    pub fn depth(self) -> usize {
        let inlined = |frame: &&Value| frame.get("inlined").and_then(Value::as_bool) == Some(true);
        self.frames().len() - self.frames().iter().filter(inlined).count()
    }

    /// The names of its frames, innermost first; `?` where there is none.
    pub fn symbols(self) -> Vec<&'a str> {
        self.frames()
            .iter()
            .map(|frame| text(frame, "symbol").unwrap_or("?"))
            .collect()
    }

    /// The frame of a function.
    pub fn frame(self, function: &str) -> Option<&'a Value> {
        self.frames()
            .iter()
            .find(|frame| names(text(frame, "symbol").unwrap_or("?"), function))
    }

    /// Whether the first frame is this function's.
    pub fn caller_is(self, function: &str) -> bool {
        self.symbols()
            .first()
            .is_some_and(|symbol| names(symbol, function))
    }

    /// Whether these functions are on it, innermost first, with anything between them.
    pub fn holds(self, functions: &[&str]) -> bool {
        let mut symbols = self.symbols().into_iter();
        functions
            .iter()
            .all(|function| symbols.any(|symbol| names(symbol, function)))
    }

    /// Whether it starts with these functions, innermost first, with nothing between them.
    pub fn starts_with(self, functions: &[&str]) -> bool {
        let symbols = self.symbols();
        symbols.len() >= functions.len()
            && functions
                .iter()
                .zip(symbols)
                .all(|(function, symbol)| names(symbol, function))
    }
}

/// Whether a symbol is this function: as it is, demangled with its parameters, or a compiler's clone of it.
pub fn names(symbol: &str, function: &str) -> bool {
    symbol
        .strip_prefix(function)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['(', '.', '[', '@']))
}
