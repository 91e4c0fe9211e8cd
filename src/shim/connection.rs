//! A connection that sends and receives frames, and never blocks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::ttrpc::{self, Frame, HEADER, MAX_MESSAGE};

/// In bytes: so much may wait to be read by the peer before no more is taken from it.
const CROWDED: usize = 64 << 10;

/// One end of a stream socket.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    arrived: Vec<u8>,
    to_send: Vec<u8>,
}

/// The peer has gone, or what it sends makes no sense.
#[derive(Debug)]
pub(super) struct Closed;

impl Connection {
    /// Over a socket that does not block.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            arrived: Vec::new(),
            to_send: Vec::new(),
        }
    }

    /// What to poll for.
    pub(super) fn poll_for(&self) -> (BorrowedFd<'_>, PollFlags) {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.to_send.len() < CROWDED);
        flags.set(PollFlags::OUT, !self.to_send.is_empty());
        (self.socket.as_fd(), flags)
    }

    /// Whether everything was sent.
    pub(super) fn is_quiet(&self) -> bool {
        self.to_send.is_empty()
    }

    /// Sends a frame: at once what the socket takes, the rest later.
    pub(super) fn send(&mut self, frame: &[u8]) -> Result<(), Closed> {
        self.to_send.extend(frame);
        self.flush()
    }

    /// Sends what has not been sent yet.
    pub(super) fn flush(&mut self) -> Result<(), Closed> {
        while !self.to_send.is_empty() {
            let flags = rustix::net::SendFlags::NOSIGNAL;
            match rustix::net::send(&self.socket, &self.to_send, flags) {
                Ok(sent) => drop(self.to_send.drain(..sent)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Closed),
            }
        }
        // One large answer must not be held for ever.
        self.to_send = Vec::new();
        Ok(())
    }

    /// Reads once, and gives all frames that are whole now.
    pub(super) fn receive(&mut self) -> Result<Vec<Frame>, Closed> {
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(&self.socket, &mut buffer) {
            Ok(0) => return Err(Closed),
            Ok(length) => self.arrived.extend(&buffer[..length]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return Err(Closed),
        }
        let frames = std::iter::from_fn(|| ttrpc::take(&mut self.arrived)).collect();
        if self.arrived.is_empty() {
            self.arrived = Vec::new();
        }
        debug_assert!(self.arrived.len() <= HEADER + MAX_MESSAGE + buffer.len());
        Ok(frames)
    }
}
