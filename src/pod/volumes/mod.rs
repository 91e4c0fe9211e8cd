//! Volumes: made before the sandbox, removed with the pod.
//!
//! [`host_path`] has what belongs to the host, [`payload`] files that come from the manifest, [`ownership`] and [`labels`] who
//! may read and write.

mod host_path;
pub(super) mod labels;
mod ownership;
pub mod payload;

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, chmodat, fchmod, fstat, mkdirat, statx,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

use super::plan::{HostPathKind, Propagation, VolumePlan, VolumeSource};
use super::tree;
use crate::error::{Context, Error, Result};
use crate::rootfs;
use crate::sys::mount::{Change, mount_setattr};
use crate::sys::path::{self, open_beneath};

/// The permissions of a directory for everybody.
const OPEN: u32 = 0o777;

/// Those of a file system in memory for everybody.
const TMPFS: u32 = 0o1777;

/// The directory of a pod's own volumes, one subdirectory for each `emptyDir`.
#[derive(Debug)]
pub struct Volumes {
    path: PathBuf,
    dir: OwnedFd,
}

impl Volumes {
    /// The volumes in this directory, which is there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: PathBuf) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty())
            .context(|| format!("open {}", path.display()))?;
        Ok(Self { path, dir })
    }

    /// Makes what is missing of the volumes; what is there stays as it is.
    ///
    /// # Errors
    /// The first volume that cannot be made, or that is not what its `hostPath.type` says.
    pub fn make(&self, plans: &[VolumePlan]) -> Result<()> {
        plans.iter().try_for_each(|plan| {
            self.make_one(plan).map_err(|e| match &plan.source {
                VolumeSource::Missing(_) => e,
                _ => e.step(format!("volume {:?}", plan.name)),
            })
        })
    }

    fn make_one(&self, plan: &VolumePlan) -> Result<()> {
        let name = plan.name.as_str();
        let is_new = match &plan.source {
            VolumeSource::EmptyDir {
                memory: false,
                mode,
                ..
            } => self.make_directory(name, *mode)?,
            VolumeSource::EmptyDir {
                memory: true,
                mode,
                size_limit,
            } => self.make_tmpfs(name, *mode, *size_limit)?,
            VolumeSource::HostPath { path, kind } => {
                host_path::check(path, *kind)?;
                return Ok(());
            }
            VolumeSource::Files { memory, payload } => {
                match memory {
                    true => self.make_tmpfs(name, TMPFS, None)?,
                    false => self.make_directory(name, OPEN)?,
                };
                let volume = self.open_volume(plan, OFlags::RDONLY | OFlags::DIRECTORY)?;
                payload::write(&volume, payload, |files| settle(plan, files))?
            }
            VolumeSource::Claim { path, ours } => {
                if *ours {
                    make_claim(path)?;
                } else {
                    host_path::check(path, HostPathKind::DirectoryOrCreate)?;
                }
                // Others may have written to it meanwhile.
                true
            }
            VolumeSource::Image { .. } => false,
            VolumeSource::Etc(files) => {
                self.make_directory(name, 0o755)?;
                let volume = self.open_volume(plan, OFlags::RDONLY | OFlags::DIRECTORY)?;
                for (name, text) in files {
                    write_file(&volume, name, text).context(|| format!("write {name}"))?;
                }
                true
            }
            VolumeSource::Missing(why) => return Err(Error::new(why.clone())),
        };
        if !is_new || (plan.fs_group, &plan.label) == (None, &None) {
            return Ok(());
        }
        let volume = self.open_volume(plan, OFlags::RDONLY | OFlags::DIRECTORY)?;
        settle(plan, &volume).context(|| "give its files their group and SELinux context")
    }

    /// The volume itself.
    fn open_volume(&self, plan: &VolumePlan, flags: OFlags) -> Result<OwnedFd> {
        let path = match &plan.source {
            VolumeSource::HostPath { path, .. }
            | VolumeSource::Claim { path, .. }
            | VolumeSource::Image { root: path } => path,
            _ => {
                return open_beneath(&self.dir, plan.name.as_ref(), flags)
                    .context(|| format!("open {}", self.path.join(&plan.name).display()));
            }
        };
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
            .context(|| format!("open {}", path.display()))
    }

    /// `true` if it is new.
    fn make_directory(&self, name: &str, mode: u32) -> Result<bool> {
        let path = self.path.join(name);
        let mode = Mode::from_raw_mode(mode);
        match mkdirat(&self.dir, name, mode) {
            // The mode whatever the umask is. The name is ours: only runp writes to this directory.
            Ok(()) => chmodat(&self.dir, name, mode, AtFlags::empty())
                .map(|()| true)
                .context(|| format!("chmod {}", path.display())),
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(Error::sys(format!("make directory {}", path.display()), e)),
        }
    }

    /// `true` if it is new.
    fn make_tmpfs(&self, name: &str, mode: u32, size_limit: Option<u64>) -> Result<bool> {
        self.make_directory(name, mode)?;
        if self.is_mount_point(name)? {
            return Ok(false);
        }
        self.mount_tmpfs(name, mode, size_limit)
            .map(|()| true)
            .context(|| format!("mount tmpfs on {}", self.path.join(name).display()))
    }

    fn is_mount_point(&self, name: &str) -> Result<bool> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        match statx(&self.dir, name, flags, StatxFlags::empty()) {
            Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(Error::sys(
                format!("stat {}", self.path.join(name).display()),
                e,
            )),
        }
    }

    fn mount_tmpfs(
        &self,
        name: &str,
        mode: u32,
        size_limit: Option<u64>,
    ) -> rustix::io::Result<()> {
        let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&tmpfs, "mode", format!("{mode:o}"))?;
        if let Some(bytes) = size_limit {
            fsconfig_set_string(&tmpfs, "size", bytes.to_string())?;
        }
        fsconfig_create(&tmpfs)?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mount = fsmount(&tmpfs, flags, MountAttrFlags::empty())?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, "", &self.dir, name, flags)?;
        // Only now: a mount that is put onto a shared one becomes shared.
        let private = Change {
            propagation: libc::MS_PRIVATE,
            ..Change::default()
        };
        mount_setattr(&mount, c"", false, private)
    }

    /// What a container mounts, as a detached mount with everything that is mounted below it: see [`Self::source`].
    /// It is made here because a handle to the host's mounts is of no use in the container's mount namespace.
    ///
    /// # Errors
    /// As [`Self::source`], and open_tree(2); `users` are those of a user namespace, whose the files then are; when mounts cannot propagate as asked for.
    pub fn mount(
        &self,
        plan: &VolumePlan,
        (sub_path, propagation): (Option<&Path>, Propagation),
        users: Option<BorrowedFd<'_>>,
    ) -> Result<OwnedFd> {
        let source = self.source(plan, sub_path)?;
        check_propagation(&source, propagation).context(|| format!("volume {:?}", plan.name))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        match users {
            // Just the volume: what is mounted below it may not be such that it can be.
            Some(users) => rootfs::mapped(&source, users),
            None => open_tree(&source, "", flags).context(|| "open_tree"),
        }
        .context(|| format!("volume {:?}", plan.name))
    }

    /// A handle (`O_PATH`) to what a container mounts: the volume, or what `sub_path` names in it, which is made as a
    /// directory if it is missing. No symbolic link in the volume is followed (CVE-2017-1002101, CVE-2021-25741).
    ///
    /// # Errors
    /// When it is not there or cannot be made; `ELOOP` for a symbolic link.
    fn source(&self, plan: &VolumePlan, sub_path: Option<&Path>) -> Result<OwnedFd> {
        let volume = self.open_volume(plan, OFlags::PATH)?;
        let Some(sub_path) = sub_path else {
            return Ok(volume);
        };
        let opened = match &plan.source {
            // Nobody but runp has written to it: its own links are to be followed.
            VolumeSource::Files { .. } => path::open_inside(&volume, sub_path, OFlags::PATH),
            VolumeSource::Image { .. } => path::handle(&volume, sub_path),
            _ => open_sub_path(volume, sub_path),
        };
        opened
            .map_err(|e| {
                let error = Error::sys(format!("subPath {:?}", sub_path), e);
                match e {
                    Errno::LOOP => error.hint("no symbolic link inside a volume is followed"),
                    _ => error,
                }
            })
            .context(|| format!("volume {:?}", plan.name))
    }

    /// The text of a file in a volume, of at most `most` bytes; `None` if it is not there.
    ///
    /// # Errors
    /// When it is no file, cannot be read, is too long, or is not UTF-8.
    pub fn read(&self, plan: &VolumePlan, path: &Path, most: usize) -> Result<Option<String>> {
        let step = || format!("read {} of volume {:?}", path.display(), plan.name);
        let volume = self.source(plan, None)?;
        // Not to wait for whoever would write to a fifo.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match open_beneath(&volume, path, flags) {
            Ok(file) => fs::File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::sys(step(), e)),
        };
        if !file.metadata().context(step)?.is_file() {
            return Err(Error::new(format!("{}: not a file", step())));
        }
        let mut text = Vec::new();
        let read = file.take(most as u64 + 1).read_to_end(&mut text);
        if read.context(step)? > most {
            return Err(Error::new(format!("{}: longer than {most} bytes", step())));
        }
        let text = String::from_utf8(text).map_err(|_| Error::new("not UTF-8 text").step(step()));
        text.map(Some)
    }

    /// The `emptyDir`s on disk that are bigger than their `sizeLimit`, in the words of Kubernetes' eviction manager.
    /// Those in memory are limited by the kernel.
    pub fn exceeded(&self, plans: &[VolumePlan]) -> Option<String> {
        plans.iter().find_map(|plan| {
            let limit = disk_limit(plan)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let volume = open_beneath(&self.dir, plan.name.as_ref(), flags).ok()?;
            let used = tree::disk_usage(volume).ok()?;
            (used > limit).then(|| {
                let (name, limit) = (&plan.name, quantity(limit));
                format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{limit}\". ")
            })
        })
    }

    /// What all `emptyDir`s on disk take up, in bytes.
    pub fn used(&self, plans: &[VolumePlan]) -> u64 {
        let on_disk = |plan: &&VolumePlan| {
            matches!(plan.source, VolumeSource::EmptyDir { memory: false, .. })
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let used = plans.iter().filter(on_disk).filter_map(|plan| {
            let volume = open_beneath(&self.dir, plan.name.as_ref(), flags).ok()?;
            tree::disk_usage(volume).ok()
        });
        used.sum()
    }

    /// Unmounts and removes every volume that is here. What is gone already is no error.
    ///
    /// # Errors
    /// The kernel's, for the first volume that cannot be removed.
    pub fn remove(&self) -> Result<()> {
        let path = || format!("read {}", self.path.display());
        for entry in fs::read_dir(&self.path).context(path)? {
            let name = entry.context(path)?.file_name();
            while self.is_mount_point(&name.to_string_lossy())? {
                let path = self.path.join(&name);
                unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                    .context(|| format!("unmount {}", path.display()))?;
            }
            tree::remove(&self.dir, &name).context(|| self.path.display().to_string())?;
        }
        Ok(())
    }
}

