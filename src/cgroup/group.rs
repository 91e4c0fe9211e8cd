//! A cgroup that exists, whole or in part: join it, look at it, freeze it, remove it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::systemd::Unit;
use super::wait::{self, Deadline};
use super::{HOME, Layout, Limits, file, layout, normal};
use crate::error::{Context, Error, Result};

/// A cgroup: the same path in every hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) layout: Layout,
    pub(super) path: PathBuf,
    /// Its directory in v2.
    pub(super) directory: Option<OwnedFd>,
    /// If systemd makes it, or has made it.
    pub(super) unit: Option<Scoped>,
}

/// A scope, and whether it is the container's by now.
#[derive(Debug)]
pub(super) struct Scoped {
    pub(super) unit: Unit,
    pub(super) started: AtomicBool,
}

impl Cgroup {
    /// Below the root of every hierarchy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same, which systemd made as this unit, if it did.
    #[must_use]
    pub fn made_by(self, unit: Option<Unit>) -> Self {
        let unit = unit.map(|unit| Scoped {
            unit,
            started: AtomicBool::new(true),
        });
        Self { unit, ..self }
    }

    /// Whether it is there for nobody but the container. One of that name that systemd did not make for it is another's.
    pub fn is_ours(&self) -> bool {
        self.unit
            .as_ref()
            .is_none_or(|scoped| scoped.started.load(Ordering::Relaxed))
    }

    /// Tells systemd of changed limits, if it made this. What it rounds must be set again afterwards.
    ///
    /// # Errors
    /// systemd's.
    pub fn tell_systemd(&self, limits: &Limits) -> Result<()> {
        match &self.unit {
            Some(scoped) => scoped.unit.set(limits, self.layout.v1.is_empty()),
            None => Ok(()),
        }
    }

    /// Lets systemd stop and forget the scope, if it made one.
    ///
    /// # Errors
    /// systemd's.
    pub fn stop_unit(&self) -> Result<()> {
        match &self.unit {
            Some(scoped) => scoped.unit.stop(),
            None => Ok(()),
        }
    }

