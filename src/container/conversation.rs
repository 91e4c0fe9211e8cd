//! The parent's side of the conversation with a process that it has made in a container: see [`super::protocol`].

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::protocol::{Go, ParentEnd, Report};
use super::{Created, Launch};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::sys::process::{self, Child, Exit};

/// What the parent does for the process before that goes on.
#[derive(Debug)]
pub(super) enum Task {
    /// It was made: give it what it cannot give itself. It does nothing before that if the plan says so, or if it is an exec's.
    Begin,
    /// It sets itself up. Meanwhile, record it, and restrict it: no code of others runs in it before that.
    Record,
    /// It has what it needs for now: there is time for something else.
    Meanwhile,
    /// It takes over from the one that made it, and has nothing left to do but to execute the program.
    TakeOver,
    /// Call the hooks that look at its mounts.
    CallHooks,
    /// Hand this seccomp listener to who waits for it. The process does not wait for that.
    HandOver(OwnedFd),
}

/// One process, and what it says. Whatever goes wrong, it does not outlive the conversation.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    parent: ParentEnd,
    cgroup: &'a Cgroup,
    process: Child,
    /// Another process will go on in its place; it is not recorded.
    moves: bool,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(parent: ParentEnd, cgroup: &'a Cgroup, process: Child) -> Self {
        Self {
            parent,
            cgroup,
            process,
            moves: false,
        }
    }

    /// With a process that makes another one, which goes on in its place.
    pub(super) fn with_one_that_moves(self) -> Self {
        Self {
            moves: true,
            ..self
        }
    }

    /// Lets the process begin, and follows it until its program is executed, or until it waits for that. `perform` is called
    /// with it for each task.
    pub(super) fn follow(
        mut self,
        launch: Launch,
        perform: impl FnMut(&Child, Task) -> Result<Go>,
    ) -> Result<Created> {
        match self.follow_process(launch, perform) {
            Ok(console) => Ok(Created {
                pid: self.process.pid,
                pidfd: self.process.pidfd,
                console,
            }),
            Err(e) => Err(self.reap(e)),
        }
    }

    fn follow_process(
        &mut self,
        launch: Launch,
        mut perform: impl FnMut(&Child, Task) -> Result<Go>,
    ) -> Result<Option<OwnedFd>> {
        self.parent.go(perform(&self.process, Task::Begin)?)?;
        if !self.moves {
            self.parent.go(perform(&self.process, Task::Record)?)?;
            perform(&self.process, Task::Meanwhile)?;
        }
        let mut console = None;
        loop {
            match self.receive()? {
                Report::Console(master) => console = Some(master),
                Report::Mounted => {
                    self.parent.go(perform(&self.process, Task::CallHooks)?)?;
                }
                Report::Listener(listener) => {
                    perform(&self.process, Task::HandOver(listener))?;
                }
                Report::Moved(pid) => {
                    self.replace(pid)?;
                    self.parent.go(perform(&self.process, Task::TakeOver)?)?;
                }
                Report::Ready if launch == Launch::AtGate => return Ok(console),
                Report::Ready => break,
                Report::Failed(e) => return Err(e),
                Report::End => return Err(self.death()),
            }
        }
        match self.parent.receive()? {
            Report::End => Ok(console),
            Report::Failed(e) => Err(e),
            other => Err(Error::new(format!(
                "unexpected message {other:?} after Ready"
            ))),
        }
    }

    /// What the process says next. The other one that it is about to make keeps the conversation open: until that one has
    /// been told of, the end of the process is looked for, too.
    fn receive(&self) -> Result<Report> {
        if self.moves {
            let step = || "wait for the container's process";
            let mut files = [
                PollFd::new(&self.parent, PollFlags::IN),
                PollFd::new(&self.process.pidfd, PollFlags::IN),
            ];
            rustix::io::retry_on_intr(|| poll(&mut files, None)).context(step)?;
            if files[0].revents().is_empty() {
                return Ok(Report::End);
            }
        }
        match self.parent.receive() {
            // Told once of one that has ended with a Go unread. What it said before that is still to come.
            Err(e) if e.errno() == Some(libc::ECONNRESET) => self.parent.receive(),
            report => report,
        }
    }

    /// Goes on with the process that the present one has made, which ends.
    fn replace(&mut self, pid: i32) -> Result<()> {
        let step = || format!("pidfd_open {pid}");
        let raw = Pid::from_raw(pid).ok_or_else(|| Error::new(step()))?;
        // A child of this process: its pid is its own until it is waited for.
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).context(step)?;
        let before = std::mem::replace(&mut self.process, Child { pid, pidfd });
        self.moves = false;
        process::wait(&before.pidfd)
            .map(drop)
            .context(|| "wait for the process that set the container up")
    }

    /// What is to be said of a process that ended before it could say anything itself.
    fn death(&self) -> Error {
        let exit = process::wait(&self.process.pidfd);
        let out_of_memory = self.cgroup.oom_kills().is_ok_and(|kills| kills > 0);
        let limit = self.cgroup.memory_limit();
        match exit {
            Ok(Exit::Signal(9)) if out_of_memory => Error::new(format!(
                "the container's first process was OOM-killed{}",
                limit.map_or_else(String::new, |bytes| format!(", limit {bytes} bytes"))
            ))
            .hint("linux.resources.memory.limit is too small to start the container: raise it"),
            Ok(exit) => Error::new(format!(
                "the container's first process ended before its program was executed: {exit:?}"
            )),
            Err(e) => Error::sys("wait for the container's first process", e),
        }
    }

    fn reap(self, error: Error) -> Error {
        end(&self.process.pidfd, error)
    }
}

/// Kills and reaps a child for which there is no use any more, and gives the error back that is the reason.
pub fn end(pidfd: &OwnedFd, error: Error) -> Error {
    // It may have ended by itself already, and it must be reaped either way.
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    match process::wait(pidfd) {
        Ok(_) | Err(rustix::io::Errno::CHILD) => error,
        Err(e) => error.and_cleanup(Err(Error::sys("wait for the killed process", e))),
    }
}