/// Says who may do what with the files of a volume.
fn settle(plan: &VolumePlan, files: &OwnedFd) -> rustix::io::Result<()> {
    if let Some(label) = &plan.label {
        labels::apply(files, label)?;
    }
    match plan.fs_group {
        Some(group) => ownership::apply(files, group),
        None => Ok(()),
    }
}

/// A mount that is private has nobody to tell of mounts below it, or to hear from.
fn check_propagation(source: &OwnedFd, propagation: Propagation) -> Result<()> {
    let wanted: &[&str] = match propagation {
        Propagation::None => return Ok(()),
        Propagation::HostToContainer => &["shared:", "master:"],
        Propagation::Bidirectional => &["shared:"],
    };
    let step = || "find the mount that it is on";
    let stat = statx(source, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).context(step)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").context(step)?;
    let id = stat.stx_mnt_id.to_string();
    let mut lines = mounts.lines().map(|line| line.split(' '));
    // proc_pid_mountinfo(5): the optional fields are from the seventh on, up to a dash.
    let fields = lines.find_map(|mut fields| (fields.next() == Some(&id)).then_some(fields));
    let point = fields
        .clone()
        .and_then(|mut fields| fields.nth(3))
        .unwrap_or_default();
    let optional = fields.into_iter().flat_map(|fields| fields.skip(5));
    let mut optional = optional.take_while(|field| *field != "-");
    match optional.any(|field| wanted.iter().any(|wanted| field.starts_with(wanted))) {
        true => Ok(()),
        false => {
            let kind = match propagation {
                Propagation::Bidirectional => "a shared",
                _ => "a shared or slave",
            };
            Err(Error::new(format!(
                "it is mounted on {point:?}, but that is not {kind} mount"
            ))
            .hint("see mount(8), --make-shared"))
        }
    }
}

