//! The root file system that containerd wants mounted: its snapshot, made as a detached mount.
//!
//! It is visible nowhere on the host and needs no unmounting: it goes with the container, and with a shim that is killed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::proto::Mount;
use crate::error::{Context, Error, Result};
use crate::rootfs::{mapped, user_namespace};
use crate::spec::plan::IdMap;
use crate::sys::mount::{Change, map_ids, mount_setattr};
use crate::sys::path;

/// fsconfig(2) takes strings up to this length, in bytes, with the NUL.
const LONGEST: usize = 256;

/// Makes what `mounts` ask for, one after the other, each at its target in those before it; `None` if there are none. At the same
/// place the last hides the others.
///
/// # Errors
/// What the kernel refuses; before Linux 6.15 a mount in another one.
pub(super) fn mount(mounts: &[Mount]) -> Result<Option<OwnedFd>> {
    let mut root = None;
    for mount in mounts {
        let step = || format!("mount rootfs ({} of {})", mount.kind, mount.source);
        let made = one(mount).context(step)?;
        root = Some(match root {
            Some(root) if !mount.target.trim_matches('/').is_empty() => {
                attach(&made, &root, Path::new(&mount.target)).context(step)?;
                root
            }
            _ => made,
        });
    }
    Ok(root)
}

fn attach(mount: &OwnedFd, root: &OwnedFd, target: &Path) -> Result<()> {
    let step = || format!("attach it at {}", target.display());
    let point = path::handle(root, target).context(step)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", &point, "", flags).map_err(|e| {
        let error = Error::sys(step(), e);
        match e {
            rustix::io::Errno::INVAL => error.hint("a mount in another one takes Linux 6.15"),
            _ => error,
        }
    })
}

/// The options of a mount, sorted: attributes of the mount itself, and what the file system takes.
#[derive(Debug, PartialEq)]
struct Sorted<'a> {
    attributes: MountAttrFlags,
    bind: bool,
    recursive: bool,
    parameters: Vec<(&'a str, Option<&'a str>)>,
    /// Who the owners of files in the lower layers are; nobody else without.
    uids: Vec<IdMap>,
    gids: Vec<IdMap>,
}

impl Sorted<'_> {
    /// A user namespace with these ids.
    fn users(&self) -> Result<Option<OwnedFd>> {
        match self.uids.is_empty() && self.gids.is_empty() {
            true => Ok(None),
            false => user_namespace(&self.uids, &self.gids).map(Some),
        }
    }
}

/// `uidmap=0:100000:65536,...`: an id in the layer, one of the host, how many.
fn id_map(option: &str) -> Result<Vec<IdMap>> {
    let wrong = || Error::new(format!("option {option:?}")).hint("uidmap=ID:HOST-ID:COUNT");
    let (_, maps) = option.split_once('=').ok_or_else(wrong)?;
    let one = |map: &str| {
        let numbers: Vec<u32> = map.split(':').map_while(|n| n.parse().ok()).collect();
        match numbers[..] {
            [container_id, host_id, size] => Ok(IdMap {
                container_id,
                host_id,
                size,
            }),
            _ => Err(wrong()),
        }
    };
    maps.split(',').map(one).collect()
}

fn sort(mount: &Mount) -> Result<Sorted<'_>> {
    let mut sorted = Sorted {
        attributes: MountAttrFlags::empty(),
        bind: false,
        recursive: false,
        parameters: Vec::new(),
        uids: Vec::new(),
        gids: Vec::new(),
    };
    for option in &mount.options {
        match option.as_str() {
            "ro" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
            "nosuid" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            "noexec" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "noatime" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME,
            "nodiratime" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            "strictatime" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            "rw" | "suid" | "dev" | "exec" | "relatime" | "defaults" => {}
            "bind" => sorted.bind = true,
            "rbind" => (sorted.bind, sorted.recursive) = (true, true),
            other if other.starts_with("X-containerd.") => {
                return Err(Error::new(format!("option {other:?}"))
                    .hint("containerd itself has to follow it: choose another snapshotter"));
            }
            other if other.starts_with("uidmap=") => sorted.uids = id_map(other)?,
            other if other.starts_with("gidmap=") => sorted.gids = id_map(other)?,
            other => sorted.parameters.push(match other.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (other, None),
            }),
        }
    }
    sorted.bind |= mount.kind == "bind" || mount.kind == "rbind";
    Ok(sorted)
}

fn one(mount: &Mount) -> Result<OwnedFd> {
    let sorted = sort(mount)?;
    match sorted.bind {
        true => bind(mount, &sorted),
        false => file_system(mount, &sorted),
    }
}

fn bind(mount: &Mount, sorted: &Sorted<'_>) -> Result<OwnedFd> {
    if let Some((name, _)) = sorted.parameters.first() {
        return Err(Error::new(format!("option {name:?} of a bind mount")));
    }
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, sorted.recursive);
    let tree = open_tree(CWD, &mount.source, flags).context(|| "open_tree")?;
    let change = Change {
        set: sorted.attributes.bits().into(),
        clear: 0,
        // A copy is a peer of the host's mount: what is mounted in it would appear on the host.
        propagation: libc::MS_PRIVATE,
    };
    mount_setattr(&tree, c"", sorted.recursive, change).context(|| "mount_setattr")?;
    if let Some(users) = sorted.users()? {
        map_ids(&tree, sorted.recursive, users.as_fd()).context(|| "map ids")?;
    }
    Ok(tree)
}

