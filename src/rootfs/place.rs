//! Places in the file systems that were mounted here: reached from the mount itself, without walking there from the root.
//!
//! A walk must expect a symbolic link of the image at every step. Right below a mount of ours there is none: it holds what
//! was made here, or what the kernel makes.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, mkdirat, mknodat};
use rustix::io::{Errno, Result};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::spec::plan::{Mount, MountKind};
use crate::sys::path::Make;
use crate::sys::process::leak;

/// The file systems that were mounted so far.
#[derive(Debug, Default)]
pub(super) struct Places<'a>(Vec<Mounted<'a>>);

#[derive(Debug)]
struct Mounted<'a> {
    destination: &'a Path,
    root: BorrowedFd<'static>,
    /// It was empty; else it is the kernel's.
    is_tmpfs: bool,
}

/// A name right below the root of such a file system.
#[derive(Debug)]
pub(super) struct Place<'a> {
    dir: BorrowedFd<'static>,
    name: &'a OsStr,
}

impl<'a> Places<'a> {
    /// Something is about to be mounted, which covers what is there.
    pub(super) fn cover(&mut self, destination: &Path) {
        self.0
            .retain(|mounted| !mounted.destination.starts_with(destination));
    }

    /// A file system was mounted.
    pub(super) fn add(&mut self, mount: &'a Mount, root: BorrowedFd<'static>) {
        let MountKind::FileSystem { fstype, .. } = &mount.kind else {
            return;
        };
        let is_tmpfs = match fstype.to_bytes() {
            // What was copied up from the image may hold links.
            b"tmpfs" if !mount.copy_up => true,
            b"proc" | b"sysfs" => false,
            _ => return,
        };
        self.0.push(Mounted {
            destination: &mount.destination,
            root,
            is_tmpfs,
        });
    }

    /// Where `path` is, if that is right below a tmpfs.
    pub(super) fn in_tmpfs<'p>(&self, path: &'p Path) -> Option<Place<'p>> {
        self.below(path)
            .filter(|(mounted, _)| mounted.is_tmpfs)
            .map(|(_, place)| place)
    }

    /// Where `path` is, if that is right below a procfs or sysfs, and no link there: proc(5).
    pub(super) fn in_kernel<'p>(&self, path: &'p Path) -> Option<Place<'p>> {
        let links = ["self", "thread-self", "net", "mounts"];
        let (mounted, place) = self.below(path)?;
        let is_link = links.iter().any(|link| place.name == *link);
        (!mounted.is_tmpfs && !is_link).then_some(place)
    }

    fn below<'p>(&self, path: &'p Path) -> Option<(&Mounted<'a>, Place<'p>)> {
        let (parent, name) = (path.parent()?, path.file_name()?);
        let mounted = self
            .0
            .iter()
            .find(|mounted| mounted.destination == parent)?;
        let dir = mounted.root;
        Some((mounted, Place { dir, name }))
    }
}

impl Place<'_> {
    /// Makes a directory or an empty file there, if there is nothing yet.
    pub(super) fn make(&self, kind: Make) -> Result<()> {
        let made = match kind {
            Make::Directory => mkdirat(self.dir, self.name, Mode::from_raw_mode(0o755)),
            Make::File => {
                let mode = Mode::from_raw_mode(0o644);
                mknodat(self.dir, self.name, FileType::RegularFile, mode, 0)
            }
        };
        match made {
            Err(Errno::EXIST) => Ok(()),
            made => made,
        }
    }

    /// Attaches a detached mount there.
    pub(super) fn attach(&self, mount: impl AsFd) -> Result<()> {
        move_mount(
            mount,
            c"",
            self.dir,
            self.name,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
    }

    /// A detached copy of what is there, with all mounts below.
    pub(super) fn clone_mount(&self) -> Result<BorrowedFd<'static>> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
            | OpenTreeFlags::AT_RECURSIVE;
        open_tree(self.dir, self.name, flags).map(leak)
    }
}
