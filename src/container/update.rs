//! Changing the limits of a container: `runp update`.

use serde_json::Value;

use super::status::status;
use crate::cgroup::{self, Layout, Limits, devices};
use crate::error::{Context, Error, Result};
use crate::state::{ContainerId, Status, Store};

/// Changes limits of a container. `change` is a part of `linux.resources`; what it does not name stays as it was
/// configured, or changed before.
///
/// # Errors
/// All that is wrong with the limits, by their JSON path, when the container has no processes, or with the limit that the
/// kernel refused; then all are what they were.
pub fn update(store: &Store, id: &ContainerId, change: &Value) -> Result<()> {
    let step = || format!("update container {:?}", id.as_str());
    let entry = store.open(id)?;
    let old = entry.record()?;
    let found = status(&entry, &old, || Ok(false)).context(step)?;
    if !matches!(found, Status::Running | Status::Created) {
        return Err(Error::new(step()).hint(format!("it is {}", found.as_str())));
    }
    let resources = cgroup::merged(old.resources.as_ref(), change)
        .map_err(|e| Error::new(format!("resources.{e}")).step(step()))?;
    let mut errors = Vec::new();
    let limits = Limits::from_resources(&resources, "resources", &mut errors);
    // Not when they are the same: callers send all that they know, and a hook may have added devices meanwhile.
    let was = old
        .resources
        .as_ref()
        .and_then(|old| old.devices().as_ref());
    let rules = (resources.devices().as_ref() != was).then(|| {
        let list = resources.devices().as_deref().unwrap_or_default();
        devices::Rules::from_list(list, "resources.devices", &mut errors)
    });
    Error::all(step(), errors)?;

    let cgroup = Layout::detect()
        .and_then(|layout| layout.open(&old.cgroup))
        .context(step)?
        .made_by(old.unit.clone());
    let mut new = old.clone();
    new.resources = Some(resources);
    let record_and_devices = || {
        entry.write(&new)?;
        let replaced = rules.map_or(Ok(()), |rules| cgroup.set_devices(&rules));
        replaced
            .and_then(|()| cgroup.tell_systemd(&limits))
            .map_err(|e| e.and_cleanup(entry.write(&old)))
    };
    cgroup.set(&limits, record_and_devices).context(step)?;
    match old.unit {
        // It has rounded some of them.
        Some(_) => cgroup.set(&limits, || Ok(())).context(step),
        None => Ok(()),
    }
}