    /// For `CLONE_INTO_CGROUP` of clone3(2), Linux 5.7: the child is born in the v2 hierarchy. That is all on a pure
    /// v2 machine; on a hybrid one the v1 hierarchies are left to [`Self::join`]. `None` without v2.
    pub fn clone_fd(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// Moves the calling process, single-threaded and born through [`Self::clone_fd`] if there is one, into the
    /// rest of the cgroup, and looks whether it is there. Before it changes its mount or cgroup namespace or its user.
    ///
    /// A process that moves itself by `tasks` is spared the wait for all processors that moving another costs
    /// (`cgroup_threadgroup_rwsem`): 0.2 ms instead of 10 for ten hierarchies.
    ///
    /// # Errors
    /// The kernel's, with the file; that it is elsewhere nevertheless.
    pub fn join(&self) -> Result<()> {
        self.join_or(|_| Ok(None))
    }

    /// As [`Self::join`]. Where a v1 cgroup of it was removed by somebody else, the calling process goes where the process `pid`
    /// of it is by now: systemd moves processes out of what it has not delegated, and removes what is then empty.
    ///
    /// # Errors
    /// As [`Self::join`].
    pub fn join_beside(&self, pid: i32) -> Result<()> {
        self.join_or(|hierarchy| {
            let table = read_memberships(&pid.to_string())?;
            let found = memberships(&table).find(|(names, _)| hierarchy.is_named(names));
            let path = found.map(|(_, path)| normal(Path::new(path))).transpose()?;
            Ok(path.map(|path| layout::below(&hierarchy.mount_point, &path)))
        })
    }

    fn join_or(
        &self,
        instead: impl Fn(&layout::Hierarchy) -> Result<Option<PathBuf>>,
    ) -> Result<()> {
        if self.directory.is_none()
            && let Some(v2) = self.v2()
        {
            write(&v2.join("cgroup.procs"), "0")?;
        }
        if self.layout.v1.is_empty() {
            // The kernel bore it where it is.
            return Ok(());
        }
        let mut elsewhere = Vec::new();
        for (index, hierarchy) in self.layout.v1.iter().enumerate() {
            let tasks = self.dir(Some(index)).join("tasks");
            let written = file::write(&tasks, "0");
            let dir = match written {
                Err(Errno::NOENT) => instead(hierarchy)?,
                _ => None,
            };
            match dir {
                Some(dir) => {
                    write(&dir.join("tasks"), "0")?;
                    elsewhere.push(hierarchy);
                }
                None => written.context(|| format!("write \"0\" to {}", tasks.display()))?,
            }
        }
        // That a namespace or a race did not put it elsewhere (CVE-2023-6476 of CRI-O).
        let is_ours =
            |names: &str| !names.is_empty() && !elsewhere.iter().any(|h| h.is_named(names));
        self.verify_in("thread-self", is_ours)
    }

    /// Whether a process is in this cgroup in every hierarchy: somebody else may have moved it, and what is done with the
    /// cgroup would not reach it.
    ///
    /// # Errors
    /// It is elsewhere, or gone.
    pub fn verify(&self, pid: i32) -> Result<()> {
        self.verify_in(&pid.to_string(), |_| true)
    }

    pub(super) fn verify_in(&self, process: &str, hierarchy: impl Fn(&str) -> bool) -> Result<()> {
        let path = self.path.strip_prefix("/").unwrap_or(&self.path);
        let table = read_memberships(process)?;
        let elsewhere = memberships(&table).find(|(names, is)| {
            hierarchy(names) && self.layout.has(names) && !Path::new(is).ends_with(path)
        });
        elsewhere.map_or(Ok(()), |(names, is)| {
            let path = self.path.display();
            Err(
                Error::new(format!("process {process} is not in cgroup {path}"))
                    .hint(format!("it is in {names}:{is}: somebody has moved it")),
            )
        })
    }

    /// The v2 directory that a process is in, wherever that is.
    ///
    /// # Errors
    /// There is no v2, the process is gone, or its cgroup is outside of what is mounted here.
    pub fn v2_of(&self, pid: i32) -> Result<OwnedFd> {
        let table = read_memberships(&pid.to_string())?;
        let found = memberships(&table).find(|(names, _)| names.is_empty());
        let (Some((_, path)), Some(root)) = (found, &self.layout.v2) else {
            return Err(Error::new(format!("process {pid} is in no cgroup of v2")));
        };
        let dir = layout::below(root, &normal(Path::new(path))?);
        file::open_dir(&dir).context(|| format!("open {}", dir.display()))
    }

    /// The same cgroup, with the v2 directory that a process of it is in if its own was removed by somebody else.
    ///
    /// # Errors
    /// As [`Self::v2_of`].
    pub fn or_where(self, pid: i32) -> Result<Self> {
        if self.layout.v2.is_none() || self.directory.is_some() {
            return Ok(self);
        }
        let directory = Some(self.v2_of(pid)?);
        Ok(Self { directory, ..self })
    }

    /// The processes in it and in the cgroups below, in no order. Those that this process cannot see (of other pid
    /// namespaces) are left out.
    ///
    /// # Errors
    /// The kernel's, with the file. None if there is no such cgroup.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.mounted()
            .next()
            .map_or(Ok(Vec::new()), |(_, dir)| pids_below(&dir))
    }

    /// How many processes in it and in the cgroups below the kernel has killed for want of memory. 0 where nothing
    /// counts: without the memory controller.
    ///
    /// # Errors
    /// The kernel's, with the file.
    pub fn oom_kills(&self) -> Result<u64> {
        let read = |path: &Path, name: &str, below: bool| {
            let texts = if below {
                file::read_below(path, name)
            } else {
                file::read(path.join(name)).map(|text| vec![text])
            };
            match texts {
                Ok(texts) => Ok(texts
                    .iter()
                    .filter_map(|t| file::keyed(t, "oom_kill"))
                    .sum()),
                Err(Errno::NOENT | Errno::NODEV) => Ok(0),
                Err(e) => Err(Error::sys(format!("read {}/{name}", path.display()), e)),
            }
        };
        match (self.layout.v1_with("memory"), self.v2()) {
            // v1 counts each cgroup on its own, v2 with all below.
            (Some(memory), _) => read(&self.dir(Some(memory)), "memory.oom_control", true),
            (None, Some(v2)) => read(&v2, "memory.events", false),
            (None, None) => Ok(0),
        }
    }

