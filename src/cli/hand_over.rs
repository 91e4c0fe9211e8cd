//! What a caller gets of a new process: its terminal, its pid, and the process as a file.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::container::{self, Created};
use crate::error::{Context, Error, Result};
use crate::sys::socket;

/// Where to.
#[derive(Debug, Default, clap::Args)]
pub(super) struct HandOver {
    /// Unix socket that the terminal's master end is sent to
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,
    /// Unix socket that a pidfd of the new process is sent to
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// File that the pid of the new process is written to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
}

impl HandOver {
    /// A terminal needs somebody who holds it, and a socket for one needs a terminal.
    pub(super) fn check_terminal(&self, wants_terminal: bool, detached: bool) -> Result<()> {
        match (&self.console_socket, wants_terminal) {
            (None, true) if detached => Err(Error::new(
                "a terminal is wanted (process.terminal, exec --tty), and nobody would hold it",
            )
            .hint("give a --console-socket, or run in the foreground")),
            (Some(_), false) => Err(Error::new(
                "--console-socket is given, and no terminal is wanted",
            )
            .hint("set process.terminal (exec: --tty), or leave --console-socket out")),
            _ => Ok(()),
        }
    }

    /// Gives them to whom the caller said. `kind` is what runc calls the process: `standard`, or `setns` for an exec.
    pub(super) fn give(&self, process: &Created, kind: &str) -> Result<()> {
        if let (Some(socket), Some(console)) = (&self.console_socket, &process.console) {
            // Its name as runc sends it.
            send(socket, console.as_fd(), "/dev/ptmx")
                .context(|| format!("--console-socket {}", socket.display()))?;
        }
        if let Some(socket) = &self.pidfd_socket {
            send(socket, process.pidfd.as_fd(), kind)
                .context(|| format!("--pidfd-socket {}", socket.display()))?;
        }
        self.pid_file
            .as_deref()
            .map_or(Ok(()), |path| write_pid_file(path, process.pid))
    }
}

/// Sends a descriptor and its name to whoever listens there.
fn send(path: &Path, fd: BorrowedFd<'_>, name: &str) -> Result<()> {
    let kind = SocketType::STREAM;
    let socket =
        socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).context(|| "socket")?;
    let (_dir, address) = container::socket_address(path)?;
    connect(&socket, &address).context(|| "connect")?;
    socket::send(&socket, name.as_bytes(), Some(fd)).context(|| "send")
}

/// Writes the pid in one step, so that a reader never sees half of it.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let step = || format!("write --pid-file {}", path.display());
    let name = path.file_name().ok_or_else(|| Error::new(step()))?;
    let new = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    fs::write(&new, pid.to_string())
        .and_then(|()| fs::rename(&new, path))
        .map_err(|e| {
            let _ = fs::remove_file(&new);
            Error::sys(step(), e)
        })
}
