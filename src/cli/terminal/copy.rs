//! One direction of a terminal: from one file to another through a bounded buffer, one step when poll(2) says so.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, Result};
use rustix::pipe::PIPE_BUF;
use rustix::termios::isatty;

use crate::pod::logs::{LogWriter, Stream};
use crate::pod::observe::now;

/// Bytes that a terminal in raw mode takes without blocking once poll calls it writable (drivers/tty: `WAKEUP_CHARS`,
/// `TTYB_ALIGN_MASK`). One that turns newlines into two characters may block for so much until it is read again.
const TERMINAL_BUF: usize = 256;

/// A copy that does not block, also if the files are not set to non-blocking: it holds back what the destination has no
/// room for, and reads no more until that is written.
pub(super) struct Copy<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    /// One more than is read at a time, see [`Self::put_first`].
    buffer: [u8; PIPE_BUF + 1],
    /// What is read and not yet written.
    held: Range<usize>,
    /// Bytes that one write may have.
    at_once: usize,
    has_ended: bool,
    /// Gets what is read, too.
    log: Option<LogWriter>,
}

/// So many bytes a file takes at once that poll calls writable, whether it is set to non-blocking or not.
pub(super) fn at_once(to: BorrowedFd<'_>) -> usize {
    match isatty(to) {
        true => TERMINAL_BUF,
        false => PIPE_BUF,
    }
}

/// Why a copy goes no further.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// There is no more to read.
    Source,
    /// Nobody takes it any more.
    Destination,
}

impl<'a> Copy<'a> {
    pub(super) fn new(from: BorrowedFd<'a>, to: BorrowedFd<'a>) -> Self {
        Self {
            from,
            to,
            buffer: [0; PIPE_BUF + 1],
            held: 0..0,
            at_once: at_once(to),
            has_ended: false,
            log: None,
        }
    }

    /// Has what is read written into a log, too.
    pub(super) fn logged(mut self, log: Option<LogWriter>) -> Self {
        self.log = log;
        self
    }

    /// No more will be read: what came last may have no end of its line.
    pub(super) fn close_log(&mut self) {
        if let Some(log) = self.log.take() {
            log.close(now());
        }
    }

