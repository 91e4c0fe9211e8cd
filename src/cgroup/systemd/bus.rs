//! A connection to systemd's manager, through its own socket or the bus.
//!
//! By hand, because a process that clones must have one thread, and `zbus` brings an executor with a thread of its own.
//! `rustbus` has no threads, but brings old versions of nix, syn and thiserror, and 117 KiB, for what are
//! six calls here.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::message::{self, Arrived, FIXED, Method, Reader, Value};
use crate::error::{Context, Error, Result};

/// As long as runc waits for a job; we wait as long for every answer, too.
const PATIENCE: Duration = Duration::from_secs(30);

const MANAGER: Method<'_> = Method {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
};

const BUS: Method<'_> = Method {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
};

/// Why a call was not done.
#[derive(Debug)]
pub(super) enum Refusal {
    /// By systemd: the last part of the error's name, and what it says.
    Answer(String, String),
    /// The connection broke.
    Broken(Error),
}

type Answer<T> = std::result::Result<T, Refusal>;

impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        Self::Broken(e)
    }
}

impl Refusal {
    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self, Self::Answer(is, _) if is == name)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Answer(name, text) => Self::new(format!("systemd says {name}: {text}")),
            Refusal::Broken(e) => e,
        }
    }
}

/// A connection on which calls are made one after the other.
#[derive(Debug)]
pub(super) struct Bus {
    socket: UnixStream,
    serial: u32,
    /// Signals that arrived before somebody waited for them.
    signals: VecDeque<(String, Vec<u8>)>,
}

impl Bus {
    /// Connects to the manager of the machine, or to that of the user.
    ///
    /// # Errors
    /// There is no systemd, or it does not listen to us.
    pub(super) fn connect(user: bool) -> Result<Self> {
        let mut refused = None;
        for (path, direct) in sockets(user)? {
            match UnixStream::connect(&path) {
                Ok(socket) => {
                    return Self::greet(socket, direct)
                        .context(|| format!("talk to systemd through {}", path.display()));
                }
                Err(e) => {
                    let what = format!("connect to systemd at {}", path.display());
                    refused.get_or_insert(Error::sys(what, e));
                }
            }
        }
        let refused = refused.unwrap_or_else(|| Error::new("connect to systemd: no address"));
        Err(refused.hint("leave out --systemd-cgroup, or let systemd run"))
    }

    /// Who we are the kernel tells (`EXTERNAL` with no name of our own: it may be another one in a user namespace).
    ///
    /// All is said at once, as libsystemd does: systemd 252 never looks at a call that it has read together with `BEGIN`.
    fn greet(socket: UnixStream, direct: bool) -> Result<Self> {
        let step = || "authenticate";
        socket.set_read_timeout(Some(PATIENCE)).context(step)?;
        socket.set_write_timeout(Some(PATIENCE)).context(step)?;
        let mut bus = Self {
            socket,
            serial: 0,
            signals: VecDeque::new(),
        };
        let greeting = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
        bus.socket.write_all(greeting).context(step)?;
        for answer in ["DATA", "OK"] {
            let line = bus.line()?;
            if !line.starts_with(answer) {
                return Err(Error::new(format!("authenticate: {line}")));
            }
        }
        if !direct {
            let jobs =
                "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
            bus.call(
                Method {
                    member: "Hello",
                    ..BUS
                },
                &[],
            )?;
            let jobs = [Value::Str(jobs.into())];
            bus.call(
                Method {
                    member: "AddMatch",
                    ..BUS
                },
                &jobs,
            )?;
            bus.manager("Subscribe", &[])?;
        }
        Ok(bus)
    }

    /// A line of the authentication, byte by byte: messages may follow it.
    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            let step = || "authenticate";
            self.socket.read_exact(&mut byte).context(step)?;
            line.extend(byte);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Calls a method of the manager.
    pub(super) fn manager(&mut self, member: &str, arguments: &[Value]) -> Answer<Vec<u8>> {
        self.call(Method { member, ..MANAGER }, arguments)
    }

