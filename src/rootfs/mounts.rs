//! The entries of `mounts`, one by one.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::trees::{self, Trees};
use super::{attach, cgroupfs};
use crate::cgroup::Layout;
use crate::error::{Context, Error, Result};
use crate::spec::plan::{Attributes, BindSource, Mount, MountKind, Namespace, Plan, Propagation};
use crate::sys::mount::{Change, RDONLY, mount_setattr};
use crate::sys::path::{self, Make};
use crate::sys::process::{inherited, leak};

/// What is there of a mount before the process changes its user.
#[derive(Debug)]
pub(super) enum Source {
    /// A detached copy of a directory or file of the host.
    Tree(BorrowedFd<'static>),
    /// A file system of its own, which is made in its turn.
    New,
}

/// Opens the sources of all bind mounts that the parent has not opened.
pub(super) fn open_sources(mounts: &[Mount], trees: &Trees) -> Result<Vec<Source>> {
    mounts
        .iter()
        .enumerate()
        .map(|(index, mount)| open_source(index, mount, trees))
        .collect()
}

fn open_source(index: usize, mount: &Mount, trees: &Trees) -> Result<Source> {
    let prepared = match &mount.kind {
        MountKind::Bind {
            source: BindSource::Mount(fd),
            ..
        } => Some(*fd),
        _ => trees.source(index),
    };
    Ok(match prepared {
        Some(fd) => Source::Tree(inherited(fd)),
        None => match trees::open_source(index, mount)? {
            Some(tree) => Source::Tree(leak(tree)),
            None => Source::New,
        },
    })
}

/// Mounts one entry at its destination, which is made if it is missing. Gives the mount back if it is to be made read-only
/// once everything has been made in it.
pub(super) fn mount(
    root: BorrowedFd<'_>,
    mount: &Mount,
    source: &Source,
    plan: &Plan,
    layout: &Layout,
) -> Result<Option<BorrowedFd<'static>>> {
    let step = || format!("mount {} on {}", mount.kind, mount.destination.display());
    let later = is_read_only_tmpfs(mount);
    let tree = match (&mount.kind, source) {
        (MountKind::Cgroup, _) => {
            return cgroupfs::mount(
                root,
                mount,
                plan.namespaces.cgroup != Namespace::Inherit,
                layout.view(&plan.cgroup.path),
            )
            .context(step)
            .map(|()| None);
        }
        (_, Source::Tree(tree)) => {
            if mount.attributes != Attributes::default() {
                mount_setattr(tree, c"", false, mount.attributes.into()).context(step)?;
            }
            *tree
        }
        (
            MountKind::FileSystem {
                fstype,
                source,
                parameters,
            },
            Source::New,
        ) => {
            let attributes = match later {
                true => mount.attributes.set & !RDONLY,
                false => mount.attributes.set,
            };
            file_system(fstype, source.as_deref(), parameters, attributes).context(step)?
        }
        (MountKind::Bind { .. }, Source::New) => return Err(Error::new(step())),
    };
    let target = target(root, mount, || match mount.kind {
        MountKind::Bind { .. } => is_directory(tree),
        MountKind::FileSystem { .. } | MountKind::Cgroup => Ok(true),
    })
    .context(step)?;
    attach(tree, target).context(step)?;
    after_attach(tree, mount).context(step)?;
    Ok(later.then_some(tree))
}

/// Makes a mount that [`mount`] gave back read-only.
pub(super) fn make_read_only(tree: BorrowedFd<'_>) -> Result<()> {
    let change = Change {
        set: RDONLY,
        ..Change::default()
    };
    mount_setattr(tree, c"", false, change).context(|| "make a tmpfs read-only")
}

/// A tmpfs is new and empty: mount points and devices are made in it before it is read-only.
fn is_read_only_tmpfs(mount: &Mount) -> bool {
    let MountKind::FileSystem { fstype, .. } = &mount.kind else {
        return false;
    };
    fstype.as_c_str() == c"tmpfs" && mount.attributes.set & RDONLY != 0
}

/// What takes effect on a whole tree, or only once it is attached.
pub(super) fn after_attach(tree: BorrowedFd<'_>, mount: &Mount) -> Result<()> {
    if mount.recursive_attributes != Attributes::default() {
        mount_setattr(tree, c"", true, mount.recursive_attributes.into())
            .context(|| "set recursive mount attributes")?;
    }
    for (kind, recursive) in &mount.propagation {
        mount_setattr(tree, c"", *recursive, propagation(*kind))
            .context(|| "set mount propagation")?;
    }
    Ok(())
}

