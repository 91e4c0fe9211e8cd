//! Containers' directories: made, locked, read, written and removed.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, mkdir, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::{ContainerId, Record};
use crate::error::{Context, Error, Result};

/// What was to be made, written once, before anything was: what remains to go by if the record is torn.
const INTENT: &str = "intent.json";
const RECORD: &str = "state.json";
const RECORD_NEW: &str = "state.json.new";
/// The compiled system call filter, for an exec.
const SECCOMP: &str = "seccomp";
/// The socket on which a created container waits for `start`.
const GATE: &str = "start.sock";
/// The directory that a container sees as `/run/notify`, and in it the socket on which `start` listens for it.
const NOTIFY: &str = "notify";
const NOTIFY_SOCKET: &str = "notify/notify.sock";

/// All containers below one root directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// One container's directory, open. Locked for as long as this lives, unless it was opened to look only.
#[derive(Debug)]
pub struct Entry {
    id: ContainerId,
    path: PathBuf,
    dir: OwnedFd,
    locked: bool,
}

impl Store {
    /// The containers below `root`, which is made when the first one is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory that holds everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of a container's notify socket, whether it exists or not.
    pub fn notify_dir(&self, id: &ContainerId) -> PathBuf {
        self.path(id).join(NOTIFY)
    }

    fn path(&self, id: &ContainerId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// Makes the directory of a new container, with its intent in it, and locks it.
    ///
    /// # Errors
    /// When the id is taken, or the directory or the record cannot be written; then nothing of it is left.
    pub fn create(&self, id: &ContainerId, intent: &Record) -> Result<Entry> {
        let path = self.path(id);
        make_private_dir(&path, &self.root).map_err(|e| match e {
            Errno::EXIST => Error::new(format!("container {id:?} exists", id = id.as_str())).hint(
                format!("choose another id, or remove it: runp delete --force {id}"),
            ),
            e => Error::sys(format!("make directory {}", path.display()), e),
        })?;
        let locked = Entry::open(id, path.clone()).and_then(|mut entry| {
            entry.flock()?;
            Ok(entry)
        });
        let entry = locked.map_err(|e| match rustix::fs::rmdir(&path) {
            Ok(()) | Err(Errno::NOENT) => e,
            Err(left) => {
                let removed = Error::sys(format!("remove {}", path.display()), left);
                e.and_cleanup(Err(removed))
            }
        })?;
        // That nobody removed it meanwhile shows when the intent is written.
        match entry.write_intent(intent) {
            Ok(()) => Ok(entry),
            Err(e) => Err(e.and_cleanup(entry.remove())),
        }
    }

    /// Opens a container and locks it: waits while another runp works on it.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(&self, id: &ContainerId) -> Result<Entry> {
        self.look(id)?.lock()
    }

    /// Opens a container without locking it, to read its record.
    ///
    /// # Errors
    /// When there is none.
    pub fn look(&self, id: &ContainerId) -> Result<Entry> {
        Entry::open(id, self.path(id))
    }

    /// The ids of all containers, sorted. What is not a container's directory is passed over.
    ///
    /// # Errors
    /// When the root cannot be read; a root that does not exist holds none.
    pub fn ids(&self) -> Result<Vec<ContainerId>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::sys(format!("read {}", self.root.display()), e)),
        };
        let mut ids: Vec<ContainerId> = entries
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort();
        Ok(ids)
    }
}

/// The directory of the pods beside the containers' directories.
pub(crate) const PODS: &str = "pods";

/// Makes a directory that only its owner may enter, whatever the umask; its parents too when they are missing.
fn make_private_dir(path: &Path, root: &Path) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o700);
    match mkdir(path, mode) {
        Err(Errno::NOENT) => {
            use std::os::unix::fs::DirBuilderExt;
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(root)
                .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
            mkdir(path, mode)
        }
        result => result,
    }
}

fn does_not_exist(id: &ContainerId) -> Error {
    Error::sys(
        format!("container {:?} does not exist", id.as_str()),
        Errno::NOENT,
    )
}

