//! Volumes: made before the sandbox, removed with the pod.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, chmodat, fchmod, fstat, mkdirat, statx,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

use super::plan::{HostPathKind, VolumePlan, VolumeSource};
use super::tree;
use crate::error::{Context, Error, Result};
use crate::sys::mount::{Change, mount_setattr};
use crate::sys::path::open_beneath;

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
            let made = match &plan.source {
                VolumeSource::EmptyDir {
                    memory: false,
                    mode,
                    ..
                } => self.make_directory(&plan.name, *mode),
                VolumeSource::EmptyDir {
                    memory: true,
                    mode,
                    size_limit,
                } => self.make_tmpfs(&plan.name, *mode, *size_limit),
                VolumeSource::HostPath { path, kind } => check_host_path(path, *kind),
            };
            made.context(|| format!("volume {:?}", plan.name))
        })
    }

    fn make_directory(&self, name: &str, mode: u32) -> Result<()> {
        let path = self.path.join(name);
        let mode = Mode::from_raw_mode(mode);
        match mkdirat(&self.dir, name, mode) {
            // The mode whatever the umask is. The name is ours: only runp writes to this directory.
            Ok(()) => chmodat(&self.dir, name, mode, AtFlags::empty())
                .context(|| format!("chmod {}", path.display())),
            Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(Error::sys(format!("make directory {}", path.display()), e)),
        }
    }

    fn make_tmpfs(&self, name: &str, mode: u32, size_limit: Option<u64>) -> Result<()> {
        self.make_directory(name, mode)?;
        if self.is_mount_point(name)? {
            return Ok(());
        }
        self.mount_tmpfs(name, mode, size_limit)
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
    /// As [`Self::source`], and open_tree(2).
    pub fn mount(&self, plan: &VolumePlan, sub_path: Option<&Path>) -> Result<OwnedFd> {
        let source = self.source(plan, sub_path)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        open_tree(&source, "", flags).context(|| format!("volume {:?}: open_tree", plan.name))
    }

    /// A handle (`O_PATH`) to what a container mounts: the volume, or what `sub_path` names in it, which is made as a
    /// directory if it is missing. No symbolic link in the volume is followed (CVE-2017-1002101, CVE-2021-25741).
    ///
    /// # Errors
    /// When it is not there or cannot be made; `ELOOP` for a symbolic link.
    fn source(&self, plan: &VolumePlan, sub_path: Option<&Path>) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let volume = match &plan.source {
            VolumeSource::EmptyDir { .. } => open_beneath(&self.dir, plan.name.as_ref(), flags)
                .context(|| format!("open {}", self.path.join(&plan.name).display()))?,
            VolumeSource::HostPath { path, .. } => rustix::fs::open(path, flags, Mode::empty())
                .context(|| format!("open {}", path.display()))?,
        };
        let Some(sub_path) = sub_path else {
            return Ok(volume);
        };
        open_sub_path(volume, sub_path)
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
fn quantity(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let unit = (bytes.trailing_zeros() as usize / 10).min(UNITS.len() - 1);
    format!("{}{}", bytes >> (10 * unit), UNITS[unit])
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

/// Checks `hostPath.type`, and makes what it says is to be made.
fn check_host_path(path: &Path, kind: HostPathKind) -> Result<()> {
    let at = |e: std::io::Error| Error::sys(path.display().to_string(), e);
    // As the kubelet, symbolic links are followed: whoever names a path of the host means what is there.
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(at(e)),
    };
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(test);
    let (fits, expected) = match kind {
        // The container runtimes make a directory of what is missing.
        HostPathKind::Unchecked | HostPathKind::DirectoryOrCreate if found.is_none() => {
            return make_host_directory(path).map_err(at);
        }
        HostPathKind::FileOrCreate if found.is_none() => return make_host_file(path).map_err(at),
        HostPathKind::Unchecked => return Ok(()),
        HostPathKind::Directory | HostPathKind::DirectoryOrCreate => {
            (is(fs::FileType::is_dir), "directory")
        }
        HostPathKind::File | HostPathKind::FileOrCreate => (is(fs::FileType::is_file), "file"),
        HostPathKind::Socket => (is(FileTypeExt::is_socket), "socket file"),
        HostPathKind::CharDevice => (is(FileTypeExt::is_char_device), "character device"),
        HostPathKind::BlockDevice => (is(FileTypeExt::is_block_device), "block device"),
    };
    if fits {
        return Ok(());
    }
    let error = Error::new(format!(
        "hostPath type check failed: {} is not a {expected}",
        path.display()
    ));
    Err(match found {
        Some(_) => error,
        None => error.hint("nothing is there"),
    })
}

fn make_host_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
}

fn make_host_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // Not create_new: the kubelet takes it if somebody else was quicker.
    let options = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path);
    options.map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    fn empty_dir(name: &str, size_limit: Option<u64>) -> VolumePlan {
        VolumePlan {
            name: name.into(),
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
    fn every_host_path_type_takes_what_it_names_and_nothing_else() {
        use HostPathKind as K;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("directory")).unwrap();
        fs::write(path("file"), "").unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        symlink("directory", path("link")).unwrap();
        let null = Path::new("/dev/null").to_owned();
        let cases = [
            (K::Directory, path("directory"), None),
            (K::Directory, path("link"), None),
            (K::Directory, path("file"), Some("directory")),
            (K::Directory, path("missing"), Some("directory")),
            (K::DirectoryOrCreate, path("file"), Some("directory")),
            (K::File, path("file"), None),
            (K::File, path("directory"), Some("file")),
            (K::FileOrCreate, path("directory"), Some("file")),
            (K::Socket, path("socket"), None),
            (K::Socket, path("file"), Some("socket file")),
            (K::CharDevice, null.clone(), None),
            (K::CharDevice, path("file"), Some("character device")),
            (K::BlockDevice, null, Some("block device")),
            (K::Unchecked, path("file"), None),
        ];
        for (kind, path, refused) in cases {
            let result = check_host_path(&path, kind);
            match refused {
                None => assert!(result.is_ok(), "{kind:?} {}", path.display()),
                Some(expected) => {
                    let text = result.unwrap_err().to_string();
                    let start = format!(
                        "hostPath type check failed: {} is not a {expected}",
                        path.display()
                    );
                    assert!(text.starts_with(&start), "{kind:?}: {text}");
                }
            }
        }
        assert!(!path("missing").exists());
    }

    #[test]
    fn what_is_missing_is_made_where_the_type_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, c) = (
            dir.path().join("a/b"),
            dir.path().join("file"),
            dir.path().join("c"),
        );
        check_host_path(&a, HostPathKind::DirectoryOrCreate).unwrap();
        check_host_path(&b, HostPathKind::FileOrCreate).unwrap();
        check_host_path(&c, HostPathKind::Unchecked).unwrap();
        assert!(a.is_dir() && b.is_file() && c.is_dir());
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
