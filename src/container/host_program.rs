//! A program of the host's, run to its end: a hook, or what sets up a network.
//!
//! It has nothing open but its standard input, output and error. What it reads and writes is best a file in memory
//! ([`memory`]): nobody waits then for a program that does not read, nor for what it leaves running.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Signal, pidfd_send_signal, set_parent_process_death_signal};

use super::console;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::sys::process::{self, Exit, StringArray};

/// In bytes: so much of what a program wrote last is told if it fails.
const TAIL: u64 = 1024;
/// Bit n - 1 is signal n: runp ignores SIGPIPE, programs do not expect that.
const SIGPIPE: u32 = 1 << (libc::SIGPIPE - 1);

/// Something that is done for a file.
pub(crate) type ForFile = fn(&Path) -> Result<()>;

/// What to execute, and how.
#[derive(Debug)]
pub(crate) struct HostProgram<'a> {
    /// Absolute.
    pub(crate) path: &'a CStr,
    /// Never empty.
    pub(crate) args: &'a [CString],
    /// Nothing else is in its environment.
    pub(crate) env: &'a [CString],
    /// Else where the caller is.
    pub(crate) directory: Option<&'a Path>,
    /// It is killed if it takes longer.
    pub(crate) timeout: Option<Duration>,
    /// It is killed when the caller dies.
    pub(crate) ends_with_us: bool,
    /// Where it is, and what it starts; else in the caller's.
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// What is done in its process before it is executed, for this file.
    pub(crate) first: Option<(ForFile, &'a Path)>,
}

impl HostProgram<'_> {
    /// How it ended; `None` if it took too long. What cannot be done in its process is told in its place, on its standard error.
    ///
    /// # Errors
    /// When no process can be made or waited for.
    pub(crate) fn run(&self, stdio: [BorrowedFd<'_>; 3]) -> Result<Option<Exit>> {
        let args = StringArray::new(self.args.to_vec());
        let env = StringArray::new(self.env.to_vec());
        let born_in = self.cgroup.and_then(Cgroup::clone_fd);
        let child = process::clone3(0, born_in, || {
            let error = match self.cgroup.map_or(Ok(()), Cgroup::join) {
                Ok(()) => self.become_it(&args, &env, stdio),
                Err(e) => e,
            };
            // It is told as the program's own last words.
            let _ = rustix::io::write(stdio[2], error.to_string().as_bytes());
            process::exit(127)
        })
        .context(|| "clone3")?;
        self.wait(&child.pidfd)
    }

    /// In its process. Returns only what went wrong.
    fn become_it(
        &self,
        args: &StringArray,
        env: &StringArray,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Error {
        let prepared = || -> Result<Infallible> {
            if self.ends_with_us {
                set_parent_process_death_signal(Some(Signal::KILL)).context(|| "prctl")?;
            }
            process::reset_signals(SIGPIPE).context(|| "reset signals")?;
            console::set_stdio(stdio)?;
            // That of a container's first process is not the caller's.
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
            process::close_on_exec_from(3).context(|| "close_range")?;
            if let Some((first, file)) = self.first {
                first(file)?;
            }
            if let Some(directory) = self.directory {
                rustix::process::chdir(directory)
                    .context(|| format!("enter {}", directory.display()))?;
            }
            Err(Error::sys("exec", process::execve(self.path, args, env)))
        };
        match prepared() {
            Ok(never) => match never {},
            Err(e) => e,
        }
    }

    fn wait(&self, pidfd: &OwnedFd) -> Result<Option<Exit>> {
        let timeout = self
            .timeout
            .and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut files = [PollFd::new(pidfd, PollFlags::IN)];
        let ended =
            rustix::io::retry_on_intr(|| poll(&mut files, timeout.as_ref())).context(|| "poll")?;
        if ended == 0 {
            // It may end by itself in this moment.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
        let exit = process::wait(pidfd).context(|| "wait for it")?;
        Ok((ended != 0).then_some(exit))
    }
}

/// A file in memory with these contents, to be read from the start.
pub(crate) fn memory(contents: &[u8]) -> rustix::io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("stdio", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(contents)
        .and_then(|()| file.rewind())
        .map_err(|e| rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO))?;
    Ok(file.into())
}

/// All that was written to a file in memory, up to `most` bytes.
pub(crate) fn written(file: OwnedFd, most: u64) -> Vec<u8> {
    let (mut file, mut bytes) = (File::from(file), Vec::new());
    // What cannot be read is not told.
    let _ = file
        .rewind()
        .and_then(|()| file.take(most).read_to_end(&mut bytes));
    bytes
}

/// The last that was written to a file in memory, on one line.
pub(crate) fn tail(file: OwnedFd) -> String {
    let (mut file, mut text) = (File::from(file), Vec::new());
    let from = file.metadata().map_or(0, |m| m.len().saturating_sub(TAIL));
    let _ = file
        .seek(SeekFrom::Start(from))
        .and_then(|_| file.take(TAIL).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    text.trim().escape_debug().to_string()
}
