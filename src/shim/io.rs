//! Where a process's standard input, output and error go: containerd's fifos, or files, or nowhere.
//!
//! Without a terminal the process gets the fifos themselves: nothing is copied, a reader that is slow holds up the process and
//! nobody else, and the shim sleeps. The shim keeps the fifos' other ends open, so that the process meets neither an end nor
//! SIGPIPE while containerd is away, until stdin is closed on request, or the process has ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::ioctl_fionread;

use super::logger;
use super::terminal::Terminal;
use crate::container::Stdio;
use crate::error::{Context, Error, Result};

/// Begins the URI of a program that takes the output.
const BINARY: &str = "binary://";

/// Whose they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    /// containerd's.
    pub(super) namespace: &'a str,
    /// Of the container, or of the exec.
    pub(super) id: &'a str,
    /// Root of the container's user namespace: user and group on the host.
    pub(super) root: (u32, u32),
}

/// What was asked for: paths, empty for nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) terminal: bool,
}

/// A process's standard three.
#[derive(Debug)]
pub(super) struct Io {
    pub(super) asked: Asked,
    open: Open,
}

#[derive(Debug)]
enum Open {
    Nothing,
    Fifos {
        /// The writing end of stdin.
        input: Option<OwnedFd>,
        outputs: Vec<Output>,
    },
    /// Before the process has made the terminal.
    Ends {
        input: Option<Input>,
        output: Option<Output>,
    },
    Terminal(Terminal),
}

/// The shim's two ends of a fifo that somebody else writes to.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) reader: OwnedFd,
    pub(super) writer: OwnedFd,
}

/// The shim's two ends of a fifo that somebody else reads.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) reader: Option<OwnedFd>,
    pub(super) writer: OwnedFd,
}

impl Io {
    pub(super) fn new(asked: Asked) -> Self {
        Self {
            asked,
            open: Open::Nothing,
        }
    }

    /// Opens everything.
    ///
    /// # Errors
    /// A fifo that is not there, something that is none, a logger that does not start.
    pub(super) fn open(&mut self, owner: Owner<'_>) -> Result<Stdio> {
        let asked = &self.asked;
        if asked.terminal {
            let output = match asked.stdout.starts_with(BINARY) {
                true => {
                    let [writer, _] = logger::start(&asked.stdout, owner.namespace, owner.id)?;
                    Some(not_read_here(not_blocking(writer)?))
                }
                false => match open_output(&asked.stdout, owner.root)? {
                    (_, Some(output)) => Some(output),
                    (file, None) => file.map(not_read_here),
                },
            };
            let input = open_input(&asked.stdin)?;
            self.open = Open::Ends { input, output };
            return Ok(Stdio::Terminal);
        }
        let (stdin, input) = match open_input(&asked.stdin)? {
            Some(Input { reader, writer }) => {
                give(&reader, owner.root)?;
                (blocking(reader)?, Some(writer))
            }
            None => (null()?, None),
        };
        let mut outputs = Vec::new();
        let [stdout, stderr] = match asked.stdout.starts_with(BINARY) {
            true => logger::start(&asked.stdout, owner.namespace, owner.id)?,
            false => {
                let mut opened = |path: &str| {
                    let (file, output) = open_output(path, owner.root)?;
                    outputs.extend(output);
                    file.map_or_else(null, Ok)
                };
                [opened(&asked.stdout)?, opened(&asked.stderr)?]
            }
        };
        self.open = Open::Fifos { input, outputs };
        Ok(Stdio::Files([stdin, stdout, stderr]))
    }

    /// The process has made its terminal.
    ///
    /// # Errors
    /// When that cannot be used.
    pub(super) fn attach(&mut self, master: Option<OwnedFd>) -> Result<()> {
        if let Some(master) = master
            && let Open::Ends { input, output } = std::mem::replace(&mut self.open, Open::Nothing)
        {
            self.open = Open::Terminal(Terminal::new(master, input, output)?);
        }
        Ok(())
    }

