//! Tells when the kernel runs out of memory for a cgroup.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fs::{Mode, OFlags, SeekFrom};

use super::{Cgroup, file};
use crate::error::{Context, Result};

/// Watches for it; poll(2) says when to look.
#[derive(Debug)]
pub enum OomWatch {
    /// v1 notifies an eventfd(2): <https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>, section 9.
    Legacy {
        /// Counts.
        notified: OwnedFd,
        /// Gone with the cgroup, of which the kernel notifies too.
        control: PathBuf,
    },
    /// `memory.events` of v2 changes.
    Unified {
        /// That file.
        events: OwnedFd,
        /// Kills that are known.
        kills: u64,
    },
}

impl Cgroup {
    /// Watches for it, from now on. `None` without a memory controller.
    ///
    /// # Errors
    /// The kernel's, with the file.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let open = |path: &PathBuf| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
        };
        if let Some(memory) = self.layout.v1_with("memory") {
            let dir = self.dir(Some(memory));
            let path = dir.join("memory.oom_control");
            let oom_control = open(&path).context(|| format!("open {}", path.display()))?;
            let notified =
                eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context(|| "eventfd")?;
            let control = dir.join("cgroup.event_control");
            let line = format!("{} {}", notified.as_raw_fd(), oom_control.as_raw_fd());
            file::write(&control, &line)
                .context(|| format!("write {line:?} to {}", control.display()))?;
            return Ok(Some(OomWatch::Legacy { notified, control }));
        }
        let Some(path) = self.v2().map(|dir| dir.join("memory.events")) else {
            return Ok(None);
        };
        let events = match open(&path) {
            Ok(events) => events,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => return Ok(None),
            Err(e) => return Err(e).context(|| format!("open {}", path.display())),
        };
        let kills = count(&events).context(|| format!("read {}", path.display()))?;
        Ok(Some(OomWatch::Unified { events, kills }))
    }
}

impl OomWatch {
    /// What to poll for.
    pub fn poll_for(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self {
            Self::Legacy { notified, .. } => (notified.as_fd(), PollFlags::IN),
            Self::Unified { events, .. } => (events.as_fd(), PollFlags::PRI),
        }
    }

    /// Whether it happened since this was asked last, and whether the cgroup is gone: then there is nothing more to poll for.
    pub fn look(&mut self) -> (bool, bool) {
        match self {
            Self::Legacy { notified, control } => {
                let mut count = [0; 8];
                let read = rustix::io::read(&*notified, &mut count);
                let count = read.map_or(0, |_| u64::from_ne_bytes(count));
                match control.exists() {
                    true => (count > 0, false),
                    // One was of its end.
                    false => (count > 1, true),
                }
            }
            Self::Unified { events, kills } => match count(events) {
                Ok(now) => {
                    let before = std::mem::replace(kills, now);
                    (now > before, false)
                }
                Err(_) => (false, true),
            },
        }
    }
}

/// How many processes the kernel has killed for memory.
fn count(events: &OwnedFd) -> rustix::io::Result<u64> {
    rustix::fs::seek(events, SeekFrom::Start(0))?;
    let text = file::read_all(events)?;
    Ok(file::keyed(&text, "oom_kill").unwrap_or(0))
}
