//! A container in the foreground: its terminal copied to ours, our signals passed on to it.

mod attached;
mod copy;
mod visit;

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::pidfd_send_signal;

use self::attached::Attached;
pub(super) use self::visit::{Visit, Visitor, Woken};
use super::notify::Host;
use crate::error::{Context, Result};
use crate::pod::logs::LogWriter;
use crate::sys::process::{self, Exit};

/// This process while a container runs in its foreground. Made before the container, so that no signal is lost.
#[derive(Debug)]
pub(super) struct Foreground {
    signals: SignalFd,
    notify: Option<(Host, OwnedFd)>,
    log: Option<LogWriter>,
}

impl Foreground {
    /// Takes all signals that are passed on as a file from now on.
    pub(super) fn prepare() -> Result<Self> {
        let passed_on = passed_on();
        passed_on.thread_block().context(|| "block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&passed_on, flags).context(|| "signalfd")?;
        Ok(Self {
            signals,
            notify: None,
            log: None,
        })
    }

    /// Has what comes out of the container's terminal written into a log.
    pub(super) fn logged(mut self, log: LogWriter) -> Self {
        self.log = Some(log);
        self
    }

    /// Waits until the process has ended; until then passes signals on to it, and copies its terminal if it has one.
    ///
    /// A terminal that can be copied no longer is closed, and the kernel hangs it up: a program does not write for
    /// ever to a reader that has gone.
    ///
    /// `notify`: whoever wants to know that the container is ready, and where it says so.
    pub(super) fn wait(
        mut self,
        pidfd: &OwnedFd,
        console: Option<OwnedFd>,
        notify: Option<(Host, OwnedFd)>,
    ) -> Result<Exit> {
        self.notify = notify;
        if let Some(console) = console {
            let log = self.log.take();
            let mut terminal = Attached::new(&console, log)?;
            let attended = self.attend(pidfd, Some(&mut terminal));
            terminal.close_log();
            attended?;
        }
        self.attend(pidfd, None)?;
        process::wait(pidfd).context(|| "wait for the container")
    }

    /// Until the process has ended, or the terminal is given up.
    fn attend(&mut self, pidfd: &OwnedFd, mut terminal: Option<&mut Attached<'_>>) -> Result<()> {
        loop {
            let mut files = vec![
                PollFd::new(pidfd, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            if let Some(terminal) = &terminal {
                files.extend(terminal.awaits());
            }
            // The last one: the terminal counts its own.
            let notify = files.len();
            if let Some((_, socket)) = &self.notify {
                files.push(PollFd::new(socket, PollFlags::IN));
            }
            let ready = wait_for(&mut files)?;
            let is_ready = |index: usize| ready.get(index).copied().unwrap_or(false);
            if is_ready(1) {
                self.pass_signal(pidfd, terminal.as_deref())?;
            }
            if is_ready(notify) {
                self.pass_notification()?;
            }
            if is_ready(0) {
                return terminal.map_or(Ok(()), |terminal| self.copy_rest(terminal));
            }
            if let Some(terminal) = &mut terminal
                && terminal.step(&ready[2..]).is_none()
            {
                return Ok(());
            }
        }
    }

    /// What the process has written before it ended, unless nobody takes it and a signal says not to wait for that.
    fn copy_rest(&self, terminal: &mut Attached<'_>) -> Result<()> {
        while let Some(output) = terminal.rest() {
            let ready = wait_for(&mut [output, PollFd::new(&self.signals, PollFlags::IN)])?;
            match ready[..] {
                [true, _] => terminal.step_rest(),
                _ if self.is_told_to_end()? => break,
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells the service manager once that the container is ready. This process stays the main one: with it the service
    /// ends.
    fn pass_notification(&mut self) -> Result<()> {
        if let Some((host, socket)) = &self.notify
            && host.step(socket.as_fd(), std::process::id().cast_signed())?
        {
            self.notify = None;
        }
        Ok(())
    }

    fn pass_signal(&self, pidfd: &OwnedFd, terminal: Option<&Attached<'_>>) -> Result<()> {
        // One at a time: if there are more, poll says so again.
        let Some(number) = self.next_signal()? else {
            return Ok(());
        };
        match (number, terminal) {
            (libc::SIGWINCH, Some(terminal)) => terminal.copy_size(),
            (number, _) => {
                let signal = process::signal(number);
                // A process that has just ended needs none any more.
                let _ = signal.map(|signal| pidfd_send_signal(pidfd, signal));
            }
        }
        Ok(())
    }

    fn is_told_to_end(&self) -> Result<bool> {
        let ends = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
        Ok(self
            .next_signal()?
            .is_some_and(|number| ends.contains(&number)))
    }

    fn next_signal(&self) -> Result<Option<i32>> {
        let signal = self.signals.read_signal().context(|| "read signals")?;
        Ok(signal.map(|signal| signal.ssi_signo as i32))
    }
}

/// All signals but those that are about this process and not for the container: its own children's ends, which their
/// pidfds tell, its own broken pipes and urgent data. All three are ignored, so that they end nothing.
fn passed_on() -> SigSet {
    let mut set = SigSet::all();
    for own in [Signal::SIGCHLD, Signal::SIGPIPE, Signal::SIGURG] {
        set.remove(own);
    }
    set
}

/// Waits until something happens to one of the files, and says to which.
fn wait_for(files: &mut [PollFd<'_>]) -> Result<Vec<bool>> {
    match poll(files, None) {
        Ok(_) => {}
        // Then no file has an event.
        Err(Errno::INTR) => return Ok(vec![false; files.len()]),
        Err(e) => return Err(e).context(|| "poll"),
    }
    Ok(files
        .iter()
        .map(|file| !file.revents().is_empty())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_us_is_not_passed_on() {
        let set = passed_on();
        for own in [Signal::SIGCHLD, Signal::SIGPIPE, Signal::SIGURG] {
            assert!(!set.contains(own), "{own}");
        }
        for others in [Signal::SIGTERM, Signal::SIGWINCH, Signal::SIGCONT] {
            assert!(set.contains(others), "{others}");
        }
    }
}