    /// Its limit of memory, in bytes, if it has one that can be read.
    pub fn memory_limit(&self) -> Option<u64> {
        let path = match self.layout.v1_with("memory") {
            Some(memory) => self.dir(Some(memory)).join("memory.limit_in_bytes"),
            None => self.v2()?.join("memory.max"),
        };
        file::read(path).ok()?.parse().ok()
    }

    /// Stops all processes in it until [`Self::thaw`], and waits until they have stopped.
    ///
    /// # Errors
    /// Processes that did not stop in time (they wait for a disk or a vfork); they are thawed again. No freezer.
    pub fn freeze(&self) -> Result<()> {
        let deadline = Deadline::new();
        let stopped = if let Some(dir) = self.v2() {
            write(&dir.join("cgroup.freeze"), "1")?;
            wait::event(&dir, "frozen", 1, deadline)?
        } else {
            self.freeze_v1(deadline)?
        };
        if stopped {
            return Ok(());
        }
        let error = Error::new(format!(
            "freeze cgroup {}: not in time",
            self.path.display()
        ))
        .hint("a process may wait for a disk: see its state in /proc/PID/status");
        Err(error.and_cleanup(self.thaw()))
    }

    /// Whether all have stopped before the deadline.
    pub(super) fn freeze_v1(&self, deadline: Deadline) -> Result<bool> {
        let Some(freezer) = self.layout.v1_with("freezer") else {
            return Err(Error::new("the freezer is not mounted")
                .hint("mount the v1 controller freezer, or use cgroup v2"));
        };
        let path = self.dir(Some(freezer)).join("freezer.state");
        loop {
            // Written each time: the kernel tries again those that were not ready to stop.
            write(&path, "FROZEN")?;
            let state = file::read(&path).context(|| format!("read {}", path.display()))?;
            if state == "FROZEN" {
                return Ok(true);
            }
            if deadline.is_over() {
                return Ok(false);
            }
            wait::a_moment();
        }
    }

    /// The directory of its freezer, if there is one.
    pub fn freezer(&self) -> Option<PathBuf> {
        let v1 = || self.layout.v1_with("freezer");
        self.v2().or_else(|| Some(self.dir(Some(v1()?))))
    }

    /// Lets the processes go on, whichever freezer stopped them. Nothing to do is fine.
    ///
    /// # Errors
    /// The kernel's, with the file.
    pub fn thaw(&self) -> Result<()> {
        let v2 = self.v2().map(|dir| (dir.join("cgroup.freeze"), "0"));
        let freezer = self.layout.v1_with("freezer");
        let v1 = freezer.map(|i| (self.dir(Some(i)).join("freezer.state"), "THAWED"));
        for (path, value) in v2.into_iter().chain(v1) {
            match file::write(&path, value) {
                // It may be removed meanwhile: systemd does so when the last process ends.
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
                Err(e) => return Err(Error::sys(format!("write {}", path.display()), e)),
            }
        }
        Ok(())
    }

    /// Whether it is frozen, or about to be.
    ///
    /// # Errors
    /// The kernel's, with the file.
    pub fn is_frozen(&self) -> Result<bool> {
        let v2 = self.v2().map(|dir| (dir.join("cgroup.freeze"), "0"));
        let freezer = self.layout.v1_with("freezer");
        let v1 = freezer.map(|i| (self.dir(Some(i)).join("freezer.state"), "THAWED"));
        for (path, running) in v2.into_iter().chain(v1) {
            match file::read(&path) {
                Ok(state) if state != running => return Ok(true),
                Ok(_) | Err(Errno::NOENT | Errno::NODEV) => {}
                Err(e) => return Err(Error::sys(format!("read {}", path.display()), e)),
            }
        }
        Ok(false)
    }

    /// Removes it and all cgroups below, and [`HOME`] with the last one in it. Again, or half of it, is fine.
    ///
    /// Waits for processes that are about to end; [`Self::kill`] ends them.
    ///
    /// # Errors
    /// A process is still in it. Other hierarchies have been removed nevertheless.
    pub fn remove(&self) -> Result<()> {
        let deadline = Deadline::new();
        let mut errors = Vec::new();
        for (mount_point, dir) in self.mounted() {
            let is_v2 = self.layout.v2.as_deref() == Some(mount_point);
            if let Err(e) = remove_tree(&dir, is_v2, deadline) {
                errors.push(e);
            } else {
                self.remove_home(mount_point);
            }
        }
        Error::all(format!("remove cgroup {}", self.path.display()), errors)
    }

