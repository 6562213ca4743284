//! uprobe-multi: one link for all the places of a program in a file. The
//! kernel takes them out in one go, where each perf event's uprobe makes it
//! wait for several grace periods, one after the other (measured with 24
//! probes: 1.9 s against 0.1 s).
//!
//! aya 0.14 can neither load programs for it nor create its links, so both
//! system calls are made here; everything up to them is aya's.
#![expect(unsafe_code, reason = "the bpf system call has no safe wrapper")]
use std::{
    collections::HashMap,
    ffi::CString,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use aya_obj::{Object, ProgramSection};
use zerocopy::{Immutable, IntoBytes};

/// `BPF_PROG_TYPE_KPROBE`, `BPF_TRACE_UPROBE_MULTI`, the commands and the flag
/// (uapi/linux/bpf.h).
const PROG_TYPE_KPROBE: u32 = 2;
const ATTACH_UPROBE_MULTI: u32 = 48;
const CMD_PROG_LOAD: i64 = 5;
const CMD_BTF_LOAD: i64 = 18;
const CMD_LINK_CREATE: i64 = 28;
const UPROBE_MULTI_RETURN: u32 = 1;

/// As often as libbpf tries.
const LOAD_TRIES: u32 = 5;

/// The uprobe programs of the object, loaded for uprobe-multi.
pub(super) struct MultiPrograms {
    programs: HashMap<String, OwnedFd>,
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used here.
#[derive(Default, IntoBytes, Immutable)]
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// The same for `BPF_BTF_LOAD`.
#[derive(Default, IntoBytes, Immutable)]
#[repr(C)]
struct BtfLoad {
    btf: u64,
    log_buf: u64,
    btf_size: u32,
    log_size: u32,
    log_level: u32,
    reserved: u32,
}

/// The same for `BPF_LINK_CREATE` of an uprobe-multi link.
#[derive(Default, IntoBytes, Immutable)]
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    pid: u32,
    reserved: u32,
}

/// Makes the call; all commands used here return a new descriptor.
///
/// # Safety
/// Every address in `attributes` must be that of memory that lives, with the
/// length that goes with it, until the call returns.
unsafe fn bpf(command: i64, attributes: &(impl IntoBytes + Immutable)) -> io::Result<OwnedFd> {
    let bytes = attributes.as_bytes();
    let mut tries = 0;
    loop {
        // SAFETY: the kernel reads `bytes`, and what its addresses name, which
        // is the caller's promise; it writes nothing, no log being asked for.
        let fd =
            unsafe { nix::libc::syscall(nix::libc::SYS_bpf, command, bytes.as_ptr(), bytes.len()) };
        match RawFd::try_from(fd) {
            // SAFETY: a descriptor that the kernel has just made for this call.
            Ok(fd) if fd >= 0 => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => {}
        }
        // The verifier gives up when a signal comes, Ctrl-C for example.
        let error = io::Error::last_os_error();
        tries += 1;
        if error.kind() != io::ErrorKind::WouldBlock || tries == LOAD_TRIES {
            return Err(error);
        }
    }
}

fn address(of: &[u8]) -> u64 {
    of.as_ptr() as u64
}

fn length(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

impl MultiPrograms {
    /// Loads those of the object's uprobe programs that are `wanted` for
    /// uprobe-multi, over the maps that aya made for `ebpf`.
    ///
    /// # Errors
    /// The kernel has no uprobe-multi (before 6.6), or refuses a program.
    pub(super) fn load(
        object: &[u8],
        ebpf: &Ebpf,
        wanted: impl Fn(&str) -> bool,
    ) -> io::Result<Self> {
        let mut object = Object::parse(object).map_err(io::Error::other)?;
        let features = aya::features();
        let btf_features = features.btf().ok_or(io::ErrorKind::Unsupported)?;
        let btf = object
            .fixup_and_sanitize_btf(btf_features)
            .map_err(io::Error::other)?
            .ok_or(io::ErrorKind::Unsupported)?
            .to_bytes();
        let attributes = BtfLoad {
            btf: address(&btf),
            btf_size: length(btf.len()),
            ..BtfLoad::default()
        };
        // SAFETY: `btf` lives until the end of the function.
        let btf = unsafe { bpf(CMD_BTF_LOAD, &attributes) }?;

        let definitions = object.maps.clone();
        let maps = ebpf.maps().filter_map(|(name, map)| {
            let fd = descriptor(map)?;
            Some((name, fd.as_raw_fd(), definitions.get(name)?))
        });
        let sections = object
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        object
            .relocate_maps(maps, &sections)
            .map_err(io::Error::other)?;
        object.relocate_calls(&sections).map_err(io::Error::other)?;
        object.sanitize_functions(features);

        let mut programs = HashMap::new();
        for (name, program) in &object.programs {
            let uprobe = matches!(
                program.section,
                ProgramSection::UProbe { .. } | ProgramSection::URetProbe { .. }
            );
            if !uprobe || !wanted(name) {
                continue;
            }
            programs.insert(name.clone(), load_one(&object, name, program, btf.as_fd())?);
        }
        Ok(Self { programs })
    }

    /// Puts a program at all of `offsets` in a file, for one process, each with
    /// its cookie; `at_return`: at the returns of functions that begin there.
    ///
    /// # Errors
    /// No such program, or the kernel refuses.
    pub(super) fn link(
        &self,
        (program, at_return): (&str, bool),
        file: &Path,
        offsets: &[u64],
        cookies: &[u64],
        pid: u32,
    ) -> io::Result<OwnedFd> {
        if offsets.len() != cookies.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let program = self.programs.get(program).ok_or(io::ErrorKind::NotFound)?;
        let path = CString::new(file.as_os_str().as_bytes())?;
        let attributes = LinkCreate {
            prog_fd: program.as_raw_fd().unsigned_abs(),
            attach_type: ATTACH_UPROBE_MULTI,
            path: address(path.as_bytes_with_nul()),
            offsets: address(offsets.as_bytes()),
            cookies: address(cookies.as_bytes()),
            count: length(offsets.len()),
            multi_flags: if at_return { UPROBE_MULTI_RETURN } else { 0 },
            pid,
            ..LinkCreate::default()
        };
        // SAFETY: `path` ends with its NUL; `offsets` and `cookies` have `count`
        // elements.
        unsafe { bpf(CMD_LINK_CREATE, &attributes) }
    }
}

fn load_one(
    object: &Object,
    name: &str,
    program: &aya_obj::Program,
    btf: BorrowedFd<'_>,
) -> io::Result<OwnedFd> {
    let function = object
        .functions
        .get(&program.function_key())
        .ok_or(io::ErrorKind::InvalidData)?;
    let mut prog_name = [0; 16];
    let shown = name.len().min(prog_name.len() - 1);
    prog_name[..shown].copy_from_slice(&name.as_bytes()[..shown]);
    let func_info = function.func_info.func_info_bytes();
    let line_info = function.line_info.line_info_bytes();
    let attributes = ProgLoad {
        prog_type: PROG_TYPE_KPROBE,
        insn_cnt: length(function.instructions.len()),
        insns: function.instructions.as_ptr() as u64,
        license: address(program.license.as_bytes_with_nul()),
        prog_name,
        expected_attach_type: ATTACH_UPROBE_MULTI,
        prog_btf_fd: btf.as_raw_fd().unsigned_abs(),
        func_info_rec_size: length(function.func_info_rec_size),
        func_info: address(&func_info),
        func_info_cnt: length(function.func_info.len()),
        line_info_rec_size: length(function.line_info_rec_size),
        line_info: address(&line_info),
        line_info_cnt: length(function.line_info.len()),
        ..ProgLoad::default()
    };
    // SAFETY: instructions, licence (NUL-terminated) and both tables live in
    // `function`, `program` and this frame.
    unsafe { bpf(CMD_PROG_LOAD, &attributes) }
}

/// A map's descriptor.
fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    let data: &MapData = match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => data,
        _ => return None,
    };
    Some(data.fd().as_fd())
}
