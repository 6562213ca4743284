//! Starts a program so that its very first instruction is traced: the child
//! is held (by ptrace) while its executable and its libraries are mapped, and
//! let go where the executable itself begins.
use std::{ffi::OsString, io, os::unix::process::CommandExt, process::Command};

use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, AddressType, Options},
        signal::{Signal, raise},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Gid, Pid, Uid, User, initgroups, setgid, setuid},
};
use procfs::process::Process;
use thiserror::Error;

/// The hidden command by which memtrace starts itself as the child.
pub const SHIM_COMMAND: &str = "__exec";

/// The shim's exit status when it could not start the program; it has said
/// why.
const SHIM_FAILED: i32 = 127;

/// Type of the auxiliary vector's entry that holds the executable's entry
/// point (`AT_ENTRY`, elf.h).
const AT_ENTRY: u64 = 9;

/// Why a program could not be started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The child has written why to standard error.
    #[error("the command could not be started")]
    Said,
    /// It ended before it began.
    #[error("the command ended before its first instruction ({0:?})")]
    Ended(WaitStatus),
    /// A system call failed.
    #[error("failed to start the command: {what}: {source}")]
    System {
        /// Which.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> LaunchError {
    move |source| LaunchError::System {
        what,
        source: source.into(),
    }
}

/// A child that is held by ptrace, and killed if memtrace ends before it is let
/// go: it has not begun.
#[derive(Debug)]
pub struct Held {
    pid: Pid,
}

impl Held {
    /// Starts `command` and holds it at its first instruction, with nothing
    /// but the executable and the dynamic linker mapped.
    pub fn start(command: &[OsString]) -> Result<Self, LaunchError> {
        let child = Command::new("/proc/self/exe")
            .arg(SHIM_COMMAND)
            .arg("--")
            .args(command)
            .spawn()
            .map_err(failed("starting a copy of memtrace"))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let held = Self { pid };
        // The shim's own stop, with ptrace on.
        match held.wait()? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            ended => return Err(LaunchError::Ended(ended)),
        }
        // Should memtrace be killed while the child has a breakpoint in it, the
        // child must not run into it.
        let options = Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(pid, options).map_err(failed("PTRACE_SETOPTIONS"))?;
        let mut signal = None;
        loop {
            ptrace::cont(pid, signal.take()).map_err(failed("PTRACE_CONT"))?;
            match held.wait()? {
                WaitStatus::PtraceEvent(..) => return Ok(held),
                WaitStatus::Stopped(_, other) => signal = Some(other),
                WaitStatus::Exited(_, SHIM_FAILED) => return Err(LaunchError::Said),
                ended => return Err(LaunchError::Ended(ended)),
            }
        }
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    fn wait(&self) -> Result<WaitStatus, LaunchError> {
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::__WALL)) {
                Err(Errno::EINTR) => {}
                result => return result.map_err(failed("waitpid")),
            }
        }
    }

    fn release(&self) -> Result<Option<WaitStatus>, LaunchError> {
        ptrace::detach(self.pid, Some(Signal::SIGSTOP))
            .map(|()| None)
            .map_err(failed("PTRACE_DETACH"))
    }

    /// Lets the dynamic linker work until the executable's entry point, calls
    /// `mapped` with the child held whenever code was mapped, and then lets
    /// the child go, so that it runs on only at a `SIGCONT`.
    ///
    /// Returns how the child ended, if it did so before its entry point.
    pub fn run_to_entry(self, mut mapped: impl FnMut()) -> Result<Option<WaitStatus>, LaunchError> {
        let process = Process::new(self.pid.as_raw()).map_err(|e| LaunchError::System {
            what: "reading its auxiliary vector",
            source: io::Error::other(e),
        })?;
        let entry = process
            .auxv()
            .ok()
            .and_then(|auxv| auxv.get(&AT_ENTRY).copied());
        let breakpoint = entry
            .map(|entry| Breakpoint::set(self.pid, entry))
            .transpose()?;
        let Some(breakpoint) = breakpoint else {
            return self.release();
        };
        let mut signal = None;
        loop {
            ptrace::syscall(self.pid, signal.take()).map_err(failed("PTRACE_SYSCALL"))?;
            match self.wait()? {
                WaitStatus::PtraceSyscall(_) if returned_from_mapping_code(self.pid) => mapped(),
                WaitStatus::Stopped(_, Signal::SIGTRAP) if breakpoint.was_hit(self.pid) => {
                    breakpoint.clear(self.pid)?;
                    mapped();
                    return self.release();
                }
                WaitStatus::Stopped(_, other) => signal = Some(other),
                WaitStatus::PtraceEvent(..) => mapped(),
                // By its constructors, or by Ctrl-C.
                ended @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => {
                    return Ok(Some(ended));
                }
                _ => {}
            }
        }
    }
}

