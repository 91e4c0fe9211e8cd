//! Namespaces that a container has joined: criu must neither save nor make them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::LinuxNamespaceType as Type;
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;

use super::Request;
use crate::error::{Context, Error, Result};
use crate::spec::plan::{Namespace, Namespaces};

/// What such a namespace is to criu.
enum Way {
    /// Left out, and given to it by this name; the first is its file in `/proc/<pid>/ns`. The names are runc's, so that either
    /// restores what the other one has saved.
    External(&'static str, &'static str),
    /// Saved, but joined by this name in place of what was saved.
    Joined(&'static str),
    /// It cannot.
    Impossible(&'static str),
}

fn way(kind: Type) -> Way {
    match kind {
        Type::Network => Way::External("net", "extRootNetNS"),
        Type::Pid => Way::External("pid", "extRootPidNS"),
        Type::Ipc => Way::Joined("ipc"),
        Type::Uts => Way::Joined("uts"),
        Type::Mount => Way::Impossible("mount"),
        Type::User => Way::Impossible("user"),
        Type::Cgroup => Way::Impossible("cgroup"),
        Type::Time => Way::Impossible("time"),
    }
}

/// Leaves out of a checkpoint what the container, whose first process is `pid`, has joined.
pub(in crate::container) fn leave_out(
    mut request: Request,
    joined: &[Type],
    pid: i32,
) -> Result<Request> {
    for kind in joined {
        if let Way::External(file, name) = way(*kind) {
            let path = format!("/proc/{pid}/ns/{file}");
            let inode = rustix::fs::stat(&path)
                .context(|| format!("look at {path}"))?
                .st_ino;
            request = request.bytes(37, format!("{file}[{inode}]:{name}"));
        }
    }
    Ok(request)
}

/// The namespaces that a restored container joins.
#[derive(Debug, Default)]
pub(in crate::container) struct Joined<'a> {
    /// To be given to criu, by these names.
    external: Vec<(&'static str, OwnedFd)>,
    /// To be joined by criu itself.
    files: Vec<(&'static str, &'a Path)>,
}

impl<'a> Joined<'a> {
    /// Opens them.
    ///
    /// # Errors
    /// When one is not there, or of a kind that criu cannot join.
    pub(in crate::container) fn open(namespaces: &'a Namespaces) -> Result<Self> {
        let mut joined = Self::default();
        for (kind, namespace) in [
            (Type::Mount, &namespaces.mount),
            (Type::Pid, &namespaces.pid),
            (Type::Network, &namespaces.network),
            (Type::Ipc, &namespaces.ipc),
            (Type::Uts, &namespaces.uts),
            (Type::User, &namespaces.user),
            (Type::Cgroup, &namespaces.cgroup),
            (Type::Time, &namespaces.time),
        ] {
            let Namespace::Join(path) = namespace else {
                continue;
            };
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            match way(kind) {
                Way::External(_, name) => {
                    let file = rustix::fs::open(path, flags, Mode::empty());
                    let step = || format!("linux.namespaces: open {}", path.display());
                    joined.external.push((name, file.context(step)?));
                }
                Way::Joined(name) => joined.files.push((name, path)),
                Way::Impossible(name) => {
                    let what = format!("join the {name} namespace {}", path.display());
                    return Err(Error::new(format!("linux.namespaces: {what}"))
                        .hint("a restored container has one of its own"));
                }
            }
        }
        Ok(joined)
    }

    /// Asks criu for them.
    pub(in crate::container) fn ask(&self, mut request: Request) -> Request {
        for (name, file) in &self.external {
            request = request.text_and_int(27, name, file.as_raw_fd());
        }
        for (name, path) in &self.files {
            request = request.texts(39, name, path.as_os_str().as_bytes());
        }
        request
    }

    /// In criu's process: keeps them open for it.
    pub(in crate::container) fn keep_open(&self) -> Result<()> {
        for (_, file) in &self.external {
            rustix::io::fcntl_setfd(file, FdFlags::empty())
                .context(|| "keep a namespace open for criu")?;
        }
        Ok(())
    }
}
