//! Id-mapped mounts, mount_setattr(2) `MOUNT_ATTR_IDMAP`: the map is that of a user namespace, which nobody needs to be in.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{Context, Error, Result};
use crate::spec::plan::{IdMap, MountIdMap, MountIds};
use crate::sys::mount::map_ids;
use crate::sys::process;

/// The user namespaces of a container's id-mapped mounts: one for all mounts with the same map.
#[derive(Debug, Default)]
pub(super) struct IdMaps<'a>(Vec<(&'a MountIds, OwnedFd)>);

impl<'a> IdMaps<'a> {
    /// Maps the ids of a detached mount.
    pub(super) fn apply(&mut self, tree: BorrowedFd<'_>, map: &'a MountIdMap) -> Result<()> {
        let known = self.0.iter().position(|(ids, _)| **ids == map.ids);
        let index = match known {
            Some(index) => index,
            None => {
                let user_namespace = user_namespace(&map.ids)?;
                self.0.push((&map.ids, user_namespace));
                self.0.len() - 1
            }
        };
        map_ids(tree, map.recursive, self.0[index].1.as_fd()).map_err(|e| {
            let error = Error::sys("map its ids (mount_setattr MOUNT_ATTR_IDMAP)", e);
            match e {
                Errno::INVAL => error.hint("does its file system support id-mapped mounts?"),
                Errno::PERM => error.hint(
                    "it takes CAP_SYS_ADMIN in the user namespace that the file system belongs to: a plain user cannot",
                ),
                _ => error,
            }
        })
    }
}

fn user_namespace(ids: &MountIds) -> Result<OwnedFd> {
    match ids {
        MountIds::Namespace(path) => open(path),
        MountIds::Maps { uid, gid } => {
            make(uid, gid).context(|| "make a user namespace with its id map")
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {}", path.display()))
}

/// A user namespace with these maps. It is made by a process in it; as long as somebody has it open it stays.
///
/// # Errors
/// When the kernel refuses a map: user_namespaces(7).
pub fn make(uid: &[IdMap], gid: &[IdMap]) -> Result<OwnedFd> {
    let (hold, release) = pipe_with(PipeFlags::CLOEXEC).context(|| "pipe")?;
    let holder = process::clone3(libc::CLONE_NEWUSER as u64, None, || {
        // The end comes when the parent closes the other end, or dies.
        process::close_inherited(release.as_fd());
        let _ = rustix::io::read(&hold, &mut [0]);
        process::exit(0)
    })
    .context(|| "clone3")?;
    let pid = holder.pid;
    let write = |name: &str, map: &[IdMap]| {
        let text: String = map.iter().map(ToString::to_string).collect();
        let path = format!("/proc/{pid}/{name}");
        std::fs::write(&path, &text).context(|| format!("write {:?} to {path}", text.trim_end()))
    };
    let made = write("uid_map", uid)
        .and_then(|()| write("gid_map", gid))
        .and_then(|()| open(Path::new(&format!("/proc/{pid}/ns/user"))));
    drop(release);
    process::wait(&holder.pidfd).context(|| "wait for the process in it")?;
    made
}
