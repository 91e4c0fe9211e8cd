//! What happens, waited for and told to the lifecycle.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Seen, Supervisor, Watch};
use crate::error::{Context, Error, Result};
use crate::pod::container;
use crate::pod::control::{self, Request};
use crate::pod::kept::File;
use crate::pod::lifecycle::{Event, Index, Time};
use crate::pod::logs::Stream;
use crate::pod::output::Output;
use crate::pod::termination;
use crate::sys::memory;
use crate::sys::process::{self, End};

/// How often limits on what is written to the disk are checked: as the kubelet's eviction manager.
pub(super) const CHECK_VOLUMES: Duration = Duration::from_secs(10);
/// How soon a full disk is tried again that the journal did not fit on.
const RETRY_JOURNAL: Duration = Duration::from_secs(1);

/// What a file is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Log(Index, Stream),
    Exit(Index),
    Pause,
    Signals,
    Listener,
    Connection(u64),
    Call(u64),
}

impl Supervisor<'_> {
    /// Waits until something happens or a time has come; gives the files that have something to tell. Logs before
    /// ends, so that what a container wrote is there once it is said to have ended. With nothing to `rest` for any more, it rests.
    pub(super) fn wait(
        &self,
        refresh: Option<Duration>,
        rest: Option<Time>,
    ) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        let mut files = Vec::new();
        for (source, fd) in self.sources() {
            sources.push(source);
            files.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        for (number, fd, flags) in self.calls.waits_for() {
            sources.push(Source::Call(number));
            files.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let timeout = self.timeout(refresh, rest);
        let wait = if rest.is_some() { poll } else { memory::rest };
        match wait(&mut files, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(e) => return Err(Error::sys("wait for what happens to the pod", e)),
        }
        let ready = sources.iter().zip(&files);
        Ok(ready
            .filter(|(_, file)| !file.revents().is_empty())
            .map(|(source, _)| *source)
            .collect())
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>)> {
        let containers = || {
            let slots = self.containers.iter().enumerate();
            slots.map(|(i, slot)| (Index(i), slot))
        };
        let logs = containers().flat_map(|(i, slot)| {
            let files = slot.output.iter().flat_map(Output::files);
            files.map(move |(stream, file)| (Source::Log(i, stream), file.as_fd()))
        });
        let exits = containers().filter_map(|(i, slot)| {
            let process = slot.process.as_ref()?;
            Some((Source::Exit(i), process.pidfd.as_fd()))
        });
        let pause = self.pause.iter().map(|p| (Source::Pause, p.pidfd.as_fd()));
        let connections = self.connections.iter();
        let connections = connections.map(|(&id, fd)| (Source::Connection(id), fd.as_fd()));
        let own = [
            (Source::Signals, self.signals.as_fd()),
            (Source::Listener, self.listener.as_fd()),
        ];
        let all = logs.chain(exits).chain(pause).chain(connections);
        all.chain(own).collect()
    }

    /// Until the next time at which something is to be done.
    fn timeout(&self, refresh: Option<Duration>, rest: Option<Time>) -> Option<Timespec> {
        let now = self.clock.now();
        let retry = (!self.unwritten.is_empty()).then(|| now.after(RETRY_JOURNAL));
        let refresh = refresh.map(|refresh| now.after(refresh));
        let calls = self.calls.deadline();
        let life = self.life.deadline();
        let times = [life, self.next_check, retry, refresh, calls, rest];
        let next = times.into_iter().flatten().min()?;
        Timespec::try_from(next.since(now)).ok()
    }

    pub(super) fn look_at_time(&mut self, watch: Watch<'_>) {
        self.write_journal();
        self.look_at_calls(watch);
        let now = self.clock.now();
        if self.life.deadline().is_some_and(|deadline| deadline <= now) {
            self.happens(Event::Tick, watch);
        }
        if self.next_check.is_some_and(|check| check <= now) {
            self.next_check = Some(now.after(CHECK_VOLUMES));
            if let Some(message) = self.exceeded() {
                self.next_check = None;
                self.happens(Event::Evicted { message }, watch);
            }
        }
    }

    pub(super) fn look_at(&mut self, source: Source, watch: Watch<'_>) -> Result<()> {
        match source {
            Source::Log(container, stream) => {
                let now = self.clock.now();
                if let Some(output) = &mut self.containers[container.0].output {
                    output.drain(stream, now);
                    if self.viewers.values().any(|viewed| *viewed == container) {
                        output.flush(now);
                    }
                    watch(Seen::Log(container, output.last_line(), now));
                }
            }
            Source::Exit(container) => self.look_at_container(container, watch)?,
            Source::Pause => {
                let ended = match &self.pause {
                    Some(pause) => process::ended(pause).context(|| "wait for pause")?,
                    None => None,
                };
                if ended.is_some() {
                    self.pause = None;
                    self.happens(Event::SandboxExited, watch);
                }
            }
            Source::Signals => self.look_at_signals(watch)?,
            Source::Listener => {
                let id = self
                    .connections
                    .keys()
                    .next_back()
                    .map_or(0, |last| last + 1);
                let connection = self.listener.accept()?;
                self.connections.extend(connection.map(|fd| (id, fd)));
            }
            Source::Connection(id) => self.look_at_request(id, watch),
            Source::Call(number) => self.look_at_call(number, watch),
        }
        Ok(())
    }

    fn look_at_container(&mut self, container: Index, watch: Watch<'_>) -> Result<()> {
        let Some(process) = &self.containers[container.0].process else {
            return Ok(());
        };
        let step = || format!("wait for container {}", self.name(container));
        let Some(end) = process::ended(process).context(step)? else {
            return Ok(());
        };
        let cgroup = container::cgroup(&self.plan.containers[container.0])?;
        if self.shares_pids()
            && let Err(e) = cgroup.kill()
        {
            log::error!("{e}");
        }
        let oom_killed = cgroup.oom_kills().is_ok_and(|kills| kills > 0);
        let now = self.clock.now();
        let slot = &mut self.containers[container.0];
        slot.process = None;
        if let Some(output) = &mut slot.output {
            output.drain_all(now);
        }
        let event = match end {
            End::Seen(exit) => Event::Exited {
                container,
                exit,
                oom_killed,
                message: self.last_words(container, exit.code()),
            },
            End::Unseen => Event::Vanished { container },
        };
        self.happens(event, watch);
        Ok(())
    }

    fn last_words(&self, container: Index, exit_code: i32) -> Option<String> {
        let plan = &self.plan.containers[container.0];
        let restart = self.life.containers()[container.0].restart_count;
        termination::message(
            &plan.termination,
            &self.data.containers().join(&plan.name),
            (&self.dir.logs(&plan.name), restart),
            exit_code,
            self.plan.containers.len(),
        )
    }

    fn look_at_signals(&mut self, watch: Watch<'_>) -> Result<()> {
        while let Some(signal) = self.signals.read_signal().context(|| "read signals")? {
            if signal.ssi_signo == libc::SIGHUP as u32 {
                continue;
            }
            // Whoever asks a second time does not want to wait.
            let again = self.life.stopping().is_some();
            let grace = again.then_some(Duration::ZERO);
            self.happens(Event::StopRequested { grace }, watch);
        }
        Ok(())
    }

    fn look_at_request(&mut self, id: u64, watch: Watch<'_>) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let event = match control::receive(connection) {
            Ok(Some(Request::Start)) => Event::StartRequested,
            Ok(Some(Request::Stop { grace })) => Event::StopRequested { grace },
            Ok(Some(request)) if self.life.is_ending() && !is_for_the_end(&request) => {
                let refused = Error::new("the pod comes to its end");
                control::answer(connection, &Err(refused));
                return;
            }
            Ok(Some(Request::Rerun { from })) => Event::RerunRequested { from: Index(from) },
            Ok(Some(Request::Retry)) => Event::RetryRequested,
            Ok(Some(Request::Apply { by })) => {
                let applied = self.apply(by);
                if let Some(connection) = self.connections.get(&id) {
                    control::answer(connection, &applied);
                }
                return;
            }
            Ok(Some(Request::Resize {
                container,
                requests,
                limits,
            })) => match self.replan(Index(container), requests, limits) {
                Ok(event) => event,
                Err(e) => {
                    if let Some(connection) = self.connections.get(&id) {
                        control::answer(connection, &Err(e));
                    }
                    return;
                }
            },
            Ok(Some(Request::TakeInput { container })) => {
                let taken = (container, File::Stdin);
                let done = self.kept.retain(|key| (key.container, key.file) != taken);
                control::answer(connection, &done);
                return;
            }
            Ok(Some(Request::EphemeralStarted { container, pid, id })) => {
                Event::EphemeralStarted { container, pid, id }
            }
            Ok(Some(Request::EphemeralEnded { name, exit })) => {
                Event::EphemeralEnded { name, exit }
            }
            Ok(Some(Request::Terminal { container })) => {
                self.show_terminal(id, Index(container));
                return;
            }
            Ok(None) => {
                self.hang_up(id);
                return;
            }
            Err(e) => {
                control::answer(connection, &Err(e));
                self.hang_up(id);
                return;
            }
        };
        // It is kept: its end tells the other side that the pod is over.
        self.happens(event, watch);
        if let Some(connection) = self.connections.get(&id) {
            control::answer(connection, &Ok(()));
        }
    }
}

impl Supervisor<'_> {
    /// Gives a container's terminal to who wants to type and to see. It is not done for him: who types or reads slowly holds
    /// nobody up.
    fn show_terminal(&mut self, id: u64, container: Index) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let now = self.clock.now();
        let mut slots = self.containers.get_mut(container.0).into_iter();
        let output = slots.find_map(|slot| slot.output.as_mut());
        let master = output.as_ref().and_then(|output| output.terminal());
        match master {
            Some(master) => control::hand_over(connection, master.as_fd()),
            None => {
                let none = Error::new("nothing in the container has its terminal open any more");
                control::answer(connection, &Err(none));
                return;
            }
        }
        // He sees what comes from now on, and what it is a part of: a prompt.
        if let Some(output) = output {
            output.flush(now);
        }
        self.viewers.insert(id, container);
    }

    fn hang_up(&mut self, id: u64) {
        self.connections.remove(&id);
        self.viewers.remove(&id);
    }
}

/// What can be asked for of a pod that comes to its end.
fn is_for_the_end(request: &Request) -> bool {
    matches!(
        request,
        Request::Start
            | Request::Stop { .. }
            | Request::Terminal { .. }
            | Request::EphemeralEnded { .. }
    )
}
