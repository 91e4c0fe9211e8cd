//! The pod's sandbox: its cgroup, and pause in it with the pod's namespaces.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::kept::Kept;
use super::network;
use super::pause::{self, Holds, Unready, Users};
use super::plan::{SandboxPlan, Shared};
use crate::cgroup::{self, Layout, Limits};
use crate::error::{Context, Error, Result};
use crate::sys::process::{self, Child};

/// Makes the pod's cgroup with its limits, and a pause process in it that holds the pod's namespaces. `meanwhile` runs while
/// it makes them. What is left to wait for of pause is returned, too, unless the containers are going to see it.
///
/// # Errors
/// The step that the kernel refused; then nothing of the sandbox is left.
pub fn start(
    pod: &str,
    plan: &SandboxPlan,
    kept: &Kept,
    meanwhile: impl FnOnce(),
) -> Result<(Child, Option<Unready>)> {
    let layout = Layout::detect()?;
    let mut errors = Vec::new();
    let limits = Limits::from_resources(&plan.resources, "resources", &mut errors);
    Error::all("the pod's cgroup", errors)?;
    layout.create(&cgroup::Plan::around(&plan.cgroup, limits))?;
    let started = start_pause(pod, plan, &layout, kept, meanwhile).context(|| "start pause");
    started.map_err(|e| e.and_cleanup(remove_cgroup(&plan.cgroup)))
}

fn start_pause(
    pod: &str,
    plan: &SandboxPlan,
    layout: &Layout,
    kept: &Kept,
    meanwhile: impl FnOnce(),
) -> Result<(Child, Option<Unready>)> {
    // Without rules for devices: pause has no way to open a file.
    let path = pause_cgroup(&plan.cgroup);
    let cgroup = layout.create(&cgroup::Plan::around(path, Limits::default()))?;
    let joined = network::open_joined(&plan.connection)?;
    let holds = Holds {
        joins: joined.as_ref().map(AsFd::as_fd),
        network: (plan.network == Shared::Pod).then_some(plan.hostname.as_str()),
        ipc: plan.ipc == Shared::Pod,
        pid: plan.pid == Shared::Pod,
        users: plan.users.map_or(Users::Host, Users::New),
        sysctls: &plan.sysctls,
    };
    let (child, unready) = pause::start(pod, holds, &cgroup, &kept.ends(), meanwhile)?;
    match holds.pid {
        true => unready.wait(&child).map(|()| (child, None)),
        false => Ok((child, Some(unready))),
    }
}

/// `_` is in no container's name, so that this is never a container's cgroup.
fn pause_cgroup(pod: &str) -> PathBuf {
    Path::new(pod).join("_pause")
}

/// Whether the pod's cgroup is there, with a process in it or below.
///
/// # Errors
/// When it cannot be read.
pub fn is_populated(cgroup: &str) -> Result<bool> {
    let cgroup = Layout::detect()?.open(Path::new(cgroup))?;
    Ok(!cgroup.pids()?.is_empty())
}

/// Whether pause is there.
///
/// # Errors
/// When its cgroup cannot be read.
pub fn has_pause(cgroup: &str) -> Result<bool> {
    let cgroup = Layout::detect()?.open(&pause_cgroup(cgroup))?;
    Ok(!cgroup.pids()?.is_empty())
}

/// Pause, if it is there.
///
/// # Errors
/// When its cgroup cannot be read.
pub fn pause(cgroup: &str) -> Result<Option<Child>> {
    let cgroup = Layout::detect()?.open(&pause_cgroup(cgroup))?;
    let Some(pid) = cgroup.pids()?.first().copied() else {
        return Ok(None);
    };
    let pidfd = process::open(pid).context(|| format!("pidfd_open {pid}"))?;
    // Still the same: what is listed there is what was opened.
    let same = cgroup.pids()?.contains(&pid);
    Ok(pidfd.filter(|_| same).map(|pidfd| Child { pid, pidfd }))
}

/// The first process of a pid namespace ends only once the others in it have been waited for, by whoever has inherited
/// them: if that takes longer than this, nothing is left that could run.
const END: Duration = Duration::from_secs(2);

/// Kills everything in the pod's cgroup and below, and waits until it has ended: a process leaves its cgroup a moment
/// before that.
///
/// # Errors
/// A process that does not end.
pub fn kill(cgroup: &str) -> Result<()> {
    let cgroup = Layout::detect()?.open(Path::new(cgroup))?;
    let opened: Vec<(i32, OwnedFd)> = cgroup
        .pids()?
        .into_iter()
        .filter_map(|pid| {
            Some((
                pid,
                pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?,
            ))
        })
        .collect();
    // What is still listed is what was opened, not a stranger who got the pid meanwhile.
    let listed = cgroup.pids()?;
    cgroup.kill()?;
    let end = Instant::now() + END;
    for (_, pidfd) in opened.iter().filter(|(pid, _)| listed.contains(pid)) {
        let mut files = [PollFd::new(pidfd, PollFlags::IN)];
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
        rustix::io::retry_on_intr(|| poll(&mut files, left.as_ref())).context(|| "poll")?;
    }
    Ok(())
}

/// Removes the pod's cgroup with all below it. Again, or what is left of it, is fine.
///
/// # Errors
/// A process is still in it.
pub fn remove_cgroup(cgroup: &str) -> Result<()> {
    Layout::detect()?.open(Path::new(cgroup))?.remove()
}
