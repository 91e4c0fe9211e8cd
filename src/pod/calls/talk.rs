//! A conversation over a socket that was made inside the pod's network namespace.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
use super::names::{self, Answer, Lookup};
use super::tls::{Failure, Tls};
use super::{Host, HttpGet, MOST, Outcome, Peer, Place, Scheme, Target, grpc, keep, read};
use crate::error::{Context, Error, Result};

/// More redirects than these are not followed; the kubelet is content then.
const REDIRECTS: u32 = 10;

/// What is talked.
#[derive(Debug)]
enum Protocol {
    Tcp,
    Http {
        get: HttpGet,
        redirects: u32,
    },
    Grpc {
        service: String,
        answer: grpc::Answer,
    },
}

impl Protocol {
    fn first_words(&self, peer: &Peer) -> Vec<u8> {
        match self {
            Self::Tcp => Vec::new(),
            Self::Http { get, .. } => http::request(get, peer, &get.path),
            Self::Grpc { service, .. } => grpc::request(peer.address, service),
        }
    }
}

/// A conversation that goes on.
#[derive(Debug)]
pub(super) struct Talk {
    /// Without its address as long as that is looked up.
    peer: Peer,
    lookup: Option<Lookup>,
    socket: OwnedFd,
    protocol: Protocol,
    tls: Option<Tls>,
    connected: bool,
    /// What is still to be sent.
    to_send: Vec<u8>,
    received: Vec<u8>,
}

impl Talk {
    pub(super) fn tcp(target: &Target, place: Place<'_>) -> std::result::Result<Self, Outcome> {
        Self::begin(target, Protocol::Tcp, place)
    }

    pub(super) fn http(get: &HttpGet, place: Place<'_>) -> std::result::Result<Self, Outcome> {
        let protocol = Protocol::Http {
            get: get.clone(),
            redirects: 0,
        };
        Self::begin(&get.target, protocol, place)
    }

    pub(super) fn grpc(
        target: &Target,
        service: &str,
        place: Place<'_>,
    ) -> std::result::Result<Self, Outcome> {
        let protocol = Protocol::Grpc {
            service: service.to_owned(),
            answer: grpc::Answer::default(),
        };
        Self::begin(target, protocol, place)
    }

    fn begin(
        target: &Target,
        protocol: Protocol,
        place: Place<'_>,
    ) -> std::result::Result<Self, Outcome> {
        let (name, address) = match &target.host {
            Host::Pod => (None, Some(IpAddr::V4(Ipv4Addr::LOCALHOST))),
            Host::Address(address) => (None, Some(*address)),
            Host::Named(name) => {
                let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
                (Some(name.clone()), names::in_hosts(&hosts, name))
            }
        };
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let peer = Peer {
            name,
            address: SocketAddr::new(address.unwrap_or(unknown), target.port),
        };
        let opened = match address {
            Some(_) => dial(peer.address, place.network).map(|socket| (socket, None)),
            None => ask(&peer).map(|(socket, lookup)| (socket, Some(lookup))),
        };
        let (socket, lookup) = opened.map_err(|e| refused(&protocol, &peer, &e))?;
        let mut talk = Self {
            peer,
            lookup,
            socket,
            protocol,
            tls: None,
            connected: false,
            to_send: Vec::new(),
            received: Vec::new(),
        };
        let words = talk.protocol.first_words(&talk.peer);
        talk.say_first(words)?;
        Ok(talk)
    }

    /// Has this said on a new connection.
    fn say_first(&mut self, words: Vec<u8>) -> Result<()> {
        self.connected = false;
        self.received.clear();
        match &self.protocol {
            Protocol::Http { get, .. } if get.scheme == Scheme::Https => {
                let tls = self.tls.insert(Tls::new(&self.peer, &words)?);
                self.to_send = tls.take_to_send();
            }
            _ => (self.tls, self.to_send) = (None, words),
        }
        Ok(())
    }

    pub(super) fn waits_for(&self) -> (BorrowedFd<'_>, PollFlags) {
        let speaks = self.lookup.is_none() && (!self.connected || !self.to_send.is_empty());
        let wants = match speaks {
            true => PollFlags::OUT,
            false => PollFlags::IN,
        };
        (self.socket.as_fd(), wants)
    }

    pub(super) fn go_on(&mut self, place: Place<'_>) -> Option<Outcome> {
        self.try_go_on(place)
            .unwrap_or_else(|e| Some(refused(&self.protocol, &self.peer, &e)))
    }

    fn try_go_on(&mut self, place: Place<'_>) -> Result<Option<Outcome>> {
        if self.lookup.is_some() {
            return self.look_up(place);
        }
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
        let (mut bytes, mut end) = read(&self.socket).context(|| "read")?;
        if let Some(tls) = &mut self.tls {
            match tls.hear(&bytes) {
                Ok((words, over)) => (bytes, end) = (words, end || over),
                Err(failure) => return self.misunderstood(&failure, place),
            }
            self.to_send = tls.take_to_send();
        }
        keep(&mut self.received, &bytes);
        self.judge(end, place)
    }

    /// A hook is content with less, and asks again without TLS: the kubelet's rule.
    fn misunderstood(&mut self, failure: &Failure, place: Place<'_>) -> Result<Option<Outcome>> {
        if let Protocol::Http { get, .. } = &mut self.protocol
            && !get.judged
            && *failure == Failure::Plain
        {
            get.scheme = Scheme::Http;
            self.socket = dial(self.peer.address, place.network)?;
            self.say_first(self.protocol.first_words(&self.peer))?;
            return Ok(None);
        }
        let why = failure.to_string();
        Ok(Some(failed(&self.protocol, &self.peer, &why)))
    }

