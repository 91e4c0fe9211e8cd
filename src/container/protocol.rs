//! What a container's first process and its parent say to each other.
//!
//! ```text
//! parent                                   child (clone3)
//!   | systemd's scope, id maps, its identity | waits if it needs one of them, else it goes on to its mounts
//!   |---- Go ------------------------------->|
//!   | record on disk, device rules           | mounts, devices: nothing that outlives its mount namespace and its cgroup
//!   |---- Go ------------------------------->|   not for exec. Before it no code of others runs
//!   |<--- Mounted ---------------------------|   only with hooks that are called now: prestart, createRuntime
//!   |---- Go ------------------------------->|
//!   |                                        | createContainer hooks, pivot_root, credentials
//!   |<--- Console + the terminal's master ---|   only with a terminal
//!   |<--- Listener + a seccomp listener -----|   only with SCMP_ACT_NOTIFY
//!   |<--- Moved: pid -----------------------|   exec only: set up to the last, it made the process that is seen in
//!   |---- Go ------------------------------->|   the container's pid namespace, and is gone; that one goes on
//!   |<--- Ready -----------------------------|   nothing but execve is left
//!   |                                        | (create only: waits for `start` at the gate)
//!   |                                        | startContainer hooks, seccomp
//!   |<--- end of file -----------------------|   execve closed the socket
//!
//!   at any time:
//!   |<--- Failed: step, path, errno ---------|
//!   | end of file                            |   the parent died: the child exits
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::sys::{process, socket};

const GO: u8 = b'G';
const CONSOLE: u8 = b'C';
const LISTENER: u8 = b'L';
const MOUNTED: u8 = b'P';
const MOVED: u8 = b'M';
const READY: u8 = b'R';
/// Before an error. No message of criu's begins so.
pub(super) const FAILED: u8 = b'F';

/// What the parent says before the child goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Go {
    /// Signals that the child ignores because the caller of runp did: bit n - 1 is signal n. No program inherits that.
    pub(super) ignored: u32,
}

/// The parent's end.
#[derive(Debug)]
pub(super) struct ParentEnd(OwnedFd);

/// The child's end.
#[derive(Debug)]
pub(super) struct ChildEnd(OwnedFd);

/// What the child says.
#[derive(Debug)]
pub(super) enum Report {
    /// The master end of its terminal.
    Console(OwnedFd),
    /// Everything is mounted, and `/` is still the host's: it waits for the hooks that are called now.
    Mounted,
    /// Where the system calls arrive that somebody else decides about.
    Listener(OwnedFd),
    /// This process, a child of the parent's, goes on in its place.
    Moved(i32),
    /// Nothing but execve is left to do.
    Ready,
    /// It failed, and exits.
    Failed(Error),
    /// It closed its end: by execve after [`Report::Ready`], else by its death.
    End,
}

/// The two ends of one child's conversation.
pub(super) fn channel() -> Result<(ParentEnd, ChildEnd)> {
    let (parent, child) = socket::pair().context(|| "socketpair")?;
    Ok((ParentEnd(parent), ChildEnd(child)))
}

impl ParentEnd {
    /// Lets the child begin.
    pub(super) fn go(&self, go: Go) -> Result<()> {
        let message = [&[GO][..], &go.ignored.to_ne_bytes()].concat();
        match socket::send(&self.0, &message, None) {
            // The child died before it began; what it was killed by is told when it is waited for.
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            result => result.context(|| "send to the container's first process"),
        }
    }

    /// Closes the child's copy of this end: only then does the parent's death end the conversation.
    pub(super) fn close_in_child(&self) {
        process::close_inherited(self.0.as_fd());
    }

    /// Waits for what the child says next.
    pub(super) fn receive(&self) -> Result<Report> {
        let step = || "receive from the container's first process";
        let Some((message, fd)) = socket::receive(&self.0).context(step)? else {
            return Ok(Report::End);
        };
        match (message.split_first(), fd) {
            (Some((&CONSOLE, [])), Some(console)) => Ok(Report::Console(console)),
            (Some((&LISTENER, [])), Some(listener)) => Ok(Report::Listener(listener)),
            (Some((&MOUNTED, [])), None) => Ok(Report::Mounted),
            (Some((&READY, [])), None) => Ok(Report::Ready),
            (Some((&MOVED, &[a, b, c, d])), None) => {
                Ok(Report::Moved(i32::from_ne_bytes([a, b, c, d])))
            }
            (Some((&FAILED, error)), None) => Ok(Report::Failed(failure(error))),
            _ => Err(Error::new(format!(
                "{}: unexpected message {message:?}",
                step()
            ))),
        }
    }
}

impl ChildEnd {
    /// Waits until the parent says Go; a parent that died first is an error.
    pub(super) fn wait_for_go(&self) -> Result<Go> {
        let message = socket::receive(&self.0).context(|| "receive from the parent")?;
        let Some((message, _)) = message else {
            return Err(Error::new(
                "the parent died before the container was recorded",
            ));
        };
        match message[..] {
            [GO, a, b, c, d] => Ok(Go {
                ignored: u32::from_ne_bytes([a, b, c, d]),
            }),
            _ => Err(Error::new(format!(
                "unexpected message {message:?} before Go"
            ))),
        }
    }

    pub(super) fn console(&self, master: BorrowedFd<'_>) -> Result<()> {
        socket::send(&self.0, &[CONSOLE], Some(master)).context(|| "send the terminal")
    }

    pub(super) fn mounted(&self) -> Result<()> {
        socket::send(&self.0, &[MOUNTED], None).context(|| "send to the parent")
    }

    pub(super) fn listener(&self, listener: BorrowedFd<'_>) -> Result<()> {
        socket::send(&self.0, &[LISTENER], Some(listener)).map_err(|e| {
            Error::sys("send the seccomp listener", e)
                .hint("linux.seccomp must allow sendmsg to a container with SCMP_ACT_NOTIFY")
        })
    }

    pub(super) fn moved(&self, pid: i32) -> Result<()> {
        let message = [&[MOVED][..], &pid.to_ne_bytes()].concat();
        socket::send(&self.0, &message, None).context(|| "send to the parent")
    }

    pub(super) fn ready(&self) -> Result<()> {
        socket::send(&self.0, &[READY], None).context(|| "send to the parent")
    }
}

/// Sends a file to whoever wants to have it, too. A socket that is full takes no more: then nobody else knows of it.
pub(super) fn announce(
    socket: impl AsFd,
    message: &[u8],
    file: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    match socket::send(socket, message, Some(file)) {
        Err(Errno::AGAIN) => Ok(()),
        sent => sent,
    }
}

/// Sends an error to whoever waits at the other end of `socket`; if nobody does, nobody can be told.
pub(super) fn fail(socket: impl AsFd, error: &Error) {
    let mut message = vec![FAILED];
    if serde_json::to_writer(&mut message, error).is_ok() {
        let _ = socket::send(socket, &message, None);
    }
}

/// The error that [`fail`] has sent.
pub(super) fn failure(error: &[u8]) -> Error {
    serde_json::from_slice(error)
        .unwrap_or_else(|e| Error::new(format!("receive the error of a process: {e}")))
}

impl AsFd for ChildEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for ParentEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for ParentEnd {
    /// The connection to a child that waits at its gate speaks the same language.
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}
