//! mount_setattr(2), which `rustix` lacks.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Result;

/// `MOUNT_ATTR_RDONLY`.
pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// `MOUNT_ATTR_NOSUID`.
pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// `MOUNT_ATTR_NODEV`.
pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
/// `MOUNT_ATTR_NOEXEC`.
pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// What changes about a mount: mount_setattr(2), `struct mount_attr`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear, before the others are set.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to keep.
    pub propagation: u64,
}

/// Changes the mount that `path` below `dir` is on; an empty path means the mount of `dir` itself. Linux 5.12.
///
/// # Errors
/// As mount_setattr(2).
pub fn mount_setattr(dir: impl AsFd, path: &CStr, recursive: bool, change: Change) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: 0,
    };
    set(dir.as_fd(), path, recursive, &attr)
}

/// Gives a detached mount the id map of a user namespace: `MOUNT_ATTR_IDMAP`, Linux 5.12.
///
/// # Errors
/// As mount_setattr(2): `EINVAL` for a file system that cannot be id-mapped, or for the caller's own user namespace,
/// `EPERM` without CAP_SYS_ADMIN in the user namespace that the file system belongs to.
pub fn map_ids(mount: impl AsFd, recursive: bool, user_namespace: BorrowedFd<'_>) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    set(mount.as_fd(), c"", recursive, &attr)
}

fn set(dir: BorrowedFd<'_>, path: &CStr, recursive: bool, attr: &libc::mount_attr) -> Result<()> {
    let mut flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the kernel reads `size_of::<mount_attr>()` bytes of `attr` and a NUL-terminated `path`; both outlive
    // the call, and it writes to neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(super::last_errno()),
    }
}
