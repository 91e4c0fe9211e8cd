//! Pods on disk: their directories, lock, records.
//!
//! ```text
//! <root>/pods/<name>/            mode 0700; worthless after a reboot
//!   pod.json                     the intent: what the pod is, and where everything of it can be
//!   lock                         held by the supervisor, or by who works on a pod without one
//!   journal                      what has happened
//!   control.sock                 the supervisor listens here
//!   logs/<container>/
//! ```
//!
//! What its containers write is elsewhere: [`super::data`].
//!
//! The lock is a POSIX record lock (fcntl(2) `F_SETLK`): the kernel gives it back when its holder dies, no child
//! inherits it, and `F_GETLK` says which process holds it. So nothing has to be written down, and nothing can be stale,
//! to know who supervises a pod.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use k8s_openapi::api::core::v1::Pod;
use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock, fstat, mkdir, openat, renameat, stat};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};
use serde::{Deserialize, Serialize};

use super::data::{make_private_directories, open_directory};
use super::manifest::Objects;
use super::network::{Attachment, Network};
use super::tree;
use crate::error::{Context, Error, Result};
use crate::sys::process;

const PODS: &str = "pods";
const RECORD: &str = "pod.json";
const RECORD_NEW: &str = "pod.json.new";
const LOCK: &str = "lock";

/// A pod's name: a DNS subdomain (RFC 1123), of at most 253 characters. So it is a harmless file name, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName(String);

impl PodName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PodName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let label = |label: &str| {
            label.starts_with(alphanumeric)
                && label.ends_with(alphanumeric)
                && label.chars().all(|c| alphanumeric(c) || c == '-')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(Error::new(format!("invalid pod name {name:?}")).hint(
                "at most 253 characters: lower case letters, digits, \"-\" and \".\", with a letter or digit at both \
                 ends and around every \".\"",
            ));
        }
        Ok(Self(name.into()))
    }
}

/// What must be known of a pod to go on with it or to remove it: written before anything else exists.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The format of this record: [`Record::VERSION`].
    pub version: u32,
    /// `metadata.uid`.
    pub uid: String,
    /// This boot; after another one only files are left of the pod.
    pub boot_id: String,
    /// The pod's directory below the data root.
    pub data: PathBuf,
    /// The pod's cgroup, below the root of every hierarchy.
    pub cgroup: String,
    /// Where images and bundles are looked for.
    pub manifest_directory: PathBuf,
    /// `--rootfs` mappings from image names to directories.
    pub images: BTreeMap<String, PathBuf>,
    /// With `hostUsers: false`: the first id of the host that is the pod's.
    #[serde(default)]
    pub ids: Option<u32>,
    /// What its network is made by.
    #[serde(default)]
    pub network: Network,
    /// What that has come to.
    #[serde(default)]
    pub attachment: Option<Attachment>,
    /// What the pod refers to. Secrets are among it: the directory is its owner's alone, and in memory.
    #[serde(default)]
    pub objects: Objects,
    /// With Kubernetes' defaults filled in.
    #[serde(deserialize_with = "super::manifest::deserialize")]
    pub manifest: Pod,
}

impl Record {
    /// The format that this program writes and reads.
    pub const VERSION: u32 = 1;
}

/// All pods below one root.
#[derive(Debug, Clone)]
pub struct Pods {
    directory: PathBuf,
    data: PathBuf,
}

impl Pods {
    /// The pods whose records are below `root` and whose data is below `data_root`. Nothing is made before the first pod.
    pub fn new(root: &Path, data_root: &Path) -> Self {
        Self {
            directory: root.join(PODS),
            data: data_root.join(PODS),
        }
    }

    /// Where a pod's data is, unless its record says otherwise.
    pub fn data(&self, name: &PodName) -> PathBuf {
        self.data.join(name.as_str())
    }

    /// Where the directories of claims are: they outlive pods.
    pub fn claims(&self) -> PathBuf {
        self.data.with_file_name("claims")
    }

