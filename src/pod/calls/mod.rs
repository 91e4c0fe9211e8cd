//! Calls into a running container: what probes and hooks do.
//!
//! | file | what is there |
//! | --- | --- |
//! | `worker` | when a probe is run, and when its result counts: pure |
//! | `http`, `grpc` | what is said and how the answer is judged: pure |
//! | `names` | a host's name looked up as on the node: pure, but for reading two files |
//! | `tls` | what HTTPS puts between that and the network: bytes in, bytes out |
//! | `talk` | a conversation over a socket that was made inside the pod's network namespace |
//! | `exec` | a program in the container |
//!
//! A call never blocks: it says what it waits for, and goes on when that has come.

mod exec;
mod grpc;
mod http;
mod names;
mod talk;
mod tls;
mod worker;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;

pub use self::talk::dial;
pub use self::worker::{Told, Worker};
use super::lifecycle::ProbeKind;
use crate::error::Error;
use crate::state::{ContainerId, Store};

/// What Kubernetes calls a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handler {
    /// A program in the container: exit code 0 is success.
    Exec(Vec<String>),
    /// A GET: 200 to 399 is success.
    HttpGet(HttpGet),
    /// A connection that is accepted.
    TcpSocket(Target),
    /// `grpc.health.v1.Health/Check` answered with SERVING.
    Grpc {
        /// Where.
        target: Target,
        /// Which service's health.
        service: String,
    },
    /// Only time that passes.
    Sleep(Duration),
    /// One that Kubernetes accepts and that fails whenever it is run, and why: a hook with `tcpSocket`.
    Invalid(String),
}

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which host.
    pub host: Host,
    /// TCP port.
    pub port: u16,
}

/// Which host a call goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// The pod itself. Seen from inside its network namespace it is on the loopback interface, whatever else it has.
    Pod,
    /// The one with this address.
    Address(IpAddr),
    /// The one of this name, which is looked up where the supervisor is, as a kubelet does; it is called from inside the
    /// pod's network all the same.
    Named(String),
}

/// A target whose address is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    name: Option<String>,
    address: SocketAddr,
}

impl Peer {
    fn is(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']);
        let named = self.name.as_deref().is_some_and(|name| name == host);
        named || host.parse() == Ok(self.address.ip())
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}:{}", self.address.port()),
            None => self.address.fmt(f),
        }
    }
}

/// How HTTP is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// As it is.
    Http,
    /// Over TLS.
    Https,
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// `httpGet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGet {
    /// How.
    pub scheme: Scheme,
    /// Where.
    pub target: Target,
    /// With its query; begins with `/`.
    pub path: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// Whether the answer's status counts: not for hooks.
    pub judged: bool,
}

/// A probe and when it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbePlan {
    /// What for.
    pub kind: ProbeKind,
    /// What it does.
    pub handler: Handler,
    /// Since the container's start.
    pub initial_delay: Duration,
    /// From one to the next.
    pub period: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many successes in a row count.
    pub success_threshold: u32,
    /// How many failures in a row count.
    pub failure_threshold: u32,
}

/// All calls that a container may get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallPlan {
    /// One of a kind.
    pub probes: Vec<ProbePlan>,
    /// `lifecycle.postStart`.
    pub post_start: Option<Handler>,
    /// `lifecycle.preStop`.
    pub pre_stop: Option<Handler>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Success,
    /// What went wrong, in the kubelet's words.
    Failure(String),
    /// It could not be made: that says nothing about the container.
    Unknown(String),
}

/// Where calls are made.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The containers' records.
    pub store: &'a Store,
    /// Which container.
    pub id: &'a ContainerId,
    /// A process in the pod's network namespace, as a pidfd; `None` for the host's.
    pub network: Option<BorrowedFd<'a>>,
}

/// A call that goes on.
#[derive(Debug)]
pub struct Call {
    does: Does,
}

#[derive(Debug)]
enum Does {
    Talk(Box<talk::Talk>),
    Exec(exec::Exec),
    Sleep,
}

impl Call {
    /// Begins it.
    ///
    /// # Errors
    /// How it ended, if it ended at once.
    pub fn begin(handler: &Handler, place: Place<'_>) -> Result<Self, Outcome> {
        let does = match handler {
            Handler::Exec(command) => Does::Exec(exec::Exec::begin(command, place)?),
            Handler::HttpGet(get) => Does::Talk(Box::new(talk::Talk::http(get, place)?)),
            Handler::TcpSocket(target) => Does::Talk(Box::new(talk::Talk::tcp(target, place)?)),
            Handler::Grpc { target, service } => {
                Does::Talk(Box::new(talk::Talk::grpc(target, service, place)?))
            }
            Handler::Sleep(_) => Does::Sleep,
            Handler::Invalid(why) => return Err(Outcome::Failure(why.clone())),
        };
        Ok(Self { does })
    }

    /// The files that it waits for.
    pub fn waits_for(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        match &self.does {
            Does::Talk(talk) => vec![talk.waits_for()],
            Does::Exec(exec) => exec.waits_for(),
            Does::Sleep => Vec::new(),
        }
    }

    /// Goes on after one of its files had something to tell; `Some` at its end.
    pub fn go_on(&mut self, place: Place<'_>) -> Option<Outcome> {
        match &mut self.does {
            Does::Talk(talk) => talk.go_on(place),
            Does::Exec(exec) => exec.go_on(),
            Does::Sleep => None,
        }
    }

    /// Its time is over: what it was to do for so long is done if it was only to sleep.
    #[must_use]
    pub fn time_out(self, timeout: Duration) -> Outcome {
        match self.does {
            Does::Talk(talk) => Outcome::Failure(talk.timed_out(timeout)),
            Does::Exec(exec) => Outcome::Failure(exec.timed_out(timeout)),
            Does::Sleep => Outcome::Success,
        }
    }
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        Self::Unknown(error.to_string())
    }
}

/// What the other side says is never taken in whole: the kubelet's own limit, in bytes.
const MOST: usize = 10 << 10;

/// Keeps what was said, up to [`MOST`] in all.
fn keep(said: &mut Vec<u8>, bytes: &[u8]) {
    let room = MOST.saturating_sub(said.len()).min(bytes.len());
    said.extend_from_slice(&bytes[..room]);
}

/// Takes what is there, and not much more than [`MOST`] at a time, however fast it comes; `true` at the end of the file.
fn read(fd: &OwnedFd) -> rustix::io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while bytes.len() < MOST {
        match rustix::io::read(fd, &mut chunk) {
            Ok(0) => return Ok((bytes, true)),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => break,
            Err(e) => return Err(e),
        }
    }
    Ok((bytes, false))
}
