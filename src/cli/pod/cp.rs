//! `runp pod cp`.
//!
//! Paths in a container are resolved in its root, whatever links it has there, and nothing of it is executed: not even
//! a `tar` (CVE-2019-1002101).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{
    CWD, Dir, FileType, Mode, OFlags, fchmod, fstat, mkdirat, openat, readlinkat, symlinkat,
};
use rustix::io::Errno;

use super::Places;
use crate::error::{Context, Error, Result};
use crate::pod::container::container_id;
use crate::pod::delete::first_pid;
use crate::pod::observe::Observed;
use crate::pod::store::PodName;
use crate::sys::path;

/// `POD:PATH`, or a path of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Pod(PodName, PathBuf),
    Here(PathBuf),
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            // Like scp(1): what has a slash before the colon is a path.
            Some((pod, path)) if !pod.contains('/') && !path.is_empty() => {
                Ok(Self::Pod(pod.parse()?, path.into()))
            }
            _ => Ok(Self::Here(text.into())),
        }
    }
}

/// Copy files and directories from a container, or into it
#[derive(Debug, clap::Args)]
pub(super) struct Cp {
    /// POD:PATH, or a path of this machine
    from: Place,
    /// POD:PATH, or a path of this machine; if it is a directory, into it
    to: Place,
    /// Which container; else the one that the annotation kubectl.kubernetes.io/default-container names, or the first app
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
}

impl Cp {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let step = || "copy".to_owned();
        match (&self.from, &self.to) {
            (Place::Pod(pod, from), Place::Here(to)) => {
                let root = self.root(places, pod)?;
                let source = open_inside(&root, from).context(step)?;
                let (dir, name) = here(to, from).context(step)?;
                copy(&source, dir.as_fd(), &name).context(step)?;
            }
            (Place::Here(from), Place::Pod(pod, to)) => {
                let root = self.root(places, pod)?;
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let source = openat(CWD, from, flags, Mode::empty())
                    .context(|| format!("open {}", from.display()))?;
                let (dir, name) = inside(&root, to, from).context(step)?;
                copy(&source, dir.as_fd(), &name).context(step)?;
            }
            _ => {
                return Err(Error::new(
                    "one of the two places must be in a pod, and the other here",
                )
                .hint("runp pod cp POD:/path ./here, or: runp pod cp ./here POD:/path"));
            }
        }
        Ok(0)
    }

    /// The container's root directory.
    fn root(&self, places: &Places, pod: &PodName) -> Result<OwnedFd> {
        let observed = Observed::of(&places.pods.open(pod)?, &places.store)?;
        let (index, name) = observed.container(self.container.as_deref())?;
        let id = container_id(pod.as_str(), &name)?;
        let pid = first_pid(&places.store, &id).filter(|_| observed.alive.containers[index.0]);
        let pid = pid.ok_or_else(|| {
            Error::new(format!(
                "container {name:?} of pod {:?} does not run",
                pod.as_str()
            ))
        })?;
        let path = format!("/proc/{pid}/root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty()).context(|| format!("open {path}"))
    }
}

fn open_inside(root: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    path::open(root, path, flags).context(|| format!("open {} in the container", path.display()))
}

/// The directory to copy into, and under which name.
fn here(to: &Path, from: &Path) -> Result<(OwnedFd, OsString)> {
    let (dir, name) = match to.is_dir() {
        true => (to, from.file_name()),
        false => (to.parent().unwrap_or(Path::new("")), to.file_name()),
    };
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open =
        openat(CWD, dir, flags, Mode::empty()).context(|| format!("open {}", dir.display()))?;
    Ok((open, named(name)?))
}

/// The same in a container.
fn inside(root: &OwnedFd, to: &Path, from: &Path) -> Result<(OwnedFd, OsString)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match path::open(root, to, flags) {
        Ok(dir) => return Ok((dir, named(from.file_name())?)),
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(e) => {
            return Err(Error::sys(
                format!("open {} in the container", to.display()),
                e,
            ));
        }
    }
    let parent = to.parent().unwrap_or(Path::new("/"));
    let dir = path::open(root, parent, flags)
        .context(|| format!("open {} in the container", parent.display()))?;
    Ok((dir, named(to.file_name())?))
}

fn named(name: Option<&OsStr>) -> Result<OsString> {
    name.map(OsStr::to_owned)
        .ok_or_else(|| Error::new("a path that ends in a name is wanted"))
}

/// A file, or a directory with all that is in it. Links are copied as links; what is neither is left out.
fn copy(source: &OwnedFd, dir: impl AsFd, name: &OsStr) -> Result<()> {
    let step = || format!("copy {}", Path::new(name).display());
    let stat = fstat(source).context(step)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::WRONLY
                | OFlags::CREATE
                | OFlags::TRUNC
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK
                | OFlags::CLOEXEC;
            let made = openat(&dir, name, flags, Mode::RUSR | Mode::WUSR).context(step)?;
            fchmod(&made, mode).context(step)?;
            let mut from = File::from(source.try_clone().context(step)?);
            io::copy(&mut from, &mut File::from(made)).context(step)?;
            Ok(())
        }
        FileType::Directory => {
            match mkdirat(&dir, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(Error::sys(step(), e)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = openat(&dir, name, flags, Mode::empty()).context(step)?;
            copy_entries(source, &made).context(step)?;
            fchmod(&made, mode).context(step)
        }
        _ => Err(Error::new(step()).hint("it is neither a file nor a directory")),
    }
}

fn copy_entries(source: &OwnedFd, made: &OwnedFd) -> Result<()> {
    for entry in Dir::read_from(source).context(|| "read a directory")? {
        let entry = entry.context(|| "read a directory")?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let step = || format!("open {}", Path::new(name).display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match entry.file_type() {
            FileType::Symlink => {
                let target = readlinkat(source, name, Vec::new()).context(step)?;
                let target = OsString::from_vec(target.into_bytes());
                match symlinkat(&target, made, name) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(Error::sys(step(), e)),
                }
            }
            FileType::RegularFile | FileType::Directory => {
                let open = openat(source, name, flags, Mode::empty()).context(step)?;
                copy(&open, made, name)?;
            }
            _ => log::warn!(
                "left out, neither file nor directory: {}",
                Path::new(name).display()
            ),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_pod_has_its_name_before_a_colon() {
        let pod = |name: &str, path: &str| Place::Pod(name.parse().unwrap(), path.into());
        assert_eq!("p:/x:y".parse::<Place>().unwrap(), pod("p", "/x:y"));
        for here in ["/x", "./p:x", "x", "p:"] {
            assert_eq!(here.parse::<Place>().unwrap(), Place::Here(here.into()));
        }
        assert!("Not:x".parse::<Place>().is_err());
    }
}
