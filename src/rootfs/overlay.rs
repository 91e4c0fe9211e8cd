//! A container's writable layer over its image.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::file_system::explain;
use crate::error::{Context, Result};

/// A detached overlay mount: reads come from `lower`, which stays as it is, writes go to `upper`. `work` is overlayfs' own, empty
/// and on the same file system as `upper`. Nothing of the layer is synced to disk: it is of no use after a crash, and
/// unmounting would wait for the whole disk.
///
/// # Errors
/// When a directory cannot be opened, or the file system of `upper` cannot serve as one.
pub fn overlay(lower: &Path, upper: &Path, work: &Path) -> Result<OwnedFd> {
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
        // By descriptor: a path may be too long for fsconfig(2), and a colon in it separates directories for overlayfs.
        set(key, &format!("/proc/self/fd/{}", dir.as_raw_fd()))?;
        open.push(dir);
    }
    fsconfig_set_flag(&context, "volatile").context(step)?;
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
