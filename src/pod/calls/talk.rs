//! A conversation over a socket that was made inside the pod's network namespace.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, connect, send, socket_with};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};
use rustix::thread::{move_into_link_name_space, move_into_thread_name_spaces};

use super::http::{self, Judgement};
use super::{HttpGet, MOST, Outcome, Place, Target, grpc, take};
use crate::error::{Context, Error, Result};

/// More redirects than these are not followed; the kubelet is content then.
const REDIRECTS: u32 = 10;

/// What is talked.
#[derive(Debug)]
enum Protocol {
    Tcp,
    Http { get: HttpGet, redirects: u32 },
    Grpc(grpc::Answer),
}

/// A conversation that goes on.
#[derive(Debug)]
pub(super) struct Talk {
    address: SocketAddr,
    socket: OwnedFd,
    protocol: Protocol,
    connected: bool,
    /// What is still to be said.
    to_send: Vec<u8>,
    received: Vec<u8>,
}

impl Talk {
    pub(super) fn tcp(target: Target, place: Place<'_>) -> std::result::Result<Self, Outcome> {
        Self::begin(target.address(), Protocol::Tcp, Vec::new(), place)
    }

    pub(super) fn http(get: &HttpGet, place: Place<'_>) -> std::result::Result<Self, Outcome> {
        let address = get.target.address();
        let request = http::request(get, address, &get.path);
        let protocol = Protocol::Http {
            get: get.clone(),
            redirects: 0,
        };
        Self::begin(address, protocol, request, place)
    }

    pub(super) fn grpc(
        target: Target,
        service: &str,
        place: Place<'_>,
    ) -> std::result::Result<Self, Outcome> {
        let address = target.address();
        let request = grpc::request(address, service);
        let protocol = Protocol::Grpc(grpc::Answer::default());
        Self::begin(address, protocol, request, place)
    }

    fn begin(
        address: SocketAddr,
        protocol: Protocol,
        to_send: Vec<u8>,
        place: Place<'_>,
    ) -> std::result::Result<Self, Outcome> {
        let socket = dial(address, place.network).map_err(|e| refused(&protocol, address, &e))?;
        Ok(Self {
            address,
            socket,
            protocol,
            connected: false,
            to_send,
            received: Vec::new(),
        })
    }

    pub(super) fn waits_for(&self) -> (BorrowedFd<'_>, PollFlags) {
        let wants = match !self.connected || !self.to_send.is_empty() {
            true => PollFlags::OUT,
            false => PollFlags::IN,
        };
        (self.socket.as_fd(), wants)
    }

    pub(super) fn go_on(&mut self, place: Place<'_>) -> Option<Outcome> {
        self.try_go_on(place)
            .unwrap_or_else(|e| Some(refused(&self.protocol, self.address, &e)))
    }

    fn try_go_on(&mut self, place: Place<'_>) -> Result<Option<Outcome>> {
        if !self.connected {
            let step = || "connect";
            socket_error(&self.socket).context(step)?.context(step)?;
            self.connected = true;
        }
        if matches!(self.protocol, Protocol::Tcp) {
            return Ok(Some(Outcome::Success));
        }
        if !self.to_send.is_empty() {
            self.send()?;
            return Ok(None);
        }
        let end = take(&self.socket, &mut self.received).context(|| "read")?;
        self.judge(end, place)
    }

    fn send(&mut self) -> Result<()> {
        match send(&self.socket, &self.to_send, SendFlags::NOSIGNAL) {
            Ok(sent) => drop(self.to_send.drain(..sent)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(e) => return Err(Error::sys("write", e)),
        }
        Ok(())
    }

    fn judge(&mut self, end: bool, place: Place<'_>) -> Result<Option<Outcome>> {
        let (port, path) = match &mut self.protocol {
            Protocol::Tcp => return Ok(Some(Outcome::Success)),
            Protocol::Grpc(answer) => {
                let full = self.received.len() >= MOST;
                let (reply, outcome) = answer.take(&mut self.received, end || full);
                self.to_send = reply;
                return Ok(outcome);
            }
            Protocol::Http { get, redirects } => {
                match http::judge(get, self.address, &self.received, end) {
                    Judgement::Wait => return Ok(None),
                    Judgement::Over(outcome) => return Ok(Some(outcome)),
                    Judgement::Elsewhere(..) if *redirects == REDIRECTS => {
                        return Ok(Some(Outcome::Success));
                    }
                    Judgement::Elsewhere(port, path) => {
                        *redirects += 1;
                        (port, path)
                    }
                }
            }
        };
        self.address.set_port(port);
        self.socket = dial(self.address, place.network)?;
        self.connected = false;
        self.received.clear();
        if let Protocol::Http { get, .. } = &self.protocol {
            self.to_send = http::request(get, self.address, &path);
        }
        Ok(None)
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> String {
        let (address, timeout) = (self.address, timeout.as_secs());
        match &self.protocol {
            Protocol::Tcp => format!("dial tcp {address}: i/o timeout"),
            Protocol::Http { get, .. } => format!(
                "Get \"http://{address}{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                get.path
            ),
            Protocol::Grpc(_) => format!(
                "timeout: failed to connect service {:?} within {timeout}s: context deadline exceeded",
                address.to_string()
            ),
        }
    }
}

/// In the words of Go's standard library, which people look for.
fn refused(protocol: &Protocol, address: SocketAddr, error: &Error) -> Outcome {
    let why = match error.errno() {
        Some(errno) => std::io::Error::from_raw_os_error(errno).to_string(),
        None => return Outcome::Unknown(error.to_string()),
    };
    let why = why
        .split(" (os error")
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let dial = format!("dial tcp {address}: connect: {why}");
    Outcome::Failure(match protocol {
        Protocol::Tcp => dial,
        Protocol::Http { get, .. } => format!("Get \"http://{address}{}\": {dial}", get.path),
        Protocol::Grpc(_) => format!("rpc error: code = Unavailable desc = {dial}"),
    })
}

/// Begins a connection from inside the network namespace of the process `network`, else from the caller's own. The
/// socket does not block: it can be written to once the connection stands, or has failed.
///
/// # Errors
/// The kernel's, where it says so at once.
pub fn dial(address: SocketAddr, network: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let socket = match network {
        Some(process) => socket_inside(address, process)?,
        None => new_socket(address)?,
    };
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(Error::sys("connect", e)),
    }
}

fn new_socket(address: SocketAddr) -> Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None).context(|| "socket")
}

/// A socket stays in the network namespace that it was made in.
fn socket_inside(address: SocketAddr, process: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let path = "/proc/thread-self/ns/net";
    let own = rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {path}"))?;
    move_into_thread_name_spaces(process, ThreadNameSpaceType::NETWORK)
        .map_err(|e| Error::new(format!("join the pod's network namespace: {e}")))?;
    let socket = new_socket(address);
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network))
        .context(|| "return to the own network namespace")?;
    socket
}
