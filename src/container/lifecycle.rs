//! What is done with a container that exists, except removing it: start, kill, look.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use serde::Serialize;

use super::status::status;
use super::{gate, hooks, remove};
use crate::cgroup::{Cgroup, Layout};
use crate::error::{Context, Error, Result};
use crate::state::{ContainerId, Entry, Record, Status, Store};
use crate::sys::process;

/// A container as `runp state` and `runp list` show it: the runtime-spec's state with runc's fields.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The runtime-spec version of its config.json.
    pub oci_version: String,
    /// Its id.
    pub id: ContainerId,
    /// Its first process in the caller's pid namespace; 0 when it has none any more.
    pub pid: i32,
    /// What it does.
    pub status: Status,
    /// The bundle's path.
    pub bundle: PathBuf,
    /// The root file system's path.
    pub rootfs: PathBuf,
    /// When it was made, RFC 3339.
    pub created: String,
    /// `annotations` of config.json.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
    /// Who made it.
    pub owner: String,
}

/// Lets a created container execute its program: `runp start`.
///
/// # Errors
/// When it is not waiting for that, or when its program cannot be executed.
pub fn start(store: &Store, id: &ContainerId) -> Result<()> {
    let entry = store.open(id)?;
    let record = entry.record()?;
    let step = || format!("start container {:?}", id.as_str());
    match status(&entry, &record, || is_frozen(&record))? {
        Status::Created => {
            let opened = gate::open(&entry.gate()).context(step)?;
            // Its execve may take any time: whoever wants to kill or delete it meanwhile must be able to.
            drop(entry);
            opened.wait().context(step)?;
            hooks::poststart(&record)
                .map_err(|e| e.and_cleanup(remove::kill_first_process(&record)))
                .context(step)
        }
        status => Err(Error::new(step()).hint(format!(
            "it is {}: only a created container can be started",
            status.as_str()
        ))),
    }
}

/// Sends a signal to the container's first process, or with `all` to every process in its cgroup: `runp kill`.
///
/// # Errors
/// When it does not run, or the kernel refuses.
pub fn kill(store: &Store, id: &ContainerId, signal: i32, all: bool) -> Result<()> {
    let record = store.look(id)?.record()?;
    let step = || format!("send signal {signal} to container {:?}", id.as_str());
    if all {
        let layout = Layout::detect()?;
        let cgroup = layout.open(&record.cgroup)?;
        for pid in cgroup.pids().context(step)? {
            signal_member(&cgroup, pid, signal).context(step)?;
        }
        return Ok(());
    }
    let Some(init) = remove::first_process(&record)? else {
        return Err(Error::new(step()).hint("container not running"));
    };
    if signal == 0 {
        return Ok(());
    }
    pidfd_send_signal(&init, raw_signal(signal)?).context(step)?;
    if signal == libc::SIGKILL {
        let cgroup = Layout::detect()?.open(&record.cgroup)?;
        match shares_pids(&record) {
            // Its other processes do not end with the first one.
            true => cgroup.kill()?,
            // Frozen by the v1 freezer it would not die.
            false => cgroup.thaw()?,
        }
    }
    Ok(())
}

/// Signals a process of the cgroup: the one that still is in it after it was opened, and no other that got its pid.
fn signal_member(cgroup: &Cgroup, pid: i32, signal: i32) -> Result<()> {
    let Some(process) = process::open(pid).context(|| format!("pidfd_open {pid}"))? else {
        return Ok(());
    };
    if signal == 0 || !cgroup.pids()?.contains(&pid) {
        return Ok(());
    }
    match pidfd_send_signal(&process, raw_signal(signal)?) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(e) => Err(Error::sys(format!("kill {pid}"), e)),
    }
}

fn raw_signal(signal: i32) -> Result<Signal> {
    crate::sys::process::signal(signal)
        .ok_or_else(|| Error::new(format!("invalid signal {signal}")))
}

/// Whether the first process is not pid 1 of a pid namespace of its own.
fn shares_pids(record: &Record) -> bool {
    let Some(init) = record.init else {
        return false;
    };
    let status = std::fs::read_to_string(format!("/proc/{}/status", init.pid)).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.is_some_and(|pids| pids.split_whitespace().next_back() != Some("1"))
}

/// What a container does now: `runp state`.
///
/// # Errors
/// When there is none, or its record cannot be read.
pub fn state(store: &Store, id: &ContainerId) -> Result<State> {
    look(&store.look(id)?, &OnceCell::new())
}

/// All containers: `runp list`. One whose record cannot be read is an error of its own and hides none of the others.
///
/// # Errors
/// When the state root cannot be read.
pub fn list(store: &Store) -> Result<Vec<(ContainerId, Result<State>)>> {
    let ids = store.ids()?;
    let layout = OnceCell::new();
    let looked = ids.into_iter().filter_map(|id| {
        let state = store.look(&id).and_then(|entry| look(&entry, &layout));
        match state {
            // Removed between the two looks.
            Err(e) if e.errno() == Some(libc::ENOENT) => None,
            state => Some((id, state)),
        }
    });
    Ok(looked.collect())
}

/// Where the machine's cgroups are is found out only if need be, and once.
fn look(entry: &Entry, layout: &OnceCell<Layout>) -> Result<State> {
    let record = entry.record()?;
    let status = status(entry, &record, || {
        let layout = match layout.get() {
            Some(layout) => layout,
            None => {
                let found = Layout::detect()?;
                layout.get_or_init(|| found)
            }
        };
        layout.open(&record.cgroup)?.is_frozen()
    })?;
    let pid = match status {
        Status::Stopped | Status::Creating => 0,
        _ => record.init.map_or(0, |init| init.pid),
    };
    Ok(State {
        oci_version: record.oci_version,
        id: record.id,
        pid,
        status,
        bundle: record.bundle,
        rootfs: record.rootfs,
        created: record.created,
        annotations: record.annotations,
        owner: record.owner,
    })
}

pub(super) fn is_frozen(record: &Record) -> Result<bool> {
    Layout::detect()?.open(&record.cgroup)?.is_frozen()
}

/// The pids of all processes in the container's cgroup: `runp ps`.
///
/// # Errors
/// When there is no such container, or the cgroup cannot be read.
pub fn processes(store: &Store, id: &ContainerId) -> Result<Vec<i32>> {
    let record = store.look(id)?.record()?;
    Layout::detect()?.open(&record.cgroup)?.pids()
}