/// Whether a volume has a limit that nobody but the supervisor can hold it to.
pub fn is_watched(plan: &VolumePlan) -> bool {
    disk_limit(plan).is_some()
}

fn disk_limit(plan: &VolumePlan) -> Option<u64> {
    match plan.source {
        VolumeSource::EmptyDir {
            memory: false,
            size_limit,
            ..
        } => size_limit.filter(|&bytes| bytes > 0),
        _ => None,
    }
}

/// As Kubernetes writes a quantity in binary units: `1Mi`, `1500Ki`, `1000`.
pub fn quantity(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let unit = (bytes.trailing_zeros() as usize / 10).min(UNITS.len() - 1);
    format!("{}{}", bytes >> (10 * unit), UNITS[unit])
}

/// The directory of a claim that has no volume of its own: it outlives the pod, and is for everybody.
fn make_claim(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let step = || format!("make directory {}", path.display());
    if let Some(parent) = path.parent() {
        super::data::make_private_directories(parent)?;
    }
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) => rustix::fs::chmod(path, Mode::from_raw_mode(OPEN)).context(step),
        Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(Error::sys(step(), e)),
    }
}

/// In place: containers that have it mounted go on seeing it.
fn write_file(dir: &OwnedFd, name: &str, text: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let file = open_beneath(dir, name.as_ref(), flags)?;
    // Whatever the umask is.
    fchmod(&file, Mode::from_raw_mode(0o644))?;
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest)?..];
    }
    Ok(())
}

