//! What an event changes. Whatever cannot happen in this state changes nothing.

use super::{
    Container, ContainerSpec, Event, Exit, Failure, Hook, Index, Phase, Pod, PostStart, ProbeKind,
    RuleAction, Run, Sandbox, Stage, StartFailure, State, Termination, Time, Volumes,
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
                message,
            } => self.exited(*container, *exit, *oom_killed, message.as_deref(), now),
            Event::Vanished { container } => self.vanished(*container, now),
            Event::HookEnded {
                container,
                hook,
                failure,
            } => self.hook_ended(*container, *hook, failure.as_deref(), now),
            Event::Probed {
                container,
                probe,
                healthy,
                ..
            } => self.probed(*container, *probe, *healthy, now),
            Event::Unhealthy {
                container, probe, ..
            } => self.has_probe(*container, *probe),
            Event::RerunRequested { from } => self.rerun(*from, now),
            Event::RetryRequested => self.retry(),
            Event::ResizeRequested { container, restart } => self.resize(*container, *restart, now),
            Event::Resized { container, failure } => self.resized(*container, failure.as_deref()),
            Event::EphemeralStarted { container, pid, id } => {
                self.ephemeral_started(container, *pid, id, now)
            }
            Event::EphemeralEnded { name, exit } => self.ephemeral_ended(name, *exit, now),
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
        self.end_ephemeral(now);
        true
    }

    fn started(&mut self, container: Index, pid: i32, id: &str, now: Time) -> bool {
        let spec = self.spec.containers.get(container.0);
        let run = spec.map(Run::of).unwrap_or_default();
        let Some(c) = self.in_state(container, |s| *s == State::Creating) else {
            return false;
        };
        c.failure = None;
        c.state = State::Running {
            started_at: now,
            pid,
            id: id.to_owned(),
        };
        c.run = run;
        c.come_up();
        true
    }

    fn hook_ended(
        &mut self,
        container: Index,
        hook: Hook,
        failure: Option<&str>,
        now: Time,
    ) -> bool {
        let kill_at = now.after(self.spec.grace);
        let Some(c) = self.in_state(container, |s| matches!(s, State::Running { .. })) else {
            return false;
        };
        match hook {
            Hook::PostStart if c.run.post_start == PostStart::Running && !c.run.asked() => {
                c.run.post_start = PostStart::Done;
                if let Some(failure) = failure {
                    c.run.failure = Some(Failure {
                        reason: "PostStartHookError",
                        message: failure.to_owned(),
                    });
                    self.stop(container.0, kill_at, now);
                } else {
                    c.come_up();
                }
                true
            }
            Hook::PreStop => match &mut c.run.stop {
                Some(stop) if stop.stage == Stage::Hook => {
                    stop.stage = Stage::Turn;
                    true
                }
                _ => false,
            },
            Hook::PostStart => false,
        }
    }

    fn has_probe(&self, container: Index, kind: ProbeKind) -> bool {
        let spec = self.spec.containers.get(container.0);
        let running = self.containers.get(container.0);
        running.is_some_and(Container::running) && spec.is_some_and(|s| s.probe(kind).is_some())
    }

    fn probed(&mut self, container: Index, kind: ProbeKind, healthy: bool, now: Time) -> bool {
        if !self.has_probe(container, kind) {
            return false;
        }
        let probe = self.spec.containers[container.0].probe(kind);
        let grace = probe.and_then(|p| p.grace).unwrap_or(self.spec.grace);
        let run = &mut self.containers[container.0].run;
        match (kind, healthy) {
            (ProbeKind::Readiness, _) => run.ready = healthy,
            (ProbeKind::Startup, true) => {
                run.started_up = true;
                self.containers[container.0].come_up();
            }
            (ProbeKind::Liveness, true) => {}
            (ProbeKind::Startup | ProbeKind::Liveness, false) => {
                run.unhealthy = true;
                self.stop(container.0, now.after(grace), now);
            }
        }
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

    fn exited(
        &mut self,
        container: Index,
        exit: Exit,
        oom_killed: bool,
        message: Option<&str>,
        now: Time,
    ) -> bool {
        let Some(c) = self.in_state(container, |s| matches!(s, State::Running { .. })) else {
            return false;
        };
        let termination = Termination {
            message: message.map(str::to_owned),
            ..c.exited(exit, oom_killed, now)
        };
        let code = termination.exit_code;
        c.end(termination);
        let rule = match self.is_given_up(container.0) {
            true => None,
            false => self.spec.containers[container.0].rule(code),
        };
        let goes_on = self.ending.is_none() && self.sandbox != Sandbox::Lost;
        if rule == Some(RuleAction::RestartAllContainers) && goes_on && self.again.is_none() {
            self.restart_all();
        }
        true
    }

    fn vanished(&mut self, container: Index, now: Time) -> bool {
        let Some(c) = self.in_state(container, |s| matches!(s, State::Running { .. })) else {
            return false;
        };
        let termination = c.unseen(now);
        c.end(termination);
        true
    }

    fn evicted(&mut self, message: &str, now: Time) -> bool {
        if self.terminal.is_some() {
            return false;
        }
        let message = message.to_owned();
        self.fail(Cause::Evicted { message }, now);
        true
    }

    /// Unlike after a stop, the phase does not depend on how the containers take it.
    pub(super) fn fail(&mut self, cause: Cause, kill_at: Time) {
        self.end(cause, kill_at);
        self.terminal = Some(Phase::Failed);
    }

    pub(super) fn in_state(
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
        self.again = None;
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

impl Run {
    /// It was told to end, and what was called in it was given up.
    fn asked(&self) -> bool {
        let stage = self.stop.map(|stop| stop.stage);
        matches!(stage, Some(Stage::Asked { .. } | Stage::Killed))
    }

    /// Why its postStart hook failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    fn of(spec: &ContainerSpec) -> Self {
        let has = |kind| spec.probe(kind).is_some();
        Self {
            post_start: match spec.post_start {
                true => PostStart::Due,
                false => PostStart::Done,
            },
            started_up: !has(ProbeKind::Startup),
            ready: !has(ProbeKind::Readiness),
            ..Self::default()
        }
    }
}

impl Container {
    /// Takes note of what it has come to since its start.
    fn come_up(&mut self) {
        self.ran |= self.is_up();
        self.has_started |= self.started();
    }

    pub(super) fn end(&mut self, termination: Termination) {
        self.backoff.end(termination.finished_at);
        self.ended += 1;
        self.ran = true;
        self.failure = self.run.failure.take();
        self.run = Run::default();
        self.previous = self.last.replace(termination);
        self.state = State::Terminated;
    }
}
