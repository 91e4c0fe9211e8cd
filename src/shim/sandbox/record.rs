//! Pause: started, and removed again, also by a process that knows nothing but the bundle.

use std::os::fd::AsFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::namespaces;
use super::plan::Plan;
use crate::cgroup::systemd::Unit;
use crate::cgroup::{Cgroup, Layout};
use crate::container;
use crate::error::{Context, Error, Result};
use crate::pod::pause::{self, Holds, Users};
use crate::state::{ContainerId, boot_id};

/// In the sandbox's bundle.
const RECORD: &str = "runp-sandbox.json";

/// Where pause is: written before there is one.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    boot_id: String,
    cgroup: std::path::PathBuf,
    unit: Option<Unit>,
}

/// Makes pause's cgroup, and pause in it, in the sandbox's namespaces. Its pid.
///
/// # Errors
/// What the kernel refuses; then nothing is left.
pub(super) fn start(bundle: &Path, id: &ContainerId, plan: &mut Plan) -> Result<i32> {
    let step = || format!("start sandbox {:?}", id.as_str());
    plan.cgroup.resolve().context(step)?;
    let record = Record {
        boot_id: boot_id()?,
        cgroup: plan.cgroup.path.clone(),
        unit: plan.cgroup.scope.as_ref().map(|scope| scope.unit.clone()),
    };
    let path = bundle.join(RECORD);
    let json = serde_json::to_vec(&record).map_err(|e| Error::new(format!("{}: {e}", step())))?;
    std::fs::write(&path, json).context(|| format!("write {}", path.display()))?;
    let started = Layout::detect().and_then(|layout| {
        let cgroup = layout.create(&plan.cgroup)?;
        start_in(id, plan, &cgroup)
    });
    started.map_err(|e| e.and_cleanup(remove(bundle)).step(step()))
}

fn start_in(id: &ContainerId, plan: &Plan, cgroup: &Cgroup) -> Result<i32> {
    // systemd makes its scope around a process that is there already.
    let nowhere = Layout::none().open(Path::new(""))?;
    let born_in = match plan.cgroup.scope {
        Some(_) => &nowhere,
        None => cgroup,
    };
    let holds = Holds {
        network: None,
        joins: None,
        ipc: false,
        pid: plan.pid,
        users: plan.users.map_or(Users::Host, |_| Users::Joined),
        sysctls: &plan.sysctls,
    };
    let start = || {
        let (child, unready) = pause::start(id.as_str(), holds, born_in, &[], || {})?;
        unready.wait(&child).map(|()| child)
    };
    let (pid, pidfd) = match plan.users {
        Some(_) => namespaces::start_within_users(plan, start)?,
        None => namespaces::within(plan, start).map(|child| (child.pid, child.pidfd))?,
    };
    let set = match plan.users {
        Some(owner) => pause::set_from_outside(&plan.sysctls, owner, pidfd.as_fd()),
        None => Ok(()),
    };
    set.and_then(|()| cgroup.adopt(&plan.cgroup, pid))
        .map_err(|e| container::end(&pidfd, e))?;
    Ok(pid)
}

/// Kills pause, if it is there, and removes its cgroup. Of a bundle that is no sandbox's, or whose sandbox never started,
/// there is nothing to remove.
///
/// # Errors
/// When something cannot be removed.
pub(in crate::shim) fn remove(bundle: &Path) -> Result<()> {
    let path = bundle.join(RECORD);
    let Ok(json) = std::fs::read(&path) else {
        return Ok(());
    };
    let record: Record = serde_json::from_slice(&json)
        .map_err(|e| Error::new(format!("read {}: {e}", path.display())))?;
    if record.boot_id == boot_id()? {
        let cgroup = Layout::detect()?.open(&record.cgroup)?.made_by(record.unit);
        if !cgroup.remove_if_empty()? {
            cgroup.kill()?;
            cgroup.remove()?;
        }
        cgroup.stop_unit()?;
    }
    match std::fs::remove_file(&path) {
        // By the shim itself, which has seen pause end.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.context(|| format!("remove {}", path.display())),
    }
}
