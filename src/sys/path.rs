//! Paths inside a container's root: resolved by the kernel, below a directory descriptor, never as strings.
//!
//! openat2(2) with `RESOLVE_IN_ROOT` (Linux 5.6) treats the descriptor as `/`, for `..` and for absolute symbolic links
//! too, so that nothing that an image or another container puts there leads to the host (CVE-2021-30465).

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::{Errno, Result};

/// What [`make`] puts at the end of a path that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0644.
    File,
}

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Opens `path` in `root` with these flags; the path may be absolute, which means from `root`.
///
/// # Errors
/// As openat2(2). `ELOOP` for a magic link of procfs.
pub fn open(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    open_as(root, path, flags, resolve)
}

/// A handle (`O_PATH`) to what `path` names in `root`.
///
/// # Errors
/// As [`open`].
pub fn handle(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    open(root, path, HANDLE)
}

/// As [`handle`], except that no symbolic link is followed.
///
/// # Errors
/// As openat2(2); `ELOOP` for a symbolic link anywhere in the path.
pub fn handle_without_links(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    open_as(root, path, HANDLE, resolve)
}

/// The path, from `root`, of what `handle` was opened in it: after all links were followed. proc(5), `/proc/self/fd`.
///
/// # Errors
/// As readlink(2); `EXDEV` when it is not below the root.
pub fn real_path(root: impl AsFd, handle: impl AsFd) -> Result<PathBuf> {
    let name = |fd: BorrowedFd<'_>| -> Result<PathBuf> {
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let name = rustix::fs::readlink(link, Vec::new())?;
        Ok(OsStr::from_bytes(name.as_bytes()).into())
    };
    let (root, path) = (name(root.as_fd())?, name(handle.as_fd())?);
    let below = path.strip_prefix(root).map_err(|_| Errno::XDEV)?;
    Ok(Path::new("/").join(below))
}

/// Opens `path` below `dir` without following any symbolic link and without leaving it.
///
/// # Errors
/// As openat2(2): `ELOOP` for a symbolic link, `EXDEV` for `..` that leads out.
pub fn open_beneath(dir: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    open_as(dir, path, flags, resolve)
}

/// Opens `path` below `dir`; symbolic links are followed as long as they do not lead out of it.
///
/// # Errors
/// As openat2(2): `EXDEV` for a link or `..` that leads out.
pub fn open_inside(dir: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    open_as(dir, path, flags, resolve)
}

fn open_as(dir: impl AsFd, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
    // EAGAIN: a rename somewhere on the machine made `..` unsafe to resolve for a moment; openat2(2) says to try again.
    for _ in 0..128 {
        let mode = if flags.contains(OFlags::CREATE) {
            Mode::from_raw_mode(0o644)
        } else {
            Mode::empty()
        };
        match openat2(&dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// A handle to `path` in `root`; what is missing of it is made, each part below a handle to the one before.
///
/// # Errors
/// As openat2(2) and mkdirat(2): `EROFS` for a read-only root, `EEXIST` where a dangling symbolic link is in the way,
/// `ENOTDIR` where a file is.
pub fn make(root: impl AsFd, path: &Path, kind: Make) -> Result<OwnedFd> {
    match handle(&root, path) {
        Err(Errno::NOENT) => make_missing(root.as_fd(), path, kind, handle),
        result => result,
    }
}

/// As [`make`], for a path that is missing, except that no symbolic link is followed.
///
/// # Errors
/// As [`make`]; `ELOOP` for a symbolic link anywhere in the path.
pub fn make_without_links(root: impl AsFd, path: &Path, kind: Make) -> Result<OwnedFd> {
    make_missing(root.as_fd(), path, kind, handle_without_links)
}

fn make_missing<'a>(
    root: BorrowedFd<'a>,
    path: &Path,
    kind: Make,
    open: fn(BorrowedFd<'a>, &Path) -> Result<OwnedFd>,
) -> Result<OwnedFd> {
    let parts = parts(path);
    let (mut at, mut made) = deepest(root, &parts, open)?;
    while let Some(part) = parts.get(made) {
        let name = CString::new(part.as_bytes()).map_err(|_| Errno::INVAL)?;
        let is_last = made + 1 == parts.len();
        at = make_one(&at, &name, if is_last { kind } else { Make::Directory })?;
        made += 1;
    }
    Ok(at)
}

fn make_one(dir: &OwnedFd, name: &CStr, kind: Make) -> Result<OwnedFd> {
    let parent_only = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match kind {
        Make::Directory => {
            match mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
            let flags = HANDLE | OFlags::DIRECTORY;
            openat2(dir, name, flags, Mode::empty(), parent_only)
        }
        Make::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat2(dir, name, flags, Mode::from_raw_mode(0o644), parent_only)
        }
    }
}

/// The path's names. `..` is taken away with the name before it, as the kernel would if no link were in between; the
/// kernel has the last word, because every part is opened in the root.
fn parts(path: &Path) -> Vec<&OsStr> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    parts
}

/// A handle to the longest beginning of the path that exists, and how many parts it has.
fn deepest<'a>(
    root: BorrowedFd<'a>,
    parts: &[&OsStr],
    open: fn(BorrowedFd<'a>, &Path) -> Result<OwnedFd>,
) -> Result<(OwnedFd, usize)> {
    for length in (1..parts.len()).rev() {
        let path: PathBuf = parts[..length].iter().collect();
        match open(root, &path) {
            Ok(handle) => return Ok((handle, length)),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok((open(root, Path::new("/"))?, 0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn opened(path: &Path) -> OwnedFd {
        rustix::fs::open(path, HANDLE, Mode::empty()).unwrap()
    }

    #[test]
    fn absolute_links_and_dots_stay_in_the_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("/etc", dir.path().join("link")).unwrap();
        let root = opened(dir.path());
        make(&root, Path::new("/link/../../etc/a/b"), Make::File).unwrap();
        make(&root, Path::new("/link/c"), Make::Directory).unwrap();
        assert!(dir.path().join("etc/a/b").is_file());
        assert!(dir.path().join("etc/c").is_dir());
        assert!(!Path::new("/etc/a").exists());
    }

    #[test]
    fn a_dangling_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/nowhere", dir.path().join("link")).unwrap();
        let root = opened(dir.path());
        let error = make(&root, Path::new("/link/x"), Make::Directory).unwrap_err();
        assert_eq!(error, Errno::LOOP);
        let error = make(&root, Path::new("/link"), Make::File).unwrap_err();
        assert_eq!(error, Errno::EXIST);
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn beneath_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join("link")).unwrap();
        let root = opened(dir.path());
        let flags = OFlags::PATH;
        let error = open_beneath(&root, Path::new("link/passwd"), flags).unwrap_err();
        assert_eq!(error, Errno::LOOP);
        let error = open_beneath(&root, Path::new("../x"), flags).unwrap_err();
        assert_eq!(error, Errno::XDEV);
    }
}