fn open_sub_path(volume: OwnedFd, sub_path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH;
    // As the kubelet: a directory that a subPath makes is as open as the volume itself.
    let mode = Mode::from_raw_mode(fstat(&volume)?.st_mode & 0o7777);
    let mut at = volume;
    for component in sub_path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::CurDir => continue,
            // Refused when the manifest was read; there is no way here that could honour it.
            _ => return Err(Errno::XDEV),
        };
        at = match open_beneath(&at, name.as_ref(), flags) {
            Err(Errno::NOENT) => make_directory(&at, name, mode)?,
            result => result?,
        };
    }
    Ok(at)
}

fn make_directory(dir: &OwnedFd, name: &OsStr, mode: Mode) -> rustix::io::Result<OwnedFd> {
    match mkdirat(dir, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    let made = open_beneath(dir, name.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY)?;
    // Whatever the umask is.
    fchmod(&made, mode)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn empty_dir(name: &str, size_limit: Option<u64>) -> VolumePlan {
        VolumePlan {
            name: name.into(),
            read_only: false,
            fs_group: None,
            label: None,
            source: VolumeSource::EmptyDir {
                memory: false,
                size_limit,
                mode: 0o777,
            },
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn sub_paths_are_made_as_open_as_the_volume_and_follow_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path().to_owned()).unwrap();
        let plan = empty_dir("data", None);
        volumes.make(std::slice::from_ref(&plan)).unwrap();
        let volume = dir.path().join("data");
        assert_eq!(mode(&volume), 0o777);
        volumes.source(&plan, Some(Path::new("a/b"))).unwrap();
        assert_eq!(mode(&volume.join("a/b")), 0o777);
        let canary = dir.path().join("canary");
        fs::create_dir(&canary).unwrap();
        symlink(&canary, volume.join("out")).unwrap();
        for path in ["out", "out/x", "a/../out", "/etc"] {
            let result = volumes.source(&plan, Some(Path::new(path)));
            assert!(result.is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
        volumes.make(std::slice::from_ref(&plan)).unwrap();
        assert!(volume.join("a/b").exists(), "made once");
        volumes.remove().unwrap();
        assert!(!volume.exists());
    }

    #[test]
    fn a_full_volume_is_told_in_kubernetes_words() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path().to_owned()).unwrap();
        let plans = [empty_dir("free", None), empty_dir("cache", Some(1 << 20))];
        volumes.make(&plans).unwrap();
        fs::write(dir.path().join("free/x"), vec![1; 2 << 20]).unwrap();
        assert_eq!(volumes.exceeded(&plans), None);
        fs::write(dir.path().join("cache/x"), vec![1; 2 << 20]).unwrap();
        assert_eq!(
            volumes.exceeded(&plans).unwrap(),
            "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Mi\". "
        );
    }

    #[test]
    fn quantities_are_written_in_the_biggest_whole_unit() {
        for (bytes, text) in [(1 << 20, "1Mi"), (1000, "1000"), (1536 << 10, "1536Ki")] {
            assert_eq!(quantity(bytes), text);
        }
    }
}
