//! Makes a cgroup as planned, or leaves nothing behind.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::devices::kernel::Told;
use super::group::Scoped;
use super::layout::{Placed, below};
use super::systemd::Scope;
use super::{Cgroup, HOME, Layout, Plan, file, normal};
use crate::error::{Context, Error, Result};
use crate::sys::ns;

/// How often a directory is tried again that vanishes while it is made: other calls of runp remove empty parents.
const ATTEMPTS: usize = 100;

impl Layout {
    /// Makes the cgroup, sets its limits, and reads them back. Devices are left to [`Cgroup::restrict_devices`].
    ///
    /// A cgroup that is there already is taken over if no process is in it. Below [`HOME`] it is a leftover of ours
    /// and made anew, so that none of its old limits stays.
    ///
    /// # Errors
    /// A limit that this machine does not have (before anything is made), a limit that the kernel did not take, a
    /// cgroup in use. What was made is removed again.
    pub fn create(&self, plan: &Plan) -> Result<Cgroup> {
        self.make(plan)
            .context(|| format!("create cgroup {}", plan.path.display()))
    }

    fn make(&self, plan: &Plan) -> Result<Cgroup> {
        let placed = self.place(&plan.limits)?;
        if let Some(scope) = &plan.scope {
            return self.planned(plan, scope);
        }
        // What cannot be told is refused before anything exists.
        if let Some(rules) = &plan.devices {
            Told::plan(self, &plan.path, rules)?;
        }
        let mut cgroup = Cgroup {
            layout: self.clone(),
            path: normal(&plan.path)?,
            directory: None,
            unit: None,
        };
        let mut made = Vec::new();
        let done = make_dirs(&cgroup, plan.devices.is_some(), &mut made)
            .and_then(|()| self.inherit_cpuset(&plan.path, &made))
            .and_then(|()| cgroup.apply(&plan.limits, &placed))
            .and_then(
                |()| match cgroup.v2().map(|dir| (file::open_dir(&dir), dir)) {
                    Some((Ok(directory), _)) => {
                        cgroup.directory = Some(directory);
                        Ok(())
                    }
                    Some((Err(e), dir)) => Err(Error::sys(format!("open {}", dir.display()), e)),
                    None => Ok(()),
                },
            );
        match done {
            Ok(()) => Ok(cgroup),
            Err(error) => Err(error.and_cleanup(unmake(&made))),
        }
    }

    /// Of one that systemd makes there is nothing yet: it needs the first process.
    fn planned(&self, plan: &Plan, scope: &Scope) -> Result<Cgroup> {
        let cgroup = Cgroup {
            layout: self.clone(),
            path: normal(&plan.path)?,
            directory: None,
            unit: Some(Scoped {
                unit: scope.unit.clone(),
                started: AtomicBool::new(false),
            }),
        };
        refuse_in_use(&cgroup, true)?;
        Ok(cgroup)
    }

    /// A v1 cpuset is born without processors and memory, and takes no process before it has some.
    fn inherit_cpuset(&self, path: &Path, made: &[PathBuf]) -> Result<()> {
        let Some(index) = self.v1_with("cpuset") else {
            return Ok(());
        };
        let mount_point = &self.v1[index].mount_point;
        let mut made = made.iter().filter(|dir| dir.starts_with(mount_point));
        let Some(first) = made.next() else {
            // Taken over: someone else may have made it without filling it in.
            let dir = below(mount_point, path);
            return ["cpuset.cpus", "cpuset.mems"]
                .into_iter()
                .try_for_each(|name| inherited(mount_point, &dir, name).map(drop));
        };
        for name in ["cpuset.cpus", "cpuset.mems"] {
            let parent = first.parent().unwrap_or(mount_point);
            let value = inherited(mount_point, parent, name)?;
            for dir in std::iter::once(first).chain(made.clone()) {
                write(dir, name, &value)?;
            }
        }
        Ok(())
    }
}

/// Only root may tell about devices, and only root could have made more of them than the host's files already allow.
fn unless_rootless(error: Error) -> Result<()> {
    match error.errno() {
        Some(libc::EPERM) if ns::is_rootless() => Ok(()),
        _ => Err(error),
    }
}

/// The list in a cpuset; an empty one is first filled in from above.
fn inherited(mount_point: &Path, dir: &Path, name: &str) -> Result<String> {
    let path = dir.join(name);
    let value = file::read(&path).context(|| format!("read {}", path.display()))?;
    match dir.parent() {
        Some(parent) if value.is_empty() && dir != mount_point => {
            let value = inherited(mount_point, parent, name)?;
            write(dir, name, &value)?;
            Ok(value)
        }
        _ => Ok(value),
    }
}

fn write(dir: &Path, name: &str, value: &str) -> Result<()> {
    let path = dir.join(name);
    file::write(&path, value).context(|| format!("write {value:?} to {}", path.display()))
}

