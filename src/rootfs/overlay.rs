//! A container's writable layer over its image.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

use super::file_system::explain;
use crate::error::{Context, Error, Result};
use crate::sys::mount::map_ids;

/// A detached overlay mount: reads come from `lower`, which stays as it is, writes go to `upper`. `work` is overlayfs' own, empty
/// and on the same file system as `upper`. Nothing of the layer is synced to disk: it is of no use after a crash, and
/// unmounting would wait for the whole disk.
///
/// With the `users` of another user namespace the files in `lower` are theirs: Linux 5.19. With a `label` all files have that
/// SELinux context.
///
/// # Errors
/// When a directory cannot be opened, or the file system of `upper` cannot serve as one.
pub fn overlay(
    lower: &Path,
    upper: &Path,
    work: &Path,
    users: Option<BorrowedFd<'_>>,
    label: Option<&str>,
) -> Result<OwnedFd> {
    let step = || format!("mount an overlay over {}", lower.display());
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context(step)?;
    let set = |key: &str, value: &str| {
        fsconfig_set_string(&context, key, value)
            .map_err(|e| explain(context.as_fd(), &format!("set {key}"), e))
            .context(step)
    };
    set("source", "overlay")?;
    let mut open = Vec::new();
    for (key, path) in [("lowerdir", lower), ("upperdir", upper), ("workdir", work)] {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())
            .context(|| format!("open {}", path.display()))
            .context(step)?;
        let dir = match users {
            Some(users) if key == "lowerdir" => mapped(&dir, users).context(step)?,
            _ => dir,
        };
        // By descriptor: a path may be too long for fsconfig(2), and a colon in it separates directories for overlayfs.
        set(key, &format!("/proc/self/fd/{}", dir.as_raw_fd()))?;
        open.push(dir);
    }
    fsconfig_set_flag(&context, "volatile").context(step)?;
    if let Some(label) = label {
        set("context", label).map_err(|e| match e.errno() {
            Some(libc::EINVAL) => e.hint(format!("the SELinux policy does not know {label}")),
            _ => e,
        })?;
    }
    fsconfig_create(&context)
        .map_err(|e| explain(context.as_fd(), "create the overlay", e))
        .context(step)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .context(step)
}

/// A detached copy of the mount, whose files belong to the ids of a user namespace.
///
/// # Errors
/// open_tree(2); mount_setattr(2): `EINVAL` for a file system that cannot be id-mapped on this kernel.
pub fn mapped(dir: &OwnedFd, users: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(dir, "", flags).context(|| "open_tree")?;
    map_ids(&tree, false, users).map_err(|e| {
        Error::sys("map ids", e)
            .hint("this file system cannot be id-mapped by this kernel: tmpfs can since Linux 6.3")
    })?;
    Ok(tree)
}
