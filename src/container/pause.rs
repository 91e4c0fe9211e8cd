//! Stopping all processes of a container, and letting them go on: `runp pause` and `runp resume`.

use super::status::status;
use crate::cgroup::{Cgroup, Layout};
use crate::error::{Context, Error, Result};
use crate::state::{ContainerId, Status, Store};

/// Stops all processes of a container; when it returns, they have stopped.
///
/// # Errors
/// When the container does not run, when its first process is not in its cgroup any more (then freezing that would stop
/// nothing), or when the kernel refuses; then nothing is stopped.
pub fn pause(store: &Store, id: &ContainerId) -> Result<()> {
    let step = || format!("pause container {:?}", id.as_str());
    let (found, cgroup, pid) = look(store, id).context(step)?;
    match found {
        Status::Running | Status::Created => {}
        other => return Err(Error::new(step()).hint(format!("it is {}", other.as_str()))),
    }
    cgroup
        .verify(pid)
        .and_then(|()| cgroup.freeze())
        .context(step)
}

/// Lets the processes of a paused container go on.
///
/// # Errors
/// When it is not paused, or the kernel refuses.
pub fn resume(store: &Store, id: &ContainerId) -> Result<()> {
    let step = || format!("resume container {:?}", id.as_str());
    let (found, cgroup, _) = look(store, id).context(step)?;
    match found {
        Status::Paused => cgroup.thaw().context(step),
        other => Err(Error::new(step()).hint(format!("it is {}, and not paused", other.as_str()))),
    }
}

/// What the container does, its cgroup and its first process. Without the lock: who holds it may wait for a frozen
/// container.
fn look(store: &Store, id: &ContainerId) -> Result<(Status, Cgroup, i32)> {
    let entry = store.look(id)?;
    let record = entry.record()?;
    let cgroup = Layout::detect()?.open(&record.cgroup)?;
    let found = status(&entry, &record, || cgroup.is_frozen())?;
    Ok((found, cgroup, record.init.map_or(0, |init| init.pid)))
}