    /// Removes it, as [`Self::remove`], if nothing is in it: no process and no cgroup. Whether it is gone.
    ///
    /// # Errors
    /// The kernel's, with the directory.
    pub fn remove_if_empty(&self) -> Result<bool> {
        for (mount_point, dir) in self.mounted() {
            match file::remove_dir(&dir) {
                Ok(()) => {}
                Err(Errno::BUSY | Errno::NOTEMPTY) => return Ok(false),
                Err(e) => return Err(Error::sys(format!("rmdir {}", dir.display()), e)),
            }
            self.remove_home(mount_point);
        }
        Ok(true)
    }

    /// Removes it, as [`Self::remove_if_empty`], once the processes in it have ended by themselves. Whether it is gone.
    ///
    /// # Errors
    /// The kernel's, with the directory.
    pub fn remove_when_empty(&self) -> Result<bool> {
        let deadline = Deadline::new();
        while !self.remove_if_empty()? {
            let pids = self.pids()?;
            if pids.is_empty() || deadline.is_over() {
                // Cgroups below it, or processes that do not end: not what runp left behind.
                return self.remove_if_empty();
            }
            wait::ended(&pids, deadline);
        }
        Ok(true)
    }

    /// Removes [`HOME`] with its last cgroup: it stays while another container or pod is in it.
    fn remove_home(&self, mount_point: &Path) {
        if self.path.parent() == Some(Path::new(HOME)) {
            let _ = rustix::fs::rmdir(layout::below(mount_point, Path::new(HOME)));
        }
    }

    /// Mount points and the cgroup's directories in them, v2 first: no process is in v1 that is not in v2 too.
    pub(super) fn mounted(&self) -> impl Iterator<Item = (&Path, PathBuf)> {
        let v1 = self.layout.v1.iter().map(|h| h.mount_point.as_path());
        let all = self.layout.v2.as_deref().into_iter().chain(v1);
        all.map(|mount_point| (mount_point, layout::below(mount_point, &self.path)))
    }

    pub(super) fn v2(&self) -> Option<PathBuf> {
        self.layout
            .v2
            .as_ref()
            .map(|root| layout::below(root, &self.path))
    }

    /// Its directory in a v1 hierarchy, or in v2.
    pub(super) fn dir(&self, hierarchy: Option<usize>) -> PathBuf {
        let mount_point = match hierarchy {
            Some(index) => Some(&self.layout.v1[index].mount_point),
            None => self.layout.v2.as_ref(),
        };
        mount_point.map_or_else(PathBuf::new, |m| layout::below(m, &self.path))
    }
}

/// `/proc/<pid>/cgroup`, cgroups(7).
fn read_memberships(process: &str) -> Result<String> {
    let table = format!("/proc/{process}/cgroup");
    file::read_table(&table).context(|| format!("read {table}"))
}

/// The names of each hierarchy (none: v2) and the path in it.
fn memberships(table: &str) -> impl Iterator<Item = (&str, &str)> {
    table.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    })
}

fn write(path: &Path, value: &str) -> Result<()> {
    file::write(path, value).context(|| format!("write {value:?} to {}", path.display()))
}

/// The processes in a directory and below. 0 stands for one of another pid namespace: never a pid to signal.
pub(super) fn pids_below(dir: &Path) -> Result<Vec<i32>> {
    let texts = file::read_below(dir, "cgroup.procs")
        .context(|| format!("read the processes of {}", dir.display()))?;
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    Ok(words
        .filter_map(|w| w.parse().ok())
        .filter(|pid| *pid > 0)
        .collect())
}

fn remove_tree(dir: &Path, is_v2: bool, deadline: Deadline) -> Result<()> {
    let fail = |e: Errno| Error::sys(format!("rmdir {}", dir.display()), e);
    loop {
        match file::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) => {}
            Err(e) => return Err(fail(e)),
        }
        match file::open_dir(dir).and_then(|dir| file::remove_below(&dir)) {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
            Err(e) => return Err(fail(e)),
        }
        match file::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) if !deadline.is_over() => {}
            Err(e) => {
                let pids = pids_below(dir)?;
                return Err(fail(e).hint(format!("processes in it: {pids:?}")));
            }
        }
        if is_v2 {
            wait::event(dir, "populated", 0, deadline)?;
        } else {
            wait::ended(&pids_below(dir)?, deadline);
        }
    }
}
