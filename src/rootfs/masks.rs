//! `linux.maskedPaths` and `linux.readonlyPaths`. What does not exist needs neither.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, fstat, makedev};
use rustix::io::Errno;

use super::file_system::file_system;
use super::place::{Place, Places};
use super::{attach, clone_mount, host_handle};
use crate::error::{Context, Error, Result};
use crate::spec::plan::Propagation;
use crate::sys::mount::{Change, NOEXEC, NOSUID, RDONLY, mount_setattr};
use crate::sys::path;
use crate::sys::process::leak;

/// Hides files behind the host's `/dev/null` and directories behind an empty read-only tmpfs.
pub(super) fn hide(root: BorrowedFd<'_>, places: &Places<'_>, paths: &[PathBuf]) -> Result<()> {
    let mut null = None;
    let mut empty = None;
    for path in paths {
        let step = || format!("mask {}", path.display());
        let Some(target) = Target::find(root, places, path).context(step)? else {
            continue;
        };
        let mask = match null {
            Some(Null::Attached(null)) => clone_mount(null, false).context(step)?,
            Some(Null::Detached(null)) => null,
            None => host_null()?,
        };
        null = Some(Null::Detached(mask));
        // A file cannot be mounted on a directory (move_mount(2): EINVAL), so the kernel tells which it is.
        match target.attach(mask) {
            Ok(()) => {
                null = Some(Null::Attached(mask));
                continue;
            }
            Err(Errno::INVAL) => {}
            Err(e) if target.is_missing(e) => continue,
            result => {
                result.context(step)?;
                continue;
            }
        }
        let mask = match empty {
            Some(shown) => clone_mount(shown, false).context(step)?,
            None => *empty.insert(empty_directory().context(step)?),
        };
        target.attach(mask).context(step)?;
    }
    Ok(())
}

/// The read-only mount of the null device.
enum Null {
    /// Not used yet: it can be attached, and not be copied (before Linux 6.15).
    Detached(BorrowedFd<'static>),
    /// It can be copied.
    Attached(BorrowedFd<'static>),
}

/// Makes what is at these paths, and all that is mounted below, read-only.
pub(super) fn make_read_only(
    root: BorrowedFd<'_>,
    places: &Places<'_>,
    paths: &[PathBuf],
) -> Result<()> {
    let read_only = Change {
        set: RDONLY,
        ..Change::default()
    };
    for path in paths {
        let step = || format!("make {} read-only", path.display());
        let Some(target) = Target::find(root, places, path).context(step)? else {
            continue;
        };
        // Read-only before it appears: there is no moment in which it could be written.
        let copy = match target.clone_mount() {
            Err(e) if target.is_missing(e) => continue,
            copy => copy.context(step)?,
        };
        mount_setattr(copy, c"", true, read_only).context(step)?;
        target.attach(copy).context(step)?;
    }
    Ok(())
}

/// What is to be masked.
enum Target<'a> {
    /// Right below a file system of the container's own. Whether it is there has not been looked at.
    Place(Place<'a>),
    /// Anywhere else.
    Handle(BorrowedFd<'static>),
}

impl<'a> Target<'a> {
    /// `None` if it does not exist.
    fn find(
        root: BorrowedFd<'_>,
        places: &Places<'_>,
        path: &'a Path,
    ) -> rustix::io::Result<Option<Self>> {
        if let Some(place) = places.in_kernel(path) {
            return Ok(Some(Self::Place(place)));
        }
        match path::handle(root, path) {
            Ok(handle) => Ok(Some(Self::Handle(leak(handle)))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn attach(&self, mount: BorrowedFd<'_>) -> rustix::io::Result<()> {
        match self {
            Self::Place(place) => place.attach(mount),
            Self::Handle(handle) => attach(mount, handle),
        }
    }

    fn clone_mount(&self) -> rustix::io::Result<BorrowedFd<'static>> {
        match self {
            Self::Place(place) => place.clone_mount(),
            Self::Handle(handle) => clone_mount(handle, true),
        }
    }

    fn is_missing(&self, errno: Errno) -> bool {
        matches!(self, Self::Place(_)) && errno == Errno::NOENT
    }
}

/// A mount of the host's `/dev/null`, verified: an image's could be anything (CVE-2025-31133). It is read-only, because it is
/// the host's own file, whose mode the container's root could change; a device can be written all the same.
fn host_null() -> Result<BorrowedFd<'static>> {
    let null = host_handle(Path::new("/dev/null")).context(|| "open the host's /dev/null")?;
    let stat = fstat(null).context(|| "stat the host's /dev/null")?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_device || stat.st_rdev != makedev(1, 3) {
        return Err(Error::new("the host's /dev/null is not the null device"));
    }
    let step = || "make a read-only mount of /dev/null";
    let mount = clone_mount(null, false).context(step)?;
    // Private: on most machines the host's mounts are shared, and a checkpoint cannot hold what depends on one of those.
    let protected = Change {
        set: RDONLY | NOSUID | NOEXEC,
        ..super::mounts::propagation(Propagation::Private)
    };
    mount_setattr(mount, c"", false, protected).context(step)?;
    Ok(mount)
}

fn empty_directory() -> Result<BorrowedFd<'static>> {
    file_system(c"tmpfs", None, &[], RDONLY)
}