    /// The names of all pods, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read; one that does not exist holds none.
    pub fn names(&self) -> Result<Vec<PodName>> {
        let step = || format!("read {}", self.directory.display());
        let entries = match fs::read_dir(&self.directory) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(step)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.context(step)?.file_name();
            names.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Makes sure that there is no pod of that name.
    ///
    /// # Errors
    /// When there is one.
    pub fn check_free(&self, name: &PodName) -> Result<()> {
        match self.directory.join(name.as_str()).exists() {
            true => Err(taken(name)),
            false => Ok(()),
        }
    }

    /// Makes the directory of a new pod, locks it, and writes the intent.
    ///
    /// # Errors
    /// When there is a pod of that name, or something cannot be made; then nothing is left of it.
    pub fn create(&self, name: &PodName, record: &Record) -> Result<PodDir> {
        make_private_directories(&self.directory)?;
        let path = self.directory.join(name.as_str());
        mkdir(&path, Mode::RWXU).map_err(|e| match e {
            Errno::EXIST => taken(name),
            e => Error::sys(format!("make directory {}", path.display()), e),
        })?;
        let made = self.open(name).and_then(|pod| {
            if !pod.try_lock()? {
                return Err(pod.gone());
            }
            pod.write(record)?;
            // Not before: of two that are made at once at least one sees the other.
            self.check_alone(name, record)?;
            Ok(pod)
        });
        made.map_err(|error| {
            let removed = open_directory(&self.directory)
                .and_then(|directory| tree::remove(directory, name.as_str().as_ref()));
            error.and_cleanup(removed)
        })
    }

    /// Opens a pod's directory.
    ///
    /// # Errors
    /// `ENOENT` when there is no such pod.
    pub fn open(&self, name: &PodName) -> Result<PodDir> {
        let path = self.directory.join(name.as_str());
        let missing = |e: Errno| {
            Error::sys(format!("pod {:?} does not exist", name.as_str()), e)
                .hint("see `runp pod list`")
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| match e {
            Errno::NOENT => missing(e),
            e => Error::sys(format!("open {}", path.display()), e),
        })?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let lock = openat(&dir, LOCK, flags, mode).map_err(|e| match e {
            Errno::NOENT => missing(e),
            e => Error::sys(format!("open {}", path.join(LOCK).display()), e),
        })?;
        Ok(PodDir {
            name: name.clone(),
            path,
            dir,
            lock,
        })
    }
}

fn taken(name: &PodName) -> Error {
    Error::new(format!("pod {:?} exists", name.as_str())).hint(format!(
        "choose another name with --name, or remove it: runp pod delete {name}"
    ))
}

/// A pod's directory.
#[derive(Debug)]
pub struct PodDir {
    name: PodName,
    path: PathBuf,
    dir: OwnedFd,
    lock: OwnedFd,
}

impl PodDir {
    /// Whose it is.
    pub fn name(&self) -> &PodName {
        &self.name
    }

    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The log directory of a container.
    pub fn logs(&self, container: &str) -> PathBuf {
        self.path.join("logs").join(container)
    }

    /// The fifo that a container with `stdin: true` reads.
    pub fn input(&self, container: &str) -> PathBuf {
        self.path.join(format!("{container}.stdin"))
    }

    /// The directory, open.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Its own path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where this process puts an update for the pod's supervisor.
    pub fn update(&self, by: u32) -> PathBuf {
        self.path.join(format!("update.{by}"))
    }

    /// Writes the record in one step: who does holds the lock.
    ///
    /// # Errors
    /// The kernel's; then the old one stays.
    pub fn write(&self, record: &Record) -> Result<()> {
        let step = || format!("write {}", self.path.join(RECORD).display());
        let json = serde_json::to_vec(record)
            .map_err(|e| Error::new(e.to_string()))
            .context(step)?;
        fs::write(self.path.join(RECORD_NEW), json).context(step)?;
        renameat(&self.dir, RECORD_NEW, &self.dir, RECORD).context(step)
    }

    /// Reads the record; `None` if the pod's maker died before it was written.
    ///
    /// # Errors
    /// When it cannot be read, or is not one of ours.
    pub fn read(&self) -> Result<Option<Record>> {
        let path = self.path.join(RECORD);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::sys(format!("read {}", path.display()), e)),
        };
        let broken = |why: String| {
            Error::new(format!("read {}: {why}", path.display())).hint(self.remove_hint())
        };
        let record: Record = serde_json::from_slice(&json).map_err(|e| broken(e.to_string()))?;
        match record.version {
            Record::VERSION => Ok(Some(record)),
            other => Err(broken(format!("version {other} of another runp"))),
        }
    }

    /// The record of a pod that must be whole.
    ///
    /// # Errors
    /// As [`PodDir::read`], and when the pod's creation was cut short.
    pub fn record(&self) -> Result<Record> {
        self.read()?.ok_or_else(|| {
            Error::new(format!(
                "the creation of pod {:?} was cut short",
                self.name.as_str()
            ))
            .hint(self.remove_hint())
        })
    }

    fn remove_hint(&self) -> String {
        format!(
            "remove what is left of it: runp pod delete --force {}",
            self.name
        )
    }

    /// The process that works on the pod now: its supervisor, or a deletion under way.
    ///
    /// # Errors
    /// When the lock cannot be looked at.
    pub fn holder(&self) -> Result<Option<Holder>> {
        let Some(pid) = self.holder_pid()? else {
            return Ok(None);
        };
        match process::open(pid).context(|| format!("pidfd_open {pid}"))? {
            // Still the same: the pid was not used again before the process was opened.
            Some(pidfd) if self.holder_pid()? == Some(pid) => Ok(Some(Holder { pid, pidfd })),
            _ => self.holder(),
        }
    }

    fn holder_pid(&self) -> Result<Option<i32>> {
        let whole = Flock::from(FlockType::WriteLock);
        let step = || format!("look who holds {}", self.path.join(LOCK).display());
        match fcntl_getlk(&self.lock, &whole).context(step)? {
            None => Ok(None),
            Some(Flock { pid: Some(pid), .. }) => Ok(Some(pid.as_raw_nonzero().get())),
            Some(_) => Err(Error::new(step()).hint("a process of another pid namespace holds it")),
        }
    }

    /// Locks the pod, if nobody else has.
    ///
    /// # Errors
    /// `ENOENT` when the pod was removed meanwhile.
    pub fn try_lock(&self) -> Result<bool> {
        match fcntl_lock(&self.lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.check_locked().map(|()| true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(e) => Err(Error::sys(
                format!("lock {}", self.path.join(LOCK).display()),
                e,
            )),
        }
    }

    /// Locks the pod, and waits while another process holds the lock.
    ///
    /// # Errors
    /// `ENOENT` when the pod was removed meanwhile.
    pub fn lock(&self) -> Result<()> {
        let lock = || fcntl_lock(&self.lock, FlockOperation::LockExclusive);
        rustix::io::retry_on_intr(lock)
            .context(|| format!("lock {}", self.path.join(LOCK).display()))?;
        self.check_locked()
    }

    /// A lock on a file that has no name any more protects nothing: there may be another pod of that name.
    fn check_locked(&self) -> Result<()> {
        let (ours, named) = (fstat(&self.lock), stat(self.path.join(LOCK)));
        match (ours, named) {
            (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino) => Ok(()),
            _ => Err(self.gone()),
        }
    }

    fn gone(&self) -> Error {
        let what = format!("pod {:?} was removed meanwhile", self.name.as_str());
        Error::sys(what, Errno::NOENT)
    }

    /// Removes the directory and everything in it: last of all that is a pod's. The lock's file goes after the rest.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(self) -> Result<()> {
        let step = || format!("remove {}", self.path.display());
        for entry in fs::read_dir(&self.path).context(step)? {
            let name = entry.context(step)?.file_name();
            if name != LOCK {
                tree::remove(&self.dir, &name).context(step)?;
            }
        }
        tree::remove(&self.dir, LOCK.as_ref()).context(step)?;
        match rustix::fs::rmdir(&self.path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::sys(step(), e)),
        }
    }
}

