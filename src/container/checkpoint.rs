//! `runp checkpoint`: the processes of a container, written into files.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;

use super::criu::{self, Criu, DESCRIPTORS, Kind, Request, namespaces};
use super::lifecycle::is_frozen;
use super::remove;
use super::status::status;
use crate::cgroup::Layout;
use crate::error::{Context, Error, Result};
use crate::state::{ContainerId, Status, Store};

/// How a checkpoint is made.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// What restore can be told, too.
    pub common: criu::Options,
    /// The container goes on.
    pub leave_running: bool,
    /// Only the memory; the container goes on, and a later checkpoint has this one as its parent.
    pub pre_dump: bool,
    /// Open files that have no name any more, too.
    pub link_remap: bool,
    /// TCP connections that are about to be made are left out.
    pub tcp_skip_in_flight: bool,
    /// An earlier checkpoint: a path relative to the directory of the images.
    pub parent: Option<PathBuf>,
    /// Address and port of a page server that takes the memory.
    pub page_server: Option<(String, u16)>,
    /// Gets a NUL byte once lazy pages are served.
    pub status: Option<OwnedFd>,
}

/// Writes a container's processes into files. Unless it shall go on they have ended when this returns.
///
/// # Errors
/// When it does not run, or criu cannot do it; then it goes on.
pub fn checkpoint(store: &Store, id: &ContainerId, options: &Checkpoint) -> Result<()> {
    let step = || format!("checkpoint container {:?}", id.as_str());
    let entry = store.open(id)?;
    let record = entry.record()?;
    match status(&entry, &record, || is_frozen(&record))? {
        Status::Running | Status::Paused => {}
        status => {
            let hint = format!("it is {}: only a running one can be", status.as_str());
            return Err(Error::new(step()).hint(hint));
        }
    }
    let (Some(init), Some(_)) = (record.init, remove::first_process(&record)?) else {
        return Err(Error::new(step()).hint("it is stopped"));
    };
    let common = &options.common;
    for dir in std::iter::once(&common.images).chain(&common.work) {
        make_private_dir(dir).context(step)?;
    }
    let kind = match options.pre_dump {
        true => Kind::PreDump,
        false => Kind::Dump,
    };
    let has_own_network = !record.joined.contains(&LinuxNamespaceType::Network);
    let is_left_empty = has_own_network && is_networked(init.pid).context(step)?;
    let mut request = Request::new(kind, common)
        .and_then(|request| namespaces::leave_out(request, &record.joined, init.pid))
        .context(step)?
        .empty_network(common.empty_network || is_left_empty)
        .int(2, init.pid)
        .flag(3, options.leave_running)
        .bytes(13, record.rootfs.as_os_str().as_bytes())
        .flag(18, options.link_remap)
        .flag(46, options.tcp_skip_in_flight);
    if let Some(parent) = &options.parent {
        request = request
            .bytes(14, parent.as_os_str().as_bytes())
            .flag(15, true);
    }
    if let Some((address, port)) = &options.page_server {
        request = request.text_and_int(11, address, i32::from(*port));
    }
    let cgroup = Layout::detect()?.open(&record.cgroup)?;
    if let Some(freezer) = cgroup.freezer() {
        request = request.bytes(44, freezer.as_os_str().as_bytes());
    }
    if kind == Kind::Dump {
        for point in external_mounts(init.pid).context(step)? {
            request = request.texts(23, &point, point.as_bytes());
        }
        let files = standard_files(init.pid).context(step)?;
        for file in files.iter().filter_map(|file| criu::host_file(file)) {
            request = request.bytes(37, file.name);
        }
        let files = serde_json::to_vec(&files).unwrap_or_default();
        let path = common.images.join(DESCRIPTORS);
        std::fs::write(&path, files).context(|| format!("write {}", path.display()))?;
    }
    Criu::start(&common.program, None, || Ok(()))
        .and_then(|criu| {
            criu.serve(&request, |notification| {
                if let ("status-ready", Some(status)) = (&*notification.script, &options.status) {
                    rustix::io::write(status, &[0]).context(|| "write to --status-fd")?;
                }
                Ok(())
            })
        })
        .context(step)
}

