//! Between `create` and `start`: the created container's first process listens on a socket in its state directory.
//!
//! A socket and not a fifo, so that `start` learns how execve ended: the connection is close-on-exec, and carries the
//! error if there was one. A container whose first process died refuses the connection at once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};

use super::protocol::{ParentEnd, Report};
use crate::error::{Context, Error, Result};

/// The listening end, made by `create` and inherited by the container's first process.
#[derive(Debug)]
pub(super) struct Gate(OwnedFd);

impl Gate {
    /// Makes the socket in the container's state directory.
    pub(super) fn bind(path: &Path) -> Result<Self> {
        let step = || format!("listen on {}", path.display());
        let gate = socket().context(step)?;
        let (_dir, address) = address(path)?;
        bind(&gate, &address).context(step)?;
        listen(&gate, 1).context(step)?;
        Ok(Self(gate))
    }

    /// Waits for `start`. The connection tells it what becomes of execve.
    pub(super) fn wait(&self) -> Result<OwnedFd> {
        rustix::io::retry_on_intr(|| accept_with(&self.0, SocketFlags::CLOEXEC))
            .context(|| "wait for start")
    }
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lets a created container execute its program, and waits until it has.
pub(super) fn open(path: &Path) -> Result<()> {
    let connection = socket().context(|| "socket")?;
    let (_dir, address) = address(path)?;
    connect(&connection, &address).map_err(|e| match e {
        Errno::CONNREFUSED => Error::new("the container's first process is gone")
            .hint("it was killed before start; delete the container and create it again"),
        e => Error::sys(format!("connect to {}", path.display()), e),
    })?;
    rustix::fs::unlink(path).context(|| format!("remove {}", path.display()))?;
    match ParentEnd::from(connection).receive()? {
        Report::End => Ok(()),
        Report::Failed(e) => Err(e),
        other => Err(Error::new(format!(
            "unexpected message {other:?} at the gate"
        ))),
    }
}

fn socket() -> rustix::io::Result<OwnedFd> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// The address of a socket, whose path may be longer than the 108 bytes of unix(7): it is named through its directory,
/// which must stay open until it has been used.
pub(crate) fn address(path: &Path) -> Result<(Option<OwnedFd>, SocketAddrUnix)> {
    if let Ok(address) = SocketAddrUnix::new(path) {
        return Ok((None, address));
    }
    let step = || format!("open the directory of {}", path.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(step()));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent, flags, Mode::empty()).context(step)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&dir);
    let short = Path::new("/proc/self/fd")
        .join(number.to_string())
        .join(name);
    let address = SocketAddrUnix::new(short).context(|| format!("name {}", path.display()))?;
    Ok((Some(dir), address))
}
