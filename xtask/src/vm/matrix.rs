//! The last step of `cargo xtask test`: what works on which kernel. Each kernel of the table
//! runs the integration test of each feature that depends on the kernel.
use super::contents::Contents;
use super::features::{FEATURES, Verdict, release, script, sections};
use super::guest::{self, Guest};
use super::kernels::{Image, KERNELS, Kernel};
use super::table::{table, updated};
use super::tools::Tools;
use crate::setup;
use crate::test::{Tally, skip};
use anyhow::{Context as _, Result};
use std::fs;
use std::iter;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// For one kernel and all features: about twice what the slowest takes.
const TIME: Duration = Duration::from_mins(12);

/// What of it is wanted.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out other kernels, which takes QEMU and minutes
    #[arg(long)]
    no_vm: bool,
    /// Only other kernels: what works on which of them, in virtual machines
    #[arg(long, conflicts_with_all = ["no_root", "no_setup", "no_vm"])]
    vm: bool,
    /// Put the table of kernels into README.md
    #[arg(long, requires = "vm")]
    update_readme: bool,
}

/// What became of a kernel.
pub(crate) enum Outcome {
    /// The kernel's own name, and how each feature did.
    Ran(String, Vec<Verdict>),
    /// Not to be had, which is allowed.
    Skipped,
    Failed,
}

impl Options {
    /// Whether nothing else is.
    pub(crate) fn wanted(&self) -> bool {
        self.vm
    }

    /// The last of all steps.
    pub(crate) fn step(&self, root: &Path) -> Result<Tally> {
        if self.no_vm {
            eprintln!("SKIPPED: other kernels: --no-vm");
            return Ok(Tally::SKIPPED);
        }
        if !setup::is_debian() {
            return Ok(skip("other kernels", "they are fetched with Debian's apt"));
        }
        self.run(root)
    }

    /// Runs all, prints the table, and puts it into README.md if that is wanted.
    pub(crate) fn run(&self, root: &Path) -> Result<Tally> {
        let readme = root.join("README.md");
        if self.update_readme {
            // Not after minutes of work.
            updated(&readme, "")?;
        }
        let folder = super::folder(root);
        let tools = Tools::provide(&folder)?;
        // One after the other: apt locks its state.
        let images: Vec<_> = KERNELS
            .iter()
            .map(|kernel| (kernel, kernel.provide(&folder)))
            .collect();
        let contents = Contents::build(root, &tools)?;
        let outcomes = run_all(images, &tools, &contents);
        let table = table(&outcomes);
        println!("{table}");
        if self.update_readme {
            fs::write(&readme, updated(&readme, &table)?)
                .with_context(|| format!("cannot write {}", readme.display()))?;
        }
        Ok(tally(&outcomes))
    }
}

/// Two at a time where there are processors for it; the rows' order stays.
fn run_all(
    images: Vec<(&'static Kernel, Result<Image>)>,
    tools: &Tools,
    contents: &Contents,
) -> Vec<(&'static Kernel, Outcome)> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let outcomes = Mutex::new(Vec::new());
    let waiting = Mutex::new(images.into_iter().enumerate());
    let work = || {
        loop {
            // Not in the condition of a `while`, which would keep the lock.
            let next = waiting.lock().ok().and_then(|mut rows| rows.next());
            let Some((at, (kernel, image))) = next else {
                break;
            };
            let outcome = attempt(kernel, image, tools, contents);
            if let Ok(mut outcomes) = outcomes.lock() {
                outcomes.push((at, kernel, outcome));
            }
        }
    };
    thread::scope(|scope| {
        iter::repeat_with(|| scope.spawn(work))
            .take(processors.min(2))
            .for_each(drop);
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_default();
    outcomes.sort_by_key(|(at, ..)| *at);
    outcomes
        .into_iter()
        .map(|(_, kernel, outcome)| (kernel, outcome))
        .collect()
}

fn attempt(kernel: &Kernel, image: Result<Image>, tools: &Tools, contents: &Contents) -> Outcome {
    let image = match image {
        Ok(image) => image,
        Err(error) if kernel.required => {
            eprintln!("FAILED: kernel {}: {error:#}", kernel.name);
            return Outcome::Failed;
        }
        Err(error) => {
            eprintln!("SKIPPED: kernel {}: {error:#}", kernel.name);
            return Outcome::Skipped;
        }
    };
    eprintln!("kernel {}: {} boots", kernel.name, image.package);
    let start = Instant::now();
    let mut name = None;
    let mut verdicts = Vec::new();
    // One guest for all. One that dies is followed by another for what is left.
    while let Some(left @ [_, ..]) = FEATURES.get(verdicts.len()..) {
        let (printed, ended) = boot(&image, tools, contents, &script(left), start);
        for ((section, verdict), feature) in sections(&printed).zip(left) {
            if verdict != Verdict::Works {
                eprintln!(
                    "FAILED: kernel {}: {}\n{section}",
                    kernel.name, feature.test
                );
            }
            verdicts.push(verdict);
        }
        name = name.or_else(|| release(&printed).map(str::to_owned));
        if let Err(error) = ended {
            eprintln!("FAILED: kernel {}: {error:#}", kernel.name);
        }
        let progress = verdicts.len() > FEATURES.len() - left.len();
        if !progress || start.elapsed() >= TIME {
            verdicts.resize(FEATURES.len(), Verdict::NotReached);
        }
    }
    let Some(name) = name else {
        eprintln!(
            "FAILED: kernel {}: it did not come to the tests",
            kernel.name
        );
        return Outcome::Failed;
    };
    let works = |verdict: &&Verdict| **verdict == Verdict::Works;
    eprintln!(
        "kernel {name}: {} of {} features work, {:.0} s",
        verdicts.iter().filter(works).count(),
        verdicts.len(),
        start.elapsed().as_secs_f64()
    );
    Outcome::Ran(name, verdicts)
}

/// The hardest case where a kernel lets us choose (since 5.12): programs that
/// probes run are preempted by others of their kind on the same CPU.
const PREEMPTIBLE: &str = "preempt=full";

/// What a guest printed, and how it ended.
fn boot(
    image: &Image,
    tools: &Tools,
    contents: &Contents,
    script: &str,
    start: Instant,
) -> (String, Result<i32>) {
    let mut printed = Vec::new();
    let ended = contents
        .initramfs(script.as_bytes(), &[])
        .and_then(|initramfs| {
            Guest {
                tools,
                kernel: &image.image,
                initramfs: &initramfs,
                memory: guest::MEMORY,
                arguments: PREEMPTIBLE,
                timeout: TIME.saturating_sub(start.elapsed()),
            }
            .run(|bytes| printed.extend_from_slice(bytes))
        });
    (String::from_utf8_lossy(&printed).into_owned(), ended)
}

fn tally(outcomes: &[(&Kernel, Outcome)]) -> Tally {
    let mut tally = Tally::default();
    for (_, outcome) in outcomes {
        match outcome {
            Outcome::Ran(_, verdicts) => {
                for verdict in verdicts {
                    tally += match verdict {
                        Verdict::Works => Tally::PASSED,
                        _ => Tally::FAILED,
                    };
                }
            }
            Outcome::Skipped => tally += Tally::SKIPPED,
            Outcome::Failed => tally += Tally::FAILED,
        }
    }
    tally
}