/// Makes the directory in every hierarchy, with its parents. `made` takes what is new, parents first.
fn make_dirs(cgroup: &Cgroup, a_container: bool, made: &mut Vec<PathBuf>) -> Result<()> {
    let mut existed = false;
    // Where one hierarchy lacks the parents, the others do: they are all made together.
    let mut parents_first = false;
    for (mount_point, _) in cgroup.mounted() {
        let new = make_with_parents(mount_point, &cgroup.path, &mut parents_first, made)
            .map_err(|(dir, e)| cannot_make(&dir, e))?;
        existed |= !new;
    }
    if !existed {
        return Ok(());
    }
    refuse_in_use(cgroup, a_container)?;
    if cgroup.path.starts_with(HOME) {
        for (mount_point, dir) in cgroup.mounted() {
            // One with cgroups below stays as it is: a pod's, whose containers came first.
            if rustix::fs::rmdir(&dir).is_ok() {
                made.retain(|known| *known != dir);
                make_with_parents(mount_point, &cgroup.path, &mut parents_first, made)
                    .map_err(|(dir, e)| cannot_make(&dir, e))?;
            }
        }
    }
    Ok(())
}

/// Whether the directory is new.
fn make_with_parents(
    mount_point: &Path,
    path: &Path,
    parents_first: &mut bool,
    made: &mut Vec<PathBuf>,
) -> std::result::Result<bool, (PathBuf, Errno)> {
    let dir = below(mount_point, path);
    for _ in 0..ATTEMPTS {
        if *parents_first {
            let parents: Vec<&Path> = dir
                .ancestors()
                .skip(1)
                .take_while(|parent| *parent != mount_point)
                .collect();
            for parent in parents.into_iter().rev() {
                match file::make_dir(parent) {
                    Ok(()) => made.push(parent.to_owned()),
                    Err(Errno::EXIST | Errno::NOENT) => {}
                    Err(e) => return Err((parent.to_owned(), e)),
                }
            }
        }
        match file::make_dir(&dir) {
            Ok(()) => {
                made.push(dir);
                return Ok(true);
            }
            Err(Errno::EXIST) => return Ok(false),
            Err(Errno::NOENT) => *parents_first = true,
            Err(e) => return Err((dir, e)),
        }
    }
    Err((dir, Errno::NOENT))
}

fn cannot_make(dir: &Path, errno: Errno) -> Error {
    let error = Error::sys(format!("mkdir {}", dir.display()), errno);
    match errno {
        Errno::ROFS => error.hint(
            "the cgroup file system is read-only here: an outer container must mount it writable",
        ),
        Errno::ACCESS | Errno::PERM => {
            error.hint("needs root, or a cgroup that was delegated to this user")
        }
        Errno::AGAIN => {
            error.hint("a cgroup above has reached its cgroup.max.depth or cgroup.max.descendants")
        }
        Errno::NOMEM | Errno::NOSPC => {
            error.hint("there are too many cgroups: /proc/cgroups counts them")
        }
        Errno::NOTDIR => error.hint("a file of the kernel has this name: choose another"),
        _ => error,
    }
}

/// Two containers in one cgroup would be killed, limited and removed together; a frozen one would never start.
fn refuse_in_use(cgroup: &Cgroup, a_container: bool) -> Result<()> {
    for (_, dir) in cgroup.mounted() {
        let pids = if a_container {
            file::read_below(&dir, "cgroup.procs").map(|texts| texts.join(" "))
        } else {
            file::read(dir.join("cgroup.procs"))
        };
        let pids = pids.map_err(|e| cannot_make(&dir, e))?;
        if let Some(pid) = pids.split_whitespace().next() {
            return Err(Error::new(format!(
                "{} already has processes, {pid} among them",
                dir.display()
            ))
            .hint("another container uses it: choose another linux.cgroupsPath"));
        }
    }
    if !cgroup.path.starts_with(HOME) && cgroup.is_frozen()? {
        return Err(Error::new(format!("{} is frozen", cgroup.path.display()))
            .hint("thaw it, or choose another linux.cgroupsPath"));
    }
    Ok(())
}

/// Removes what was made, the last first. A parent that others use by now stays.
fn unmake(made: &[PathBuf]) -> Result<()> {
    let mut errors = Vec::new();
    for dir in made.iter().rev() {
        match file::remove_dir(dir) {
            Ok(()) | Err(Errno::BUSY) => {}
            Err(e) => errors.push(Error::sys(format!("rmdir {}", dir.display()), e)),
        }
    }
    Error::all("remove what was made", errors)
}

