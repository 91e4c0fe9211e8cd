//! What a run of a container writes: its pipes or its terminal, and the log that it goes to.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};

use super::lifecycle::Time;
use super::logs::{LogWriter, Stream};
use crate::error::{Context, Result};

/// What a run writes, and where to. Nothing of it blocks: our ends are non-blocking.
#[derive(Debug)]
pub struct Output {
    log: LogWriter,
    from: From,
}

/// Our ends of what it writes to, as long as there may be more.
#[derive(Debug)]
enum From {
    Pipes([Option<OwnedFd>; 2]),
    Terminal(Option<OwnedFd>),
}

impl Output {
    /// The log of a run, and nothing yet that it writes to.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub fn new(logs: &Path, restart: u32) -> Result<Self> {
        let log = LogWriter::open(logs, restart)?;
        let from = From::Pipes([None, None]);
        Ok(Self { log, from })
    }

    /// New pipes; the ends that the container gets for its standard output and error.
    ///
    /// # Errors
    /// As pipe(2).
    pub fn open_pipes(&mut self) -> Result<[OwnedFd; 2]> {
        let pipe = || -> Result<_> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).context(|| "pipe")?;
            // Ours only: what the container writes to stays as it expects it.
            unblock(&read)?;
            Ok((read, write))
        };
        let ((stdout, out), (stderr, err)) = (pipe()?, pipe()?);
        self.from = From::Pipes([Some(stdout), Some(stderr)]);
        Ok([out, err])
    }

    /// The pipes that another supervisor made.
    pub fn of_pipes(self, pipes: [Option<OwnedFd>; 2]) -> Self {
        let from = From::Pipes(pipes);
        Self { from, ..self }
    }

    /// The master end of a terminal.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn of_terminal(self, master: OwnedFd) -> Result<Self> {
        unblock(&master)?;
        let from = From::Terminal(Some(master));
        Ok(Self { from, ..self })
    }

    /// Those of our ends that are still open.
    pub fn files(&self) -> impl Iterator<Item = (Stream, &OwnedFd)> {
        let (stdout, stderr) = match &self.from {
            From::Pipes([stdout, stderr]) => (stdout, stderr.as_ref()),
            From::Terminal(master) => (master, None),
        };
        let stdout = stdout.iter().map(|file| (Stream::Stdout, file));
        stdout.chain(stderr.map(|file| (Stream::Stderr, file)))
    }

    /// The master end of its terminal, if it has one and somebody has that open.
    pub fn terminal(&self) -> Option<&OwnedFd> {
        match &self.from {
            From::Terminal(master) => master.as_ref(),
            From::Pipes(_) => None,
        }
    }

    /// Takes what is there of a stream.
    pub fn drain(&mut self, stream: Stream, now: Time) {
        let file = match (&mut self.from, stream) {
            (From::Pipes([stdout, _]), Stream::Stdout) => stdout,
            (From::Pipes([_, stderr]), Stream::Stderr) => stderr,
            (From::Terminal(master), Stream::Stdout) => master,
            (From::Terminal(_), Stream::Stderr) => return,
        };
        let Some(open) = file else { return };
        match self.log.drain(stream, open.as_fd(), now) {
            Ok(false) => {}
            Ok(true) => *file = None,
            Err(e) => {
                log::error!("{e}");
                *file = None;
            }
        }
    }

    /// Takes all that is there: the process has ended.
    pub fn drain_all(&mut self, now: Time) {
        self.drain(Stream::Stdout, now);
        self.drain(Stream::Stderr, now);
    }

    /// Has the beginning of a line in the log, too, though its end is still to come: somebody waits for it.
    pub fn flush(&mut self, now: Time) {
        self.log.flush(now);
    }

    /// Writes what is left, and lets go of what somebody outside of the container still holds.
    pub fn close(mut self, now: Time) {
        self.drain_all(now);
        self.log.close(now);
    }

    /// The beginning of the last line that was written.
    pub fn last_line(&self) -> &[u8] {
        self.log.last_line()
    }
}

fn unblock(file: &OwnedFd) -> Result<()> {
    fcntl_getfl(file)
        .and_then(|flags| fcntl_setfl(file, flags | OFlags::NONBLOCK))
        .context(|| "make what a container writes to non-blocking")
}