/// Who holds a pod's lock.
#[derive(Debug)]
pub struct Holder {
    /// In the caller's pid namespace.
    pub pid: i32,
    /// The same process as a file.
    pub pidfd: OwnedFd,
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(in crate::pod) fn record() -> Record {
        Record {
            version: Record::VERSION,
            uid: "u".into(),
            boot_id: "b".into(),
            data: "/var/lib/runp/pods/p".into(),
            cgroup: "/runp/p".into(),
            manifest_directory: "/m".into(),
            images: BTreeMap::new(),
            ids: None,
            network: Network::None,
            attachment: None,
            objects: Objects::default(),
            manifest: Pod::default(),
        }
    }

    pub(in crate::pod) fn pods(dir: &tempfile::TempDir) -> Pods {
        Pods::new(&dir.path().join("run"), &dir.path().join("data"))
    }

    #[test]
    fn a_name_is_one_harmless_file_name() {
        for good in ["a", "a-b.c-1", "0", &"x".repeat(253)] {
            assert!(good.parse::<PodName>().is_ok(), "{good:?}");
        }
        let long = "x".repeat(254);
        for bad in [
            "", ".", "..", "a/b", "../a", "-a", "a-", "a..b", ".a", "A", "a_b", "a\n", &long,
        ] {
            assert!(bad.parse::<PodName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_that_is_taken_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (pods, name) = (pods(&dir), "p".parse().unwrap());
        assert_eq!(pods.names().unwrap(), []);
        let pod = pods.create(&name, &record()).unwrap();
        let error = pods.create(&name, &record()).unwrap_err().to_string();
        assert!(error.contains("runp pod delete p"), "{error}");
        assert_eq!(pod.record().unwrap(), record());
        assert_eq!(pods.names().unwrap(), [name]);
        pod.remove().unwrap();
        assert_eq!(pods.names().unwrap(), []);
    }

    #[test]
    fn a_creation_that_was_cut_short_is_told_and_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (pods, name) = (pods(&dir), "p".parse().unwrap());
        fs::create_dir_all(dir.path().join("run/pods/p")).unwrap();
        let pod = pods.open(&name).unwrap();
        assert!(pod.read().unwrap().is_none());
        let error = pod.record().unwrap_err().to_string();
        assert!(error.contains("runp pod delete --force p"), "{error}");
        fs::write(dir.path().join("run/pods/p/pod.json"), "\0\0").unwrap();
        assert!(pod.read().is_err());
        pod.remove().unwrap();
        assert_eq!(pods.open(&name).unwrap_err().errno(), Some(libc::ENOENT));
    }

    #[test]
    fn a_lock_of_a_removed_pod_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (pods, name) = (pods(&dir), "p".parse().unwrap());
        let first = pods.create(&name, &record()).unwrap();
        let late = pods.open(&name).unwrap();
        first.remove().unwrap();
        assert_eq!(late.lock().unwrap_err().errno(), Some(libc::ENOENT));
        let _second = pods.create(&name, &record()).unwrap();
        assert_eq!(late.try_lock().unwrap_err().errno(), Some(libc::ENOENT));
    }
}
