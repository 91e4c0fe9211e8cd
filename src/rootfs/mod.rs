//! The container's file system: made in its own mount namespace, by its own first process.
//!
//! Every path of the container is resolved by the kernel below a handle of its root; mounts are made detached, get
//! their attributes, and only then appear. Descriptors are not closed one by one here: execve does it.

mod cgroupfs;
mod copy_up;
mod devices;
mod file_system;
mod id_map;
mod masks;
mod mounts;
mod overlay;
mod pivot;
mod place;
mod trees;

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::cgroup::Layout;
use crate::error::{Error, Result};
use crate::spec::plan::{Mount, Plan};
use crate::sys::path::{self, Make};
use crate::sys::process::{inherited, leak};

use place::Places;

pub use copy_up::copy_up;
pub use id_map::make as user_namespace;
pub use overlay::{mapped, overlay};
pub use trees::Trees;

/// What a container's root is made of, opened before the process changes its user.
#[derive(Debug)]
pub struct Rootfs<'a> {
    plan: &'a Plan,
    root: BorrowedFd<'static>,
    sources: Vec<mounts::Source>,
}

impl<'a> Rootfs<'a> {
    /// Cuts the mount namespace off from the host, attaches the root in it and opens what is bound from the host, as
    /// long as the caller may still walk the host's directories. `prepared` is a detached mount to take instead of a copy of
    /// `root.path`; `trees` is what the parent has opened already.
    ///
    /// # Errors
    /// When the root or a source does not exist or cannot be mounted.
    pub fn open(plan: &'a Plan, prepared: Option<RawFd>, trees: &Trees) -> Result<Self> {
        pivot::cut_off(plan.root.propagation)?;
        let root = match prepared.or_else(|| trees.root()) {
            Some(root) => inherited(root),
            None => trees::open_root(&plan.root.path).map(leak)?,
        };
        pivot::attach(root, &plan.root, &plan.hooks)?;
        Ok(Self {
            plan,
            root,
            sources: mounts::open_sources(&plan.mounts, trees)?,
        })
    }

    /// Makes everything in the root and enters it: afterwards `/` is the container's. `before` is called when everything is
    /// made and `/` is still the host's.
    ///
    /// # Errors
    /// With the mount, device or path at which it stopped; that of `before`.
    pub fn enter(self, layout: &Layout, before: impl FnOnce() -> Result<()>) -> Result<()> {
        let plan = self.plan;
        let mut places = Places::default();
        let mut read_only = Vec::new();
        for (mount, source) in plan.mounts.iter().zip(&self.sources) {
            let root = self.root;
            read_only.extend(mounts::mount(
                root,
                mount,
                source,
                plan,
                layout,
                &mut places,
            )?);
        }
        if !plan.mounts.iter().any(Mount::binds_dev) {
            devices::make(self.root, &plan.devices)?;
        }
        for tree in read_only {
            mounts::make_read_only(tree)?;
        }
        make_cwd(self.root, &plan.process.cwd)?;
        masks::hide(self.root, &places, &plan.masked_paths)?;
        masks::make_read_only(self.root, &places, &plan.readonly_paths)?;
        before()?;
        pivot::enter(self.root, &plan.root)
    }
}

/// Makes the mount point of a detached mount in a root, if it is missing and no symbolic link leads there.
///
/// # Errors
/// As openat2(2) and mkdirat(2).
pub fn make_mount_point(
    root: BorrowedFd<'_>,
    point: &Path,
    mount: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    match path::handle_without_links(root, point) {
        Err(Errno::NOENT) => {
            path::make_without_links(root, point, mounts::kind_of(mount)?).map(drop)
        }
        found => found.map(drop),
    }
}

/// The working directory is made if the image does not have it, as runc does.
fn make_cwd(root: BorrowedFd<'_>, cwd: &CStr) -> Result<()> {
    if cwd == c"/" {
        return Ok(());
    }
    let path = Path::new(OsStr::from_bytes(cwd.to_bytes()));
    match path::make(root, path, Make::Directory) {
        Ok(handle) => {
            leak(handle);
            Ok(())
        }
        // A link of procfs, or a directory of a user that is not ours: entering it will tell.
        Err(Errno::LOOP | Errno::ACCESS) => Ok(()),
        Err(e) => Err(Error::sys(
            format!("make process.cwd {}", path.display()),
            e,
        )),
    }
}

/// Opens a directory or file of the host, without reading it.
fn host_handle(path: &Path) -> rustix::io::Result<BorrowedFd<'static>> {
    let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(leak(handle))
}

/// Attaches a detached mount to what `target` is a handle of.
fn attach(mount: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// A detached copy of the mount at `handle`.
fn clone_mount(handle: impl AsFd, recursive: bool) -> rustix::io::Result<BorrowedFd<'static>> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(handle, c"", flags).map(leak)
}
