//! The entries of `mounts`, one by one.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::copy_up::copy_up;
use super::file_system::{Parameters, file_system, reconfigure};
use super::place::{Place, Places};
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
pub(super) fn mount<'a>(
    root: BorrowedFd<'_>,
    mount: &'a Mount,
    source: &Source,
    plan: &Plan,
    layout: &Layout,
    places: &mut Places<'a>,
) -> Result<Option<BorrowedFd<'static>>> {
    places.cover(&mount.destination);
    match (&mount.kind, source) {
        (MountKind::FileSystem { .. }, _) => new_file_system(root, mount, plan, places),
        (MountKind::Bind { .. }, Source::Tree(tree)) => {
            bind(root, mount, *tree, places).map(|()| None)
        }
        // Its source was opened with those of all other bind mounts.
        (MountKind::Bind { .. }, Source::New) => Err(Error::new("there is no source")),
        (MountKind::Cgroup, _) => {
            let namespaced = plan.namespaces.cgroup != Namespace::Inherit;
            let view = layout.view(&plan.cgroup.path);
            cgroupfs::mount(root, mount, namespaced, view, places).map(|()| None)
        }
        (MountKind::Remount { parameters }, _) => remount(root, mount, parameters).map(|()| None),
    }
    .context(|| format!("mount {} on {}", mount.kind, mount.destination.display()))
}

fn bind(
    root: BorrowedFd<'_>,
    mount: &Mount,
    tree: BorrowedFd<'_>,
    places: &mut Places<'_>,
) -> Result<()> {
    set_attributes(tree, false, mount.attributes)?;
    match places.in_tmpfs(&mount.destination) {
        Some(place) => {
            let kind = kind_of(tree).context(|| "look at the source")?;
            attach_in_place(&place, kind, tree)?;
        }
        None => {
            let target = target(root, mount, places, || kind_of(tree))?;
            attach(tree, target).context(|| "attach")?;
        }
    }
    after_attach(tree, mount)
}

fn attach_in_place(place: &Place<'_>, kind: Make, tree: BorrowedFd<'_>) -> Result<()> {
    place.make(kind).map_err(explain_target)?;
    place.attach(tree).context(|| "attach")
}

fn new_file_system<'a>(
    root: BorrowedFd<'_>,
    mount: &'a Mount,
    plan: &Plan,
    places: &mut Places<'a>,
) -> Result<Option<BorrowedFd<'static>>> {
    let MountKind::FileSystem {
        fstype,
        source,
        parameters,
    } = &mount.kind
    else {
        return Ok(None);
    };
    let later = is_read_only_tmpfs(mount);
    let attributes = match later {
        true => mount.attributes.set & !RDONLY,
        false => mount.attributes.set,
    };
    let parameters = match fstype.as_c_str() == c"tmpfs" {
        true => with_mode(root, mount, parameters)?,
        false => Cow::Borrowed(parameters.as_slice()),
    };
    let made = file_system(fstype, source.as_deref(), &parameters, attributes);
    let tree = match made {
        Err(e) if e.errno() == Some(libc::EPERM) => hosts_view(fstype, mount, plan, e)?,
        made => made?,
    };
    match places.in_tmpfs(&mount.destination) {
        Some(place) if !mount.copy_up => attach_in_place(&place, Make::Directory, tree)?,
        _ => {
            let target = target(root, mount, places, || Ok(Make::Directory))?;
            if mount.copy_up {
                copy_up(target, tree).context(|| "copy up what the image has there")?;
            }
            attach(tree, target).context(|| "attach")?;
        }
    }
    places.add(mount, tree);
    after_attach(tree, mount)?;
    Ok(later.then_some(tree))
}