    /// What must be ready before the next [`Self::step`]. `None` when there will be none.
    pub(super) fn awaits(&self) -> Option<PollFd<'a>> {
        match (self.is_empty(), self.has_ended) {
            (false, _) => Some(PollFd::from_borrowed_fd(self.to, PollFlags::OUT)),
            (true, false) => Some(PollFd::from_borrowed_fd(self.from, PollFlags::IN)),
            (true, true) => None,
        }
    }

    /// Whether all that was read is written.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// What is read and not yet written.
    pub(super) fn held(&self) -> &[u8] {
        &self.buffer[self.held.clone()]
    }

    /// Takes back the last byte that was read.
    pub(super) fn take_last(&mut self) {
        self.held.end = self.held.end.saturating_sub(1).max(self.held.start);
    }

    /// Puts a byte that was taken back before what was read just now.
    pub(super) fn put_first(&mut self, byte: u8) {
        let Range { start, end } = self.held;
        self.buffer.copy_within(start..end, start + 1);
        self.buffer[start] = byte;
        self.held.end += 1;
    }

    /// One read or one write. Says when that was the last.
    pub(super) fn step(&mut self) -> Option<End> {
        let (done, end) = match self.is_empty() {
            true => (self.read(), End::Source),
            false => (self.write(), End::Destination),
        };
        match (done, &end) {
            (Err(Errno::AGAIN | Errno::INTR), _) => return None,
            (Ok(count), _) if count > 0 => return None,
            _ => {}
        }
        self.has_ended = true;
        self.held = 0..0;
        Some(end)
    }

    /// Puts these bytes behind the last of the source, which has ended.
    pub(super) fn append(&mut self, last: &[u8]) {
        let count = last.len().min(PIPE_BUF);
        self.buffer[..count].copy_from_slice(&last[..count]);
        self.held = 0..count;
    }

    /// Reads once, into the empty buffer. 0 is the end.
    ///
    /// # Errors
    /// As read(2).
    pub(super) fn read(&mut self) -> Result<usize> {
        let count = rustix::io::read(self.from, &mut self.buffer[..PIPE_BUF])?;
        self.held = 0..count;
        if let Some(log) = &mut self.log {
            log.take(Stream::Stdout, &self.buffer[..count], now());
        }
        Ok(count)
    }

    fn write(&mut self) -> Result<usize> {
        let end = self.held.end.min(self.held.start + self.at_once);
        let count = rustix::io::write(self.to, &self.buffer[self.held.start..end])?;
        self.held.start += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::fs::File;
    use std::io::{PipeReader, Read, Write, pipe};
    use std::os::fd::{AsFd, AsRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use rustix::event::{Timespec, poll};
    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

    use super::*;

    /// Takes steps as long as poll says so; how the copy ended, if it did.
    fn pump(copy: &mut Copy<'_>) -> Option<End> {
        let now = Timespec::default();
        while let Some(file) = copy.awaits() {
            if poll(&mut [file], Some(&now)).unwrap() == 0 {
                return None;
            }
            if let Some(end) = copy.step() {
                return Some(end);
            }
        }
        None
    }

    fn read_available(from: &PipeReader, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        let count = rustix::io::read(from, &mut read).unwrap();
        read.truncate(count);
        read
    }

    #[test]
    fn copies_all_to_the_end() {
        let (from, mut writer) = pipe().unwrap();
        let (mut reader, to) = pipe().unwrap();
        writer.write_all(b"abc").unwrap();
        let mut copy = Copy::new(from.as_fd(), to.as_fd());
        assert_eq!(pump(&mut copy), None);
        drop(writer);
        assert_eq!(pump(&mut copy), Some(End::Source));
        assert!(copy.awaits().is_none(), "nothing is left to do");
        copy.append(b"!");
        assert_eq!(pump(&mut copy), None);
        assert!(copy.awaits().is_none());
        drop(to);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc!");
    }

    #[test]
    fn a_byte_can_be_taken_back_and_put_before_the_next_ones() {
        let (from, mut writer) = pipe().unwrap();
        let (reader, to) = pipe().unwrap();
        let mut copy = Copy::new(from.as_fd(), to.as_fd());
        writer.write_all(b"abP").unwrap();
        assert_eq!(copy.step(), None);
        copy.take_last();
        assert_eq!(
            (copy.step(), read_available(&reader, 10)),
            (None, b"ab".to_vec())
        );
        let most = [b'c'; PIPE_BUF];
        writer.write_all(&most).unwrap();
        assert_eq!(copy.step(), None);
        copy.put_first(b'P');
        assert_eq!(copy.held(), [b"P", &most[..]].concat());
        assert_eq!(pump(&mut copy), None);
        assert_eq!(
            read_available(&reader, 2 * PIPE_BUF),
            [b"P", &most[..]].concat()
        );
    }

    /// `pump` would hang if a step blocked.
    fn assert_loses_nothing(is_nonblocking: bool) {
        let (from, mut writer) = UnixStream::pair().map(|(a, b)| (b, a)).unwrap();
        let (reader, to) = pipe().unwrap();
        if is_nonblocking {
            fcntl_setfl(&to, OFlags::NONBLOCK).unwrap();
        }
        let sent: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        let source = sent.clone();
        let sender = std::thread::spawn(move || writer.write_all(&source).unwrap());
        let mut copy = Copy::new(from.as_fd(), to.as_fd());
        let mut received = Vec::new();
        while received.len() < sent.len() {
            pump(&mut copy);
            let mut files = [PollFd::new(&reader, PollFlags::IN)];
            if poll(&mut files, Some(&Timespec::default())).unwrap() > 0 {
                received.extend(read_available(&reader, 5000)); // frees a page and a bit
            }
        }
        sender.join().unwrap();
        assert!(received == sent);
    }

    #[test]
    fn loses_nothing_when_a_blocking_destination_is_full() {
        assert_loses_nothing(false);
    }

    #[test]
    fn loses_nothing_when_a_nonblocking_destination_is_full() {
        assert_loses_nothing(true);
    }

    #[test]
    fn holds_back_while_there_is_no_room() {
        let (from, mut writer) = UnixStream::pair().map(|(a, b)| (b, a)).unwrap();
        let (_reader, to) = pipe().unwrap();
        let mut copy = Copy::new(from.as_fd(), to.as_fd());
        writer.set_nonblocking(true).unwrap();
        while writer.write(&[0; 4096]).is_ok() {
            assert_eq!(pump(&mut copy), None);
        }
        assert_eq!(copy.awaits().unwrap().as_fd().as_raw_fd(), to.as_raw_fd());
    }

    #[test]
    fn ends_when_nobody_reads() {
        let (from, mut writer) = pipe().unwrap();
        let (reader, to) = pipe().unwrap();
        writer.write_all(b"abc").unwrap();
        drop(reader);
        let mut copy = Copy::new(from.as_fd(), to.as_fd());
        assert_eq!(pump(&mut copy), Some(End::Destination));
        assert!(copy.awaits().is_none());
    }

    /// Ended by the test runner's patience if a write to the full terminal blocks.
    #[test]
    fn a_terminal_that_nobody_reads_does_not_block() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master: OwnedFd = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let terminal = ioctl_tiocgptpeer(&master, flags).unwrap();
        let mut modes = tcgetattr(&terminal).unwrap();
        modes.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &modes).unwrap();
        let newlines = tempfile::tempfile().unwrap();
        (&newlines).write_all(&[b'\n'; 1 << 20]).unwrap();
        let from = File::open(format!("/proc/self/fd/{}", newlines.as_raw_fd())).unwrap();
        let mut copy = Copy::new(from.as_fd(), terminal.as_fd());
        assert_eq!(pump(&mut copy), None);
        assert!(!copy.is_empty());
    }
}
