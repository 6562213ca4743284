//! Executes a plan through aya, and takes everything down again.
use std::num::NonZeroU32;

use aya::programs::{
    Program, ProgramError,
    uprobe::{UProbeAttachLocation, UProbeLink, UProbeScope},
};
use thiserror::Error;

use super::{
    object::Programs,
    plan::{Attachment, Plan},
};

/// Why a probe could not be placed.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The process is gone.
    #[error("process {pid} ended while memtrace was attaching to it")]
    Gone {
        /// Whose.
        pid: u32,
    },
    /// Another tracer registered the same instruction in another way.
    #[error(
        "cannot probe {label} in {module}: another tracer (bcc and bpftrace of some distributions among them) holds a probe on the same instruction with other settings (`dmesg` says ref_ctr_offset mismatch); stop it and try again"
    )]
    Conflict {
        /// What.
        label: String,
        /// Where.
        module: String,
    },
    /// Anything else.
    #[error("cannot probe {label} in {module} at {offset:#x}: {reason}; does this kernel have uprobes (CONFIG_UPROBE_EVENTS)?")]
    Failed {
        /// What.
        label: String,
        /// Where.
        module: String,
        /// Offset in the file.
        offset: u64,
        /// What the kernel or aya said.
        reason: String,
    },
}

/// The probes that are in place; taken out when this is dropped.
#[derive(Default)]
pub struct Attached {
    links: Vec<UProbeLink>,
}

impl Attached {
    /// Number of probes.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Attaches all of a plan to one process. What was attached before an
    /// error is taken out again with `self`.
    pub fn attach(
        &mut self,
        programs: &mut Programs,
        plan: &Plan,
        pid: u32,
    ) -> Result<(), AttachError> {
        for attachment in &plan.attachments {
            let link = attach_one(programs, attachment, pid)?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Takes over the probes of `other`.
    pub fn append(&mut self, other: &mut Self) {
        self.links.append(&mut other.links);
    }

    /// Takes all probes out. Side by side: the kernel waits for a grace
    /// period for each, about 0.15 s.
    pub fn detach(&mut self) {
        std::thread::scope(|scope| {
            for link in self.links.drain(..) {
                scope.spawn(move || drop(link));
            }
        });
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.detach();
    }
}

fn attach_one(
    programs: &mut Programs,
    attachment: &Attachment,
    pid: u32,
) -> Result<UProbeLink, AttachError> {
    let Attachment { program, module, file_offset, label, emulated } = attachment;
    let failed = |reason: String| AttachError::Failed {
        label: label.clone(),
        module: module.path.display().to_string(),
        offset: *file_offset,
        reason,
    };
    let Some(Program::UProbe(uprobe)) = programs.ebpf.program_mut(program) else {
        return Err(failed(format!("the eBPF object has no uprobe program {program}")));
    };
    let scope = NonZeroU32::new(pid).map_or(UProbeScope::CallingProcess, UProbeScope::OneProcess);
    let location = UProbeAttachLocation::AbsoluteOffset(*file_offset);
    let link = uprobe
        .attach(location, &module.open_path, scope)
        .and_then(|id| uprobe.take_link(id));
    log::debug!(
        "{label} in {} at {file_offset:#x}{}",
        module.path.display(),
        if *emulated { "" } else { " (single-stepped)" },
    );
    link.map_err(|error| match os_error(&error) {
        Some(nix::libc::ESRCH) => AttachError::Gone { pid },
        Some(nix::libc::EINVAL) => {
            AttachError::Conflict { label: label.clone(), module: module.path.display().to_string() }
        }
        _ => failed(with_sources(&error)),
    })
}

/// The system error at the bottom of an error's causes.
fn os_error(error: &ProgramError) -> Option<i32> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.raw_os_error();
        }
        next = error.source();
    }
    None
}

fn with_sources(error: &ProgramError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
