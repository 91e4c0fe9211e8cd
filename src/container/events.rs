//! What a container uses, again and again, and when it runs out of memory: `runp events`.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::remove;
use crate::cgroup::{Cgroup, Layout, OomWatch, Stats};
use crate::error::{Context, Error, Result};
use crate::state::{ContainerId, Store};

/// What happens to a container.
#[derive(Debug)]
pub enum Event {
    /// Some time has passed: what it uses now.
    Stats(Box<Stats>),
    /// The kernel has run out of memory for it.
    Oom,
}

/// What a container uses now.
///
/// # Errors
/// When it does not run, or its cgroup cannot be read.
pub fn stats(store: &Store, id: &ContainerId) -> Result<Stats> {
    let (_, cgroup) = open(store, id)?;
    cgroup.stats()
}

/// Watches for a container that runs out of memory; `None` where nothing counts its memory.
///
/// # Errors
/// When it does not run, or the kernel refuses.
pub fn watch_oom(store: &Store, id: &ContainerId) -> Result<Option<OomWatch>> {
    let (_, cgroup) = open(store, id)?;
    cgroup.watch_oom()
}

/// Tells of all that happens to a container until it ends: what it uses at each `interval`. Ends earlier when `tell` says
/// false.
///
/// # Errors
/// When it does not run, or its cgroup cannot be read; what `tell` returns.
pub fn watch(
    store: &Store,
    id: &ContainerId,
    interval: Duration,
    mut tell: impl FnMut(Event) -> Result<bool>,
) -> Result<()> {
    let (init, cgroup) = open(store, id)?;
    let mut oom = cgroup.watch_oom()?;
    let mut next = Instant::now() + interval;
    loop {
        let ended = wait(oom.as_ref(), &init, next)?;
        let (happened, gone) = oom.as_mut().map_or((false, true), OomWatch::look);
        if happened && !tell(Event::Oom)? {
            return Ok(());
        }
        if gone {
            oom = None;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            next += interval;
            if !tell(Event::Stats(Box::new(cgroup.stats()?)))? {
                return Ok(());
            }
        }
    }
}

/// Waits for memory that runs out, for the end of the container, which it returns, or for the time.
fn wait(oom: Option<&OomWatch>, init: impl AsFd, until: Instant) -> Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).ok();
    let mut files = vec![PollFd::new(&init, PollFlags::IN)];
    if let Some(oom) = oom {
        let (file, flags) = oom.poll_for();
        files.push(PollFd::from_borrowed_fd(file, flags));
    }
    match poll(&mut files, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(!files[0].revents().is_empty()),
        Err(e) => Err(e).context(|| "poll"),
    }
}

fn open(store: &Store, id: &ContainerId) -> Result<(OwnedFd, Cgroup)> {
    let record = store.look(id)?.record()?;
    let Some(init) = remove::first_process(&record)? else {
        let step = format!("watch container {:?}", id.as_str());
        return Err(Error::new(step).hint("it is stopped"));
    };
    let cgroup = Layout::detect()?.open(&record.cgroup)?;
    Ok((init, cgroup))
}
