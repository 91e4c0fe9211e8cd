//! How a process shares processors, disks and memory: sched_setattr(2), ioprio_set(2), set_mempolicy(2), personality(2).

use rustix::io::Result;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// `struct sched_attr` as of Linux 5.3; its size is filled in when it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
#[allow(missing_docs)] // the kernel's names
pub struct Attributes {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub util_min: u32,
    pub util_max: u32,
}

/// Sets the scheduling policy of a process, or with `None` of this one. Linux 3.14.
///
/// # Errors
/// As sched_setattr(2): `EPERM` without CAP_SYS_NICE for a real-time policy or a lower nice value.
pub fn set_attributes(pid: Option<Pid>, attributes: Attributes) -> Result<()> {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        ..attributes
    };
    // SAFETY: the kernel reads `size` bytes of the structure, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            Pid::as_raw(pid),
            &raw const attributes,
            0,
        )
    };
    done(result)
}

/// Sets the I/O class (1 real time, 2 best effort, 3 idle) and the level in it, 0 to 7, of this process.
///
/// # Errors
/// As ioprio_set(2): `EPERM` without CAP_SYS_NICE for the real-time class.
pub fn set_io_priority(class: u8, level: u8) -> Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    let priority = (u32::from(class) << 13) | u32::from(level);
    // SAFETY: takes integers only; 0 is the calling process.
    done(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) })
}

/// Where this process's memory comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_*` with `MPOL_F_*`.
    pub mode: u32,
    /// Bit n of word m is node 64 m + n; may be empty.
    pub nodes: Vec<u64>,
}

/// Sets it. Linux 2.6.7.
///
/// # Errors
/// As set_mempolicy(2): `EINVAL` for a mode, flag or node that the kernel does not have, `ENOSYS` on one without NUMA.
pub fn set_memory_policy(policy: &MemoryPolicy) -> Result<()> {
    let nodes = match policy.nodes.as_slice() {
        [] => std::ptr::null(),
        nodes => nodes.as_ptr(),
    };
    // The kernel takes one bit less than it is told of.
    let bits = match policy.nodes.len() {
        0 => 0,
        words => words * 64 + 1,
    };
    // SAFETY: the kernel reads `bits - 1` bits at `nodes`, which has as many, and writes nothing.
    done(unsafe { libc::syscall(libc::SYS_set_mempolicy, policy.mode, nodes, bits) })
}

/// Sets the execution domain of this process and what it executes.
///
/// # Errors
/// As personality(2).
pub fn set_personality(persona: u32) -> Result<()> {
    // SAFETY: takes an integer; what it changes about this process is how programs executed later see the machine.
    done(unsafe { libc::syscall(libc::SYS_personality, persona) })
}

fn done(result: libc::c_long) -> Result<()> {
    match result {
        -1 => Err(super::last_errno()),
        _ => Ok(()),
    }
}
