//! Where a container says that it is ready, sd_notify(3): a socket in its state directory, which it sees in `/run/notify`.

use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use super::{gate, remove};
use crate::error::{Context, Error, Result};
use crate::state::{ContainerId, Entry, Store};

/// The directory of the socket in the container.
pub const DIRECTORY: &str = "/run/notify";
/// What the container's `NOTIFY_SOCKET` is.
pub const SOCKET: &str = "/run/notify/notify.sock";

/// What a container that will be started says.
#[derive(Debug)]
pub struct Notifications {
    /// A datagram socket.
    pub socket: OwnedFd,
    /// The container's first process.
    pub pid: i32,
    /// The same as a file: readable once it has ended.
    pub pidfd: OwnedFd,
}

/// Listens to a container before it is started. `None` if it was created without a directory for that, or is stopped.
///
/// # Errors
/// When there is no such container, or the socket cannot be made.
pub fn listen(store: &Store, id: &ContainerId) -> Result<Option<Notifications>> {
    let entry = store.look(id)?;
    let record = entry.record()?;
    let Some(pidfd) = remove::first_process(&record)? else {
        return Ok(None);
    };
    Ok(bind_in(&entry)?.map(|socket| Notifications {
        socket,
        pid: record.init.map_or(0, |init| init.pid),
        pidfd,
    }))
}

/// Makes the socket in the container's directory for it, if it has one.
pub(super) fn bind_in(entry: &Entry) -> Result<Option<OwnedFd>> {
    let path = entry.notify_socket();
    let step = || format!("listen on {}", path.display());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).context(step)?;
    // A start that was refused has left one.
    match rustix::fs::unlink(&path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(Error::sys(step(), e)),
    }
    let (_dir, address) = gate::address(&path)?;
    match bind(&socket, &address) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(Error::sys(step(), e)),
    }
    // Whoever the program is in the container; nobody outside reaches it.
    rustix::fs::chmod(&path, Mode::from_raw_mode(0o777)).context(step)?;
    Ok(Some(socket))
}
