//! Taking a container away: one way for all, whether it was made whole or cut short anywhere.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::Created;
use super::hooks;
use super::status::status;
use crate::cgroup::{self, Cgroup, Layout};
use crate::error::{Context, Error, Result};
use crate::state::{ContainerId, Entry, Record, Status, Store, boot_id};

/// The kernel ends a killed process in well under this, whatever it does; more is a kernel that hangs.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A container that the caller has made, and the process that runs in it.
#[derive(Debug)]
pub struct Made {
    /// Its first process.
    pub process: Created,
    /// With [`Launch::Now`](super::Launch::Now): the socket on which it says that it is ready, if that was asked for.
    pub notify: Option<OwnedFd>,
    pub(super) entry: Entry,
    pub(super) cgroup: Cgroup,
    pub(super) intent: Record,
}

impl Made {
    /// Removes the container, whose first process the caller has waited for. If somebody else has removed it already, a
    /// container that got its name since is left alone.
    ///
    /// # Errors
    /// When something cannot be removed; [`delete`] can try again.
    pub fn remove(self) -> Result<()> {
        let id = self.entry.id().clone();
        let entry = match self.entry.lock() {
            Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(()),
            entry => entry?,
        };
        remove(entry, &self.cgroup, None)
            .context(|| format!("delete container {:?}", id.as_str()))?;
        hooks::poststop(&self.intent);
        Ok(())
    }
}

/// Removes a container: `runp delete`. With `force` a running one is killed first, and one that does not exist is no error.
///
/// # Errors
/// When it runs and `force` is not given, or when something cannot be removed; it can be tried again then.
pub fn delete(store: &Store, id: &ContainerId, force: bool) -> Result<()> {
    let step = || format!("delete container {:?}", id.as_str());
    if force {
        kill_unlocked(store, id).context(step)?;
    }
    let entry = match store.open(id) {
        Err(e) if force && e.errno() == Some(libc::ENOENT) => return Ok(()),
        entry => entry?,
    };
    let layout = Layout::detect()?;
    let record = match entry.read() {
        Ok(Some(record)) => Some(record),
        Ok(None) => return remove_cut_short(entry, &layout).context(step),
        // Torn, or of another version: it was made, and where it is the intent tells, or its name.
        Err(e) if force => {
            log::warn!("{e}");
            entry.read_intent().unwrap_or_default()
        }
        Err(e) => return Err(e),
    };
    if let Some(record) = &record
        && !force
        && status(&entry, record, || Ok(false))? == Status::Running
    {
        return Err(Error::new(step()).hint(format!(
            "it runs: stop it first, or: runp delete --force {id}"
        )));
    }
    let init = record.as_ref().map_or(Ok(None), first_process)?;
    if let Some(init) = &init {
        kill(init).context(step)?;
    }
    let path = match &record {
        Some(record) => record.cgroup.clone(),
        None => Path::new(cgroup::HOME).join(id.as_str()),
    };
    match entry.read_intent() {
        Ok(Some(intent)) if intent.cgroup != path => {
            remove_doubtful(entry, &layout, [&path, &intent.cgroup], init.as_ref())
                .context(step)?;
        }
        _ => {
            let unit = record.as_ref().and_then(|record| record.unit.clone());
            let cgroup = layout.open(&path)?.made_by(unit);
            remove(entry, &cgroup, init.as_ref()).context(step)?;
        }
    }
    if let Some(record) = &record {
        hooks::poststop(record);
    }
    Ok(())
}

/// Kills the first process without waiting for who holds the lock: that one may itself wait for the container.
fn kill_unlocked(store: &Store, id: &ContainerId) -> Result<()> {
    let record = match store.look(id).and_then(|entry| entry.read()) {
        Ok(Some(record)) => record,
        // What is wrong with it is told once it is locked.
        Ok(None) | Err(_) => return Ok(()),
    };
    let Some(init) = first_process(&record)? else {
        return Ok(());
    };
    kill(&init)?;
    // A frozen one would not die.
    Layout::detect()?.open(&record.cgroup)?.thaw()
}

/// Removes a container whose creation was cut short before its record was written. Whether its cgroup was made by then
/// nobody knows: it is removed if nothing is in it, and never emptied.
fn remove_cut_short(entry: Entry, layout: &Layout) -> Result<()> {
    let Ok(Some(intent)) = entry.read_intent() else {
        return entry.remove();
    };
    // A first process that is not recorded ends by itself, because its parent has.
    layout.open(&intent.cgroup)?.remove_when_empty()?;
    entry.remove()?;
    hooks::poststop(&intent);
    Ok(())
}

/// Removes a container whose two files name different cgroups: one was damaged, and which one nobody knows. Its first process
/// has been killed, and with that all in its pid namespace; whatever else is in one of these cgroups may be somebody else's.
fn remove_doubtful(
    entry: Entry,
    layout: &Layout,
    paths: [&Path; 2],
    init: Option<&OwnedFd>,
) -> Result<()> {
    if let Some(init) = init {
        wait_for_end(init)?;
    }
    // What is no cgroup's path is the damaged one.
    for cgroup in paths.into_iter().filter_map(|path| layout.open(path).ok()) {
        if !cgroup.remove_when_empty()? {
            let path = cgroup.path().display();
            return Err(Error::new(format!(
                "its state.json and its intent.json name different cgroups, and {path} is in use"
            ))
            .hint("end what is in it if it is the container's, and delete the container again"));
        }
    }
    entry.remove()
}

/// Kills everything in the container's cgroup, and removes the cgroup and the state directory, in this order: as long as
/// something is left, so is the record that leads to it.
pub(super) fn remove(entry: Entry, cgroup: &Cgroup, init: Option<&OwnedFd>) -> Result<()> {
    if !cgroup.is_ours() {
        return entry.remove();
    }
    if init.is_some() || !cgroup.remove_if_empty()? {
        // Thaws a frozen container too, without which its processes would not die.
        cgroup.kill()?;
        if let Some(init) = init {
            wait_for_end(init)?;
        }
        cgroup.remove()?;
    }
    // Its processes and its cgroup are gone: a name that systemd keeps must not keep the container.
    if let Err(e) = cgroup.stop_unit() {
        log::warn!("{e}");
    }
    entry.remove()
}

/// The container's first process, if it is still there.
pub(super) fn first_process(record: &Record) -> Result<Option<OwnedFd>> {
    match record.init {
        Some(init) if record.boot_id == boot_id()? => init.open(),
        _ => Ok(None),
    }
}

/// Kills the container's first process, if it is still there.
pub(super) fn kill_first_process(record: &Record) -> Result<()> {
    first_process(record)?.as_ref().map_or(Ok(()), kill)
}

/// Kills the first process: in a pid namespace of its own all others go with it.
fn kill(init: &OwnedFd) -> Result<()> {
    match pidfd_send_signal(init, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(Error::sys("kill the container's first process", e)),
    }
}

/// Waits until the process has ended.
fn wait_for_end(pidfd: &OwnedFd) -> Result<()> {
    let timeout = Timespec::try_from(KILL_TIMEOUT).ok();
    let mut files = [PollFd::new(pidfd, PollFlags::IN)];
    match rustix::io::retry_on_intr(|| poll(&mut files, timeout.as_ref())) {
        Ok(0) => Err(Error::new("the container's first process does not end")
            .hint("it is stuck in the kernel: see /proc/PID/stack")),
        Ok(_) => Ok(()),
        Err(e) => Err(Error::sys("wait for the container's first process", e)),
    }
}
