//! Waits for a cgroup by listening, and never for long.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::file;
use crate::error::{Context, Result};

/// How long the kernel may take to end or stop what it was told to. It needs milliseconds, unless a disk hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// When waiting ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn new() -> Self {
        Self(Instant::now() + PATIENCE)
    }

    /// Looks once.
    pub(super) fn now() -> Self {
        Self(Instant::now())
    }

    /// For one round of several.
    pub(super) fn soon() -> Self {
        Self(Instant::now() + Duration::from_millis(50))
    }

    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    fn left(self) -> Timespec {
        let left = self.0.saturating_duration_since(Instant::now());
        Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        }
    }
}

/// Waits until `cgroup.events` of a v2 cgroup says `key value`; whether it did. A cgroup that is gone has no events
/// to wait for.
pub(super) fn event(dir: &Path, key: &str, value: u64, deadline: Deadline) -> Result<bool> {
    let path = dir.join("cgroup.events");
    let fail = || format!("watch {}", path.display());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let events = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(events) => events,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(true),
        Err(e) => return Err(e).context(fail),
    };
    loop {
        let text = match file::read_all(&events) {
            Ok(text) => text,
            Err(Errno::NODEV) => return Ok(true),
            Err(e) => return Err(e).context(fail),
        };
        if file::keyed(&text, key) == Some(value) {
            return Ok(true);
        }
        if deadline.is_over() {
            return Ok(false);
        }
        // Returns at once if the file has changed since it was read.
        let mut events_fd = [PollFd::new(&events, PollFlags::PRI)];
        match poll(&mut events_fd, Some(&deadline.left())) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e).context(fail),
        }
        rustix::fs::seek(&events, rustix::fs::SeekFrom::Start(0)).context(fail)?;
    }
}

/// Waits until these processes have ended, or some: v1 has no events to listen to, but processes have.
pub(super) fn ended(pids: &[i32], deadline: Deadline) {
    let processes: Vec<_> = pids
        .iter()
        .filter_map(|pid| Pid::from_raw(*pid))
        .filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .collect();
    if processes.is_empty() {
        return a_moment();
    }
    for process in &processes {
        let mut fd = [PollFd::new(process, PollFlags::IN)];
        // The caller looks again in any case.
        let _ = poll(&mut fd, Some(&deadline.left()));
    }
}

/// For what the kernel announces nowhere: a v1 cgroup that stays busy for a moment after its last process, a v1
/// freezer on its way.
pub(super) fn a_moment() {
    std::thread::sleep(Duration::from_millis(1));
}
