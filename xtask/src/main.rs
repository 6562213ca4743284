//! Set-up, builds, tests and checks of memtrace: `cargo xtask help`.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for people at a terminal"
)]
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::Path;
use std::process::ExitCode;

mod bench;
mod build_ebpf;
mod ebpf;
mod fuzz;
mod licences;
mod man;
mod pictures;
mod run;
mod setup;
mod shell;
mod soak;
mod test;
mod tidy;
mod vm;

/// Set-up, builds, tests and checks of memtrace
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Setup),
    BuildEbpf(build_ebpf::BuildEbpf),
    Run(run::Run),
    Test(test::Test),
    Tidy(tidy::Tidy),
    Bench(bench::Bench),
    Soak(soak::Soak),
    Vm(vm::Vm),
    Fuzz(fuzz::Fuzz),
    Man(man::Man),
    Pictures(pictures::Pictures),
}

impl Command {
    fn run(&self, root: &Path) -> Result<()> {
        match self {
            Self::Setup(command) => command.run(root),
            Self::BuildEbpf(command) => command.run(root),
            Self::Run(command) => command.run(root),
            Self::Test(command) => command.run(root),
            Self::Tidy(command) => command.run(root),
            Self::Bench(command) => command.run(root),
            Self::Soak(command) => command.run(root),
            Self::Vm(command) => command.run(root),
            Self::Fuzz(command) => command.run(root),
            Self::Man(command) => command.run(root),
            Self::Pictures(command) => command.run(root),
        }
    }
}

fn main() -> ExitCode {
    // The workspace that this program was built in.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    match Arguments::parse()
        .command
        .run(here.parent().unwrap_or(here))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