impl Entry {
    fn open(id: &ContainerId, path: PathBuf) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| match e {
            Errno::NOENT => does_not_exist(id),
            e => Error::sys(format!("open {}", path.display()), e),
        })?;
        Ok(Self {
            id: id.clone(),
            path,
            dir,
            locked: false,
        })
    }

    /// Waits while another runp works on the container.
    ///
    /// # Errors
    /// `ENOENT` when that one removed it: a container of the same name that was made since is another one.
    pub fn lock(mut self) -> Result<Self> {
        self.flock()?;
        let stat =
            rustix::fs::fstat(&self.dir).context(|| format!("look at {}", self.path.display()))?;
        match stat.st_nlink {
            0 => Err(does_not_exist(&self.id)),
            _ => Ok(self),
        }
    }

    fn flock(&mut self) -> Result<()> {
        rustix::io::retry_on_intr(|| flock(&self.dir, FlockOperation::LockExclusive))
            .context(|| format!("lock {}", self.path.display()))?;
        self.locked = true;
        Ok(())
    }

    /// Lets others work on the container, and keeps its directory open, so that it is known again.
    ///
    /// # Errors
    /// As flock(2).
    pub fn unlock(&mut self) -> Result<()> {
        flock(&self.dir, FlockOperation::Unlock)
            .context(|| format!("unlock {}", self.path.display()))?;
        self.locked = false;
        Ok(())
    }

    /// The container's id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Where the created container waits for `start`.
    pub fn gate(&self) -> PathBuf {
        self.path.join(GATE)
    }

    /// Where the container sends its notifications, sd_notify(3).
    pub fn notify_socket(&self) -> PathBuf {
        self.path.join(NOTIFY_SOCKET)
    }

    /// Makes the directory of the notify socket, which the container sees: any user of the container may enter it.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn make_notify_dir(&self) -> Result<()> {
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(&self.dir, NOTIFY, mode)
            .and_then(|()| rustix::fs::chmodat(&self.dir, NOTIFY, mode, AtFlags::empty()))
            .context(|| format!("make directory {}", self.path.join(NOTIFY).display()))
    }

    fn write_intent(&self, record: &Record) -> Result<()> {
        let step = || format!("write {}", self.path.join(INTENT).display());
        let json =
            serde_json::to_vec(record).map_err(|e| Error::new(format!("{}: {e}", step())))?;
        self.write_file(INTENT, &json).context(step)
    }

    /// Writes the record in one step: whoever reads it sees the old one or the new one, whole.
    ///
    /// # Errors
    /// When it cannot be written (`ENOSPC`: the file system of the state root is full); the old one stays.
    pub fn write(&self, record: &Record) -> Result<()> {
        let json =
            serde_json::to_vec(record).map_err(|e| Error::new(format!("write {RECORD}: {e}")))?;
        let written = self
            .write_file(RECORD_NEW, &json)
            .and_then(|()| renameat(&self.dir, RECORD_NEW, &self.dir, RECORD));
        written.map_err(|e| {
            let _ = unlinkat(&self.dir, RECORD_NEW, AtFlags::empty());
            Error::sys(format!("write {}", self.path.join(RECORD).display()), e)
        })
    }

    fn write_file(&self, name: &str, json: &[u8]) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = openat(&self.dir, name, flags, Mode::from_raw_mode(0o600))?;
        let mut rest = json;
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
            rest = &rest[written..];
        }
        Ok(())
    }

    /// Writes the compiled system call filter.
    ///
    /// # Errors
    /// As [`Entry::write`].
    pub fn write_seccomp(&self, filter: &[u8]) -> Result<()> {
        self.write_file(SECCOMP, filter)
            .context(|| format!("write {}", self.path.join(SECCOMP).display()))
    }

    /// Reads the compiled system call filter; `None` for a container without one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_seccomp(&self) -> Result<Option<Vec<u8>>> {
        self.read_bytes(SECCOMP)
    }

    /// Reads the record; `None` before the container's first process was recorded.
    ///
    /// # Errors
    /// When it cannot be read, or is not one of ours.
    pub fn read(&self) -> Result<Option<Record>> {
        self.read_file(RECORD)
    }

    /// Reads what was to be made.
    ///
    /// # Errors
    /// As [`Entry::read`].
    pub fn read_intent(&self) -> Result<Option<Record>> {
        self.read_file(INTENT)
    }

    fn read_bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let read = openat(&self.dir, name, flags, Mode::empty()).and_then(|file| {
            let mut bytes = Vec::new();
            match fs::File::from(file).read_to_end(&mut bytes) {
                Ok(_) => Ok(bytes),
                Err(e) => Err(Errno::from_io_error(&e).unwrap_or(Errno::IO)),
            }
        });
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::sys(
                format!("read {}", self.path.join(name).display()),
                e,
            )),
        }
    }

    fn read_file(&self, name: &str) -> Result<Option<Record>> {
        let path = self.path.join(name);
        let Some(json) = self.read_bytes(name)? else {
            return Ok(None);
        };
        let broken = |why: String| {
            Error::new(format!("read {}: {why}", path.display())).hint(format!(
                "remove what is left of it: runp delete --force {}",
                self.id
            ))
        };
        let record: Record = serde_json::from_slice(&json).map_err(|e| broken(e.to_string()))?;
        match record.version {
            Record::VERSION if record.id == self.id => Ok(Some(record)),
            Record::VERSION => Err(broken(format!(
                "it is of container {:?}",
                record.id.as_str()
            ))),
            other => Err(broken(format!("version {other} of another runp"))),
        }
    }

    /// The record, or the intent while there is no record.
    ///
    /// # Errors
    /// As [`Entry::read`], and when there is neither: whoever made the directory died before anything else.
    pub fn record(&self) -> Result<Record> {
        let record = match self.read()? {
            None => self.read_intent()?,
            record => record,
        };
        record.ok_or_else(|| {
            Error::new(format!(
                "the creation of container {:?} was cut short",
                self.id.as_str()
            ))
            .hint(format!(
                "remove what is left of it: runp delete --force {}",
                self.id
            ))
        })
    }

    /// Whether another runp holds the lock.
    pub fn is_busy(&self) -> bool {
        if self.locked {
            return false;
        }
        let Ok(other) = Self::open(&self.id, self.path.clone()) else {
            return false;
        };
        flock(&other.dir, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }

    /// Removes the directory and everything in it. What is gone already is no error.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(self) -> Result<()> {
        let rare = [RECORD_NEW, GATE, SECCOMP, NOTIFY_SOCKET, NOTIFY];
        for names in [&[RECORD, INTENT][..], &rare] {
            for name in names {
                let flags = match *name {
                    NOTIFY => AtFlags::REMOVEDIR,
                    _ => AtFlags::empty(),
                };
                match unlinkat(&self.dir, *name, flags) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(e) => {
                        let path = self.path.join(name);
                        return Err(Error::sys(format!("remove {}", path.display()), e));
                    }
                }
            }
            match rustix::fs::rmdir(&self.path) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // A container that was never started has a gate; some have a filter, or a service of systemd's a notify socket.
                Err(Errno::NOTEMPTY) => {}
                Err(e) => return Err(Error::sys(format!("remove {}", self.path.display()), e)),
            }
        }
        Err(
            Error::sys(format!("remove {}", self.path.display()), Errno::NOTEMPTY)
                .hint("something that is not runp's is in it"),
        )
    }
}
