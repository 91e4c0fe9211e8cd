//! A log, and somebody who sees at once what goes into it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::{LogWriter, Stream};
use crate::error::{Context, Result};
use crate::pod::observe::now;
use crate::sys::process::{self, Child};

/// Taken at a time: a pipe's usual capacity in bytes, pipe(7).
const BATCH: usize = 64 * 1024;

/// A process that copies what a program writes into its log and to our standard output and error, until nobody writes any
/// more; and the files for that program, of which the first is our standard input. It goes on when we are killed, and so does
/// the program.
///
/// # Errors
/// As pipe(2) and fork(2).
pub fn tee(log: LogWriter) -> Result<(Child, [OwnedFd; 3])> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context(|| "pipe");
    let ((stdout, out), (stderr, err)) = (pipe()?, pipe()?);
    let stdin = rustix::stdio::stdin().try_clone_to_owned();
    let stdin = stdin.context(|| "dup")?;
    let child = process::fork(|| {
        for theirs in [&out, &err] {
            process::close_inherited(theirs.as_fd());
        }
        copy(log, stdout, stderr);
        process::exit(0)
    });
    Ok((child.context(|| "fork for a log")?, [stdin, out, err]))
}

/// Where a stream comes from, and who sees it.
struct Copy {
    stream: Stream,
    from: OwnedFd,
    is_seen: bool,
}

fn copy(mut log: LogWriter, stdout: OwnedFd, stderr: OwnedFd) {
    // Whoever holds our standard input waits for its end.
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let _ = null.and_then(rustix::stdio::dup2_stdin); // nothing depends on it
    let copy = |stream, from| Copy {
        stream,
        from,
        is_seen: true,
    };
    let mut copies = vec![copy(Stream::Stdout, stdout), copy(Stream::Stderr, stderr)];
    while !copies.is_empty() {
        let files = copies
            .iter()
            .map(|copy| PollFd::new(&copy.from, PollFlags::IN));
        let mut files: Vec<PollFd<'_>> = files.collect();
        match poll(&mut files, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => break,
        }
        let ready = files.iter().map(|file| !file.revents().is_empty());
        let mut ready = ready.collect::<Vec<bool>>().into_iter();
        copies.retain_mut(|copy| !ready.next().unwrap_or_default() || copy.step(&mut log));
    }
    log.close(now());
}

impl Copy {
    /// Whether there may be more.
    fn step(&mut self, log: &mut LogWriter) -> bool {
        let mut bytes = Vec::with_capacity(BATCH);
        match rustix::io::read(&self.from, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return false,
            Err(e) => return e == Errno::INTR,
            Ok(_) => {}
        }
        log.take(self.stream, &bytes, now());
        let to = match self.stream {
            Stream::Stdout => rustix::stdio::stdout(),
            Stream::Stderr => rustix::stdio::stderr(),
        };
        let mut left = &bytes[..];
        while self.is_seen && !left.is_empty() {
            match rustix::io::write(to, left) {
                Ok(count) => left = &left[count..],
                Err(Errno::INTR) => {}
                // Nobody reads it any more; the log does.
                Err(_) => self.is_seen = false,
            }
        }
        true
    }
}
