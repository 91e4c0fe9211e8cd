//! What an event changes. Whatever cannot happen in this state changes nothing.

use super::{
    Container, Event, Exit, Failure, Index, Phase, Pod, Sandbox, StartFailure, State, Termination,
    Time, Volumes,
    machine::{Cause, Ending},
};

impl Pod {
    /// Changes the state as the event says; `false` if it cannot happen in this state.
    pub(super) fn happens(&mut self, event: &Event, now: Time) -> bool {
        match event {
            Event::Accepted => self.accepted.is_none() && self.accepted.replace(now).is_none(),
            Event::StartRequested => !std::mem::replace(&mut self.start_requested, true),
            Event::VolumesReady => self.volumes_made(None, now),
            Event::VolumesFailed { message } => self.volumes_made(Some(message), now),
            Event::SandboxStarted { pid } => self.sandbox_made(Ok(*pid), now),
            Event::SandboxFailed { message } => self.sandbox_made(Err(message), now),
            Event::SandboxExited => self.sandbox_exited(now),
            Event::Started { container, pid, id } => self.started(*container, *pid, id, now),
            Event::StartFailed {
                container,
                reason,
                message,
            } => self.start_failed(*container, *reason, message, now),
            Event::Exited {
                container,
                exit,
                oom_killed,
            } => self.exited(*container, *exit, *oom_killed, now),
            Event::StopRequested { grace } => {
                self.end(Cause::Stopped, now.after(grace.unwrap_or(self.spec.grace)));
                true
            }
            Event::Evicted { message } => self.evicted(message, now),
            Event::Tick => true,
        }
    }

    fn volumes_made(&mut self, failure: Option<&String>, now: Time) -> bool {
        if self.volumes != Volumes::Making {
            return false;
        }
        self.setup_failure = failure.map(|message| Failure {
            reason: "FailedMount",
            message: message.clone(),
        });
        self.volumes = if failure.is_some() {
            self.volumes_backoff.end(now);
            Volumes::Absent
        } else {
            Volumes::Ready
        };
        true
    }

    fn sandbox_made(&mut self, made: Result<i32, &String>, now: Time) -> bool {
        if self.sandbox != Sandbox::Starting {
            return false;
        }
        self.setup_failure = made.err().map(|message| Failure {
            reason: "FailedCreatePodSandBox",
            message: message.clone(),
        });
        self.sandbox = if let Ok(pid) = made {
            let started_at = now;
            Sandbox::Running { started_at, pid }
        } else {
            self.sandbox_backoff.end(now);
            Sandbox::Absent
        };
        true
    }

    fn sandbox_exited(&mut self, now: Time) -> bool {
        match self.sandbox {
            Sandbox::Stopping => self.sandbox = Sandbox::Gone,
            Sandbox::Running { .. } if self.ending.is_some() => self.sandbox = Sandbox::Gone,
            Sandbox::Running { .. } => {
                self.sandbox = Sandbox::Lost;
                self.sandbox_backoff.end(now);
                self.call_off();
            }
            _ => return false,
        }
        true
    }

    fn started(&mut self, container: Index, pid: i32, id: &str, now: Time) -> bool {
        let Some(c) = self.in_state(container, |s| *s == State::Creating) else {
            return false;
        };
        c.failure = None;
        c.state = State::Running {
            started_at: now,
            pid,
            id: id.to_owned(),
        };
        true
    }

    fn start_failed(
        &mut self,
        container: Index,
        reason: StartFailure,
        message: &str,
        now: Time,
    ) -> bool {
        let Some(c) = self.in_state(container, |s| *s == State::Creating) else {
            return false;
        };
        if reason == StartFailure::StartError {
            c.end(Termination::not_executed(message, now));
        } else {
            c.backoff.end(now);
            c.state = State::Pending;
            c.failure = Some(Failure {
                reason: reason.reason(),
                message: message.to_owned(),
            });
        }
        true
    }

    fn exited(&mut self, container: Index, exit: Exit, oom_killed: bool, now: Time) -> bool {
        let Some(c) = self.in_state(container, |s| matches!(s, State::Running { .. })) else {
            return false;
        };
        let termination = Termination::exited(c, exit, oom_killed, now);
        c.end(termination);
        true
    }

    fn evicted(&mut self, message: &str, now: Time) -> bool {
        if self.terminal.is_some() {
            return false;
        }
        let message = message.to_owned();
        self.end(Cause::Evicted { message }, now);
        // Unlike after a stop, the phase does not depend on how the containers take it.
        self.terminal = Some(Phase::Failed);
        true
    }

    fn in_state(
        &mut self,
        container: Index,
        is: impl FnOnce(&State) -> bool,
    ) -> Option<&mut Container> {
        self.containers
            .get_mut(container.0)
            .filter(|c| is(&c.state))
    }

    /// From now on nothing is started. A second end can only hurry the first one up.
    pub(super) fn end(&mut self, cause: Cause, kill_at: Time) {
        match &mut self.ending {
            Some(ending) => {
                ending.kill_at = ending.kill_at.min(kill_at);
                if self.terminal.is_none() {
                    ending.cause = cause;
                }
            }
            None => self.ending = Some(Ending { cause, kill_at }),
        }
        self.call_off();
    }

    /// Containers that wait for their next start do not wait any more.
    pub(super) fn call_off(&mut self) {
        for c in &mut self.containers {
            if matches!(c.state, State::BackOff { .. }) {
                c.state = match c.last {
                    Some(_) => State::Terminated,
                    None => State::Pending,
                };
            }
        }
    }
}

impl Container {
    pub(super) fn end(&mut self, termination: Termination) {
        self.backoff.end(termination.finished_at);
        self.ended += 1;
        self.failure = None;
        self.previous = self.last.replace(termination);
        self.state = State::Terminated;
    }
}