    /// Takes what a name server says; once there is an address, the conversation itself begins.
    fn look_up(&mut self, place: Place<'_>) -> Result<Option<Outcome>> {
        let Some(lookup) = &mut self.lookup else {
            return Ok(None);
        };
        let mut message = [0; 512];
        let length = match rustix::io::read(&self.socket, &mut message) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(e) => return Err(Error::sys("look the name up", e)),
        };
        match lookup.take(&message[..length]) {
            Answer::Stray => {}
            Answer::Address(address) => {
                self.peer.address.set_ip(address);
                self.lookup = None;
                self.socket = dial(self.peer.address, place.network)?;
                self.say_first(self.protocol.first_words(&self.peer))?;
            }
            Answer::No => match lookup.ask() {
                Some(question) => say(&self.socket, &question)?,
                None => {
                    let name = self.peer.name.as_deref().unwrap_or_default();
                    let why = format!("dial tcp: lookup {name}: no such host");
                    return Ok(Some(failed(&self.protocol, &self.peer, &why)));
                }
            },
        }
        Ok(None)
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
            Protocol::Grpc { answer, .. } => {
                let full = self.received.len() >= MOST;
                let (reply, outcome) = answer.take(&mut self.received, end || full);
                self.to_send = reply;
                return Ok(outcome);
            }
            Protocol::Http { get, redirects } => {
                match http::judge(get, &self.peer, &self.received, end) {
                    Judgement::Wait => return Ok(None),
                    Judgement::Over(outcome) => return Ok(Some(outcome)),
                    Judgement::Elsewhere(..) if *redirects == REDIRECTS => {
                        return Ok(Some(Outcome::Success));
                    }
                    Judgement::Elsewhere(scheme, port, path) => {
                        *redirects += 1;
                        get.scheme = scheme;
                        (port, path)
                    }
                }
            }
        };
        self.peer.address.set_port(port);
        self.socket = dial(self.peer.address, place.network)?;
        if let Protocol::Http { get, .. } = &self.protocol {
            self.say_first(http::request(get, &self.peer, &path))?;
        }
        Ok(None)
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> String {
        let (peer, timeout) = (&self.peer, timeout.as_secs());
        match &self.protocol {
            Protocol::Tcp => format!("dial tcp {peer}: i/o timeout"),
            Protocol::Http { get, .. } => format!(
                "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                http::url(get, peer)
            ),
            Protocol::Grpc { .. } => format!(
                "timeout: failed to connect service {:?} within {timeout}s: context deadline exceeded",
                peer.to_string()
            ),
        }
    }
}

/// In the words of Go's standard library, which people look for.
fn refused(protocol: &Protocol, peer: &Peer, error: &Error) -> Outcome {
    let why = match error.errno() {
        Some(errno) => std::io::Error::from_raw_os_error(errno).to_string(),
        None => return Outcome::Unknown(error.to_string()),
    };
    let why = why
        .split(" (os error")
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let dial = format!("dial tcp {}: connect: {why}", peer.address);
    failed(protocol, peer, &dial)
}

fn failed(protocol: &Protocol, peer: &Peer, why: &str) -> Outcome {
    Outcome::Failure(match protocol {
        Protocol::Tcp => why.to_owned(),
        Protocol::Http { get, .. } => format!("Get {:?}: {why}", http::url(get, peer)),
        Protocol::Grpc { .. } => format!("rpc error: code = Unavailable desc = {why}"),
    })
}

/// Asks a name server, from where the supervisor is.
fn ask(peer: &Peer) -> Result<(OwnedFd, Lookup)> {
    let name = peer.name.as_deref().unwrap_or_default();
    let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let id = RandomState::new().build_hasher().finish() as u16;
    let unknown = || Error::new(format!("dial tcp: lookup {name}: no name server is known"));
    let lookup = Lookup::new(&conf, name, id).ok_or_else(unknown)?;
    let question = lookup.ask().ok_or_else(unknown)?;
    let socket = new_socket(lookup.server, SocketType::DGRAM)?;
    connect(&socket, &lookup.server).context(|| "connect")?;
    say(&socket, &question)?;
    Ok((socket, lookup))
}

fn say(socket: &OwnedFd, message: &[u8]) -> Result<()> {
    let sent = send(socket, message, SendFlags::NOSIGNAL);
    sent.map(drop).context(|| "ask a name server")
}

/// Begins a connection from inside the network namespace of the process `network`, else from the caller's own. The
/// socket does not block: it can be written to once the connection stands, or has failed.
///
/// # Errors
/// The kernel's, where it says so at once.
pub fn dial(address: SocketAddr, network: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let socket = match network {
        Some(process) => socket_inside(address, process)?,
        None => new_socket(address, SocketType::STREAM)?,
    };
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(Error::sys("connect", e)),
    }
}

fn new_socket(address: SocketAddr, kind: SocketType) -> Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, kind, flags, None).context(|| "socket")
}

/// A socket stays in the network namespace that it was made in.
fn socket_inside(address: SocketAddr, process: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let path = "/proc/thread-self/ns/net";
    let own = rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {path}"))?;
    move_into_thread_name_spaces(process, ThreadNameSpaceType::NETWORK)
        .map_err(|e| Error::new(format!("join the pod's network namespace: {e}")))?;
    let socket = new_socket(address, SocketType::STREAM);
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network))
        .context(|| "return to the own network namespace")?;
    socket
}
