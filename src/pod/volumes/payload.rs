//! Files that come from the manifest, exchanged all at once: whoever reads them sees the old ones or the new ones.
//!
//! ```text
//! ..2026_11_21_16_25_00.123456789/   the files
//! ..data -> ..2026_11_21_16_25_00.123456789
//! key -> ..data/key
//! ```
//!
//! Source: `pkg/volume/util/atomic_writer.go` of Kubernetes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::jiff::Timestamp;
use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, Uid, fchmod, fchown, mkdirat, readlinkat, renameat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use crate::error::{Context, Result};
use crate::pod::tree;
use crate::sys::path::open_beneath;

/// Files by their path in the volume.
pub type Payload = BTreeMap<PathBuf, Planned>;

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub struct Planned {
    /// What is in it.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Its owner, if that is not root.
    pub user: Option<u32>,
}

impl fmt::Debug for Planned {
    /// Secrets are among them: only how long they are is told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, mode {:04o}", self.content.len(), self.mode)
    }
}

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes the files in the directory `volume` what the payload says; `settle` gets the new ones before anybody can see them.
/// `true` if they were not. Whoever was killed in the middle of it, the next one finishes it.
///
/// # Errors
/// What the kernel refused; then the files are still the old ones.
pub fn write(
    volume: &OwnedFd,
    payload: &Payload,
    settle: impl FnOnce(&OwnedFd) -> rustix::io::Result<()>,
) -> Result<bool> {
    let old = readlinkat(volume, DATA, Vec::new());
    let old = match old {
        Ok(name) => Some(name.to_string_lossy().into_owned()),
        Err(Errno::NOENT) => None,
        Err(e) => return Err(e).context(|| format!("read link {DATA}")),
    };
    if let Some(old) = &old
        && is_written(volume, payload)
    {
        link(volume, payload).context(|| "link the files")?;
        return sweep(volume, old).map(|()| false);
    }
    let name = format!("..{}", Timestamp::now());
    let name = name.trim_end_matches('Z').replace(['-', ':', 'T'], "_");
    make_directory(volume, &name)
        .and_then(|dir| {
            payload
                .iter()
                .try_for_each(|(path, file)| write_file(&dir, path, file))?;
            settle(&dir).context(|| "give them their group and SELinux context")
        })
        .map_err(|e| {
            let removed = tree::remove(volume, OsStr::new(&name));
            e.and_cleanup(removed)
        })?;
    exchange(volume, &name).context(|| format!("exchange {DATA}"))?;
    link(volume, payload).context(|| "link the files")?;
    sweep(volume, &name).map(|()| true)
}

/// Removes all directories of files but the current one.
fn sweep(volume: &OwnedFd, current: &str) -> Result<()> {
    let step = || "read the volume";
    let mut old = Vec::new();
    for entry in Dir::read_from(volume).context(step)? {
        let name = entry.context(step)?.file_name().to_bytes().to_vec();
        let keep = [&b".."[..], DATA.as_bytes(), current.as_bytes()];
        if name.starts_with(b"..") && !keep.contains(&name.as_slice()) {
            old.push(name);
        }
    }
    old.iter()
        .try_for_each(|name| tree::remove(volume, OsStr::from_bytes(name)))
}

fn is_written(volume: &OwnedFd, payload: &Payload) -> bool {
    let Ok(dir) = crate::sys::path::open_inside(volume, Path::new(DATA), OFlags::RDONLY) else {
        return false;
    };
    let mut files = 0;
    let walked = tree::walk(&dir, |_, _, stat| {
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        files += usize::from(kind == rustix::fs::FileType::RegularFile);
        Ok(())
    });
    let is_same = |(path, file): (&PathBuf, &Planned)| {
        let mut content = Vec::new();
        let opened = open_beneath(&dir, path, OFlags::RDONLY).map(fs::File::from);
        let read = opened.is_ok_and(|mut file| file.read_to_end(&mut content).is_ok());
        read && content == file.content
    };
    walked.is_ok() && files == payload.len() && payload.iter().all(is_same)
}

fn write_file(dir: &OwnedFd, path: &Path, file: &Planned) -> Result<()> {
    let step = || format!("write {}", path.display());
    let mut at = dir.try_clone().context(step)?;
    for parent in path.parent().iter().flat_map(|parent| parent.components()) {
        at = make_directory(&at, parent).context(step)?;
    }
    let name = path.file_name().unwrap_or_default();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let made = open_beneath(&at, Path::new(name), flags).context(step)?;
    let mut made = fs::File::from(made);
    made.write_all(&file.content).context(step)?;
    fchmod(&made, Mode::from_raw_mode(file.mode)).context(step)?;
    match file.user {
        Some(user) => fchown(&made, Some(Uid::from_raw(user)), None).context(step),
        None => Ok(()),
    }
}

fn make_directory(dir: &OwnedFd, name: impl AsRef<Path>) -> Result<OwnedFd> {
    let name = name.as_ref();
    let step = || format!("make directory {}", name.display());
    match mkdirat(dir, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e).context(step),
    }
    let made = open_beneath(dir, name, OFlags::RDONLY | OFlags::DIRECTORY).context(step)?;
    // Whatever the umask is.
    fchmod(&made, Mode::from_raw_mode(0o755)).context(step)?;
    Ok(made)
}

fn exchange(volume: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    match unlinkat(volume, NEW_DATA, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e),
    }
    symlinkat(name, volume, NEW_DATA)?;
    renameat(volume, NEW_DATA, volume, DATA)
}

