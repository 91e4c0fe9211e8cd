//! Namespaces, namespaces(7).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Result;
use rustix::thread::UnshareFlags;

/// Which kind of namespace the file is: one of `CLONE_NEW*`. ioctl_ns(2) `NS_GET_NSTYPE`, Linux 4.11.
///
/// # Errors
/// `ENOTTY` for a file that is no namespace.
pub fn kind(file: impl AsFd) -> Result<u32> {
    /// `_IO(0xb7, 3)` of linux/nsfs.h.
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument and writes nothing.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), NS_GET_NSTYPE) };
    match result {
        -1 => Err(super::last_errno()),
        kind => Ok(kind as u32),
    }
}

/// The user namespace that a namespace belongs to. ioctl_ns(2) `NS_GET_USERNS`, Linux 4.9.
///
/// # Errors
/// `ENOTTY` for a file that is no namespace, `EPERM` for one that belongs to an outer user namespace.
pub fn owner(file: impl AsFd) -> Result<OwnedFd> {
    /// `_IO(0xb7, 1)` of linux/nsfs.h.
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    // SAFETY: NS_GET_USERNS takes no argument and writes nothing.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), NS_GET_USERNS) };
    match result {
        -1 => Err(super::last_errno()),
        // SAFETY: it succeeded, so the kernel has made a new descriptor that nobody else owns.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Moves this process, which has one thread, into new namespaces. unshare(2).
///
/// # Errors
/// As unshare(2).
pub fn unshare(flags: UnshareFlags) -> Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: the flag that makes unshare unsafe, CLONE_FILES, gives this thread a descriptor table of its own while
    // others go on with theirs; it is never used here.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Whether this process has no rights over the machine: it is a plain user's, or in a user namespace, user_namespaces(7).
pub fn is_rootless() -> bool {
    // The initial namespace maps every id to itself. Without procfs nothing says otherwise.
    let map = || std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !rustix::process::geteuid().is_root() || !map().split_whitespace().eq(["0", "0", "4294967295"])
}

/// The word for a kind in the runtime-spec.
pub fn name(kind: u32) -> &'static str {
    match kind as i32 {
        libc::CLONE_NEWNS => "mount",
        libc::CLONE_NEWPID => "pid",
        libc::CLONE_NEWNET => "network",
        libc::CLONE_NEWIPC => "ipc",
        libc::CLONE_NEWUTS => "uts",
        libc::CLONE_NEWUSER => "user",
        libc::CLONE_NEWCGROUP => "cgroup",
        libc::CLONE_NEWTIME => "time",
        _ => "unknown",
    }
}
