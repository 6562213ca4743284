//! `cargo xtask vm`: runs a command as root under another kernel, in QEMU, with
//! memtrace and the test programs beside it. Nothing is installed or changed on
//! the machine but what `target/vm` holds.
use crate::shell;
use anyhow::{Context, Result, ensure};
use contents::Contents;
use guest::Guest;
use kernels::{KERNELS, Kernel};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;
use tools::Tools;

mod apt;
mod contents;
mod features;
mod guest;
mod image;
mod kernels;
pub(crate) mod matrix;
mod table;
mod tools;

/// Run a command as root under another kernel, in a virtual machine
///
/// In the guest: `memtrace`, the test programs in `/programs`, the integration
/// tests in `/tests` and busybox. Kernels are kept in `target/vm`; remove it to
/// fetch newer ones.
#[derive(clap::Args)]
pub(crate) struct Vm {
    /// A kernel of `--list`, or the path of a kernel image
    #[arg(long, value_name = "NAME|PATH", default_value = "6.1")]
    kernel: String,
    /// The guest's memory in MiB
    #[arg(long, value_name = "MB", default_value_t = guest::MEMORY)]
    memory: u32,
    /// More arguments of the kernel's, such as `preempt=full`
    #[arg(long, value_name = "ARGS", default_value = "")]
    append: String,
    /// How long boot and command may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Put this file into the guest, too, at the same path, with the libraries
    /// that it needs
    #[arg(long, value_name = "PATH")]
    add: Vec<PathBuf>,
    /// Only show the kernels, and which of them are here already
    #[arg(long)]
    list: bool,
    /// What to run in the guest
    #[arg(last = true, value_name = "CMD", required_unless_present = "list")]
    command: Vec<OsString>,
}

impl Vm {
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        let folder = folder(root);
        if self.list {
            list(&folder);
            return Ok(());
        }
        let kernel = self.kernel(&folder)?;
        let tools = Tools::provide(&folder)?;
        let contents = Contents::build(root, &tools)?;
        let status = Guest {
            tools: &tools,
            kernel: &kernel,
            initramfs: &contents.initramfs(&guest::script(&self.command), &self.add)?,
            memory: self.memory,
            arguments: &self.append,
            timeout: Duration::from_secs(self.timeout),
        }
        .run(|bytes| {
            // A reader that has gone (`| head`) is no reason to end the guest.
            let mut out = io::stdout().lock();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        })?;
        // `exit` drops nothing, and it owns copies on the disk.
        drop(contents);
        process::exit(status);
    }

    /// The image to boot.
    fn kernel(&self, folder: &Path) -> Result<PathBuf> {
        if let Some(kernel) = Kernel::named(&self.kernel) {
            return Ok(kernel.provide(folder)?.image);
        }
        let names: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
        let path = PathBuf::from(&self.kernel);
        ensure!(
            path.is_file(),
            "--kernel {}: neither one of {} nor a file",
            self.kernel,
            names.join(", ")
        );
        path.canonicalize()
            .with_context(|| format!("--kernel {}", self.kernel))
    }
}

/// Where kernels, and what fetching them needs, are kept.
fn folder(root: &Path) -> PathBuf {
    shell::target(root).join("vm")
}

fn list(folder: &Path) {
    for kernel in KERNELS {
        let required = if kernel.required {
            "required"
        } else {
            "optional"
        };
        let cached = kernel.cached(folder);
        let package = cached.map_or("not fetched yet".to_owned(), |found| found.package);
        println!(
            "{:<8}{:<18}{required:<10}{package}",
            kernel.name, kernel.suite
        );
    }
}