impl Cgroup {
    /// Has systemd make it around the process `pid`, if that is planned, and sets in it what systemd does not. Before that
    /// process goes on.
    ///
    /// # Errors
    /// As [`Layout::create`], and systemd's.
    pub fn adopt(&self, plan: &Plan, pid: i32) -> Result<()> {
        let (Some(scope), Some(scoped)) = (&plan.scope, &self.unit) else {
            return Ok(());
        };
        scope.start(pid, &plan.limits, self.layout.v1.is_empty())?;
        scoped.started.store(true, Ordering::Relaxed);
        let step = || format!("set up cgroup {}", self.path.display());
        let mut made = Vec::new();
        for (mount_point, _) in self.mounted() {
            make_with_parents(mount_point, &self.path, &mut true, &mut made)
                .map_err(|(dir, e)| cannot_make(&dir, e))
                .context(step)?;
        }
        self.layout
            .inherit_cpuset(&self.path, &made)
            .context(step)?;
        let cgroup = self.layout.open(&self.path)?;
        let by_systemd = |names: &str| names.is_empty() || names == "name=systemd";
        cgroup
            .verify_in(&pid.to_string(), by_systemd)
            .context(step)?;
        let placed = self.layout.place(&plan.limits)?;
        cgroup.apply(&plan.limits, &placed).context(step)
    }

    /// Tells the kernel which devices may be used in it. That takes as long as anything else at a start (a program is verified
    /// and compiled), so it is done while the container sets itself up.
    ///
    /// # Errors
    /// The kernel's, but not where a plain user may not restrict what nobody gave.
    pub fn restrict_devices(&self, plan: &Plan) -> Result<()> {
        let Some(rules) = &plan.devices else {
            return Ok(());
        };
        // A plain user's container that has no cgroup of its own.
        if self.path.as_os_str().is_empty() {
            return Ok(());
        }
        let step = || format!("set up cgroup {}", self.path.display());
        let told = Told::plan(&self.layout, &self.path, rules)?;
        let result = match &self.unit {
            // It was not there when this was made.
            Some(_) => self
                .layout
                .open(&self.path)
                .and_then(|cgroup| told.tell(&cgroup)),
            None => told.tell(self),
        };
        result.or_else(unless_rootless).context(step)
    }

    /// Enables controllers on the way from the root of v2 to this cgroup; those that are enabled stay so.
    pub(super) fn enable(&self, placed: &[Placed]) -> Result<()> {
        let (Some(root), Some(dir)) = (&self.layout.v2, self.v2()) else {
            return Ok(());
        };
        let mut wanted: Vec<(&str, &str)> = placed
            .iter()
            .filter(|p| p.hierarchy.is_none() && p.setting.controller != "cgroup")
            .map(|p| (p.setting.controller.as_str(), p.field.as_str()))
            .collect();
        wanted.sort_unstable();
        wanted.dedup_by_key(|(controller, _)| *controller);
        if wanted.is_empty() {
            return Ok(());
        }
        let line: Vec<String> = wanted.iter().map(|(c, _)| format!("+{c}")).collect();
        let mut above: Vec<&Path> = dir
            .ancestors()
            .skip(1)
            .take_while(|d| d.starts_with(root))
            .collect();
        above.reverse();
        for dir in above {
            let path = dir.join("cgroup.subtree_control");
            match file::write(&path, &line.join(" ")) {
                // Above what was delegated to us, where somebody has done it already.
                Err(Errno::ACCESS | Errno::PERM) if self.has(&wanted) => {}
                written => written.map_err(|e| cannot_enable(dir, &wanted, e))?,
            }
        }
        Ok(())
    }
}

impl Cgroup {
    /// Whether these controllers are enabled here.
    fn has(&self, wanted: &[(&str, &str)]) -> bool {
        let list = self
            .v2()
            .map(|dir| file::read(dir.join("cgroup.controllers")));
        let list = list.and_then(|list| list.ok()).unwrap_or_default();
        wanted
            .iter()
            .all(|(controller, _)| list.split(' ').any(|c| c == *controller))
    }
}

/// Names the first controller that is not there, or what else keeps it from being enabled.
fn cannot_enable(dir: &Path, wanted: &[(&str, &str)], errno: Errno) -> Error {
    let list = dir.join("cgroup.controllers");
    let there = file::read(&list).unwrap_or_default();
    let missing = wanted
        .iter()
        .find(|(controller, _)| !there.split(' ').any(|c| c == *controller));
    if let Some((controller, field)) = missing {
        return Error::new(format!(
            "{field}: the controller {controller} is not available"
        ))
        .hint(format!(
            "{} lists only {there:?}; a v1 hierarchy or the kernel command line may have taken it",
            list.display()
        ));
    }
    let names: Vec<&str> = wanted.iter().map(|(c, _)| *c).collect();
    let what = format!(
        "enable {} in {}/cgroup.subtree_control",
        names.join(", "),
        dir.display()
    );
    let error = Error::sys(what, errno);
    match errno {
        Errno::BUSY => error.hint("this cgroup has processes of its own, so those below it cannot have limits: move them into one below"),
        Errno::ROFS | Errno::ACCESS | Errno::PERM => error.hint("needs root, or a cgroup that was delegated to this user"),
        _ => error,
    }
}
