//! `NOTIFY_SOCKET`, sd_notify(3): a service manager learns that the container is ready, and which process it is.

use std::ffi::{CString, OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::{Mount, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, socket_with,
};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::container::notify::{DIRECTORY, SOCKET};
use crate::error::{Context, Error, Result};
use crate::sys::socket;

/// How long systemd may take to handle what it was told.
const BARRIER: Duration = Duration::from_secs(30);
/// What a notification may be long.
const MAX_MESSAGE: usize = 4096;

/// The service manager's address.
#[derive(Debug)]
pub(super) struct Host(OsString);

impl Host {
    /// If a service manager has started us, and wants to know.
    pub(super) fn from_environment() -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET")
            .filter(|address| !address.is_empty())
            .map(Self)
    }

    /// Lets the container see the directory in which its socket will be.
    pub(super) fn add_to(spec: &mut Spec, directory: &Path) -> Result<CString> {
        let options = ["bind", "nosuid", "noexec", "nodev", "ro"];
        let mut mount = Mount::default();
        mount
            .set_destination(DIRECTORY.into())
            .set_source(Some(directory.into()))
            .set_typ(Some("bind".into()))
            .set_options(Some(options.map(String::from).to_vec()));
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        mounts.push(mount);
        spec.set_mounts(Some(mounts));
        CString::new(format!("NOTIFY_SOCKET={SOCKET}"))
            .map_err(|_| Error::new("name the notify socket"))
    }

    /// Waits until the container says that it is ready, or has ended, and tells the service manager that, and that
    /// `main` is the process to watch.
    pub(super) fn forward(
        &self,
        notifications: &OwnedFd,
        container: &OwnedFd,
        main: i32,
    ) -> Result<()> {
        loop {
            let mut files = [notifications, container].map(|fd| PollFd::new(fd, PollFlags::IN));
            match poll(&mut files, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e).context(|| "poll"),
            }
            if self.step(notifications.as_fd(), main)? || !files[1].revents().is_empty() {
                return Ok(());
            }
        }
    }

    /// Forwards what has arrived; whether the container was ready.
    pub(super) fn step(&self, notifications: BorrowedFd<'_>, main: i32) -> Result<bool> {
        let mut message = [0; MAX_MESSAGE];
        let length = match recv(notifications, &mut message, RecvFlags::DONTWAIT) {
            Ok((length, _)) => length.min(MAX_MESSAGE),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(e) => return Err(e).context(|| "receive what the container notifies of"),
        };
        match ready(&message[..length]) {
            Some(line) => self.tell(line, main).map(|()| true),
            None => Ok(false),
        }
    }

    fn tell(&self, ready: &[u8], main: i32) -> Result<()> {
        let step = || format!("notify {}", self.0.display());
        let flags = SocketFlags::CLOEXEC;
        let manager =
            socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).context(step)?;
        connect(&manager, &address(&self.0).context(step)?).context(step)?;
        let main = format!("MAINPID={main}\n");
        let ready = [ready, b"\n"].concat();
        for message in [&ready[..], main.as_bytes()] {
            socket::send(&manager, message, None).context(step)?;
        }
        barrier(&manager).context(step)
    }
}

/// sd_notify_barrier(3): the manager closes the pipe once it has handled all that came before. It knows us only as long
/// as we live.
fn barrier(manager: &OwnedFd) -> Result<()> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).context(|| "pipe")?;
    socket::send(manager, b"BARRIER=1", Some(theirs.as_fd())).context(|| "barrier")?;
    drop(theirs);
    let timeout = Timespec::try_from(BARRIER).ok();
    let mut files = [PollFd::new(&ours, PollFlags::IN)];
    match poll(&mut files, timeout.as_ref()) {
        Ok(0) => log::warn!("the service manager does not answer sd_notify_barrier(3)"),
        Ok(_) => drop(std::fs::File::from(ours).read(&mut [0])),
        Err(e) => return Err(e).context(|| "wait for the barrier"),
    }
    Ok(())
}

/// `@` stands for the NUL byte of an abstract address, sd_notify(3).
fn address(text: &OsStr) -> rustix::io::Result<SocketAddrUnix> {
    match text.as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name),
        path => SocketAddrUnix::new(path),
    }
}

/// The line that says that the service is ready.
fn ready(message: &[u8]) -> Option<&[u8]> {
    message
        .split(|&byte| byte == b'\n')
        .find(|line| line.starts_with(b"READY="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_ready_is_found() {
        assert_eq!(ready(b"READY=1"), Some(&b"READY=1"[..]));
        assert_eq!(
            ready(b"STATUS=x\nREADY=1\nMAINPID=3"),
            Some(&b"READY=1"[..])
        );
        assert_eq!(ready(b"STATUS=READY=1\n"), None);
        assert_eq!(ready(b""), None);
    }
}
