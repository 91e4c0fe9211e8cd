//! The supervisor's control socket: requests and answers.
//!
//! ```text
//! runp pod stop                            supervisor
//!   |---- Request (JSON) -------------------->|
//!   |<--- Answer (JSON) ----------------------|   it is in the journal
//!   |<--- end of file ------------------------|   the supervisor has gone: the pod is over
//! ```
//!
//! A file-system socket in the pod's directory (mode 0700), so that no other network namespace reaches it
//! (CVE-2020-15257), and only for the user that the supervisor runs as and for root.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, chmodat, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
    sockopt::{Timeout, set_socket_timeout, socket_peercred},
};
use serde::{Deserialize, Serialize};

use super::lifecycle::{EphemeralSpec, Exit};
use crate::error::{Context, Error, Result};
use crate::sys::socket;

/// For who can wait: a supervisor answers at once, unless the kernel takes its time to end a container.
pub const PATIENCE: Duration = Duration::from_secs(30);

const NAME: &str = "control.sock";

/// What a supervisor can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Let the containers start: `pod start`.
    Start,
    /// End the pod: `pod stop`.
    Stop {
        /// Instead of `terminationGracePeriodSeconds`.
        grace: Option<Duration>,
    },
    /// Run this container and all after it again: `pod restart`, `pod rerun`.
    Rerun {
        /// The first of them.
        from: usize,
    },
    /// Try at once what failed: `pod rerun --only-failed`.
    Retry,
    /// Take what is in a file of the pod's directory that is called so, [`apply::Update`](super::apply::Update): `pod apply`.
    Apply {
        /// The process that has written it.
        by: u32,
    },
    /// Other `resources` for a container: `pod resize`. Who asks has validated them.
    Resize {
        /// Which.
        container: usize,
        /// `resources.requests`, all of them.
        requests: Amounts,
        /// `resources.limits`, all of them.
        limits: Amounts,
    },
    /// Somebody else writes to this container's standard input now: with him it ends. `pod attach` with `stdinOnce`.
    TakeInput {
        /// Which.
        container: usize,
    },
    /// The master end of this container's terminal, and that all that comes out of it is in the log at once, as long as who
    /// asks listens: `pod attach`.
    Terminal {
        /// Which.
        container: usize,
    },
    /// An ephemeral container runs: `pod debug --image`.
    EphemeralStarted {
        /// What it is.
        container: EphemeralSpec,
        /// Its first process, in the initial pid namespace.
        pid: i32,
        /// OCI container id.
        id: String,
    },
    /// An ephemeral container has ended.
    EphemeralEnded {
        /// Which.
        name: String,
        /// How.
        exit: Exit,
    },
}

/// Kubernetes' quantities by the resources' names.
pub type Amounts = BTreeMap<String, String>;

/// What it answers.
type Answer = std::result::Result<(), Error>;

/// The supervisor's end.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens in this directory.
    ///
    /// # Errors
    /// As socket(2), bind(2) and listen(2).
    pub fn bind(dir: BorrowedFd<'_>) -> Result<Self> {
        let step = || format!("listen on {NAME}");
        let socket = new_socket(SocketFlags::NONBLOCK).context(step)?;
        let address = SocketAddrUnix::new(path(dir)).context(step)?;
        bind(&socket, &address).context(step)?;
        chmodat(dir, NAME, Mode::RUSR | Mode::WUSR, AtFlags::empty()).context(step)?;
        listen(&socket, 16).context(step)?;
        Ok(Self(socket))
    }

    /// The same, where another process has listened that is no more.
    ///
    /// # Errors
    /// As [`Listener::bind`] and unlink(2).
    pub fn bind_again(dir: BorrowedFd<'_>) -> Result<Self> {
        match unlinkat(dir, NAME, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Self::bind(dir),
            Err(e) => Err(Error::sys(format!("remove {NAME}"), e)),
        }
    }

    /// The next connection of somebody who may ask; `None` if there is none, or nobody who may.
    ///
    /// # Errors
    /// As accept4(2).
    pub fn accept(&self) -> Result<Option<OwnedFd>> {
        let connection = match accept_with(&self.0, SocketFlags::CLOEXEC) {
            Ok(connection) => connection,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(None),
            Err(e) => return Err(Error::sys("accept on the control socket", e)),
        };
        let peer = socket_peercred(&connection)
            .context(|| "look who asks")?
            .uid;
        let allowed = peer.is_root() || peer == rustix::process::geteuid();
        if !allowed {
            log::warn!("refused a request of user {}", peer.as_raw());
        }
        Ok(allowed.then_some(connection))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Receives what is asked on a readable connection; `None` when the other end has gone.
///
/// # Errors
/// What is no request.
pub fn receive(connection: &OwnedFd) -> Result<Option<Request>> {
    let message = socket::receive(connection).context(|| "receive a request")?;
    message
        .map(|(message, _)| {
            serde_json::from_slice(&message).map_err(|e| Error::new(format!("a request: {e}")))
        })
        .transpose()
}

/// Answers a request. Whoever did not wait for the answer does not need it.
pub fn answer(connection: &OwnedFd, answer: &Answer) {
    answer_with(connection, answer, None);
}

/// Answers [`Request::Terminal`].
pub fn hand_over(connection: &OwnedFd, terminal: BorrowedFd<'_>) {
    answer_with(connection, &Ok(()), Some(terminal));
}

fn answer_with(connection: &OwnedFd, answer: &Answer, file: Option<BorrowedFd<'_>>) {
    let sent = serde_json::to_vec(answer)
        .map_err(|e| Error::new(e.to_string()))
        .and_then(|message| {
            socket::send(connection, &message, file).context(|| "answer a request")
        });
    if let Err(e) = sent {
        log::debug!("{e}");
    }
}

/// A supervisor that has answered.
#[derive(Debug)]
pub struct Supervisor {
    connection: OwnedFd,
    file: Option<OwnedFd>,
}

impl Supervisor {
    /// Waits until it has gone.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn wait(self) -> Result<()> {
        let connection = self.connection;
        set_socket_timeout(&connection, Timeout::Recv, None)
            .context(|| "wait for the supervisor")?;
        while socket::receive(&connection)
            .context(|| "wait for the supervisor")?
            .is_some()
        {}
        Ok(())
    }

    /// What it has handed over, and the connection, for as long as it is to know that somebody is there.
    pub fn take(self) -> Option<(OwnedFd, OwnedFd)> {
        Some((self.file?, self.connection))
    }
}