/// What containers look for: a link for the first part of each path. Those of files that are no more go.
fn link(volume: &OwnedFd, payload: &Payload) -> rustix::io::Result<()> {
    let first = |path: &PathBuf| match path.components().next() {
        Some(Component::Normal(name)) => Some(name.to_owned()),
        _ => None,
    };
    let wanted: BTreeSet<_> = payload.keys().filter_map(first).collect();
    for name in &wanted {
        match symlinkat(Path::new(DATA).join(name), volume, name.as_os_str()) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
    }
    for entry in Dir::read_from(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_own = name.to_bytes().starts_with(b"..") || name.to_bytes() == b".";
        let name = OsStr::from_bytes(name.to_bytes());
        if !is_own && !wanted.contains(name) {
            unlinkat(volume, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn payload(files: &[(&str, &str, u32)]) -> Payload {
        let file = |content: &str, mode| Planned {
            content: content.into(),
            mode,
            user: None,
        };
        let files = files.iter();
        files
            .map(|(path, content, mode)| (PathBuf::from(path), file(content, *mode)))
            .collect()
    }

    fn write_all(volume: &OwnedFd, payload: &Payload) -> Result<bool> {
        write(volume, payload, |_| Ok(()))
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_stand_behind_one_link_that_is_exchanged_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let volume = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
        let data = || fs::read_link(dir.path().join(DATA)).unwrap();
        let first = payload(&[
            ("a", "1", 0o640),
            ("sub/x/b", "2", 0o400),
            ("sub/c", "3", 0o644),
        ]);
        assert!(write_all(&volume, &first).unwrap());
        assert_eq!(names(dir.path())[1..], ["..data", "a", "sub"]);
        assert_eq!((read("a"), read("sub/x/b")), ("1".into(), "2".into()));
        let link = fs::read_link(dir.path().join("sub")).unwrap();
        assert_eq!(link, Path::new("..data/sub"));
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!(
            [mode("a"), mode("sub/x/b"), mode("sub/x"), mode("..data")],
            [0o640, 0o400, 0o755, 0o755]
        );
        let before = data();
        assert!(
            before.to_str().unwrap().starts_with("..20"),
            "{}",
            before.display()
        );

        assert!(!write_all(&volume, &first).unwrap(), "nothing to do");
        assert_eq!(data(), before);

        let open = fs::File::open(dir.path().join("a")).unwrap();
        assert!(write_all(&volume, &payload(&[("a", "new", 0o644), ("d", "4", 0o644)])).unwrap());
        assert_ne!(data(), before);
        assert_eq!(names(dir.path()).len(), 4, "{:?}", names(dir.path()));
        assert_eq!(names(dir.path())[1..], ["..data", "a", "d"]);
        assert_eq!((read("a"), read("d")), ("new".into(), "4".into()));
        assert_eq!(
            std::io::read_to_string(open).unwrap(),
            "1",
            "who has it open keeps it"
        );

        assert!(write_all(&volume, &Payload::new()).unwrap());
        assert_eq!(names(dir.path()).len(), 2);
    }

    #[test]
    fn nothing_of_a_write_that_fails_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let volume = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        write_all(&volume, &payload(&[("a", "1", 0o644)])).unwrap();
        let before = names(dir.path());
        // `a` cannot be a file and a directory.
        let bad = payload(&[("a", "2", 0o644), ("a/b", "3", 0o644)]);
        assert!(write_all(&volume, &bad).is_err());
        assert_eq!(names(dir.path()), before);
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"1");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let shown = format!("{:?}", payload(&[("a", "hunter2", 0o400)]));
        assert_eq!(shown, r#"{"a": 7 bytes, mode 0400}"#);
    }

    #[test]
    fn the_directory_that_it_is_in_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let volume = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        write_all(&volume, &payload(&[("a", "1", 0o644)])).unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o7777, 0o1777);
    }

    #[test]
    fn what_somebody_else_has_begun_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let volume = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        let files = payload(&[("a", "1", 0o644), ("b", "2", 0o644)]);
        write_all(&volume, &files).unwrap();
        let whole = names(dir.path());
        // Killed before it has made all links, removed the old files, or exchanged the link.
        fs::remove_file(dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink("..data/gone", dir.path().join("gone")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join(NEW_DATA)).unwrap();
        fs::create_dir_all(dir.path().join("..2001_01_01/sub")).unwrap();
        assert!(!write_all(&volume, &files).unwrap());
        assert_eq!(names(dir.path()), whole);
    }

    #[test]
    fn new_files_are_settled_before_they_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let volume = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        write_all(&volume, &payload(&[("a", "old", 0o600)])).unwrap();
        let read = || fs::read_to_string(dir.path().join("a")).unwrap();
        let new = payload(&[("a", "new", 0o600)]);
        write(&volume, &new, |files| {
            assert_eq!(read(), "old");
            let opened = open_beneath(files, Path::new("a"), OFlags::RDONLY)?;
            fchmod(&opened, Mode::from_raw_mode(0o640))
        })
        .unwrap();
        assert_eq!(read(), "new");
        let mode = fs::metadata(dir.path().join("a")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o640);
        // What cannot be settled is not seen, and leaves nothing.
        let before = names(dir.path());
        let error = write(&volume, &payload(&[("a", "x", 0o600)]), |_| {
            Err(Errno::PERM)
        });
        assert!(error.is_err());
        assert_eq!((read(), names(dir.path())), ("new".into(), before));
    }
}
