//! Stops and removes a pod, whatever is left of it and whoever died before.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use super::container::{container_id, debug_id};
use super::control::{self, Request};
use super::data::Data;
use super::lifecycle::{Event, Phase};
use super::store::{Holder, PodDir, PodName, Pods, Record};
use super::{journal, network, sandbox};
use crate::container;
use crate::error::{Context, Error, Result};
use crate::state::{ContainerId, Store, boot_id};

/// Removes a pod: `pod delete`. With `force` one that is not over is ended at once, and one that does not exist is no
/// error.
///
/// # Errors
/// When it is not over and `force` is not given, or when something cannot be removed; it can be tried again then.
pub fn delete(pods: &Pods, store: &Store, name: &PodName, force: bool) -> Result<()> {
    let removed = pods.open(name).and_then(|pod| {
        if !force {
            refuse_unfinished(&pod)?;
        }
        take(&pod)?;
        remove(pods, store, pod, force)
    });
    match removed {
        Err(e) if force && e.errno() == Some(libc::ENOENT) => Ok(()),
        result => result.context(|| format!("delete pod {:?}", name.as_str())),
    }
}

/// Without force: a pod that is about to end by itself is waited for, and one whose containers were never started holds
/// nothing that could be lost.
fn refuse_unfinished(pod: &PodDir) -> Result<()> {
    let name = pod.name();
    let refuse = |why: &str| {
        Err(Error::new(why).hint(format!(
            "stop it first: runp pod stop {name}, or: runp pod delete --force {name}"
        )))
    };
    let Some(supervisor) = pod.holder()? else {
        return match sandbox::is_populated(&pod.record()?.cgroup)? {
            false => Ok(()),
            true => refuse("its supervisor died, and something of it still runs"),
        };
    };
    let journal = journal::read(&pod.journal())?;
    let start = journal::Entry::Event(Event::StartRequested);
    if !journal.entries.iter().any(|(_, entry)| *entry == start) {
        return Ok(());
    }
    match journal.replay().phase() {
        Phase::Succeeded | Phase::Failed => wait_for_end(&supervisor.pidfd, None).map(drop),
        Phase::Pending | Phase::Running => refuse("it is not over"),
    }
}

/// How soon a supervisor must answer that is told to end its pod at once, and how soon it must be done with it.
const ANSWER: Duration = Duration::from_secs(1);
const END: Duration = Duration::from_secs(10);

/// Takes the pod's lock. Its supervisor is told to end the pod at once; one that does not is killed.
fn take(pod: &PodDir) -> Result<()> {
    while !pod.try_lock()? {
        let Some(Holder { pid, pidfd }) = pod.holder()? else {
            continue;
        };
        let stop = Request::Stop {
            grace: Some(Duration::ZERO),
        };
        let told = control::ask(pod.as_fd(), stop, ANSWER);
        if matches!(told, Ok(Some(_))) && wait_for_end(&pidfd, Some(END))? {
            continue;
        }
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(e) => return Err(Error::sys(format!("kill the pod's supervisor {pid}"), e)),
        }
        wait_for_end(&pidfd, None).context(|| format!("wait for the pod's supervisor {pid}"))?;
    }
    Ok(())
}

/// Waits until the process has ended, but not for longer than this; tells whether it has.
fn wait_for_end(pidfd: &OwnedFd, longest: Option<Duration>) -> Result<bool> {
    let mut files = [PollFd::new(pidfd, PollFlags::IN)];
    let timeout = longest.and_then(|longest| Timespec::try_from(longest).ok());
    rustix::io::retry_on_intr(|| poll(&mut files, timeout.as_ref()))
        .map(|ready| ready > 0)
        .context(|| "poll")
}

