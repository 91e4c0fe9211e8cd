//! Sysctls, written through a procfs of our own that nobody else can reach (CVE-2025-52881).
//!
//! Before the root is entered: in a user namespace procfs can only be mounted where one without masks is visible.

use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::thread::{Uid, set_thread_res_uid};

use crate::error::{Error, Result};
use crate::sys::path;

/// Writes the keys of `field`, which are paths below `/proc/sys`, for the namespaces of the caller. What the caller may not,
/// `owner` may, if it is given: on newer kernels a sysctl of an IPC namespace is that of the root of its user namespace.
pub(crate) fn write(field: &str, sysctl: &[(String, String)], owner: Option<u32>) -> Result<()> {
    if sysctl.is_empty() {
        return Ok(());
    }
    let proc = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)
        .and_then(|context| {
            fsconfig_create(&context)?;
            fsmount(
                &context,
                FsMountFlags::FSMOUNT_CLOEXEC,
                MountAttrFlags::empty(),
            )
        })
        .map_err(|e| {
            let error = Error::sys(format!("{field}: open a private procfs"), e);
            match e {
                Errno::PERM => error.hint(
                    "in a user namespace it takes a pid namespace of its own, and a host whose /proc has no masks",
                ),
                _ => error,
            }
        })?;
    for (key, value) in sysctl {
        let step = || format!("{field}: set {key} to {value:?}");
        // The kernel looks at who it is both when it is opened and when it is written.
        let set = || -> rustix::io::Result<()> {
            let file = path::open_beneath(&proc, &Path::new("sys").join(key), OFlags::WRONLY)?;
            rustix::io::write(&file, value.as_bytes()).map(drop)
        };
        let done = match (set(), owner) {
            (Err(Errno::ACCESS | Errno::PERM), Some(owner)) => as_user(owner, set),
            (done, _) => done,
        };
        done.map_err(|e| match e {
            Errno::NOENT => Error::sys(step(), e).hint("this kernel has no such sysctl"),
            Errno::ACCESS | Errno::PERM => Error::sys(step(), e)
                .hint("this kernel lets nobody but the host's root set it, not the root of a user namespace"),
            e => Error::sys(step(), e),
        })?;
    }
    Ok(())
}

/// Root does something as somebody else; it is root again then.
fn as_user<T>(user: u32, act: impl FnOnce() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    set_thread_res_uid(Uid::ROOT, Uid::from_raw(user), Uid::ROOT)?;
    let done = act();
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    done
}