/// Asks the supervisor of the pod in this directory; `None` if there is none.
///
/// # Errors
/// When it cannot be asked, does not answer in time, or its answer is one.
pub fn ask(
    dir: BorrowedFd<'_>,
    request: Request,
    patience: Duration,
) -> Result<Option<Supervisor>> {
    let step = || "ask the pod's supervisor";
    let connection = new_socket(SocketFlags::empty()).context(step)?;
    let address = SocketAddrUnix::new(path(dir)).context(step)?;
    match connect(&connection, &address) {
        Ok(()) => {}
        // ECONNREFUSED: it died and left its socket behind.
        Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
        Err(e) => return Err(Error::sys(step(), e)),
    }
    set_socket_timeout(&connection, Timeout::Recv, Some(patience)).context(step)?;
    let message =
        serde_json::to_vec(&request).map_err(|e| Error::new(format!("{}: {e}", step())))?;
    match socket::send(&connection, &message, None) {
        Ok(()) => {}
        Err(Errno::PIPE | Errno::CONNRESET) => return Ok(None),
        Err(e) => return Err(Error::sys(step(), e)),
    }
    match socket::receive(&connection) {
        Ok(Some((answer, file))) => serde_json::from_slice::<Answer>(&answer)
            .map_err(|e| Error::new(format!("{}: {e}", step())))?
            .map(|()| Some(Supervisor { connection, file })),
        // It died, or was over, before it could answer.
        Ok(None) | Err(Errno::CONNRESET) => Ok(None),
        Err(Errno::AGAIN) => Err(Error::new(step())
            .hint("it does not answer: is it stopped? `runp pod delete --force` does without it")),
        Err(e) => Err(Error::sys(step(), e)),
    }
}

fn new_socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | flags,
        None,
    )
}

/// A path to the socket that fits into the 108 bytes of `sun_path`, whatever the pod is called.
fn path(dir: BorrowedFd<'_>) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(NAME)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn asks_and_answers_and_waits_for_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let dir = std::fs::File::open(&deep).unwrap();
        assert!(
            ask(dir.as_fd(), Request::Start, PATIENCE)
                .unwrap()
                .is_none()
        );
        let listener = Listener::bind(dir.as_fd()).unwrap();
        assert!(listener.accept().unwrap().is_none());
        let stop = Request::Stop {
            grace: Some(Duration::from_millis(1500)),
        };
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                ask(dir.as_fd(), stop.clone(), PATIENCE)
                    .unwrap()
                    .unwrap()
                    .wait()
                    .unwrap();
                ask(dir.as_fd(), Request::Start, PATIENCE)
                    .unwrap_err()
                    .to_string()
            });
            for reply in [Ok(()), Err(Error::new("no"))] {
                let connection = loop {
                    if let Some(connection) = listener.accept().unwrap() {
                        break connection;
                    }
                    std::thread::yield_now();
                };
                let request = receive(&connection).unwrap().unwrap();
                assert_eq!(request == stop, reply.is_ok());
                answer(&connection, &reply);
            }
            assert_eq!(client.join().unwrap(), "no");
        });
        drop(listener);
        assert!(
            ask(dir.as_fd(), Request::Start, PATIENCE)
                .unwrap()
                .is_none()
        );
    }
}
