//! criu(8), which writes the processes of a container into files and makes them again. It is talked to as its `swrk` mode
//! wants it: over a socket, by requests, notifications and responses.

mod message;
pub(super) mod namespaces;

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::FdFlags;
use rustix::process::{Signal, pidfd_send_signal};

use self::message::{Message, Value, fields};
use super::protocol;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::state::Identity;
use crate::sys::process::{self, Child, StringArray};
use crate::sys::socket;

/// What `checkpoint` and `restore` can be told both.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The program, found on the PATH.
    pub program: PathBuf,
    /// The directory of the images.
    pub images: PathBuf,
    /// The directory of logs; that of the images without.
    pub work: Option<PathBuf>,
    /// Established TCP connections, too.
    pub tcp_established: bool,
    /// Unix sockets whose other end is outside, too.
    pub ext_unix_sk: bool,
    /// A session or terminal that is not its own, too.
    pub shell_job: bool,
    /// File locks, too.
    pub file_locks: bool,
    /// Pages that a later checkpoint has are removed from earlier ones.
    pub auto_dedup: bool,
    /// Pages are copied when they are needed.
    pub lazy_pages: bool,
    /// How much of cgroups is put back.
    pub manage_cgroups: ManageCgroups,
    /// The network is only a namespace: somebody else makes what is in it.
    pub empty_network: bool,
    /// criu's own configuration file, as the annotation `org.criu.config` says; none if it is empty.
    pub config_file: Option<PathBuf>,
}

/// As runc: a container can have a configuration of its own, or with an empty name none.
#[must_use]
pub fn config_file(annotations: &HashMap<String, String>) -> Option<PathBuf> {
    let path = annotations.get("org.criu.config").map(String::as_str);
    let path = path.unwrap_or("/etc/criu/runc.conf");
    (!path.is_empty()).then(|| path.into())
}

/// `criu_cg_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ManageCgroups {
    /// Nothing
    Ignore = 0,
    /// Properties of cgroups that are made again
    #[default]
    Soft = 3,
    /// All cgroups and properties
    Full = 4,
    /// As full, and nothing may be there before
    Strict = 5,
}

/// What is asked for: `criu_req_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
}

const NOTIFY: i32 = 6;

/// What criu says in between.
#[derive(Debug)]
pub(super) struct Notification {
    /// `post-restore`, ...
    pub(super) script: String,
    /// The process that it is about.
    pub(super) pid: i32,
    /// With `orphan-pts-master`: a terminal's master end.
    pub(super) file: Option<OwnedFd>,
}

/// A request: what both kinds have in common, and then what either adds.
#[derive(Debug)]
pub(super) struct Request {
    kind: Kind,
    options: Message,
    log: PathBuf,
    // criu opens them through /proc/<our pid>/fd.
    _directories: Vec<File>,
}

impl Request {
    pub(super) fn new(kind: Kind, options: &Options) -> Result<Self> {
        let name = match kind {
            Kind::Restore => "restore.log",
            Kind::Dump | Kind::PreDump => "dump.log",
        };
        let open = |path: &Path| File::open(path).context(|| format!("open {}", path.display()));
        let images = open(&options.images)?;
        let mut message = Message::default()
            .int(1, images.as_raw_fd())
            .flag(4, options.ext_unix_sk)
            .flag(5, options.tcp_established)
            .flag(7, options.shell_job)
            .flag(8, options.file_locks)
            .number(9, 4)
            .bytes(10, name)
            .flag(12, true)
            .flag(16, options.auto_dedup)
            .flag(24, true)
            .number(34, options.manage_cgroups as u64)
            .flag(48, options.lazy_pages)
            .flag(50, true)
            // criu's newer way to restore mounts cannot do those that come from a part of a shared mount of the host, a file of
            // its /dev as much as a volume (criu issue 2023): on a machine with systemd all are shared.
            .flag(65, matches!(kind, Kind::Restore));
        let mut directories = vec![images];
        let mut log = options.images.join(name);
        if let Some(path) = &options.work {
            let work = open(path)?;
            message = message.int(17, work.as_raw_fd());
            directories.push(work);
            log = path.join(name);
        }
        if let Some(path) = &options.config_file {
            message = message.bytes(51, path.as_os_str().as_bytes());
        }
        Ok(Self {
            kind,
            options: message,
            log,
            _directories: directories,
        })
    }

    /// The network namespace is made, and nothing in it.
    pub(super) fn empty_network(self, is_empty: bool) -> Self {
        let namespaces = match is_empty {
            true => libc::CLONE_NEWNET,
            false => 0,
        };
        self.int(38, namespaces)
    }

    pub(super) fn int(self, field: u64, value: i32) -> Self {
        self.with(|options| options.int(field, value))
    }

