//! Device programs of cgroup v2: bpf(2).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::error::{Error, Result};

/// linux/bpf.h: commands, the type of the program and where it is attached.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
/// Programs of the cgroups above stay in force beside it: all must agree.
const ALLOW_MULTI: u32 = 2;

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` has had since Linux 4.15.
#[repr(C)]
struct Load {
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
}

/// The part of `union bpf_attr` that `BPF_PROG_ATTACH` has had since Linux 4.10.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Loads a `BPF_PROG_TYPE_CGROUP_DEVICE` program (Linux 4.15) and attaches it to a cgroup v2 directory. It stays for
/// as long as the cgroup does.
///
/// # Errors
/// `EPERM` without `CAP_BPF` (before Linux 5.8: `CAP_SYS_ADMIN`), `EINVAL` if the kernel refuses the program.
pub fn attach_device_program(cgroup: impl AsFd, program: &[[u8; 8]]) -> Result<()> {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(last) = last.as_ref()
        && last.instructions == program
        && attach(&cgroup, &last.program).is_ok()
    {
        return Ok(());
    }
    // No program is attached twice to one cgroup, which may be there from before: then it is another one that says the same.
    let last = last.insert(Loaded::new(program)?);
    attach(cgroup, &last.program).map_err(|errno| {
        Error::sys("attach the device program", errno)
            .hint("a program of a cgroup above may forbid others (BPF_F_ALLOW_OVERRIDE)")
    })
}

/// Loads the program that [`attach_device_program`] is going to attach next, if it is not the one that it attached last.
///
/// # Errors
/// As there.
pub fn load_device_program(program: &[[u8; 8]]) -> Result<()> {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last
        .as_ref()
        .is_none_or(|last| last.instructions != program)
    {
        *last = Some(Loaded::new(program)?);
    }
    Ok(())
}

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` has had since Linux 4.15.
#[repr(C)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_GET_FD_BY_ID` has had since Linux 4.13.
#[repr(C)]
struct GetById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The kernel takes no more in one cgroup.
const MAX_PROGRAMS: usize = 64;

/// Attaches a program as [`attach_device_program`] does, `None` for one that allows everything, and takes off those that
/// were attached to this very cgroup. Until they are, both must agree: at no moment is anything allowed that neither allows.
///
/// # Errors
/// As [`attach_device_program`]; `EPERM` without `CAP_SYS_ADMIN`.
pub fn replace_device_program(cgroup: impl AsFd, program: Option<&[[u8; 8]]>) -> Result<()> {
    let old = attached(&cgroup)
        .map_err(|errno| Error::sys("list the device programs of the cgroup", errno))?;
    if let Some(program) = program {
        attach_device_program(&cgroup, program)?;
    }
    for program in old {
        detach(&cgroup, &program)
            .map_err(|errno| Error::sys("take off the old device program", errno))?;
    }
    Ok(())
}

/// The device programs of this cgroup, without those of the ones above.
fn attached(cgroup: impl AsFd) -> std::result::Result<Vec<OwnedFd>, Errno> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut query = Query {
        target_fd: cgroup.as_fd().as_raw_fd().cast_unsigned(),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MAX_PROGRAMS as u32,
        padding: 0,
    };
    // SAFETY: `query` is laid out as the kernel's union for this command and may be written, and the array that it points
    // to has room for as many ids as it says and outlives the call.
    unsafe { bpf(PROG_QUERY, &raw mut query) }?;
    // Ids are never 0.
    ids.into_iter()
        .take_while(|id| *id != 0)
        .map(open)
        .collect()
}

fn open(id: u32) -> std::result::Result<OwnedFd, Errno> {
    let get = GetById {
        id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: `get` is laid out as the kernel's union for this command and points to nothing.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &get) }?;
    // SAFETY: BPF_PROG_GET_FD_BY_ID returned a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn detach(cgroup: impl AsFd, program: &OwnedFd) -> std::result::Result<(), Errno> {
    let detach = Attach {
        target_fd: cgroup.as_fd().as_raw_fd().cast_unsigned(),
        attach_bpf_fd: program.as_raw_fd().cast_unsigned(),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags: 0,
    };
    // SAFETY: `detach` is laid out as the kernel's union for this command and points to nothing.
    unsafe { bpf(PROG_DETACH, &detach) }.map(drop)
}

fn attach(cgroup: impl AsFd, program: &OwnedFd) -> std::result::Result<(), Errno> {
    let attach = Attach {
        target_fd: cgroup.as_fd().as_raw_fd().cast_unsigned(),
        attach_bpf_fd: program.as_raw_fd().cast_unsigned(),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI,
    };
    // SAFETY: `attach` is laid out as the kernel's union for this command and points to nothing.
    unsafe { bpf(PROG_ATTACH, &attach) }.map(drop)
}

/// The program that was loaded last. The containers of a pod mostly have the same rules, and checking and translating a
/// program takes the kernel half a millisecond.
static LAST: Mutex<Option<Loaded>> = Mutex::new(None);

/// A program in the kernel.
struct Loaded {
    instructions: Vec<[u8; 8]>,
    program: OwnedFd,
}

impl Loaded {
    fn new(instructions: &[[u8; 8]]) -> Result<Self> {
        let loaded = load(instructions).map_err(|errno| {
            Error::sys("load the device program", errno).hint(
                "device rules on cgroup v2 need bpf(2): CAP_BPF or CAP_SYS_ADMIN, and no seccomp filter that forbids it",
            )
        })?;
        Ok(Self {
            instructions: instructions.to_vec(),
            program: loaded,
        })
    }
}

/// The kernel gives up checking a program when a signal arrives, SIGCHLD for one, and wants to be asked again.
fn load(program: &[[u8; 8]]) -> std::result::Result<OwnedFd, Errno> {
    const ATTEMPTS: usize = 100;
    let load = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"runp_devices\0\0\0\0",
    };
    for _ in 0..ATTEMPTS {
        // SAFETY: `load` is laid out as the kernel's union for this command, and the instructions and the license that
        // it points to outlive the call.
        match unsafe { bpf(PROG_LOAD, &load) } {
            Err(Errno::AGAIN) => {}
            // SAFETY: BPF_PROG_LOAD returned a new descriptor that nobody else has.
            result => return result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    }
    Err(Errno::AGAIN)
}

/// bpf(2).
///
/// # Safety
/// `attributes` must be a live value, laid out as the kernel's union for `command`, and one that may be written if the
/// command answers in it; what it points to must be valid for as long as the kernel uses it.
unsafe fn bpf<T>(
    command: libc::c_int,
    attributes: *const T,
) -> std::result::Result<libc::c_int, Errno> {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    match libc::c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(super::last_errno()),
    }
}
