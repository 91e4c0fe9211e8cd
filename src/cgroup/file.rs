//! The files and directories of a cgroup.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;

type Result<T> = std::result::Result<T, Errno>;

pub(super) fn open_dir(path: impl Arg) -> Result<OwnedFd> {
    open_dir_at(CWD, path)
}

fn open_dir_at(dir: impl AsFd, path: impl Arg) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, path, flags, Mode::empty())
}

/// All of a file, without the line break at its end.
pub(super) fn read(path: impl Arg) -> Result<String> {
    read_at(CWD, path)
}

fn read_at(dir: impl AsFd, path: impl Arg) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    read_all(&rustix::fs::openat(dir, path, flags, Mode::empty())?)
}

/// Reads an open file from where it stands.
pub(super) fn read_all(file: impl AsFd) -> Result<String> {
    const PAGE: usize = 4096;
    let mut all = Vec::new();
    let mut page = [0; PAGE];
    loop {
        let n = rustix::io::read(&file, &mut page)?;
        all.extend_from_slice(&page[..n]);
        // The kernel fills a page as far as the next line fits, and no line is as long as half a page: this was the
        // last one, and a read that only says so is saved.
        if n < PAGE / 2 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&all);
    Ok(text.trim_end().to_owned())
}

/// All of a file of procfs whose lines can be long: read until there is no more, and at once if that is possible.
pub(super) fn read_table(path: impl Arg) -> Result<String> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut all = Vec::with_capacity(1 << 16);
    loop {
        if rustix::io::read(&file, rustix::buffer::spare_capacity(&mut all))? == 0 {
            break;
        }
        all.reserve(1 << 12);
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// Writes in one call, as files of the kernel want it.
pub(super) fn write(path: impl Arg, value: &str) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes()).map(drop)
}

/// Writes several lines, each in a call of its own; the error comes with the line.
pub(super) fn write_lines<'a>(
    path: impl Arg,
    lines: impl IntoIterator<Item = &'a str>,
) -> std::result::Result<(), (&'a str, Errno)> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| ("", e))?;
    for line in lines {
        rustix::io::write(&file, line.as_bytes()).map_err(|e| (line, e))?;
    }
    Ok(())
}

/// Writes, and reads what the kernel made of it.
pub(super) fn write_and_read(path: impl Arg, value: &str) -> Result<String> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes())?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    read_all(&file)
}

pub(super) fn make_dir(path: &Path) -> Result<()> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(0o755))
}

/// Removes one cgroup. One that is not there is removed.
pub(super) fn remove_dir(path: &Path) -> Result<()> {
    match rustix::fs::rmdir(path) {
        Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        other => other,
    }
}

/// The cgroups directly below.
fn children(dir: impl AsFd) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes all cgroups below, deepest first. What is still in use stays.
///
/// From descriptor to descriptor: a container can nest cgroups deeper than a path is long.
pub(super) fn remove_below(dir: &OwnedFd) -> Result<()> {
    for name in children(dir)? {
        let removed = open_dir_at(dir, &name)
            .and_then(|child| remove_below(&child))
            .and_then(|()| rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR));
        match removed {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::BUSY) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads a file of a cgroup and of all below. Cgroups that vanish meanwhile, and that lack it, are left out.
pub(super) fn read_below(path: &Path, file: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    match open_dir(path) {
        Ok(dir) => read_tree(&dir, file, &mut found)?,
        Err(Errno::NOENT | Errno::NODEV) => {}
        Err(e) => return Err(e),
    }
    Ok(found)
}

fn read_tree(dir: &OwnedFd, file: &str, found: &mut Vec<String>) -> Result<()> {
    match read_at(dir, file) {
        Ok(text) => found.push(text),
        // A threaded cgroup of v2 has threads only: its processes are listed further up.
        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => {}
        Err(e) => return Err(e),
    }
    for name in children(dir)? {
        match open_dir_at(dir, &name) {
            Ok(child) => read_tree(&child, file, found)?,
            Err(Errno::NOENT | Errno::NODEV) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The number in a line `key number`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        .and_then(|number| number.parse().ok())
}
