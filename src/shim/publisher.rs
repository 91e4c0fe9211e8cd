//! Tells containerd what happens, in the order in which it happened, and keeps what containerd has not taken yet.
//!
//! One event is under way at a time: the next one is sent when that one was answered. While containerd is not there it is
//! looked for again every second, if there is anything to tell.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prost::Message;
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::connection::{Closed, Connection};
use super::proto::events::{Envelope, Event, ForwardRequest};
use super::proto::{Any, Timestamp};
use super::ttrpc::{self, Frame, Request};
use crate::container::socket_address;

/// Between two attempts to reach containerd.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many events are kept; after that the oldest is given up. A hundred bytes each.
const MOST: usize = 10_000;

/// The way to containerd's events service.
#[derive(Debug)]
pub(super) struct Publisher {
    address: PathBuf,
    namespace: String,
    waiting: VecDeque<Vec<u8>>,
    connection: Option<Connection>,
    /// The stream of the event that is under way, the first one that waits. Odd, as all of a client's.
    stream: u32,
    is_under_way: bool,
    /// Not before.
    next_attempt: Option<Instant>,
}

impl Publisher {
    /// To containerd's ttrpc socket, for events of this namespace.
    pub(super) fn new(address: &Path, namespace: &str) -> Self {
        Self {
            address: address.to_owned(),
            namespace: namespace.to_owned(),
            waiting: VecDeque::new(),
            connection: None,
            stream: 1,
            is_under_way: false,
            next_attempt: None,
        }
    }

    /// Tells of an event, now or later.
    pub(super) fn publish<E: Event>(&mut self, event: &E) {
        let envelope = Envelope {
            timestamp: Some(Timestamp::now()),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.into(),
            event: Some(Any::of(E::NAME, event)),
        };
        let request = ForwardRequest {
            envelope: Some(envelope),
        };
        if self.waiting.len() == MOST {
            // The first one may be on its way: that one is answered, so it goes by itself.
            let oldest = usize::from(self.is_under_way);
            self.waiting.remove(oldest);
            log::error!("{MOST} events wait for containerd: the oldest is given up");
        }
        self.waiting.push_back(request.encode_to_vec());
        self.advance();
    }

    /// Whether containerd has everything.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What to poll for, if there is a connection.
    pub(super) fn poll_for(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.connection.as_ref().map(Connection::poll_for)
    }

    /// When to call [`Self::serve`] again, whatever happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let is_away = self.connection.is_none() && !self.is_done();
        self.next_attempt.filter(|_| is_away)
    }

    /// Goes on after something has happened on the connection, or the deadline has passed.
    pub(super) fn serve(&mut self) {
        if let Some(connection) = &mut self.connection {
            match connection.flush().and_then(|()| connection.receive()) {
                Ok(frames) => frames.into_iter().for_each(|frame| self.answered(frame)),
                Err(Closed) => self.disconnect(),
            }
        }
        self.advance();
    }

    fn answered(&mut self, frame: Frame) {
        let Frame::Response(stream, response) = frame else {
            return;
        };
        if !self.is_under_way || stream != self.stream {
            return;
        }
        if let Some(status) = response.status {
            // Sent again it would be refused again.
            log::error!("containerd refuses an event: {}", status.message);
        }
        self.waiting.pop_front();
        self.is_under_way = false;
        self.stream = self.stream.wrapping_add(2);
    }

    /// Sends the next event, if none is under way.
    pub(super) fn advance(&mut self) {
        if self.is_under_way || self.waiting.is_empty() {
            return;
        }
        if self.connection.is_none() {
            let now = Instant::now();
            if self.next_attempt.is_some_and(|next| now < next) {
                return;
            }
            self.connection = open(&self.address).map(Connection::new);
            self.next_attempt = Some(now + PATIENCE);
        }
        let Some((connection, payload)) = self.connection.as_mut().zip(self.waiting.front()) else {
            return;
        };
        let request = Request {
            service: "containerd.services.events.ttrpc.v1.Events".into(),
            method: "Forward".into(),
            payload: payload.clone(),
        };
        self.is_under_way = true;
        if connection
            .send(&ttrpc::request(self.stream, &request))
            .is_err()
        {
            self.disconnect();
        }
    }

    /// What was under way goes out again on the next connection: containerd may have it twice, but never not at all.
    fn disconnect(&mut self) {
        self.connection = None;
        self.is_under_way = false;
        self.stream = 1;
    }
}

fn open(address: &Path) -> Option<std::os::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    let (_dir, address) = socket_address(address).ok()?;
    // That of a unix socket is there at once or not at all.
    connect(&socket, &address).ok()?;
    Some(socket)
}
