//! The container's view of its cgroups: one mount of cgroup2, or a tmpfs with a directory for each v1 hierarchy.
//!
//! With a cgroup namespace a new mount shows the container's cgroup as its root. Without one, the container's own
//! directory is bound from the host, so that nothing above it can be seen or written (CVE-2023-25809).

use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::symlinkat;

use super::file_system::file_system;
use super::mounts::{after_attach, target};
use super::place::Places;
use super::{attach, clone_mount, host_handle};
use crate::cgroup::layout::{View, ViewMount};
use crate::error::{Context, Error, Result};
use crate::spec::plan::Mount;
use crate::sys::mount::{Change, NODEV, NOEXEC, NOSUID, RDONLY, mount_setattr};
use crate::sys::path::{self, Make};
use crate::sys::process::leak;

const ALWAYS: u64 = NOSUID | NODEV | NOEXEC;

/// Mounts what the host's cgroups look like from inside.
pub(super) fn mount(
    root: BorrowedFd<'_>,
    mount: &Mount,
    namespaced: bool,
    view: View,
    places: &mut Places<'_>,
) -> Result<()> {
    let attributes = mount.attributes.set | ALWAYS;
    let onto = target(root, mount, places, || Ok(Make::Directory))?;
    let tree = match view {
        View::Unified { source } => {
            let tree = hierarchy(c"cgroup2", &[], &source, namespaced, attributes)?;
            attach(tree, onto).context(|| "attach")?;
            tree
        }
        View::Legacy { mounts, links } => legacy(onto, &mounts, &links, namespaced, attributes)?,
    };
    after_attach(tree, mount)
}

fn legacy(
    onto: BorrowedFd<'_>,
    mounts: &[ViewMount],
    links: &[(String, String)],
    namespaced: bool,
    attributes: u64,
) -> Result<BorrowedFd<'static>> {
    let mode = [(c"mode".into(), Some(c"755".into()))];
    let tmpfs = file_system(c"tmpfs", Some(c"tmpfs"), &mode, ALWAYS)?;
    attach(tmpfs, onto).context(|| "attach the tmpfs")?;
    for mount in mounts {
        let step = || format!("mount hierarchy {}", mount.directory);
        let options = options(mount)?;
        let fstype = CString::new(mount.fstype).map_err(|_| Error::new(step()))?;
        let tree =
            hierarchy(&fstype, &options, &mount.source, namespaced, attributes).context(step)?;
        let onto = path::make(tmpfs, Path::new(&mount.directory), Make::Directory)
            .map(leak)
            .context(step)?;
        attach(tree, onto).context(step)?;
    }
    for (name, to) in links {
        symlinkat(to.as_str(), tmpfs, name.as_str()).context(|| format!("make link {name}"))?;
    }
    if attributes & RDONLY != 0 {
        let read_only = Change {
            set: RDONLY,
            ..Change::default()
        };
        mount_setattr(tmpfs, c"", false, read_only).context(|| "make the tmpfs read-only")?;
    }
    Ok(tmpfs)
}

fn options(mount: &ViewMount) -> Result<Vec<(CString, Option<CString>)>> {
    let c_string = |text: &String| {
        CString::new(text.as_str()).map_err(|_| Error::new(format!("mount option {text:?}")))
    };
    let mut options = Vec::new();
    for (key, value) in &mount.options {
        options.push((c_string(key)?, value.as_ref().map(c_string).transpose()?));
    }
    Ok(options)
}

fn hierarchy(
    fstype: &std::ffi::CStr,
    options: &[(CString, Option<CString>)],
    source: &Path,
    namespaced: bool,
    attributes: u64,
) -> Result<BorrowedFd<'static>> {
    if namespaced {
        match file_system(fstype, Some(c"cgroup"), options, attributes) {
            // In a user namespace below another container's only what that one shows can be shown.
            Err(e) if matches!(e.errno(), Some(libc::EPERM | libc::EBUSY)) => {}
            made => return made,
        }
    }
    let step = || format!("bind {}", source.display());
    let tree = host_handle(source)
        .and_then(|handle| clone_mount(handle, false))
        .context(step)?;
    let change = Change {
        set: attributes,
        ..Change::default()
    };
    mount_setattr(tree, c"", false, change).context(step)?;
    Ok(tree)
}