    pub(super) fn flag(self, field: u64, value: bool) -> Self {
        self.with(|options| options.flag(field, value))
    }

    pub(super) fn bytes(self, field: u64, value: impl AsRef<[u8]>) -> Self {
        self.with(|options| options.bytes(field, value))
    }

    /// Adds a message of two texts.
    pub(super) fn texts(self, field: u64, first: &str, second: &[u8]) -> Self {
        self.bytes(field, Message::default().bytes(1, first).bytes(2, second))
    }

    /// Adds a message of a text and a number.
    pub(super) fn text_and_int(self, field: u64, first: &str, second: i32) -> Self {
        self.bytes(field, Message::default().bytes(1, first).int(2, second))
    }

    fn with(self, change: impl FnOnce(Message) -> Message) -> Self {
        Self {
            options: change(self.options),
            ..self
        }
    }

    fn to_bytes(&self) -> Message {
        Message::default()
            .number(1, self.kind as u64)
            .bytes(2, &self.options)
    }
}

/// criu, running.
#[derive(Debug)]
pub(super) struct Criu {
    socket: OwnedFd,
    process: Child,
}

impl Criu {
    /// Starts it, in the cgroup; `before` is done in its process, before it is executed.
    pub(super) fn start(
        program: &Path,
        cgroup: Option<&Cgroup>,
        before: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let program = find(program)?;
        let (_, ignored) = Identity::with_ignored_signals(std::process::id().cast_signed())?;
        let (ours, theirs) = socket::pair().context(|| "socketpair")?;
        let number = theirs.as_raw_fd().to_string();
        let run = || -> Infallible {
            let reset = || process::reset_signals(ignored).context(|| "reset signals");
            let error = match before()
                .and_then(|()| reset())
                .and_then(|()| tell_ready(&theirs))
            {
                Ok(()) => execute(&program, &number),
                Err(e) => e,
            };
            protocol::fail(&theirs, &error);
            process::exit(1)
        };
        let into = cgroup.and_then(Cgroup::clone_fd);
        let process = process::clone3(0, into, run).context(|| "clone3")?;
        let criu = Self {
            socket: ours,
            process,
        };
        match criu.receive()? {
            (message, _) if message == READY => Ok(criu),
            _ => Err(Error::new("criu: an unexpected message at its start")),
        }
    }

    /// Its pid.
    pub(super) fn pid(&self) -> i32 {
        self.process.pid
    }

    /// Asks for something, and answers its notifications, until it is done.
    pub(super) fn serve(
        self,
        request: &Request,
        mut notified: impl FnMut(Notification) -> Result<()>,
    ) -> Result<()> {
        let done = self.converse(request, &mut notified);
        if done.is_err() || request.kind == Kind::PreDump {
            // After a pre-dump it waits for the next one.
            let _ = pidfd_send_signal(&self.process.pidfd, Signal::KILL);
        }
        drop(self.socket);
        process::wait(&self.process.pidfd).context(|| "wait for criu")?;
        done.map_err(|e| e.hint(format!("see {}", request.log.display())))
    }

    fn converse(
        &self,
        request: &Request,
        notified: &mut impl FnMut(Notification) -> Result<()>,
    ) -> Result<()> {
        self.send(&request.to_bytes())?;
        loop {
            let (message, file) = self.receive()?;
            let response = Response::parse(&message)?;
            if !response.success {
                let log = std::fs::read_to_string(&request.log).unwrap_or_default();
                return Err(response.error(&log));
            }
            if response.kind != NOTIFY {
                return Ok(());
            }
            notified(Notification {
                script: response.script,
                pid: response.pid,
                file,
            })?;
            self.send(&Message::default().int(1, NOTIFY).flag(3, true))?;
        }
    }

    fn send(&self, message: &Message) -> Result<()> {
        socket::send(&self.socket, message.as_ref(), None).context(|| "send to criu")
    }

    fn receive(&self) -> Result<(Vec<u8>, Option<OwnedFd>)> {
        match socket::receive(&self.socket).context(|| "receive from criu")? {
            Some((message, _)) if message.first() == Some(&protocol::FAILED) => {
                Err(protocol::failure(&message[1..]))
            }
            Some(message) => Ok(message),
            None => Err(Error::new("criu ended without an answer")),
        }
    }
}

/// What criu's process says before it is criu.
const READY: &[u8] = b"ready";

fn tell_ready(socket: &OwnedFd) -> Result<()> {
    rustix::io::fcntl_setfd(socket, FdFlags::empty()).context(|| "keep criu's socket open")?;
    socket::send(socket, READY, None).context(|| "send to the parent")
}

