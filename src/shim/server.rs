//! The shim itself: one thread, one loop, which sleeps until something happens.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::connection::{Closed, Connection};
use super::pod::{Answer, Pod};
use super::process::Caller;
use super::publisher::Publisher;
use super::start::Settings;
use super::ttrpc::{self, Code, Frame, Request, Status};
use crate::error::{Context, Result};
use crate::sys::{memory, process};

/// After the last call events may still be on their way to containerd: for so long they are waited for.
const FAREWELL: Duration = Duration::from_secs(2);
/// After the last call it is containerd that closes the connection, at the latest after this: when its client finds an answer
/// and the end together, it may tell of the end only.
const LINGER: Duration = Duration::from_millis(200);
/// When nothing has happened for so long, nothing will for some time.
const REST: Duration = Duration::from_secs(1);
/// So long a shim with nothing in it waits for somebody to ask: who has made it may have been killed, or containerd may be
/// starting again, and then nobody ever tells it to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves until containerd has no use for it any more.
///
/// # Errors
/// When the kernel refuses what the loop needs.
pub(super) fn run(listener: OwnedFd, settings: Settings) -> Result<()> {
    let me = rustix::process::getpid();
    // What processes of containers without a pid namespace leave behind is waited for here.
    rustix::process::set_child_subreaper(Some(me)).context(|| "become a subreaper")?;
    let mut server = Server {
        signals: watch_children()?,
        listener,
        connections: BTreeMap::new(),
        next: 0,
        pod: Pod::new(
            &settings.namespace,
            settings.options,
            Publisher::new(&settings.containerd, &settings.namespace),
        ),
    };
    let mut is_rested = false;
    while !server.pod.is_over {
        let deserted = server.is_deserted().then(|| Instant::now() + PATIENCE);
        let rest = (!is_rested).then(|| Instant::now() + REST);
        let wait = if is_rested { memory::rest } else { poll };
        server.step(deserted.into_iter().chain(rest).min(), wait)?;
        is_rested = rest.is_some_and(|rest| Instant::now() >= rest);
        if server.is_deserted() && deserted.is_some_and(|end| Instant::now() >= end) {
            log::warn!("nobody asks for anything");
            break;
        }
    }
    let over = Instant::now();
    while !server.connections.is_empty() && over.elapsed() < LINGER {
        server.step(Some(over + LINGER), poll)?;
    }
    while !server.is_quiet() && over.elapsed() < FAREWELL {
        server.step(Some(over + FAREWELL), poll)?;
    }
    Ok(())
}

/// SIGCHLD as a file, and other signals without an effect: a shim ends when containerd says so.
fn watch_children() -> Result<SignalFd> {
    let step = || "set signals up";
    for ignored in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        process::ignore(ignored).context(step)?;
    }
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().context(step)?;
    SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context(step)
}

/// poll(2), or what does it for longer.
type Wait = fn(&mut [PollFd<'_>], Option<&Timespec>) -> rustix::io::Result<usize>;

struct Server {
    signals: SignalFd,
    listener: OwnedFd,
    connections: BTreeMap<u32, Connection>,
    next: u32,
    pod: Pod,
}

impl Server {
    /// Waits until something happens, and does what there is to do then.
    fn step(&mut self, until: Option<Instant>, wait: Wait) -> Result<()> {
        self.wait(until, wait)?;
        self.take_signals();
        self.accept();
        self.pod.serve();
        let numbers: Vec<u32> = self.connections.keys().copied().collect();
        for number in numbers {
            if self.serve(number).is_err() {
                self.connections.remove(&number);
                self.pod.forget(number);
            }
        }
        for (caller, answer) in self.pod.take_answers() {
            self.answer(caller, answer);
        }
        Ok(())
    }

    fn wait(&self, until: Option<Instant>, wait: Wait) -> Result<()> {
        let mut files: Vec<(BorrowedFd<'_>, PollFlags)> = vec![
            (self.signals.as_fd(), PollFlags::IN),
            (self.listener.as_fd(), PollFlags::IN),
        ];
        files.extend(self.connections.values().map(Connection::poll_for));
        self.pod.poll_for(&mut files);
        let mut files: Vec<PollFd<'_>> = files
            .into_iter()
            .map(|(file, flags)| PollFd::from_borrowed_fd(file, flags))
            .collect();
        let deadline = [until, self.pod.deadline()].into_iter().flatten().min();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match wait(&mut files, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(e).context(|| "poll"),
        }
    }

    fn take_signals(&mut self) {
        let mut happened = false;
        while let Ok(Some(_)) = self.signals.read_signal() {
            happened = true;
        }
        if happened {
            self.pod.reap();
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            self.connections.insert(self.next, Connection::new(socket));
            self.next = self.next.wrapping_add(1);
        }
    }

    fn serve(&mut self, number: u32) -> std::result::Result<(), Closed> {
        let Some(connection) = self.connections.get_mut(&number) else {
            return Ok(());
        };
        connection.flush()?;
        for frame in connection.receive()? {
            let (stream, answer) = match frame {
                Frame::Request(stream, request) => {
                    let caller = Caller {
                        connection: number,
                        stream,
                    };
                    (stream, self.call(&request, caller))
                }
                Frame::Bad(stream, status) => (stream, Some(Err(status))),
                Frame::Response(..) => continue,
            };
            if let Some(answer) = answer {
                let connection = self.connections.get_mut(&number).ok_or(Closed)?;
                let is_too_long = answer
                    .as_ref()
                    .is_err_and(|status| status.code == Code::ResourceExhausted as i32);
                connection.send(&ttrpc::response(stream, answer))?;
                if is_too_long {
                    return Err(Closed);
                }
            }
        }
        Ok(())
    }

    fn call(&mut self, request: &Request, caller: Caller) -> Option<Answer> {
        let (service, method) = (&request.service, &request.method);
        log::debug!("{service}/{method}");
        let answer = self.pod.call(request, caller);
        if let Some(Err(Status { message, .. })) = &answer {
            log::debug!("{service}/{method}: {message}");
        }
        answer
    }

    fn answer(&mut self, caller: Caller, answer: Answer) {
        let number = caller.connection;
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let frame = ttrpc::response(caller.stream, answer);
        if connection.send(&frame).is_err() {
            self.connections.remove(&number);
            self.pod.forget(number);
        }
    }

    /// Without anything in it, and without anybody who could ask.
    fn is_deserted(&self) -> bool {
        self.connections.is_empty() && self.pod.containers.is_empty() && self.pod.sandbox.is_none()
    }

    fn is_quiet(&self) -> bool {
        self.pod.events.is_done() && self.connections.values().all(Connection::is_quiet)
    }
}
