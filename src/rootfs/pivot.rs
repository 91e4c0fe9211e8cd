//! The root mount: cut off from the host, attached, and in the end entered. `linux.rootfsPropagation` and `root.readonly`.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags, mount, move_mount, unmount};

use super::{host_handle, mounts};
use crate::error::{Context, Error, Result};
use crate::spec::plan::{Hooks, Propagation, Root};
use crate::sys::mount::{Change, RDONLY, mount_setattr};

/// Decides what the mounts of the new mount namespace, copies of the host's, have to do with those still.
///
/// Private and slave: nothing that is mounted here reaches the host. Shared: they stay peers of the host's, so that a bind
/// mount that is shared propagates both ways; only `/` itself is none, because pivot_root(2) demands that and the root
/// is to be attached there.
pub(super) fn cut_off(propagation: Propagation) -> Result<()> {
    let (kind, recursive) = match propagation {
        Propagation::Slave => (Propagation::Slave, true),
        // Whether it can be bound is a matter of the root alone, and comes at the end.
        Propagation::Private | Propagation::Unbindable => (Propagation::Private, true),
        Propagation::Shared => (Propagation::Private, false),
    };
    mount_setattr(CWD, c"/", recursive, mounts::propagation(kind))
        .context(|| "set linux.rootfsPropagation")
}

/// Attaches the root over `/`, where no directory of the host needs to be walked and nothing propagates to. Paths of the
/// host still lead to the host's files until [`enter`].
///
/// Hooks are the exception: they enter the mount namespace and go to `root.path`, so there it is then, if that is no peer of
/// a mount of the host's.
pub(super) fn attach(tree: BorrowedFd<'_>, root: &Root, hooks: &Hooks) -> Result<()> {
    if root.propagation == Propagation::Shared {
        // "This does not mean that it's shared with the host": it becomes a peer group of its own at the end.
        let private = mounts::propagation(Propagation::Private);
        mount_setattr(tree, c"", true, private).context(|| "cut the root off from the host")?;
    }
    let at = match hooks.see_the_root() && root.propagation != Propagation::Shared {
        true => root.path.as_path(),
        false => Path::new("/"),
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(tree, c"", CWD, at, flags)
        .context(|| format!("mount the root {}", root.path.display()))
}

/// Makes `tree` the root of this process, and gives it the attributes that must come after everything was made in it.
pub(super) fn enter(tree: BorrowedFd<'_>, root: &Root) -> Result<()> {
    match root.no_pivot {
        false => pivot(tree, root.propagation)?,
        true => change_root(tree)?,
    }
    let mut change = match root.propagation {
        Propagation::Private | Propagation::Slave => Change::default(),
        kind => mounts::propagation(kind),
    };
    if root.recursive_propagation && change.propagation != 0 {
        mount_setattr(tree, c"", true, change).context(|| "set linux.rootfsPropagation")?;
        change = Change::default();
    }
    if root.readonly {
        change.set = RDONLY;
    }
    if change.set | change.propagation != 0 {
        mount_setattr(tree, c"", false, change)
            .context(|| "set root.readonly and linux.rootfsPropagation")?;
    }
    Ok(())
}

/// Makes `tree` the root and detaches the old one. The old root ends up mounted over the new one, where `.` still is, so
/// that no directory for it is needed (pivot_root(2), NOTES).
fn pivot(tree: BorrowedFd<'_>, propagation: Propagation) -> Result<()> {
    let step = || "pivot_root";
    // Unmounting a peer of the host's mounts would unmount those.
    let peers = match propagation {
        Propagation::Shared => Some(host_handle(Path::new("/")).context(step)?),
        _ => None,
    };
    rustix::process::fchdir(tree).context(step)?;
    rustix::process::pivot_root(c".", c".").map_err(|e| {
        let error = Error::sys(step(), e);
        match e {
            Errno::INVAL => error.hint(
                "the caller's root must be a mount, and not that of an initramfs: --no-pivot works there",
            ),
            _ => error,
        }
    })?;
    if let Some(peers) = peers {
        mount_setattr(peers, c"", true, mounts::propagation(Propagation::Slave))
            .context(|| "cut the host's root off")?;
    }
    unmount(c".", UnmountFlags::DETACH).context(|| "detach the host's root")?;
    rustix::process::chdir(c"/").context(|| "chdir /")
}

/// Without pivot_root(2): the host's root stays below the container's, out of reach as long as nobody in the container may
/// unmount. Its procfs and sysfs go first, because a process with a user namespace of its own may mount those without
/// any mask as long as they are visible somewhere in its mount namespace.
fn change_root(tree: BorrowedFd<'_>) -> Result<()> {
    for path in full_views().context(|| "read /proc/self/mountinfo")? {
        hide(&path).context(|| format!("unmount the host's {}", path.display()))?;
    }
    let step = || "chroot";
    rustix::process::fchdir(tree).context(step)?;
    rustix::process::chroot(c".").context(step)?;
    rustix::process::chdir(c"/").context(|| "chdir /")
}

fn hide(path: &Path) -> rustix::io::Result<()> {
    match unmount(path, UnmountFlags::DETACH) {
        // Locked to its parent, because a more privileged mount namespace made both: mount_namespaces(7).
        Err(Errno::INVAL | Errno::PERM) => mount("tmpfs", path, "tmpfs", MountFlags::empty(), None),
        result => result,
    }
}

/// Where the whole of procfs or sysfs is mounted below the present root, those that are mounted last first.
/// proc_pid_mountinfo(5).
fn full_views() -> rustix::io::Result<Vec<PathBuf>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open("/proc/self/mountinfo", flags, Mode::empty())?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut text)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    Ok(views_in(&text))
}

fn views_in(mountinfo: &[u8]) -> Vec<PathBuf> {
    let view = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let fstype = fields.skip_while(|field| *field != b"-").nth(1)?;
        let is_full = root == b"/" && matches!(fstype, b"proc" | b"sysfs");
        is_full.then(|| Path::new(OsStr::from_bytes(point)).into())
    };
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let mut views: Vec<PathBuf> = lines.filter_map(view).collect();
    views.reverse();
    views
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_those_of_all_of_proc_and_sys() {
        let mountinfo = b"22 1 0:20 / /sys rw,nosuid - sysfs sysfs rw\n\
            23 1 0:21 / /proc rw shared:4 - proc proc rw\n\
            24 1 0:22 / /dev rw - devtmpfs proc rw\n\
            25 24 0:20 / /mnt/x ro - sysfs none rw\n\
            26 23 0:21 /sysrq-trigger /proc/sysrq-trigger ro - proc proc rw\n";
        let views = views_in(mountinfo);
        assert_eq!(views, ["/mnt/x", "/proc", "/sys"].map(PathBuf::from));
    }
}