/// A tmpfs without a mode has that of the directory that it covers, as in runc.
fn with_mode<'a>(
    root: BorrowedFd<'_>,
    mount: &Mount,
    parameters: &'a Parameters,
) -> Result<Cow<'a, Parameters>> {
    if parameters.iter().any(|(key, _)| key.as_c_str() == c"mode") {
        return Ok(Cow::Borrowed(parameters));
    }
    let step = || "find the mode of the mount point";
    let covered = match path::handle(root, &mount.destination) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Cow::Borrowed(parameters)),
        handle => handle.map(leak).context(step)?,
    };
    let mode = rustix::fs::fstat(covered).context(step)?.st_mode & 0o7777;
    let mode = CString::new(format!("{mode:o}")).map_err(|_| Error::new(step()))?;
    let mut parameters = parameters.to_vec();
    parameters.insert(0, (c"mode".into(), Some(mode)));
    Ok(Cow::Owned(parameters))
}

/// A user namespace has a file system of its own only for namespaces that belong to it; for the others, which the container shares
/// with the host, it has the host's, bound.
fn hosts_view(
    fstype: &CStr,
    mount: &Mount,
    plan: &Plan,
    error: Error,
) -> Result<BorrowedFd<'static>> {
    let (path, kind) = match fstype.to_bytes() {
        b"sysfs" => ("/sys", &plan.namespaces.network),
        b"mqueue" => ("/dev/mqueue", &plan.namespaces.ipc),
        b"proc" => ("/proc", &plan.namespaces.pid),
        _ => return Err(error),
    };
    if *kind == Namespace::New {
        return Err(error.hint(format!(
            "what an outer container masks in its {path} cannot be unmasked here: let it have an unmasked one"
        )));
    }
    let step = || format!("bind the host's {path} instead");
    let tree = match super::host_handle(Path::new(path)) {
        Err(Errno::NOENT) => {
            return Err(error.hint(format!("nor does the host have a {path} to show")));
        }
        handle => handle.and_then(|handle| super::clone_mount(handle, true)),
    }
    .context(step)?;
    set_attributes(tree, true, mount.attributes).context(step)?;
    Ok(tree)
}

/// Changes the options of what is mounted there already.
fn remount(root: BorrowedFd<'_>, mount: &Mount, parameters: &Parameters) -> Result<()> {
    let step = || "open the mount point in the root";
    let target = path::handle(root, &mount.destination)
        .map(leak)
        .context(step)?;
    if !parameters.is_empty() {
        reconfigure(target, parameters)?;
    }
    set_attributes(target, false, mount.attributes).map_err(|e| match e.errno() {
        Some(libc::EINVAL) => e.hint("nothing is mounted there"),
        _ => e,
    })?;
    after_attach(target, mount)
}

fn set_attributes(tree: BorrowedFd<'_>, recursive: bool, attributes: Attributes) -> Result<()> {
    if attributes == Attributes::default() {
        return Ok(());
    }
    mount_setattr(tree, c"", recursive, attributes.into()).map_err(|e| {
        let error = Error::sys("set mount attributes", e);
        match e {
            Errno::PERM => error.hint(
                "in a user namespace what the host's mount forbids (ro, nosuid, nodev, noexec, its atime) cannot be \
                 allowed: see mount_namespaces(7)",
            ),
            _ => error,
        }
    })
}

/// Makes a tmpfs read-only, once everything was made in it.
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
    set_attributes(tree, true, mount.recursive_attributes)?;
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
    places: &mut Places<'_>,
    kind: impl FnOnce() -> rustix::io::Result<Make>,
) -> Result<BorrowedFd<'static>> {
    let destination = mount.destination.as_path();
    let step = || "open the mount point in the root";
    match path::handle_without_links(root, destination) {
        Err(Errno::NOENT | Errno::LOOP) => {}
        handle => return handle.map(leak).context(step),
    }
    let kind = kind().context(step)?;
    match path::make_without_links(root, destination, kind) {
        Err(Errno::LOOP) => {}
        made => return made.map(leak).map_err(explain_target),
    }
    // Only now a link of the image is followed, and what it leads to is checked before it is used. It may cover anything.
    places.cover(Path::new("/"));
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

/// What a mount point of this mount is.
pub(super) fn kind_of(tree: BorrowedFd<'_>) -> rustix::io::Result<Make> {
    let stat = rustix::fs::fstat(tree)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Make::Directory,
        _ => Make::File,
    })
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
            Self::Remount { .. } => f.write_str("again"),
        }
    }
}