    /// Whoever writes to stdin is the only one from now on.
    pub(super) fn close_stdin(&mut self) {
        match &mut self.open {
            Open::Fifos { input, .. } => *input = None,
            Open::Terminal(terminal) => terminal.close_stdin(),
            Open::Nothing | Open::Ends { .. } => {}
        }
    }

    /// # Errors
    /// As ioctl_tty(2) `TIOCSWINSZ`.
    pub(super) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        match &self.open {
            Open::Terminal(terminal) => terminal.resize(columns, rows),
            // runc's shim says nothing either: a client may ask before there is a terminal, or after.
            _ => Ok(()),
        }
    }

    /// What to poll for: nothing, unless there is a terminal.
    pub(super) fn poll_for<'a>(&'a self, files: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        if let Open::Terminal(terminal) = &self.open {
            terminal.poll_for(files);
        }
    }

    /// Copies what a terminal has to copy.
    pub(super) fn copy(&mut self) {
        if let Open::Terminal(terminal) = &mut self.open
            && let Some(output) = terminal.copy()
        {
            self.leave(output.into_iter().collect());
        }
    }

    /// The process has ended. Its readers see the end of its output once everything is read, and what it has left running has
    /// ended, too.
    pub(super) fn ended(&mut self) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Fifos { outputs, .. } => self.leave(outputs),
            Open::Terminal(mut terminal) => {
                terminal.ended();
                self.open = Open::Terminal(terminal);
                self.copy();
            }
            Open::Nothing | Open::Ends { .. } => {}
        }
    }

    /// A fifo's contents are lost when nobody has it open: while containerd is away its last words are kept.
    fn leave(&mut self, outputs: Vec<Output>) {
        let without_readers = outputs.into_iter().filter_map(|output| {
            drop(output.reader);
            let is_read = has_reader(&output.writer);
            let is_empty = ioctl_fionread(&output.writer).is_ok_and(|bytes| bytes == 0);
            (!is_read && !is_empty).then_some(Output {
                reader: None,
                writer: output.writer,
            })
        });
        let outputs: Vec<_> = without_readers.collect();
        self.open = match outputs.is_empty() {
            true => Open::Nothing,
            false => Open::Fifos {
                input: None,
                outputs,
            },
        };
    }

    /// Of a process that has ended: closes what somebody reads by now.
    pub(super) fn settle(&mut self) {
        if let Open::Fifos { .. } = self.open
            && let Open::Fifos { outputs, .. } = std::mem::replace(&mut self.open, Open::Nothing)
        {
            self.leave(outputs);
        }
    }
}

/// Of the other end of this one somebody else takes care.
fn not_read_here(writer: OwnedFd) -> Output {
    Output {
        reader: None,
        writer,
    }
}

/// A fifo's writing end is in error while there is no reader.
fn has_reader(writer: &OwnedFd) -> bool {
    let mut files = [PollFd::new(writer, PollFlags::empty())];
    let polled = poll(&mut files, Some(&Timespec::default()));
    polled.is_ok() && !files[0].revents().contains(PollFlags::ERR)
}

fn open(path: &str, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {path}"))
}

fn null() -> Result<OwnedFd> {
    open("/dev/null", OFlags::RDWR)
}

/// Both ends of stdin's fifo.
fn open_input(path: &str) -> Result<Option<Input>> {
    if path.is_empty() {
        return Ok(None);
    }
    if !is_fifo(path)? {
        return Err(Error::new(format!("open {path}")).hint("stdin must be a fifo"));
    }
    // The reader first: without one there is no writer that does not block.
    let reader = open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let writer = open(path, OFlags::WRONLY | OFlags::NONBLOCK)?;
    Ok(Some(Input { reader, writer }))
}

