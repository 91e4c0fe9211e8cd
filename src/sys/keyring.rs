//! Keys, keyrings(7).

use std::ffi::CStr;

use rustix::io::{Errno, Result};

/// Gives this process a session keyring of that name, in place of the one that it has from its caller. keyctl(2)
/// `KEYCTL_JOIN_SESSION_KEYRING`. A kernel without keys has nothing to replace.
///
/// # Errors
/// `EDQUOT` when the user has too many keys.
pub fn join_session(name: &CStr) -> Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the kernel reads the NUL-terminated name and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    match result {
        -1 => match super::last_errno() {
            Errno::NOSYS => Ok(()),
            e => Err(e),
        },
        _ => Ok(()),
    }
}