/// Whether there is more in its network namespace than the loopback. Whoever made that makes it again: criu cannot do it for an
/// interface whose other end is on the host.
fn is_networked(pid: i32) -> Result<bool> {
    let path = format!("/proc/{pid}/net/dev");
    let table = std::fs::read_to_string(&path).context(|| format!("read {path}"))?;
    let names = table
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next());
    Ok(names.map(str::trim).any(|name| name != "lo"))
}

fn make_private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.context(|| format!("make directory {}", dir.display()))
}

/// Standard input, output and error by where their links lead. In front of one that no mount of the container has, a fifo of
/// containerd's or the host's `/dev/null`, is what criu calls it.
fn standard_files(pid: i32) -> Result<Vec<String>> {
    let read = |path: String| std::fs::read_to_string(&path).context(|| format!("read {path}"));
    let mounts = read(format!("/proc/{pid}/mountinfo"))?;
    let is_own = |mount: u32| {
        let mut ids = mounts.lines().filter_map(|line| line.split(' ').next());
        ids.any(|id| id == mount.to_string())
    };
    let name = |fd: i32| {
        let path = format!("/proc/{pid}/fd/{fd}");
        let Ok(link) = std::fs::read_link(&path) else {
            return Ok(String::new());
        };
        let link = link.to_string_lossy().into_owned();
        let info = read(format!("/proc/{pid}/fdinfo/{fd}"))?;
        let mut lines = info.lines().filter_map(|line| line.strip_prefix("mnt_id:"));
        let mount = lines.next().and_then(|id| id.trim().parse::<u32>().ok());
        Ok(
            match mount.filter(|mount| link.starts_with('/') && !is_own(*mount)) {
                Some(mount) => {
                    let inode = rustix::fs::stat(&path)
                        .context(|| format!("look at {path}"))?
                        .st_ino;
                    format!("file[{mount:x}:{inode:x}] {link}")
                }
                None => link,
            },
        )
    };
    (0..3).map(name).collect()
}

/// The mount points of what the host has, too: criu must neither save nor make it.
fn external_mounts(pid: i32) -> Result<Vec<String>> {
    let read = |who: &str| {
        let path = format!("/proc/{who}/mountinfo");
        std::fs::read_to_string(&path).context(|| format!("read {path}"))
    };
    let (host, own) = (read("self")?, read(&pid.to_string())?);
    Ok(external(&host, &own))
}

/// File systems of which criu makes new ones.
const OWN: [&str; 4] = ["proc", "sysfs", "mqueue", "devpts"];

/// A mount of a file system that is mounted on the host, too, except for the root, and for hierarchies of cgroups that a
/// namespace shows from their root. proc_pid_mountinfo(5).
fn external(host: &str, own: &str) -> Vec<String> {
    let device = |line: &str| line.split(' ').nth(2).map(str::to_owned);
    let devices: std::collections::BTreeSet<_> = host.lines().filter_map(device).collect();
    let point = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let kind = file_system.split(' ').next()?;
        let fields: Vec<_> = mount.split(' ').collect();
        let [_, _, device, root, point, ..] = fields[..] else {
            return None;
        };
        let is_namespaced = kind.starts_with("cgroup") && root == "/";
        let is_external = devices.contains(device) && point != "/" && !OWN.contains(&kind);
        (is_external && !is_namespaced).then(|| point.to_owned())
    };
    own.lines().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_has_too_is_external() {
        let host = "1 0 254:0 / / rw - ext4 /dev/vda rw\n\
            2 1 0:5 / /dev rw - devtmpfs devtmpfs rw\n\
            3 1 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            4 1 0:22 / /sys rw - sysfs sysfs rw\n";
        let own = "9 0 254:0 /c/rootfs / ro - ext4 /dev/vda rw\n\
            10 9 0:60 / /proc rw - proc proc rw\n\
            11 9 0:61 / /dev rw - tmpfs tmpfs rw\n\
            12 9 254:0 /home /data rw - ext4 /dev/vda rw\n\
            13 9 0:22 / /sys ro - sysfs sysfs rw\n\
            14 9 0:30 /c /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n\
            15 9 0:30 / /other ro - cgroup cgroup rw,cpu\n\
            16 10 0:5 /null /proc/keys ro - devtmpfs devtmpfs rw\n";
        assert_eq!(
            external(host, own),
            ["/data", "/sys/fs/cgroup/cpu", "/proc/keys"]
        );
    }
}