fn file_system(mount: &Mount, sorted: &Sorted<'_>) -> Result<OwnedFd> {
    let context = fsopen(&*mount.kind, FsOpenFlags::FSOPEN_CLOEXEC).context(|| "fsopen")?;
    let set = |key: &str, value: &str| {
        fsconfig_set_string(&context, key, value).map_err(|e| explain(context.as_fd(), key, e))
    };
    if !mount.source.is_empty() {
        set("source", &mount.source)?;
    }
    let mut layers = Layers::default();
    let users = sorted.users()?;
    for (key, value) in &sorted.parameters {
        match value {
            Some(value) if *key == "lowerdir" && (users.is_some() || value.len() >= LONGEST) => {
                layers.set(value, users.as_ref(), set)?;
            }
            Some(value) => set(key, value)?,
            None => {
                fsconfig_set_flag(&context, *key).map_err(|e| explain(context.as_fd(), key, e))?
            }
        }
    }
    fsconfig_create(&context).map_err(|e| {
        let error = explain(context.as_fd(), "create", e);
        match users {
            Some(_) if e == rustix::io::Errno::INVAL => {
                error.hint("lower directories with mapped ids take Linux 6.15: set hostUsers to true on this node")
            }
            _ => error,
        }
    })?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, sorted.attributes).context(|| "fsmount")
}

/// The lower directories of an overlay by the numbers of descriptors, because their paths are too long for fsconfig(2). As
/// long as it lives the working directory is where these are files.
#[derive(Debug, Default)]
struct Layers {
    open: Vec<OwnedFd>,
    back: Option<OwnedFd>,
}

impl Layers {
    /// With the `users` of another user namespace the files in them are theirs.
    fn set(
        &mut self,
        paths: &str,
        users: Option<&OwnedFd>,
        set: impl Fn(&str, &str) -> Result<()>,
    ) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &str| {
            rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {path}"))
        };
        self.back = Some(open(".")?);
        for path in paths.split(':') {
            let dir = open(path)?;
            self.open.push(match users {
                Some(users) => mapped(&dir, users.as_fd()).context(|| format!("map {path}"))?,
                None => dir,
            });
        }
        rustix::process::chdir("/proc/self/fd").context(|| "enter /proc/self/fd")?;
        let numbers = self.open.iter().map(|dir| dir.as_raw_fd().to_string());
        let numbers: Vec<_> = numbers.collect();
        let joined = numbers.join(":");
        if joined.len() < LONGEST {
            return set("lowerdir", &joined);
        }
        // One by one, which Linux has since 6.7.
        numbers
            .iter()
            .try_for_each(|number| set("lowerdir+", number))
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // Nothing here depends on the working directory but what comes after.
        if let Some(back) = &self.back
            && let Err(e) = rustix::process::fchdir(back)
        {
            log::error!("go back to the working directory: {e}");
        }
    }
}

/// A file system says what is wrong in words, which are read from its context (fsopen(2)).
fn explain(context: BorrowedFd<'_>, step: &str, errno: rustix::io::Errno) -> Error {
    let error = Error::sys(format!("set {step}"), errno);
    let mut buffer = [0; 512];
    match rustix::io::read(context, &mut buffer) {
        Ok(length) => {
            let text = String::from_utf8_lossy(&buffer[..length]);
            let words = text.trim_end().trim_start_matches("e ");
            error.hint(format!("the kernel says: {words}"))
        }
        Err(_) => error,
    }
}

/// Unmounts what somebody has mounted there all the same.
pub(super) fn unmount_at(path: &Path) {
    let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
    while rustix::mount::unmount(path, flags).is_ok() {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(kind: &str, options: &[&str]) -> Mount {
        Mount {
            kind: kind.into(),
            options: options.iter().map(|option| option.to_string()).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn options_go_where_the_kernel_takes_them() {
        let overlay = with(
            "overlay",
            &["index=off", "ro", "lowerdir=/a:/b", "volatile"],
        );
        let sorted = sort(&overlay).unwrap();
        assert_eq!(sorted.attributes, MountAttrFlags::MOUNT_ATTR_RDONLY);
        assert!(!sorted.bind);
        let parameters = [
            ("index", Some("off")),
            ("lowerdir", Some("/a:/b")),
            ("volatile", None),
        ];
        assert_eq!(sorted.parameters, parameters);
        let rbind = with("bind", &["rbind", "rw"]);
        let sorted = sort(&rbind).unwrap();
        assert!(sorted.bind && sorted.recursive && sorted.parameters.is_empty());
    }

    #[test]
    fn what_containerd_would_have_to_do_is_refused() {
        assert!(sort(&with("overlay", &["X-containerd.loop"])).is_err());
        assert!(sort(&with("overlay", &["uidmap=0:1"])).is_err());
        let mapped = with("overlay", &["uidmap=0:1:2", "gidmap=0:3:4,4:9:1"]);
        let mapped = sort(&mapped).unwrap();
        assert_eq!((mapped.uids.len(), mapped.gids.len()), (1, 2));
    }
}