    /// A property of the manager that is a string.
    pub(super) fn manager_property(&mut self, name: &str) -> Result<String> {
        let get = Method {
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            ..MANAGER
        };
        let arguments = [MANAGER.interface, name].map(|s| Value::Str(s.into()));
        let body = self.call(get, &arguments)?;
        let mut body = Reader::new(&body);
        let value = body
            .signature()
            .filter(|s| s == "s")
            .and_then(|_| body.string());
        value.ok_or_else(|| Error::new(format!("read {name} of systemd: not a string")))
    }

    /// Calls a method that starts a job, and waits for its end: "done" if it was.
    pub(super) fn job(&mut self, member: &str, arguments: &[Value]) -> Answer<String> {
        let body = self.manager(member, arguments)?;
        let Some(job) = Reader::new(&body).string() else {
            return Err(Error::new(format!("{member}: systemd does not name the job")).into());
        };
        let step = || format!("{member}: wait for the end of its job");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (name, body) = match self.signals.pop_front() {
                Some(signal) => signal,
                None => match self.arrived(deadline).context(step)? {
                    Arrived::Signal(name, body) => (name, body),
                    _ => continue,
                },
            };
            // `uoss`: id, job, unit, result.
            let mut body = Reader::new(&body);
            if name == "JobRemoved" && body.u32().is_some() && body.string().as_ref() == Some(&job)
            {
                body.string();
                return Ok(body.string().unwrap_or_default());
            }
        }
    }

    fn call(&mut self, method: Method<'_>, arguments: &[Value]) -> Answer<Vec<u8>> {
        self.serial += 1;
        let bytes = message::call(self.serial, method, arguments);
        let step = || format!("call {}", method.member);
        self.socket.write_all(&bytes).context(step)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.arrived(deadline).context(step)? {
                Arrived::Return(serial, body) if serial == self.serial => return Ok(body),
                Arrived::Error(serial, name, text) if serial == self.serial => {
                    let name = name.rsplit('.').next().unwrap_or_default().to_owned();
                    return Err(Refusal::Answer(name, text));
                }
                Arrived::Signal(name, body) => self.signals.push_back((name, body)),
                _ => {}
            }
        }
    }

    /// The next message. Others' arrive too, so that a limit for each is none for all: it has to be there before `deadline`.
    fn arrived(&mut self, deadline: Instant) -> Result<Arrived> {
        let step = || "wait for systemd";
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let seconds = PATIENCE.as_secs();
            return Err(Error::new(format!("no answer of systemd in {seconds} s")));
        }
        self.socket.set_read_timeout(Some(left)).context(step)?;
        let mut message = vec![0; FIXED];
        self.socket.read_exact(&mut message).context(step)?;
        let fixed = message.as_slice().try_into().ok();
        let not_one = || Error::new("wait for systemd: not a message of D-Bus");
        let length = fixed.and_then(message::length).ok_or_else(not_one)?;
        message.resize(length, 0);
        self.socket
            .read_exact(&mut message[FIXED..])
            .context(step)?;
        message::parse(&message).ok_or_else(not_one)
    }
}

/// Where systemd listens, and whether that is itself, as for systemctl(1), or the bus. The bus comes first: it passes on only the
/// signals that we want, while systemd itself sends hundreds at a reload.
fn sockets(user: bool) -> Result<Vec<(PathBuf, bool)>> {
    let (address, run, bus) = match user {
        true => {
            let dir = std::env::var_os("XDG_RUNTIME_DIR").ok_or_else(|| {
                Error::new("find the systemd of the user: XDG_RUNTIME_DIR is not set")
                    .hint("log in through a session, or leave out --systemd-cgroup")
            })?;
            let dir = PathBuf::from(dir);
            ("DBUS_SESSION_BUS_ADDRESS", dir.clone(), dir.join("bus"))
        }
        false => (
            "DBUS_SYSTEM_BUS_ADDRESS",
            PathBuf::from("/run"),
            PathBuf::from("/run/dbus/system_bus_socket"),
        ),
    };
    let named = std::env::var(address).ok().and_then(|address| {
        let path = address
            .strip_prefix("unix:path=")?
            .split([',', ';'])
            .next()?;
        Some(PathBuf::from(path))
    });
    Ok(match named {
        Some(named) => vec![(named, false)],
        None => vec![(bus, false), (run.join("systemd/private"), true)],
    })
}

