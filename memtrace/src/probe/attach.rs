//! Executes a plan through aya, and takes everything down again.
use std::{io, num::NonZeroU32, os::fd::OwnedFd};

use aya::{
    maps::MapError,
    programs::{
        ProgramError,
        perf_event::PerfEventLink,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use memtrace_common::{Cookie, cookie::ProcessAddress};
use thiserror::Error;

use super::{
    object::{CookieTable, Programs},
    plan::{Attachment, Plan, RETURN_PROGRAM},
    pod::Wire,
};
use crate::process::Modules;

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
    #[error(
        "cannot probe {label} in {module} at {offset:#x}: {reason}; does this kernel have uprobes (CONFIG_UPROBE_EVENTS)?"
    )]
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

/// What holds probes in place.
enum Link {
    /// One perf event's uprobe.
    Perf(#[expect(dead_code, reason = "held to be closed")] UProbeLink),
    /// A program's places in a file; closing it takes them out.
    Multi(#[expect(dead_code, reason = "held to be closed")] OwnedFd),
    /// The perf events of a process's threads.
    Threads(#[expect(dead_code, reason = "held to be closed")] Vec<PerfEventLink>),
}

/// The probes that are in place; taken out when this is dropped.
#[derive(Default)]
pub struct Attached {
    links: Vec<Link>,
    probes: usize,
}

impl Attached {
    /// Number of probes.
    pub fn probes(&self) -> usize {
        self.probes
    }

    /// Attaches all of a plan to one process. What was attached before an
    /// error is taken out again with `self`.
    pub fn attach(
        &mut self,
        programs: &mut Programs,
        plan: &Plan,
        pid: u32,
        modules: &Modules,
    ) -> Result<(), AttachError> {
        if programs.multi.is_some() {
            for group in groups(&plan.attachments) {
                self.links
                    .push(Link::Multi(attach_group(programs, &group, pid)?));
                self.probes += group.len();
            }
        } else {
            for attachment in &plan.attachments {
                self.links
                    .push(Link::Perf(attach_one(programs, attachment, pid, modules)?));
                self.probes += 1;
            }
        }
        Ok(())
    }

    /// Holds perf events; they are no probes.
    pub fn hold(&mut self, events: Vec<PerfEventLink>) {
        self.links.push(Link::Threads(events));
    }

    /// Takes over the probes of `other`.
    pub fn append(&mut self, other: &mut Self) {
        self.links.append(&mut other.links);
        self.probes += std::mem::take(&mut other.probes);
    }

    /// Takes all probes out. Side by side: the kernel waits for grace periods
    /// for each link.
    pub fn detach(&mut self) {
        std::thread::scope(|scope| {
            for link in self.links.drain(..) {
                scope.spawn(move || drop(link));
            }
        });
        self.probes = 0;
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Attachments of the same program in the same way in the same file, in the
/// plan's order, but return programs first: a return without its entry is
/// harmless, an entry without its return leaves a call open.
fn groups(attachments: &[Attachment]) -> Vec<Vec<&Attachment>> {
    let mut groups: Vec<Vec<&Attachment>> = Vec::new();
    let (returns, others): (Vec<_>, Vec<_>) = attachments
        .iter()
        .partition(|attachment| attachment.program == RETURN_PROGRAM);
    for attachment in returns.into_iter().chain(others) {
        let same = |group: &&mut Vec<&Attachment>| {
            group.first().is_some_and(|first| {
                first.program == attachment.program
                    && first.at_return == attachment.at_return
                    && first.module.id == attachment.module.id
            })
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(attachment),
            None => groups.push(vec![attachment]),
        }
    }
    groups
}

fn attach_group(
    programs: &Programs,
    group: &[&Attachment],
    pid: u32,
) -> Result<OwnedFd, AttachError> {
    let (Some(first), Some(multi)) = (group.first(), &programs.multi) else {
        unreachable!("groups are not empty and are made for uprobe-multi only")
    };
    let offsets: Vec<u64> = group
        .iter()
        .map(|attachment| attachment.file_offset)
        .collect();
    let cookies: Vec<u64> = group.iter().map(|attachment| attachment.cookie.0).collect();
    let link = multi.link(
        (first.program, first.at_return),
        &first.module.open_path,
        &offsets,
        &cookies,
        pid,
    );
    for attachment in group {
        log_place(attachment);
    }
    link.map_err(|error| explain(first, pid, error.raw_os_error(), error.to_string()))
}

fn attach_one(
    programs: &mut Programs,
    attachment: &Attachment,
    pid: u32,
    modules: &Modules,
) -> Result<UProbeLink, AttachError> {
    let cookie = match &mut programs.cookies {
        None => Some(attachment.cookie.0),
        Some(table) => {
            for address in addresses(attachment, modules) {
                note_cookie(table, attachment, pid, address)
                    .map_err(|error| explain(attachment, pid, None, error.to_string()))?;
            }
            None
        }
    };
    let Some(uprobe) = programs.uprobe(attachment.program, attachment.at_return) else {
        let reason = format!(
            "the eBPF object has no uprobe program {}",
            attachment.program
        );
        return Err(explain(attachment, pid, None, reason));
    };
    let scope = NonZeroU32::new(pid).map_or(UProbeScope::CallingProcess, UProbeScope::OneProcess);
    let point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(attachment.file_offset),
        cookie,
    };
    let link = uprobe
        .attach(point, &attachment.module.open_path, scope)
        .and_then(|id| uprobe.take_link(id));
    log_place(attachment);
    link.map_err(|error| explain(attachment, pid, os_error(&error), with_sources(&error)))
}

/// Tells the kernel side what a probe's cookie would be: by its address, and by
/// the address within a page, which holds on when the process runs another
/// program, unless another probe has the same.
fn note_cookie(
    table: &mut CookieTable,
    attachment: &Attachment,
    pid: u32,
    address: u64,
) -> Result<(), MapError> {
    let cookie = attachment.cookie.0;
    // Returns of functions need none.
    if attachment.at_return {
        return Ok(());
    }
    let key = ProcessAddress {
        address,
        pid,
        reserved: 0,
    };
    table.insert(Wire(key), cookie, 0)?;
    let key = Wire(ProcessAddress::within_page(pid, address));
    match table.get(&key, 0) {
        Err(MapError::KeyNotFound) => table.insert(key, cookie, 0),
        Ok(other) if other == cookie => Ok(()),
        Ok(_) => table.insert(key, Cookie::UNKNOWN.0, 0),
        Err(error) => Err(error),
    }
}

/// Where the process has the probed instruction: once for each time that the
/// file is mapped.
fn addresses(attachment: &Attachment, modules: &Modules) -> Vec<u64> {
    let Some(vaddr) = attachment
        .module
        .image
        .as_ref()
        .ok()
        .and_then(|image| image.vaddr(attachment.file_offset))
    else {
        return Vec::new();
    };
    let copies = modules.iter().filter(|mapped| {
        let address = vaddr.wrapping_add(mapped.bias);
        mapped.module.id == attachment.module.id && (mapped.start..mapped.end).contains(&address)
    });
    copies
        .map(|mapped| vaddr.wrapping_add(mapped.bias))
        .collect()
}

fn log_place(attachment: &Attachment) {
    let Attachment {
        module,
        file_offset,
        label,
        emulated,
        ..
    } = attachment;
    log::debug!(
        "{label} in {} at {file_offset:#x}{}",
        module.path.display(),
        if *emulated { "" } else { " (single-stepped)" },
    );
}

fn explain(attachment: &Attachment, pid: u32, code: Option<i32>, reason: String) -> AttachError {
    let label = attachment.label.clone();
    let module = attachment.module.path.display().to_string();
    match code {
        Some(nix::libc::ESRCH) => AttachError::Gone { pid },
        Some(nix::libc::EINVAL) => AttachError::Conflict { label, module },
        _ => AttachError::Failed {
            label,
            module,
            offset: attachment.file_offset,
            reason,
        },
    }
}

/// The system error at the bottom of an error's causes.
pub(super) fn os_error(error: &ProgramError) -> Option<i32> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
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
