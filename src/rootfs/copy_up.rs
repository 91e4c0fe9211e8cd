//! `tmpcopyup`: a new tmpfs begins with what the image has at its mount point.
//!
//! Everything is opened below the directory before it, and no link is followed: the image may have any. Mounts are not
//! entered. Only the data of a sparse file is copied, so that one of terabytes costs no more than it has.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps,
    Uid, XattrFlags, chownat, fstat, mkdirat, mknodat, openat2, readlinkat, seek, statat,
    symlinkat, utimensat,
};
use rustix::io::{Errno, Result};

/// Copies what is in the directory `from` into the directory `to`, which is empty.
///
/// # Errors
/// The kernel's; what was copied until then stays.
pub fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let open = |dir, name| openat2(dir, name, READ_DIR, Mode::empty(), WITHIN);
    copy_directory(open(from, c".")?, open(to, c".")?)
}

const READ_DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
const WITHIN: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV);

fn copy_directory(from: OwnedFd, to: OwnedFd) -> Result<()> {
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from.as_fd(), to.as_fd(), name)?;
        }
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU)?;
            let copy = openat2(to, name, READ_DIR, Mode::empty(), WITHIN)?;
            match openat2(from, name, READ_DIR, Mode::empty(), WITHIN) {
                Ok(original) => {
                    copy_xattrs(&original, &copy)?;
                    copy_directory(original, copy)?;
                }
                // A mount, which is not part of the image.
                Err(Errno::XDEV) => {}
                Err(e) => return Err(e),
            }
        }
        FileType::RegularFile => copy_file(from, to, name)?,
        FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?, to, name)?,
        FileType::Fifo => mknodat(to, name, FileType::Fifo, Mode::RUSR, 0)?,
        kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
            match mknodat(to, name, kind, Mode::RUSR, stat.st_rdev) {
                // Nobody may make devices in a user namespace.
                Err(Errno::PERM) => return Ok(()),
                made => made?,
            }
        }
        // A socket is of no use without its server.
        FileType::Socket | FileType::Unknown => return Ok(()),
    }
    take_over(to, name, &stat, mode)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // Not blocking: what was a file a moment ago could be a fifo now.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let original = openat2(from, name, flags, Mode::empty(), WITHIN);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let copy = openat2(to, name, flags, Mode::RUSR | Mode::WUSR, WITHIN)?;
    let original = match original {
        // Bound there, so not part of the image.
        Err(Errno::XDEV) => return Ok(()),
        original => original?,
    };
    let stat = fstat(&original)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::AGAIN);
    }
    copy_data(&original, &copy)?;
    rustix::fs::ftruncate(&copy, stat.st_size as u64)?;
    copy_xattrs(&original, &copy)
}

/// Copies each stretch of data, lseek(2) `SEEK_DATA`.
fn copy_data(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0;
    loop {
        at = match seek(from, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(()),
            found => found?,
        };
        let end = seek(from, SeekFrom::Hole(at))?;
        while at < end {
            let wanted = buffer.len().min((end - at) as usize);
            let length = rustix::io::pread(from, &mut buffer[..wanted], at)?;
            if length == 0 {
                return Ok(());
            }
            let mut written = 0;
            while written < length {
                let offset = at + written as u64;
                written += rustix::io::pwrite(to, &buffer[written..length], offset)?;
            }
            at += length as u64;
        }
    }
}

/// Capabilities of files, and what else the tmpfs takes.
fn copy_xattrs(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let mut names = vec![0; 1 << 16];
    let length = match rustix::fs::flistxattr(from, &mut names) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        length => length?,
    };
    let mut value = vec![0; 1 << 16];
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        let copied = rustix::fs::fgetxattr(from, name, &mut value).and_then(|length| {
            rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty())
        });
        match copied {
            Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NODATA) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Owner, mode and time of the original; the owner first, because changing it takes set-user-id away.
fn take_over(to: BorrowedFd<'_>, name: &CStr, stat: &Stat, mode: Mode) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        // An owner whom the user namespace does not know.
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    }
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as _,
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn everything_but_what_links_lead_to_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/b/file"), "text").unwrap();
        fs::set_permissions(from.join("a/b/file"), Permissions::from_mode(0o4711)).unwrap();
        fs::set_permissions(from.join("a"), Permissions::from_mode(0o750)).unwrap();
        symlink("/etc", from.join("link")).unwrap();
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            from.join("fifo"),
            Mode::from_raw_mode(0o600),
        )
        .unwrap();
        let sparse = File::create(from.join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        sparse.write_all_at(b"end", (1 << 40) - 3).unwrap();

        let [source, target] = [&from, &to].map(|path| File::open(path).unwrap());
        copy_up(source.as_fd(), target.as_fd()).unwrap();

        assert_eq!(fs::read(to.join("a/b/file")).unwrap(), b"text");
        let mode = |path: &str| fs::symlink_metadata(to.join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("a/b/file"), mode("a")), (0o4711, 0o750));
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            std::path::Path::new("/etc")
        );
        assert!(rustix::fs::stat(to.join("fifo")).is_ok());
        let sparse = fs::metadata(to.join("sparse")).unwrap();
        assert_eq!(sparse.len(), 1 << 40);
        assert!(sparse.blocks() < 1 << 10);
        let before = fs::metadata(from.join("a/b/file")).unwrap();
        assert_eq!(
            fs::metadata(to.join("a/b/file")).unwrap().mtime(),
            before.mtime()
        );
    }
}
