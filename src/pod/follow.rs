//! Waiting for news of a pod: its journal, watched.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::store::PodDir;
use crate::error::{Context, Result};

/// Tells that a pod's journal has grown, or that its supervisor has gone.
#[derive(Debug)]
pub struct Follow(OwnedFd);

impl Follow {
    /// From now on: what is read of the journal after this misses nothing.
    ///
    /// # Errors
    /// As inotify_init1(2) and inotify_add_watch(2).
    pub fn new(pod: &PodDir) -> Result<Self> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags).context(|| "inotify_init")?;
        let journal = pod.journal();
        let flags = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE_SELF;
        inotify::add_watch(&inotify, &journal, flags)
            .context(|| format!("watch {}", journal.display()))?;
        Ok(Self(inotify))
    }

    /// Waits for news, but not for longer than this; `false` if there were none.
    ///
    /// # Errors
    /// As poll(2).
    pub fn wait(&self, longest: Option<Duration>) -> Result<bool> {
        let timeout = longest.and_then(|longest| Timespec::try_from(longest).ok());
        let mut files = [PollFd::new(&self.0, PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut files, timeout.as_ref()))
            .context(|| "wait for news of the pod")?;
        // Which ones they are does not matter: the journal says it.
        let mut events = [MaybeUninit::<u8>::uninit(); 4096];
        let _ = rustix::io::read(&self.0, &mut events);
        Ok(ready > 0)
    }
}