/// sd_booted(3).
pub(super) fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::BufRead;
    use std::thread;

    use super::message::answer;
    use super::*;

    /// What a systemd does after the greeting, which begins with the call that it gets as its `n`th.
    fn with_systemd(says: fn(u32) -> Vec<Vec<u8>>, body: fn(&mut Bus)) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let systemd = thread::spawn(move || {
            let mut lines = std::io::BufReader::new(theirs.try_clone().unwrap());
            let mut to = &theirs;
            for (asked, answer) in [
                ("\0AUTH EXTERNAL\r\n", "DATA\r\n"),
                ("DATA\r\n", "OK 1234\r\n"),
                ("BEGIN\r\n", ""),
            ] {
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                assert_eq!(line, asked);
                to.write_all(answer.as_bytes()).unwrap();
            }
            for n in 1.. {
                let mut fixed = [0; FIXED];
                if lines.read_exact(&mut fixed).is_err() {
                    return;
                }
                let rest = message::length(fixed).unwrap() - FIXED;
                lines.read_exact(&mut vec![0; rest]).unwrap();
                says(n).iter().for_each(|m| to.write_all(m).unwrap());
            }
        });
        let mut bus = Bus::greet(ours, true).unwrap();
        body(&mut bus);
        drop(bus);
        systemd.join().unwrap();
    }

    fn text(text: &str) -> Value {
        Value::Str(text.into())
    }

    fn removed(job: &str, result: &str) -> Vec<u8> {
        let signal = Arrived::Signal("JobRemoved".into(), Vec::new());
        let values = [Value::U32(1), text(job), text("a.scope"), text(result)];
        answer(&signal, &values)
    }

    #[test]
    fn a_job_has_ended_when_its_signal_says_so() {
        fn says(n: u32) -> Vec<Vec<u8>> {
            let named = answer(&Arrived::Return(n, Vec::new()), &[text("/job/7")]);
            match n {
                // Signals may come before the answer, of other jobs too.
                1 => vec![
                    removed("/job/6", "failed"),
                    removed("/job/7", "done"),
                    named,
                ],
                _ => vec![
                    named,
                    removed("/job/6", "done"),
                    removed("/job/7", "timeout"),
                ],
            }
        }
        with_systemd(says, |bus| {
            assert_eq!(bus.job("StartTransientUnit", &[]).unwrap(), "done");
            assert_eq!(bus.job("StopUnit", &[]).unwrap(), "timeout");
        });
    }

    #[test]
    fn what_systemd_refuses_is_told_in_its_words() {
        fn says(n: u32) -> Vec<Vec<u8>> {
            let name = "org.freedesktop.systemd1.UnitExists".to_owned();
            let error = Arrived::Error(n, name, String::new());
            vec![answer(&error, &[text("it is there")])]
        }
        with_systemd(says, |bus| {
            let refusal = bus.manager("StartTransientUnit", &[]).unwrap_err();
            assert!(refusal.is("UnitExists"));
            let error = Error::from(refusal).to_string();
            assert_eq!(error, "systemd says UnitExists: it is there");
        });
    }

    #[test]
    fn a_broken_connection_is_an_error() {
        with_systemd(
            |_| vec![b"this is no message".to_vec()],
            |bus| {
                assert!(bus.manager("Subscribe", &[]).is_err());
            },
        );
    }
}