/// What differs between processors.
#[cfg(target_arch = "x86_64")]
mod processor {
    use nix::libc::{c_long, user_regs_struct};

    /// `int3`.
    pub(super) const TRAP: c_long = 0xcc;
    /// The bits of a word that it takes.
    pub(super) const TRAP_BITS: c_long = 0xff;
    /// Bytes from the trap to where a thread stops that hits it.
    pub(super) const PASSED: u64 = 1;
    /// The system call's number (`asm/unistd_64.h`).
    pub(super) const MMAP: u64 = 9;

    pub(super) fn instruction(registers: &mut user_regs_struct) -> &mut u64 {
        &mut registers.rip
    }

    /// Number and third argument of a system call.
    pub(super) fn system_call(registers: &user_regs_struct) -> (u64, u64) {
        (registers.orig_rax, registers.rdx)
    }
}

#[cfg(target_arch = "aarch64")]
mod processor {
    use nix::libc::{c_long, user_regs_struct};

    /// `brk #0`.
    pub(super) const TRAP: c_long = 0xd420_0000;
    /// The bits of a word that it takes.
    pub(super) const TRAP_BITS: c_long = 0xffff_ffff;
    /// Bytes from the trap to where a thread stops that hits it.
    pub(super) const PASSED: u64 = 0;
    /// The system call's number (`asm-generic/unistd.h`).
    pub(super) const MMAP: u64 = 222;

    pub(super) fn instruction(registers: &mut user_regs_struct) -> &mut u64 {
        &mut registers.pc
    }

    /// Number and third argument of a system call.
    pub(super) fn system_call(registers: &user_regs_struct) -> (u64, u64) {
        (registers.regs[8], registers.regs[2])
    }
}

/// A trap at an address of the child.
struct Breakpoint {
    address: u64,
    original: i64,
}

impl Breakpoint {
    fn set(pid: Pid, address: u64) -> Result<Self, LaunchError> {
        let original = ptrace::read(pid, address as AddressType).map_err(failed("PTRACE_PEEK"))?;
        let trapped = (original & !processor::TRAP_BITS) | processor::TRAP;
        ptrace::write(pid, address as AddressType, trapped).map_err(failed("PTRACE_POKE"))?;
        Ok(Self { address, original })
    }

    fn was_hit(&self, pid: Pid) -> bool {
        instruction_pointer(pid) == Some(self.address.wrapping_add(processor::PASSED))
    }

    fn clear(&self, pid: Pid) -> Result<(), LaunchError> {
        ptrace::write(pid, self.address as AddressType, self.original)
            .map_err(failed("PTRACE_POKE"))?;
        let mut registers = ptrace::getregs(pid).map_err(failed("PTRACE_GETREGS"))?;
        *processor::instruction(&mut registers) = self.address;
        ptrace::setregs(pid, registers).map_err(failed("PTRACE_SETREGS"))
    }
}

/// Where a held thread goes on.
pub(super) fn instruction_pointer(pid: Pid) -> Option<u64> {
    let mut registers = ptrace::getregs(pid).ok()?;
    Some(*processor::instruction(&mut registers))
}

/// Whether the child is at the end of an mmap with `PROT_EXEC` (4). At its
/// start the check is harmless.
pub(super) fn returned_from_mapping_code(pid: Pid) -> bool {
    const PROT_EXEC: u64 = 4;
    ptrace::getregs(pid).is_ok_and(|registers| {
        let (number, protection) = processor::system_call(&registers);
        number == processor::MMAP && protection & PROT_EXEC != 0
    })
}

/// The child's side: waits to be held, becomes the invoking user, and runs
/// the program. Returns only if that failed.
pub fn shim(command: &[OsString]) -> i32 {
    let Some((program, arguments)) = command.split_first() else {
        return 2;
    };
    let prepared = ptrace::traceme()
        .and_then(|()| raise(Signal::SIGSTOP))
        .map_err(io::Error::from)
        .and_then(|()| become_invoking_user());
    let error = match prepared {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    };
    log::error!(
        "cannot run {}: {error}: is it spelled right, on PATH, and executable?",
        program.display()
    );
    SHIM_FAILED
}

/// Under sudo: back to whoever called it. Otherwise the user stays.
fn become_invoking_user() -> io::Result<()> {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .and_then(|id| id.parse::<u32>().ok())
    };
    let (Some(uid), Some(gid)) = (variable("SUDO_UID"), variable("SUDO_GID")) else {
        return Ok(());
    };
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if let Ok(Some(user)) = User::from_uid(uid) {
        let name = std::ffi::CString::new(user.name).map_err(io::Error::other)?;
        initgroups(&name, gid)?;
    }
    setgid(gid)?;
    setuid(uid)?;
    Ok(())
}
