//! What a pod's containers write: its volumes, and the writable layers of their roots.
//!
//! ```text
//! <data root>/pods/<name>/       mode 0700
//!   volumes/<volume>/
//!   containers/<container>/{upper,work}/
//! <data root>/claims/<namespace>/<claim>/     PersistentVolumeClaims: no pod's, and removed by hand
//! ```

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdir};
use rustix::io::Errno;

use super::tree;
use crate::error::{Context, Error, Result};

/// Where pods' volumes and containers' writable layers are, unless another place is asked for.
pub const DATA_ROOT: &str = "/var/lib/runp";

/// A pod's directory below the data root.
#[derive(Debug)]
pub struct Data {
    path: PathBuf,
}

impl Data {
    /// Makes the directory of a new pod.
    ///
    /// # Errors
    /// When there is one: of a pod of that name below another `--root`, or from before a reboot.
    pub fn create(path: PathBuf) -> Result<Self> {
        if let Some(parent) = path.parent() {
            make_private_directories(parent)?;
        }
        let data = Self { path };
        mkdir(&data.path, Mode::RWXU).map_err(|e| match e {
            Errno::EXIST => Error::new(format!("{} exists", data.path.display())).hint(
                "another pod of that name has its data there, or had: choose another name, or remove it",
            ),
            e => Error::sys(format!("make directory {}", data.path.display()), e),
        })?;
        let made = [data.volumes(), data.containers()]
            .into_iter()
            .try_for_each(|directory| {
                mkdir(&directory, Mode::RWXU)
                    .context(|| format!("make directory {}", directory.display()))
            });
        match made {
            Ok(()) => Ok(data),
            Err(e) => Err(e.and_cleanup(data.remove())),
        }
    }

    /// The directory of a pod that has one, or should have.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// One directory per `emptyDir`.
    pub fn volumes(&self) -> PathBuf {
        self.path.join("volumes")
    }

    /// One directory per container.
    pub fn containers(&self) -> PathBuf {
        self.path.join("containers")
    }

    /// The containers that have a root here.
    ///
    /// # Errors
    /// When the directory cannot be read; one that does not exist holds none.
    pub fn container_names(&self) -> Result<Vec<String>> {
        let directory = self.containers();
        let step = || format!("read {}", directory.display());
        let entries = match fs::read_dir(&directory) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(step)?,
        };
        entries
            .map(|entry| {
                Ok(entry
                    .context(step)?
                    .file_name()
                    .to_string_lossy()
                    .into_owned())
            })
            .collect()
    }

    /// Removes all of it; volumes in memory are unmounted. What is gone already is no error.
    ///
    /// # Errors
    /// When something cannot be unmounted or removed.
    pub fn remove(&self) -> Result<()> {
        match super::volumes::Volumes::open(self.volumes()) {
            Ok(volumes) => volumes.remove()?,
            Err(e) if e.errno() == Some(libc::ENOENT) => {}
            Err(e) => return Err(e),
        }
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(());
        };
        match open_directory(parent) {
            Ok(directory) => tree::remove(directory, name).context(|| parent.display().to_string()),
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {}", path.display()))
}

/// Makes what is missing of the path, for its owner only.
pub(super) fn make_private_directories(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .context(|| format!("make directory {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn data_is_made_for_its_owner_and_removed_with_everything_in_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data/pods/p");
        let data = Data::create(path.clone()).unwrap();
        assert!(Data::create(path.clone()).is_err());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::create_dir_all(data.volumes().join("v/a/b")).unwrap();
        fs::create_dir_all(data.containers().join("c/upper")).unwrap();
        data.remove().unwrap();
        assert!(!path.exists());
        data.remove().unwrap();
    }
}
