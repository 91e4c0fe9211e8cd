//! Between `create` and `start`: the created container's first process listens on a socket in its state directory.
//!
//! A socket and not a fifo, so that `start` learns how execve ended: the connection is close-on-exec, and carries the
//! error if there was one. Both ends of the socket are the kernel's: a container whose program was executed, or whose
//! first process died, refuses the connection at once, whatever files are left. So a connection that says nothing only
//! asks whether the container still waits.

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

/// What `start` says.
const START: &[u8] = b"S";
/// How many may ask at the same time before they have to wait.
const BACKLOG: i32 = 128;

/// The listening end, made by `create` and inherited by the container's first process.
#[derive(Debug)]
pub(super) struct Gate(OwnedFd);

impl Gate {
    /// Makes the socket in the container's state directory.
    pub(super) fn bind(path: &Path) -> Result<Self> {
        let step = || format!("listen on {}", path.display());
        let gate = socket(SocketFlags::empty()).context(step)?;
        let (_dir, address) = address(path)?;
        bind(&gate, &address).context(step)?;
        listen(&gate, BACKLOG).context(step)?;
        Ok(Self(gate))
    }

    /// Waits for `start`. The connection tells it what becomes of execve.
    pub(super) fn wait(&self) -> Result<OwnedFd> {
        let step = || "wait for start";
        loop {
            let connection =
                rustix::io::retry_on_intr(|| accept_with(&self.0, SocketFlags::CLOEXEC))
                    .context(step)?;
            let said = crate::sys::socket::receive(&connection).context(step)?;
            if said.is_some_and(|(message, _)| message == START) {
                return Ok(connection);
            }
        }
    }
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether a container waits there.
pub(super) fn is_waiting(path: &Path) -> bool {
    if !path.exists() {
        return false;
    }
    let asked = socket(SocketFlags::NONBLOCK)
        .context(|| "socket")
        .and_then(|socket| {
            let (_dir, address) = address(path)?;
            connect(&socket, &address).context(|| "connect")
        });
    match asked {
        Ok(()) => true,
        // So many ask that it has not come to this one yet.
        Err(e) => e.errno() == Some(libc::EAGAIN),
    }
}

/// A created container that was told to execute its program.
#[derive(Debug)]
pub(super) struct Opened(OwnedFd);

/// Tells a created container to execute its program.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let step = || format!("connect to {}", path.display());
    let connection = socket(SocketFlags::empty()).context(|| "socket")?;
    let (_dir, address) = address(path)?;
    connect(&connection, &address).map_err(|e| match e {
        Errno::CONNREFUSED => Error::new("the container's first process is gone")
            .hint("it was killed before start; delete the container and create it again"),
        e => Error::sys(step(), e),
    })?;
    crate::sys::socket::send(&connection, START, None).map_err(|e| match e {
        Errno::PIPE | Errno::CONNRESET => waits_no_more(),
        e => Error::sys(step(), e),
    })?;
    rustix::fs::unlink(path).context(|| format!("remove {}", path.display()))?;
    Ok(Opened(connection))
}

impl Opened {
    /// Waits until it has executed it.
    pub(super) fn wait(self) -> Result<()> {
        let report = ParentEnd::from(self.0).receive();
        match report.map_err(|e| match e.errno() {
            Some(libc::ECONNRESET) => waits_no_more(),
            _ => e,
        })? {
            Report::End => Ok(()),
            Report::Failed(e) => Err(e),
            other => Err(Error::new(format!(
                "unexpected message {other:?} at the gate"
            ))),
        }
    }
}

/// It had been told already, by a `start` that was killed before it removed the socket; or it was killed itself.
fn waits_no_more() -> Error {
    Error::new("it was started or killed meanwhile").hint("see what it does now: runp state")
}

fn socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | flags,
        None,
    )
}

/// The address of a socket, whose path may be longer than the 108 bytes of unix(7): it is named through its directory,
/// which must stay open until it has been used.
///
/// # Errors
/// When there is no such directory.
pub fn address(path: &Path) -> Result<(Option<OwnedFd>, SocketAddrUnix)> {
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
