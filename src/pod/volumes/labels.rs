//! SELinux's contexts of files.

use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{XattrFlags, setxattr};
use rustix::io::Errno;

use crate::pod::tree;

/// Gives everything in the directory this context, and the directory itself last.
pub(super) fn apply(directory: impl AsFd, label: &str) -> rustix::io::Result<()> {
    tree::walk_handles(&directory, |file| set(file, label))?;
    set(directory, label)
}

/// Gives a file this context. A file system that knows none has one for all its files.
pub(in crate::pod) fn set(file: impl AsFd, label: &str) -> rustix::io::Result<()> {
    // The handle's own name: fsetxattr(2) does not take an O_PATH one.
    let name = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    // With its NUL, as libselinux writes it.
    let value = [label.as_bytes(), b"\0"].concat();
    match setxattr(name, "security.selinux", &value, XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        set => set,
    }
}
