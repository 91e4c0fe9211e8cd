//! Directory trees that containers wrote: removed and measured without trusting anything in them.
//!
//! Every name is taken below an open directory, no symbolic link is followed and no mount point crossed
//! (CVE-2017-1002102), and neither the depth of a tree nor the length of its paths matters: both are chosen by whoever
//! ran in the container.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, openat2, renameat_with,
    statat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sys::path::open_beneath;

/// Removes what `name` is in `dir`, with everything below it. What is gone already is no error.
///
/// # Errors
/// The kernel's, with the path: `EXDEV` or `EBUSY` where something is mounted below it.
pub fn remove(dir: impl AsFd, name: &OsStr) -> Result<()> {
    remove_tree(dir.as_fd(), name).map_err(|e| {
        let error = Error::sys(format!("remove {}", Path::new(name).display()), e);
        match e {
            Errno::XDEV | Errno::BUSY => {
                error.hint("something is mounted below it: see findmnt(8)")
            }
            _ => error,
        }
    })
}

fn remove_tree(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
    match unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(e) => return Err(e),
    }
    let root = open_dir(&dir, name)?;
    let mut moved = 0;
    while !flatten(&root, &mut moved)? {}
    unlinkat(&dir, name, AtFlags::REMOVEDIR)
}

/// Takes one level away: what is in a directory of `root` is removed if it can be, else moved up into `root`. So no
/// more than two directories are ever open, however deep the tree is. `true` once `root` is empty.
fn flatten(root: &OwnedFd, moved: &mut u64) -> rustix::io::Result<bool> {
    let mut empty = true;
    for (name, _) in entries(root)? {
        empty = false;
        if remove_one(root, &name)? {
            continue;
        }
        let child = open_dir(root, &name)?;
        for (name, _) in entries(&child)? {
            if !remove_one(&child, &name)? {
                move_up(&child, &name, root, moved)?;
            }
        }
        unlinkat(root, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(empty)
}

/// Removes a file or an empty directory; `false` if it is a directory that is not empty.
fn remove_one(dir: &OwnedFd, name: &CStr) -> rustix::io::Result<bool> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        result => return result.map(|()| true),
    }
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY) => Ok(false),
        result => result.map(|()| true),
    }
}

fn move_up(from: &OwnedFd, name: &CStr, to: &OwnedFd, moved: &mut u64) -> rustix::io::Result<()> {
    loop {
        *moved += 1;
        let new = format!(".{moved}");
        match renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            result => return result,
        }
    }
}

/// The bytes that the tree takes up on its file system, as du(1) counts them: blocks, each inode once.
///
/// Whatever vanishes while it is measured is not counted, and neither is what has a path longer than the kernel takes.
///
/// # Errors
/// When the tree itself cannot be read.
pub fn disk_usage(root: impl AsFd) -> rustix::io::Result<u64> {
    let mut bytes = 0;
    let mut seen = HashSet::new();
    walk(root, |_, _, stat| {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if stat.st_nlink == 1 || is_directory || seen.insert(stat.st_ino) {
            bytes += stat.st_blocks as u64 * 512;
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// Shows everything in the tree but its root: the directory that it is in, its name, what it is. No link is followed.
///
/// Whatever vanishes meanwhile is not shown, and neither is what has a path longer than the kernel takes.
///
/// # Errors
/// When the tree itself cannot be read; what `visit` says.
pub fn walk(
    root: impl AsFd,
    mut visit: impl FnMut(&OwnedFd, &CStr, &Stat) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let mut directories = vec![PathBuf::from(".")];
    while let Some(directory) = directories.pop() {
        let open = match open_dir(&root, directory.as_os_str()) {
            Ok(open) => open,
            Err(e) if directory == Path::new(".") => return Err(e),
            Err(_) => continue,
        };
        for (name, _) in entries(&open)? {
            let Ok(stat) = statat(&open, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            visit(&open, &name, &stat)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                directories.push(directory.join(OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
    Ok(())
}

/// As [`walk`], with a handle (`O_PATH`) to each: to a link itself, if it is one.
///
/// # Errors
/// As [`walk`].
pub fn walk_handles(
    root: impl AsFd,
    mut visit: impl FnMut(&OwnedFd) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    walk(root, |dir, name, _| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        match open_beneath(dir, Path::new(OsStr::from_bytes(name.to_bytes())), flags) {
            Ok(file) => visit(&file),
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e),
        }
    })
}

fn open_dir(dir: impl AsFd, name: impl rustix::path::Arg + Copy) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(dir, name, flags, Mode::empty(), resolve)
}

fn entries(dir: &OwnedFd) -> rustix::io::Result<Vec<(CString, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn open(path: &Path) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        rustix::fs::open(path, flags, Mode::empty()).unwrap()
    }

    #[test]
    fn a_tree_full_of_links_is_removed_and_the_canary_stays() {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        fs::create_dir(&canary).unwrap();
        fs::write(canary.join("file"), "alive").unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("a/b/c")).unwrap();
        for place in ["link", "a/link", "a/b/link", "a/b/c/link"] {
            symlink(&canary, volume.join(place)).unwrap();
            symlink(canary.join("file"), volume.join(format!("{place}-file"))).unwrap();
        }
        fs::write(
            volume.join("a/.1"),
            "a name that the removal itself would choose",
        )
        .unwrap();
        remove(open(dir.path()), OsStr::new("volume")).unwrap();
        assert!(!volume.exists());
        assert_eq!(fs::read(canary.join("file")).unwrap(), b"alive");
    }

    #[test]
    fn a_link_in_place_of_the_tree_is_removed_itself() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("canary")).unwrap();
        fs::write(dir.path().join("canary/file"), "alive").unwrap();
        symlink("canary", dir.path().join("volume")).unwrap();
        remove(open(dir.path()), OsStr::new("volume")).unwrap();
        assert!(dir.path().join("canary/file").exists());
        assert!(!dir.path().join("volume").is_symlink());
        remove(open(dir.path()), OsStr::new("volume")).unwrap();
    }

    #[test]
    fn depth_costs_no_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let mut at = open(dir.path());
        // Deeper than the limit of open files and longer than any path.
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "directory", Mode::RWXU).unwrap();
            at = open_dir(&at, "directory").unwrap();
        }
        drop(at);
        disk_usage(open(dir.path())).unwrap();
        remove(open(dir.path()), OsStr::new("directory")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn usage_counts_blocks_once_and_follows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let before = disk_usage(open(dir.path())).unwrap();
        fs::write(dir.path().join("a"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        symlink("/usr", dir.path().join("usr")).unwrap();
        let used = disk_usage(open(dir.path())).unwrap() - before;
        assert!((1 << 20..(1 << 20) + 65536).contains(&used), "{used}");
    }
}