/// What a process writes to, and the shim's ends if that is a fifo.
fn open_output(path: &str, owner: (u32, u32)) -> Result<(Option<OwnedFd>, Option<Output>)> {
    if path.is_empty() {
        return Ok((None, None));
    }
    if let Some(file) = path.strip_prefix("file://") {
        return open_log(file).map(|file| (Some(file), None));
    }
    if path.contains("://") {
        return Err(Error::new(format!("write output to {path:?}"))
            .hint("a fifo's path, file:///PATH and binary:///PATH are known"));
    }
    if !is_fifo(path)? {
        return open(path, OFlags::WRONLY | OFlags::APPEND).map(|file| (Some(file), None));
    }
    let reader = open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let writer = open(path, OFlags::WRONLY | OFlags::NONBLOCK)?;
    // Not a duplicate: whether it blocks is the process's own affair.
    let theirs = blocking(open(path, OFlags::WRONLY | OFlags::NONBLOCK)?)?;
    give(&theirs, owner)?;
    let output = Output {
        reader: Some(reader),
        writer,
    };
    Ok((Some(theirs), Some(output)))
}

/// A log file: appended to, made if it is not there.
fn open_log(path: &str) -> Result<OwnedFd> {
    let step = || format!("open log {path}");
    if !path.starts_with('/') {
        return Err(Error::new(step()).hint("file:// must be followed by an absolute path"));
    }
    if let Some(parent) = Path::new(path).parent() {
        std::fs::create_dir_all(parent).context(step)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).context(step)
}

fn is_fifo(path: &str) -> Result<bool> {
    let stat = rustix::fs::stat(path).context(|| format!("look at {path}"))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// The runtime's options `io_uid` and `io_gid`: who is root in the container's user namespace.
fn give(fifo: &OwnedFd, (uid, gid): (u32, u32)) -> Result<()> {
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    let uid = rustix::fs::Uid::from_raw(uid);
    let gid = rustix::fs::Gid::from_raw(gid);
    rustix::fs::fchown(fifo, Some(uid), Some(gid)).context(|| "give a fifo to the container's root")
}

fn not_blocking(file: OwnedFd) -> Result<OwnedFd> {
    let flags = rustix::fs::fcntl_getfl(&file).context(|| "fcntl")?;
    rustix::fs::fcntl_setfl(file.as_fd(), flags | OFlags::NONBLOCK).context(|| "fcntl")?;
    Ok(file)
}

/// Programs do not expect that their standard files do not block.
fn blocking(file: OwnedFd) -> Result<OwnedFd> {
    let flags = rustix::fs::fcntl_getfl(&file).context(|| "fcntl")?;
    rustix::fs::fcntl_setfl(file.as_fd(), flags - OFlags::NONBLOCK).context(|| "fcntl")?;
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn fifo(dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn opened(asked: Asked) -> (Io, [OwnedFd; 3]) {
        let mut io = Io::new(asked);
        let Stdio::Files(files) = io
            .open(Owner {
                namespace: "n",
                id: "c",
                root: (0, 0),
            })
            .unwrap()
        else {
            panic!("a terminal");
        };
        (io, files)
    }

    #[test]
    fn output_reaches_a_reader_that_comes_late_and_after_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let stdout = fifo(dir.path(), "out");
        let (mut io, [_, out, _]) = opened(Asked {
            stdout: stdout.clone(),
            ..Asked::default()
        });
        std::fs::File::from(out).write_all(b"last words").unwrap();
        io.ended();
        io.settle();
        assert!(!matches!(io.open, Open::Nothing), "nobody has read it");
        let mut reader = std::fs::File::from(open(&stdout, OFlags::RDONLY).unwrap());
        io.settle();
        assert!(matches!(io.open, Open::Nothing));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words");
    }

    #[test]
    fn stdin_ends_when_it_is_closed_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let stdin = fifo(dir.path(), "in");
        let (mut io, [input, _, _]) = opened(Asked {
            stdin: stdin.clone(),
            ..Asked::default()
        });
        let write = |text: &[u8]| {
            let writer = open(&stdin, OFlags::WRONLY).unwrap();
            std::fs::File::from(writer).write_all(text).unwrap();
        };
        // Two clients, one after the other.
        write(b"a");
        write(b"b");
        io.close_stdin();
        let mut text = String::new();
        std::fs::File::from(input)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "ab");
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        for path in ["npipe://x", "file://relative"] {
            assert!(open_output(path, (0, 0)).is_err(), "{path}");
        }
    }
}