fn execute(program: &CString, socket: &str) -> Error {
    let c_string = |text: &str| CString::new(text).unwrap_or_default();
    let args = ["criu", "swrk", socket].map(c_string).to_vec();
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    });
    let errno = process::execve(
        program,
        &StringArray::new(args),
        &StringArray::new(environment.collect()),
    );
    Error::sys(format!("exec {}", program.to_string_lossy()), errno)
}

/// The program on the PATH, or where Debian has it.
fn find(program: &Path) -> Result<CString> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&search).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = match program.components().count() {
        1 => dirs
            .map(|dir| dir.join(program))
            .find(|path| path.is_file()),
        _ => Some(program.to_owned()),
    };
    let missing = || Error::new(format!("{}: not found on the PATH", program.display()));
    let hint = "install criu, or name it: runp --criu PATH";
    let found = found.ok_or_else(|| missing().hint(hint))?;
    CString::new(found.as_os_str().as_bytes()).map_err(|_| missing())
}

#[derive(Debug, Default)]
struct Response {
    kind: i32,
    success: bool,
    script: String,
    pid: i32,
    errno: i32,
    message: String,
}

impl Response {
    /// `criu_resp`.
    fn parse(message: &[u8]) -> Result<Self> {
        let broken = || Error::new("criu: its answer is no message");
        let text = |value: Value<'_>| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut response = Self::default();
        for (field, value) in fields(message).ok_or_else(broken)? {
            match field {
                1 => response.kind = value.as_int(),
                2 => response.success = value.as_int() != 0,
                5 => {
                    for (field, value) in fields(value.as_bytes()).ok_or_else(broken)? {
                        match field {
                            1 => response.script = text(value),
                            2 => response.pid = value.as_int(),
                            _ => {}
                        }
                    }
                }
                7 => response.errno = value.as_int(),
                9 => response.message = text(value),
                _ => {}
            }
        }
        Ok(response)
    }

    /// criu's message is the first error of its log, and often not the one that it gave up for. A log that does not have it
    /// is not that of this request.
    fn error(&self, log: &str) -> Error {
        let errors = errors(log);
        let what = match self.message.trim_end() {
            "" => "criu gave up".to_owned(),
            message if log.contains(message) && !errors.is_empty() => {
                return Error::new(format!("criu: {}", errors.join("; ")));
            }
            message => format!("criu: {message}"),
        };
        match self.errno {
            0 => Error::new(what),
            errno => Error::sys(what, rustix::io::Errno::from_raw_os_error(errno)),
        }
    }
}

/// What a log of criu calls errors, without the places in its source.
fn errors(log: &str) -> Vec<&str> {
    let lines = log.lines().filter_map(|line| line.split_once("Error ("));
    let texts = lines.filter_map(|(_, place_and_text)| place_and_text.split_once("): "));
    texts.map(|(_, text)| text.trim()).collect()
}

/// A file of the host's that is a standard file of a container's process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HostFile<'a> {
    /// criu's: its mount and its inode.
    pub(super) name: &'a str,
    pub(super) path: &'a str,
}

/// Such a one in the list that is kept in [`DESCRIPTORS`].
pub(super) fn host_file(entry: &str) -> Option<HostFile<'_>> {
    let (name, path) = entry.split_once(' ')?;
    name.starts_with("file[").then_some(HostFile { name, path })
}

/// The file beside the images that says what standard input, output and error were.
pub(super) const DESCRIPTORS: &str = "descriptors.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criu_has_a_configuration_file_unless_its_name_is_empty() {
        let with = |path: &str| HashMap::from([("org.criu.config".into(), path.into())]);
        assert_eq!(config_file(&with("/x")), Some("/x".into()));
        assert_eq!(config_file(&with("")), None);
        assert!(config_file(&HashMap::new()).is_some());
    }

    #[test]
    fn the_error_that_it_gave_up_for_is_told() {
        let log = "(00.01) Found task size of 7ffffffff000\n\
            (00.02) Error (criu/tun.c:85): tun: Unable to create tun: Operation not permitted\n\
            (00.25) Error (criu/uffd.c:1306): uffd: Failed: Broken pipe\n\
            The Network was unlocked\n";
        let response = Response {
            message: "Error (criu/tun.c:85): tun: Unable to create tun: Operation not permitted\n"
                .into(),
            errno: 1,
            ..Response::default()
        };
        assert_eq!(
            response.error(log),
            Error::new(
                "criu: tun: Unable to create tun: Operation not permitted; uffd: Failed: Broken pipe"
            )
        );
        let of_another = response.error("(00.01) Error (criu/a.c:1): another\n");
        let what =
            "criu: Error (criu/tun.c:85): tun: Unable to create tun: Operation not permitted";
        assert_eq!(of_another, Error::sys(what, rustix::io::Errno::PERM));
    }
}
