//! What is bound from the host into a container with a user namespace, or with other ids: opened by the parent.
//!
//! In its user namespace the container's first process may not enter a directory that belongs to another user, nor bind a
//! directory without the mounts below it, nor map the ids of its files. The parent may, if it has the rights itself; a
//! plain user's has not.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::id_map::IdMaps;
use super::mounts;
use crate::error::{Context, Error, Result};
use crate::spec::plan::{BindSource, Mount, MountKind, Namespace, Plan, Propagation};
use crate::sys::mount::mount_setattr;

/// Detached copies of directories and files of the host, which the container's first process inherits.
#[derive(Debug, Default)]
pub struct Trees {
    root: Option<OwnedFd>,
    sources: BTreeMap<usize, OwnedFd>,
}

impl Trees {
    /// Opens what the container's first process could not, and maps the ids. `root` and `sources` are prepared already, see
    /// [`Request`](crate::container::Request).
    ///
    /// # Errors
    /// When the root or a source does not exist, or its ids cannot be mapped.
    pub fn open(
        plan: &Plan,
        root: Option<&OwnedFd>,
        sources: &BTreeMap<usize, OwnedFd>,
    ) -> Result<Self> {
        let mapped = plan.mounts.iter().any(|mount| mount.id_map.is_some());
        let user = plan.namespaces.user != Namespace::Inherit;
        if plan.namespaces.mount != Namespace::New || !(mapped || user) {
            return Ok(Self::default());
        }
        let mut trees = Self::default();
        match trees.open_all(plan, root, sources) {
            // A plain user, who has no rights over its mount namespace. The first process has, over its own copy of that.
            Err(e) if e.errno() == Some(libc::EPERM) && !mapped => Ok(Self::default()),
            opened => opened.map(|()| trees),
        }
    }

    fn open_all(
        &mut self,
        plan: &Plan,
        root: Option<&OwnedFd>,
        sources: &BTreeMap<usize, OwnedFd>,
    ) -> Result<()> {
        let user = plan.namespaces.user != Namespace::Inherit;
        if user && root.is_none() {
            self.root = Some(cut_off(open_root(&plan.root.path)?, plan)?);
        }
        let mut id_maps = IdMaps::default();
        for (index, mount) in plan.mounts.iter().enumerate() {
            if !user && mount.id_map.is_none() {
                continue;
            }
            if let Some(source) = open_source(index, mount)? {
                self.sources.insert(index, cut_off(source, plan)?);
            }
            let tree = self.sources.get(&index).or_else(|| sources.get(&index));
            if let (Some(tree), Some(map)) = (tree, &mount.id_map) {
                id_maps
                    .apply(tree.as_fd(), map)
                    .context(|| format!("mounts[{index}]: bind {}", mount.kind))?;
            }
        }
        Ok(())
    }

    pub(super) fn root(&self) -> Option<RawFd> {
        self.root.as_ref().map(AsRawFd::as_raw_fd)
    }

    pub(super) fn source(&self, index: usize) -> Option<RawFd> {
        self.sources.get(&index).map(AsRawFd::as_raw_fd)
    }
}

/// A copy that was made in the host's mount namespace is a peer of the host's mount: what is mounted in it would appear on the
/// host. In a mount namespace of another user namespace the kernel makes slaves of all mounts; here this does.
fn cut_off(tree: OwnedFd, plan: &Plan) -> Result<OwnedFd> {
    let propagation = match plan.root.propagation {
        Propagation::Private | Propagation::Unbindable => Propagation::Private,
        Propagation::Shared if plan.namespaces.user == Namespace::Inherit => return Ok(tree),
        Propagation::Slave | Propagation::Shared => Propagation::Slave,
    };
    mount_setattr(&tree, c"", true, mounts::propagation(propagation))
        .context(|| "cut a mount off from the host")?;
    Ok(tree)
}

/// A detached copy of the directory, with all that is mounted in it.
pub(super) fn open_root(path: &Path) -> Result<OwnedFd> {
    copy(path, true).map_err(|e| {
        Error::sys(format!("open root.path {}", path.display()), e)
            .hint("root.path names the directory that holds the container's root file system")
    })
}

/// A detached copy of what a bind mount names; `None` if it names no path.
pub(super) fn open_source(index: usize, mount: &Mount) -> Result<Option<OwnedFd>> {
    let MountKind::Bind {
        source: BindSource::Path(path),
        recursive,
    } = &mount.kind
    else {
        return Ok(None);
    };
    copy(path, *recursive).map(Some).map_err(|e| {
        let step = format!("mounts[{index}]: open source {}", path.display());
        let error = Error::sys(step, e);
        match e {
            Errno::NOENT => error.hint("make it, or take the mount out of config.json"),
            Errno::INVAL if !recursive => error.hint(
                "in a user namespace a directory can only be bound with all mounts below it: use rbind",
            ),
            _ => error,
        }
    })
}

/// A detached copy of the mount at `path`.
fn copy(path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags)
}
