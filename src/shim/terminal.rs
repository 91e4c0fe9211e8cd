//! Copies between a terminal and containerd's fifos, as much at a time as fits, and never waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::Winsize;

use super::io::{Input, Output};
use crate::error::{Context, Result};

/// A terminal gives this much at once, in bytes.
const CHUNK: usize = 4096;
/// After so many chunks it is the others' turn.
const TURN: usize = 32;

/// The shim's end of a terminal, and what it is connected to.
#[derive(Debug)]
pub(super) struct Terminal {
    master: OwnedFd,
    /// Held until the process has ended: while nobody has this end open, the other one is in error.
    slave: Option<OwnedFd>,
    input: Option<OwnedFd>,
    /// The fifo of stdin has a writer as long as this is open.
    input_writer: Option<OwnedFd>,
    output: Option<Output>,
    /// Read from the fifo, and not typed yet.
    typed: Vec<u8>,
    /// Read from the terminal, and not written yet.
    shown: Vec<u8>,
}

impl Terminal {
    /// # Errors
    /// When `master` is no terminal's.
    pub(super) fn new(
        master: OwnedFd,
        input: Option<Input>,
        output: Option<Output>,
    ) -> Result<Self> {
        let step = || "use the container's terminal";
        let flags = rustix::fs::fcntl_getfl(&master).context(step)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).context(step)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).context(step)?;
        let (input, input_writer) = input.map(|ends| (ends.reader, ends.writer)).unzip();
        Ok(Self {
            master,
            slave: Some(slave),
            input,
            input_writer,
            output,
            typed: Vec::new(),
            shown: Vec::new(),
        })
    }

    pub(super) fn close_stdin(&mut self) {
        self.input_writer = None;
    }

    pub(super) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&self.master, size).context(|| "resize the terminal")
    }

    pub(super) fn poll_for<'a>(&'a self, files: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        let mut master = PollFlags::empty();
        master.set(PollFlags::OUT, !self.typed.is_empty());
        match (self.shown.is_empty(), &self.output) {
            (false, Some(output)) => files.push((output.writer.as_fd(), PollFlags::OUT)),
            _ => master |= PollFlags::IN,
        }
        // With nothing to wait for it would still tell, again and again, that its other end is closed.
        if !master.is_empty() {
            files.push((self.master.as_fd(), master));
        }
        if let Some(input) = self.input.as_ref().filter(|_| self.typed.is_empty()) {
            files.push((input.as_fd(), PollFlags::IN));
        }
    }

    /// The process that the terminal was made for has ended.
    pub(super) fn ended(&mut self) {
        self.slave = None;
        self.input = None;
        self.input_writer = None;
    }

    /// Copies both ways. When nobody has the terminal open any more, and all that it showed is written: what it was connected
    /// to.
    pub(super) fn copy(&mut self) -> Option<Option<Output>> {
        self.copy_input();
        for _ in 0..TURN {
            if !self.write() {
                return None;
            }
            match read(&self.master, &mut self.shown) {
                Ok(true) => {}
                Err(Errno::AGAIN) => return None,
                // EIO: the other end is closed. It is not before the process has ended, except when it was hung up.
                Ok(false) | Err(_) => return Some(self.output.take()),
            }
        }
        None
    }

    fn copy_input(&mut self) {
        for _ in 0..TURN {
            match rustix::io::write(&self.master, &self.typed) {
                _ if self.typed.is_empty() => {}
                Ok(written) => drop(self.typed.drain(..written)),
                Err(_) => return,
            }
            if !self.typed.is_empty() {
                return;
            }
            let Some(input) = &self.input else { return };
            match read(input, &mut self.typed) {
                Ok(true) => {}
                Ok(false) => self.input = None,
                Err(_) => return,
            }
        }
    }

    /// Writes what was shown; whether that is all gone.
    fn write(&mut self) -> bool {
        let Some(output) = &self.output else {
            self.shown.clear();
            return true;
        };
        while !self.shown.is_empty() {
            match rustix::io::write(&output.writer, &self.shown) {
                Ok(written) => drop(self.shown.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                // Its reader has gone for good.
                Err(_) => self.shown.clear(),
            }
        }
        true
    }
}

/// Reads once into an empty buffer; false at the end.
fn read(from: &OwnedFd, into: &mut Vec<u8>) -> rustix::io::Result<bool> {
    let mut buffer = [0; CHUNK];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut buffer))?;
    into.extend(&buffer[..length]);
    Ok(length > 0)
}
