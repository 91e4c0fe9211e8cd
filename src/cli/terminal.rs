//! A container in the foreground: its terminal copied to ours, our signals passed on to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::pidfd_send_signal;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::error::{Context, Result};
use crate::sys::process::{self, Exit};
use crate::sys::socket;

/// Sends the terminal's master end to whoever listens there, with its name as runc sends it.
pub(super) fn send(path: &Path, console: BorrowedFd<'_>) -> Result<()> {
    let step = || format!("send the terminal to --console-socket {}", path.display());
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .context(step)?;
    let address = SocketAddrUnix::new(path).context(step)?;
    connect(&socket, &address).context(step)?;
    socket::send(&socket, b"/dev/ptmx", Some(console)).context(step)
}

/// This process while a container runs in its foreground. Made before the container, so that no signal is lost.
#[derive(Debug)]
pub(super) struct Foreground {
    signals: SignalFd,
}

impl Foreground {
    /// Takes all signals as a file from now on.
    pub(super) fn prepare() -> Result<Self> {
        let all = SigSet::all();
        all.thread_block().context(|| "block signals")?;
        let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context(|| "signalfd")?;
        Ok(Self { signals })
    }

    /// Waits until the process has ended; until then passes signals on to it, and copies its terminal if it has one.
    pub(super) fn wait(self, pidfd: &OwnedFd, console: Option<&OwnedFd>) -> Result<Exit> {
        let mut terminal = console.map(Terminal::attach);
        let mut input = true;
        loop {
            let mut files = vec![
                PollFd::new(pidfd, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            let stdin = rustix::stdio::stdin();
            if let Some(terminal) = &terminal {
                files.push(PollFd::new(terminal.console, PollFlags::IN));
                if input {
                    files.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
                }
            }
            match poll(&mut files, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e).context(|| "poll"),
            }
            let ready: Vec<bool> = files
                .iter()
                .map(|file| !file.revents().is_empty())
                .collect();
            let is_ready = |index| ready.get(index).copied().unwrap_or(false);
            if is_ready(1) {
                self.pass_signals(pidfd, terminal.as_ref())?;
            }
            if let Some(shown) = &terminal {
                input = input && (!is_ready(3) || shown.copy_input());
                if is_ready(2) && !shown.copy_output() && !is_ready(0) {
                    // The last process closed it; what is left is to wait.
                    terminal = None;
                }
            }
            if is_ready(0) {
                while terminal.as_ref().is_some_and(Terminal::copy_rest) {}
                return process::wait(pidfd).context(|| "wait for the container");
            }
        }
    }

    fn pass_signals(&self, pidfd: &OwnedFd, terminal: Option<&Terminal<'_>>) -> Result<()> {
        // One at a time: if there are more, poll says so again.
        if let Some(signal) = self.signals.read_signal().context(|| "read signals")? {
            match (signal.ssi_signo as i32, terminal) {
                (libc::SIGWINCH, Some(terminal)) => terminal.copy_size(),
                // Ours: it tells of our child's end, which the pidfd tells too.
                (libc::SIGCHLD | libc::SIGPIPE | libc::SIGURG, _) => {}
                (number, _) => {
                    let signal = process::signal(number);
                    // A process that has just ended needs none any more.
                    let _ = signal.map(|signal| pidfd_send_signal(pidfd, signal));
                }
            }
        }
        Ok(())
    }
}

/// Our terminal in raw mode, until this is dropped, and the container's.
struct Terminal<'a> {
    console: &'a OwnedFd,
    before: Option<Termios>,
}

impl<'a> Terminal<'a> {
    fn attach(console: &'a OwnedFd) -> Self {
        let stdin = rustix::stdio::stdin();
        // Standard input need not be a terminal.
        let before = tcgetattr(stdin).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(stdin, OptionalActions::Now, &raw);
        }
        let terminal = Self { console, before };
        terminal.copy_size();
        terminal
    }

    fn copy_size(&self) {
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
            let _ = tcsetwinsize(self.console, size);
        }
    }

    /// False once there is no more input.
    fn copy_input(&self) -> bool {
        match copy(rustix::stdio::stdin(), self.console.as_fd()) {
            Ok(0) if self.before.is_none() => {
                // The end of a file or pipe: what a person would type for it.
                let _ = rustix::io::write(self.console, b"\x04");
                false
            }
            Ok(count) => count > 0,
            Err(e) => e == Errno::AGAIN || e == Errno::INTR,
        }
    }

    /// False once nobody holds the container's end any more.
    fn copy_output(&self) -> bool {
        match copy(self.console.as_fd(), rustix::stdio::stdout()) {
            Ok(count) => count > 0,
            Err(e) => e == Errno::AGAIN || e == Errno::INTR,
        }
    }

    /// Copies what was written and not yet read; false when there is nothing.
    fn copy_rest(&self) -> bool {
        let mut files = [PollFd::new(self.console, PollFlags::IN)];
        let now = rustix::event::Timespec::default();
        let readable = poll(&mut files, Some(&now)).is_ok_and(|ready| ready > 0)
            && files[0].revents().contains(PollFlags::IN);
        readable && self.copy_output()
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<usize> {
    let mut buffer = [0; 8192];
    let count = rustix::io::read(from, &mut buffer)?;
    let mut rest = &buffer[..count];
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(count)
}
