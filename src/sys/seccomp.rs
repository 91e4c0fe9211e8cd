//! System call filters: seccomp(2), and libseccomp, which compiles them.

use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use libseccomp_sys as c;
use rustix::io::{Errno, Result};

/// The length of an instruction of a program, `struct sock_filter`.
pub const INSTRUCTION: usize = 8;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`, Linux 5.0: loading gives the descriptor on which `SECCOMP_RET_USER_NOTIF` arrives.
pub const NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, Linux 5.19.
pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// A comparison of a system call's argument.
pub type Condition = c::scmp_arg_cmp;
/// How an argument is compared.
pub use c::scmp_compare as Comparison;

/// The version of libseccomp, on which the names of system calls and the compiled programs depend.
pub fn version() -> (u32, u32, u32) {
    // SAFETY: takes nothing, and returns a pointer.
    let version = unsafe { c::seccomp_version() };
    // SAFETY: it points to a variable of libseccomp's that nobody changes any more, or is NULL.
    let version = unsafe { version.as_ref() };
    version.map_or((0, 0, 0), |v| (v.major, v.minor, v.micro))
}

/// The number of a system call by its name in an architecture (`SCMP_ARCH_*`), or, if it is one of another architecture
/// only, a negative number that stands for it; `None` for a name that libseccomp does not know.
pub fn resolve(architecture: u32, name: &CStr) -> Option<i32> {
    const NR_SCMP_ERROR: i32 = -1;
    // SAFETY: the name is NUL-terminated and outlives the call, which keeps nothing of it.
    let number = unsafe { c::seccomp_syscall_resolve_name_arch(architecture, name.as_ptr()) };
    (number != NR_SCMP_ERROR).then_some(number)
}

/// A filter that libseccomp compiles.
#[derive(Debug)]
pub struct Rules(NonNull<libc::c_void>);

impl Rules {
    /// No rules yet, for the machine's own architecture: whatever is called, `action` (`SCMP_ACT_*`) is done.
    ///
    /// # Errors
    /// `EINVAL` for an action that the kernel does not know.
    pub fn new(action: u32) -> Result<Self> {
        // SAFETY: takes an integer; what it returns is owned by the value made here, which alone releases it.
        let rules = unsafe { c::seccomp_init(action) };
        NonNull::new(rules).map(Self).ok_or(Errno::INVAL)
    }

    /// Adds an architecture (`SCMP_ARCH_*`). One that is there already is no error.
    ///
    /// # Errors
    /// As seccomp_arch_add(3).
    pub fn add_architecture(&mut self, architecture: u32) -> Result<()> {
        // SAFETY: the filter is valid for as long as `self` is.
        check(unsafe { c::seccomp_arch_add(self.0.as_ptr(), architecture) })
    }

    /// Does `action` if all conditions hold for a call of the system call, in all architectures that have it. A rule that is
    /// there already is no error.
    ///
    /// # Errors
    /// As seccomp_rule_add(3): `EINVAL` for two conditions on one argument.
    pub fn add_rule(&mut self, action: u32, call: i32, conditions: &[Condition]) -> Result<()> {
        let count = u32::try_from(conditions.len()).map_err(|_| Errno::INVAL)?;
        let first = conditions.as_ptr();
        // SAFETY: the filter is valid for as long as `self` is; libseccomp copies the `count` conditions at `first`.
        check(unsafe { c::seccomp_rule_add_array(self.0.as_ptr(), action, call, count, first) })
    }

    /// Compiles to a binary tree over the system calls instead of a list: seccomp_attr_set(3), `SCMP_FLTATR_CTL_OPTIMIZE`.
    ///
    /// # Errors
    /// As seccomp_attr_set(3).
    pub fn optimize(&mut self) -> Result<()> {
        let attribute = c::scmp_filter_attr::SCMP_FLTATR_CTL_OPTIMIZE;
        // SAFETY: the filter is valid for as long as `self` is.
        check(unsafe { c::seccomp_attr_set(self.0.as_ptr(), attribute, 2) })
    }

    /// The compiled program: `struct sock_filter`, one after the other.
    ///
    /// # Errors
    /// As seccomp_export_bpf_mem(3): `E2BIG` or `ENOMEM` when it has more instructions than the kernel takes.
    pub fn compile(&self) -> Result<Vec<u8>> {
        let mut length = 0;
        // SAFETY: the filter is valid for as long as `self` is; without a buffer only the length is written.
        check(unsafe {
            c::seccomp_export_bpf_mem(self.0.as_ptr(), std::ptr::null_mut(), &raw mut length)
        })?;
        let mut program = vec![0; length];
        let buffer = program.as_mut_ptr().cast();
        // SAFETY: as above; the buffer has `length` bytes, of which libseccomp writes no more than that.
        check(unsafe { c::seccomp_export_bpf_mem(self.0.as_ptr(), buffer, &raw mut length) })?;
        program.truncate(length);
        Ok(program)
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        // SAFETY: it was made by seccomp_init and is released here only.
        unsafe { c::seccomp_release(self.0.as_ptr()) };
    }
}

fn check(result: libc::c_int) -> Result<()> {
    match result {
        0.. => Ok(()),
        e if -e == libc::EEXIST => Ok(()),
        e => Err(Errno::from_raw_os_error(-e)),
    }
}

/// Puts this process under a filter, for good. seccomp(2) `SECCOMP_SET_MODE_FILTER`, Linux 3.17. With [`NEW_LISTENER`] it
/// returns the descriptor on which the calls arrive that are asked about.
///
/// # Errors
/// `EACCES` without no_new_privs and without CAP_SYS_ADMIN; `EINVAL` for a program or flag that the kernel does not take.
pub fn load(program: &[u8], flags: u32) -> Result<Option<OwnedFd>> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    // The kernel wants instructions as they lie in memory, at their own alignment.
    let mut filter: Vec<libc::sock_filter> = program
        .chunks_exact(INSTRUCTION)
        .map(|i| libc::sock_filter {
            code: u16::from_ne_bytes([i[0], i[1]]),
            jt: i[2],
            jf: i[3],
            k: u32::from_ne_bytes([i[4], i[5], i[6], i[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel reads `len` instructions at `filter`, which outlives the call, checks the program, and keeps a copy.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    match result {
        -1 => Err(super::last_errno()),
        // SAFETY: with this flag the kernel has made a new descriptor, which nobody else owns.
        fd if flags & NEW_LISTENER != 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_library_is_without_the_flaws_of_2026() {
        assert!(version() >= (2, 6, 1), "{:?}", version());
    }

    #[test]
    fn names_of_other_architectures_are_known_too() {
        let native = 0;
        assert_eq!(resolve(native, c"getpid"), Some(libc::SYS_getpid as i32));
        assert!(resolve(native, c"s390_pci_mmio_read").unwrap() < -1);
        assert_eq!(resolve(native, c"no_such_call"), None);
    }
}