/// Removes everything of a pod whose lock this process holds, the directory that leads to the rest last. With `force` it
/// is removed also if its network cannot be undone.
fn remove(pods: &Pods, store: &Store, pod: PodDir, force: bool) -> Result<()> {
    let name = pod.name().to_string();
    let mut record = pod.read().unwrap_or_else(|e| {
        log::warn!("{e}");
        None
    });
    match &mut record {
        Some(record) => {
            let names = container_names(record);
            let names = names.iter().map(String::as_str);
            let data = Data::at(record.data.clone());
            remove_all(store, &name, names, &record.cgroup, &data)?;
            match network::detach(&pod, record) {
                Err(e) if force => {
                    log::warn!("{e}");
                    network::abandon(&pod)?;
                }
                undone => undone?,
            }
        }
        // Nothing else was made yet; or the record is broken, and then everything has its usual name.
        None => {
            let data = Data::at(pods.data(pod.name()));
            let names = data.container_names()?;
            let names = names.iter().map(String::as_str);
            remove_all(store, &name, names, &super::plan::cgroup(&name), &data)?;
            network::abandon(&pod)?;
        }
    }
    pod.remove()
}

fn container_names(record: &Record) -> Vec<String> {
    let spec = record.manifest.spec.iter();
    spec.flat_map(|spec| {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
    })
    .map(|container| container.name.clone())
    .collect()
}

/// Ends what runs and removes everything of a pod but its directory: processes, cgroups, containers' records, mounts,
/// data. What is gone already is no error.
///
/// # Errors
/// The kernel's; it can be tried again.
pub fn remove_all<'a>(
    store: &Store,
    pod: &str,
    containers: impl Iterator<Item = &'a str>,
    cgroup: &str,
    data: &Data,
) -> Result<()> {
    sandbox::kill(cgroup)?;
    for name in containers {
        container::delete(store, &container_id(pod, name)?, true)?;
    }
    // Ephemeral ones, whoever has lost sight of them.
    for name in data.container_names()? {
        container::delete(store, &container_id(pod, &name)?, true)?;
    }
    container::delete(store, &debug_id(pod)?, true)?;
    sandbox::remove_cgroup(cgroup)?;
    data.remove()
}

/// Ends a pod in order: `pod stop`. Returns once it is over. Without a supervisor it does that by itself.
///
/// # Errors
/// When there is none, or it cannot be ended.
pub fn stop(pods: &Pods, store: &Store, name: &PodName, grace: Option<Duration>) -> Result<()> {
    let pod = pods.open(name)?;
    let step = || format!("stop pod {:?}", name.as_str());
    let mut record = pod.record()?;
    if let Some(supervisor) =
        control::ask(pod.as_fd(), Request::Stop { grace }, control::PATIENCE).context(step)?
    {
        return supervisor.wait().context(step);
    }
    // Whoever is about to end, or to remove the pod, does it first.
    pod.lock()?;
    let spec = record.manifest.spec.as_ref();
    let planned = spec.and_then(|spec| spec.termination_grace_period_seconds);
    let planned = u64::try_from(planned.unwrap_or(0)).unwrap_or(0);
    let grace = grace.unwrap_or(Duration::from_secs(planned));
    let names = container_names(&record);
    end_containers(store, name, &names, grace).context(step)?;
    let names = names.iter().map(String::as_str);
    let data = Data::at(record.data.clone());
    remove_all(store, name.as_str(), names, &record.cgroup, &data)
        .and_then(|()| network::detach(&pod, &mut record))
        .context(step)
}

/// Asks the containers' first processes to end, and gives them this much time.
fn end_containers(store: &Store, pod: &PodName, names: &[String], grace: Duration) -> Result<()> {
    let end = Instant::now() + grace;
    let mut left = Vec::new();
    for name in names {
        let first = first_process(store, &container_id(pod.as_str(), name)?);
        if let Some(pidfd) = first {
            let _ = pidfd_send_signal(&pidfd, Signal::TERM);
            left.push(pidfd);
        }
    }
    for pidfd in left {
        wait_for_end(&pidfd, Some(end.saturating_duration_since(Instant::now())))?;
    }
    Ok(())
}

/// The first process of a container that runs; a container whose record cannot be read is killed with the others.
pub fn first_process(store: &Store, id: &ContainerId) -> Option<OwnedFd> {
    let record = store.look(id).and_then(|entry| entry.record()).ok()?;
    let this_boot = boot_id().is_ok_and(|boot| boot == record.boot_id);
    record.init.filter(|_| this_boot)?.open().ok()?
}

/// Its pid, as its record has it.
pub fn first_pid(store: &Store, id: &ContainerId) -> Option<i32> {
    let record = store.look(id).and_then(|entry| entry.record()).ok()?;
    record.init.map(|init| init.pid)
}