/// A handle to the mount point, made if it is missing: a directory or a file, as the mount is one.
pub(super) fn target(
    root: BorrowedFd<'_>,
    mount: &Mount,
    is_directory: impl FnOnce() -> rustix::io::Result<bool>,
) -> Result<BorrowedFd<'static>> {
    let destination = mount.destination.as_path();
    let step = || "open the mount point in the root";
    match path::handle_without_links(root, destination) {
        Err(Errno::NOENT | Errno::LOOP) => {}
        handle => return handle.map(leak).context(step),
    }
    let kind = match is_directory().context(step)? {
        true => Make::Directory,
        false => Make::File,
    };
    match path::make_without_links(root, destination, kind) {
        Err(Errno::LOOP) => {}
        made => return made.map(leak).map_err(explain_target),
    }
    // Only now a link of the image is followed, and what it leads to is checked before it is used.
    let target = path::make(root, destination, kind)
        .map(leak)
        .map_err(explain_target)?;
    check_link(root, mount, target)?;
    Ok(target)
}

/// Where a link of the image leads is checked as the destination itself was, and the file systems that everybody trusts are
/// mounted on ordinary directories only (CVE-2019-19921, CVE-2023-27561).
fn check_link(root: BorrowedFd<'_>, mount: &Mount, target: BorrowedFd<'_>) -> Result<()> {
    let trusted = [c"proc", c"sysfs"];
    match &mount.kind {
        MountKind::FileSystem { fstype, .. } if trusted.contains(&fstype.as_c_str()) => {
            return Err(Error::new(
                "the mount point is reached through a symbolic link of the image",
            )
            .hint("proc and sysfs are mounted on ordinary directories only"));
        }
        _ => {}
    }
    let real = path::real_path(root, target).context(|| "find where the mount point is")?;
    if real == Path::new("/dev") {
        return Err(Error::new("a symbolic link of the image leads to /dev")
            .hint("mount on /dev itself, so that its devices are made where they belong"));
    }
    crate::spec::over_proc(&real, &mount.kind).map_err(|why| {
        Error::new(format!(
            "a symbolic link of the image leads to {}: {why}",
            real.display()
        ))
    })
}

fn explain_target(errno: Errno) -> Error {
    let error = Error::sys("make the mount point in the root", errno);
    match errno {
        Errno::ROFS => {
            error.hint("the root file system is read-only and lacks it: add it to the image")
        }
        Errno::EXIST | Errno::LOOP => {
            error.hint("a symbolic link that leads nowhere is in the way")
        }
        Errno::NOTDIR => error.hint("a part of the path is a file"),
        _ => error,
    }
}

fn is_directory(tree: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let stat = rustix::fs::fstat(tree)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// A new, detached mount of a file system.
pub(super) fn file_system(
    fstype: &CStr,
    source: Option<&CStr>,
    parameters: &[(CString, Option<CString>)],
    attributes: u64,
) -> Result<BorrowedFd<'static>> {
    let name = || fstype.to_string_lossy().into_owned();
    let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
        .map(leak)
        .map_err(|e| {
            let error = Error::sys(format!("fsopen {}", name()), e);
            match e {
                Errno::NODEV => error.hint("this kernel does not have that file system"),
                _ => error,
            }
        })?;
    if let Some(source) = source {
        fsconfig_set_string(context, c"source", source)
            .map_err(|e| explain(context, "set the source", e))?;
    }
    for (key, value) in parameters {
        let set = match value {
            Some(value) => fsconfig_set_string(context, key, value),
            None => fsconfig_set_flag(context, key),
        };
        set.map_err(|e| {
            let value = value.as_ref().map(|v| format!("={}", v.to_string_lossy()));
            let option = format!("{}{}", key.to_string_lossy(), value.unwrap_or_default());
            explain(context, &format!("set option {option:?}"), e)
        })?;
    }
    fsconfig_create(context).map_err(|e| explain(context, &format!("create {}", name()), e))?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map(leak)
        .context(|| format!("fsmount {}", name()))
}

/// A file system says what is wrong with its options in words, which are read from its context (fsopen(2)).
pub(super) fn explain(context: BorrowedFd<'_>, step: &str, errno: Errno) -> Error {
    let error = Error::sys(step, errno);
    let mut buffer = [0; 512];
    match rustix::io::read(context, &mut buffer) {
        Ok(length) => {
            let text = String::from_utf8_lossy(&buffer[..length]);
            // "e " marks an error.
            error.hint(format!(
                "the kernel says: {}",
                text.trim_end().trim_start_matches("e ")
            ))
        }
        Err(_) => error,
    }
}

/// The change that gives a mount this propagation.
pub(super) fn propagation(kind: Propagation) -> Change {
    let propagation = match kind {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
        Propagation::Unbindable => libc::MS_UNBINDABLE,
    };
    Change {
        propagation,
        ..Change::default()
    }
}

impl From<Attributes> for Change {
    fn from(attributes: Attributes) -> Self {
        Self {
            set: attributes.set,
            clear: attributes.clear,
            propagation: 0,
        }
    }
}

impl std::fmt::Display for MountKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FileSystem { fstype, .. } => f.write_str(&fstype.to_string_lossy()),
            Self::Bind {
                source: BindSource::Path(path),
                ..
            } => write!(f, "{}", path.display()),
            Self::Bind {
                source: BindSource::Mount(_),
                ..
            } => f.write_str("a volume"),
            Self::Cgroup => f.write_str("cgroup"),
        }
    }
}
