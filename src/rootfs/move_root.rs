//! A new root without pivot_root(2), which cannot leave an initial RAM disk.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags, mount, move_mount, unmount};

use crate::error::{Context, Error, Result};

const MOUNTS: &str = "/proc/self/mountinfo";

/// Moves `root` onto the old root, and makes it the root.
///
/// The old root stays below it, out of sight. What of it would give power over the host is taken away first, in this
/// mount namespace: whole proc and sysfs mounts, from which a process in a user namespace could mount its own.
///
/// # Errors
/// The kernel's.
pub fn move_root(root: BorrowedFd<'_>) -> Result<()> {
    let step = || "move the root onto /";
    rustix::process::fchdir(root).context(step)?;
    let own = std::env::current_dir().context(|| "getcwd")?;
    let table = std::fs::read_to_string(MOUNTS).context(|| format!("read {MOUNTS}"))?;
    for path in powerful(&table, &own) {
        hide(&path)?;
    }
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(root, c"", CWD, c"/", onto).context(step)?;
    rustix::process::chroot(c".").context(|| "chroot")?;
    rustix::process::chdir(c"/").context(|| "chdir /")
}

/// The mount points of whole proc and sysfs file systems outside of `own`, the last one first: proc_pid_mountinfo(5).
fn powerful(mountinfo: &str, own: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, file_system) = line.split_once(" - ")?;
            let kind = file_system.split(' ').next()?;
            let mut fields = mount.split(' ').skip(3);
            let (part, point) = (fields.next()?, Path::new(fields.next()?));
            let is_powerful = part == "/" && matches!(kind, "proc" | "sysfs");
            (is_powerful && !point.starts_with(own)).then(|| point.to_owned())
        })
        .collect();
    paths.reverse();
    paths
}

fn hide(path: &Path) -> Result<()> {
    match unmount(path, UnmountFlags::DETACH) {
        Ok(()) => Ok(()),
        // Locked to its parent, because a more privileged mount namespace made both: mount_namespaces(7).
        Err(Errno::INVAL | Errno::PERM) => mount("tmpfs", path, "tmpfs", MountFlags::empty(), None)
            .context(|| format!("hide {}", path.display())),
        Err(e) => Err(Error::sys(format!("unmount {}", path.display()), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_proc_and_sysfs_mounts_outside_of_the_root_are_powerful() {
        let table = "1 0 0:1 / / rw - rootfs rootfs rw\n\
            2 1 0:2 / /proc rw shared:1 - proc proc rw\n\
            3 1 0:3 / /sys rw - sysfs sysfs rw\n\
            4 1 0:3 /kernel /part rw - sysfs sysfs rw\n\
            5 1 0:4 / /tmp rw - tmpfs proc rw\n\
            6 1 0:5 / /c/rootfs/proc rw - proc proc rw\n";
        assert_eq!(
            powerful(table, Path::new("/c/rootfs")),
            [Path::new("/sys"), Path::new("/proc")]
        );
    }
}
