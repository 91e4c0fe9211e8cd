//! Device nodes and the links of `/dev`.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, makedev, mknodat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use super::{attach, clone_mount, host_handle};
use crate::error::{Context, Error, Result};
use crate::spec::plan::{Device, DeviceNode};
use crate::sys::mount::{Change, NOEXEC, NOSUID, RDONLY, mount_setattr};
use crate::sys::path::{self, Make};
use crate::sys::process::leak;

/// The links that the runtime-spec asks for (config-linux.md, Dev symbolic links), and whether to replace what is there.
const LINKS: [(&str, &str, bool); 5] = [
    ("/proc/self/fd", "fd", false),
    ("/proc/self/fd/0", "stdin", false),
    ("/proc/self/fd/1", "stdout", false),
    ("/proc/self/fd/2", "stderr", false),
    // An image's own ptmx would hand out the host's terminals.
    ("pts/ptmx", "ptmx", true),
];

/// Makes the devices and the links of `/dev`. The caller's umask is 0.
pub(super) fn make(root: BorrowedFd<'_>, devices: &[Device]) -> Result<()> {
    let dev = path::make(root, Path::new("/dev"), Make::Directory)
        .map(leak)
        .context(|| "open /dev in the root")?;
    for device in devices {
        let step = || format!("make device {}", device.path.display());
        let (Some(parent), Some(name)) = (device.path.parent(), device.path.file_name()) else {
            return Err(Error::new(step()).hint("its path names no file"));
        };
        let dir = if parent == Path::new("/dev") {
            dev
        } else {
            path::make(root, parent, Make::Directory)
                .map(leak)
                .context(step)?
        };
        node(dir, name, device).context(step)?;
    }
    for (target, name, replace) in LINKS {
        link(dev, target, name, replace).context(|| format!("make link /dev/{name}"))?;
    }
    Ok(())
}

fn node(dir: BorrowedFd<'_>, name: &OsStr, device: &Device) -> Result<()> {
    let (kind, number) = raw(device.node);
    match mknodat(dir, name, kind, Mode::from_raw_mode(device.mode), number) {
        Ok(()) => own(dir, name, device),
        Err(Errno::EXIST) => same(dir, name, device),
        // In a user namespace nobody may make devices: the host's own node is bound there instead.
        Err(Errno::PERM) => bind(dir, name, device),
        Err(e) => Err(Error::sys("mknod", e)),
    }
}

fn raw(node: DeviceNode) -> (FileType, u64) {
    match node {
        DeviceNode::Char { major, minor } => (FileType::CharacterDevice, makedev(major, minor)),
        DeviceNode::Block { major, minor } => (FileType::BlockDevice, makedev(major, minor)),
        DeviceNode::Fifo => (FileType::Fifo, 0),
    }
}

fn own(dir: BorrowedFd<'_>, name: &OsStr, device: &Device) -> Result<()> {
    if (device.uid, device.gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).context(|| "chown")
}

fn is(stat: &Stat, node: DeviceNode) -> bool {
    let (kind, number) = raw(node);
    let same_number = kind == FileType::Fifo || stat.st_rdev == number;
    FileType::from_raw_mode(stat.st_mode) == kind && same_number
}

/// The image brought it: good if it is what was asked for, and a trap if it is anything else.
fn same(dir: BorrowedFd<'_>, name: &OsStr, device: &Device) -> Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let there = path::open_beneath(dir, Path::new(name), flags).context(|| "open what is there")?;
    let stat = fstat(&there).context(|| "stat what is there")?;
    match is(&stat, device.node) {
        true => Ok(()),
        false => Err(Error::new("the image has something else there").hint(
            "mount a tmpfs on /dev, as the default config.json does, or remove it from the image",
        )),
    }
}

fn bind(dir: BorrowedFd<'_>, name: &OsStr, device: &Device) -> Result<()> {
    let host = host_handle(&device.path).context(|| "open the host's")?;
    let stat = fstat(host).context(|| "stat the host's")?;
    if !is(&stat, device.node) {
        return Err(Error::new("the host's device of that name is another one")
            .hint("in a user namespace a device can only be bound from the host"));
    }
    let target = path::make(dir, Path::new(name), Make::File).context(|| "make its mount point")?;
    // The host's own file: its mode and owner are not the container's to change.
    let protected = Change {
        set: RDONLY | NOSUID | NOEXEC,
        ..Change::default()
    };
    clone_mount(host, false)
        .and_then(|mount| mount_setattr(mount, c"", false, protected).map(|()| mount))
        .and_then(|mount| attach(mount, &target))
        .context(|| "bind the host's")
}

fn link(dir: BorrowedFd<'_>, target: &str, name: &str, replace: bool) -> rustix::io::Result<()> {
    match symlinkat(target, dir, name) {
        Err(Errno::EXIST) if replace => {
            unlinkat(dir, name, AtFlags::empty())?;
            symlinkat(target, dir, name)
        }
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}
