//! The machine: what an event changes ([`Pod::step`]'s first half), and which actions follow (its second half).
//!
//! The second half looks only at the state, not at the event that led to it: whatever the order in which facts
//! arrive, the same facts lead to the same actions.

use std::ops::Range;

use super::{
    Action, BackOff, Container, Event, Exit, Failure, Index, Kind, Phase, PodSpec, RestartPolicy,
    Sandbox, StartFailure, State, Termination, Time, Volumes, phase::Transitions, policy::restarts,
};

/// The pod's life: what has happened to it so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub(super) spec: PodSpec,
    pub(super) containers: Vec<Container>,
    pub(super) sandbox: Sandbox,
    pub(super) ending: Option<Ending>,
    /// Succeeded or Failed, once that is decided: it never changes again.
    pub(super) terminal: Option<Phase>,
    pub(super) transitions: Transitions,
    volumes: Volumes,
    volumes_backoff: BackOff,
    sandbox_backoff: BackOff,
    setup_failure: Option<Failure>,
    accepted: Option<Time>,
    start_requested: bool,
    pub(super) now: Time,
}

/// The pod is coming to its end: nothing is started any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) cause: Cause,
    /// When what still runs gets SIGKILL.
    kill_at: Time,
}

/// Why a pod comes to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing is left to run.
    Completed,
    /// Somebody asked for it.
    Stopped,
    /// It went beyond a limit.
    Evicted {
        /// Which.
        message: String,
    },
    /// Pause died, and `restartPolicy: Never` forbids a second sandbox.
    SandboxLost,
}

impl Pod {
    /// A pod of which nothing exists yet.
    #[must_use]
    pub fn new(spec: PodSpec, now: Time) -> Self {
        let containers = vec![Container::new(); spec.containers.len()];
        let mut pod = Self {
            spec,
            containers,
            sandbox: Sandbox::Absent,
            ending: None,
            terminal: None,
            transitions: Transitions::new(now),
            volumes: Volumes::Absent,
            volumes_backoff: BackOff::default(),
            sandbox_backoff: BackOff::default(),
            setup_failure: None,
            accepted: None,
            start_requested: false,
            now,
        };
        pod.observe(now);
        pod
    }

    /// Takes note of what happened and says what is to be done now, in order.
    ///
    /// An event that cannot happen in this state (an exit told twice, an answer to a question nobody asked) changes
    /// nothing and leads to no action: journals are replayed, and races are real.
    pub fn step(&mut self, event: &Event, now: Time) -> Vec<Action> {
        self.now = self.now.max(now);
        let now = self.now;
        let mut actions = Vec::new();
        if self.finished() || !self.happens(event, now) {
            return actions;
        }
        if self.ending.is_none() && self.completed() {
            self.end(Cause::Completed, now);
        }
        if self.ending.is_none() && self.sandbox == Sandbox::Lost {
            self.clear_away(now, &mut actions);
        }
        if self.ending.is_some() {
            self.wind_down(now, &mut actions);
        } else {
            self.advance(now, &mut actions);
        }
        self.observe(now);
        actions
    }

    /// When [`Event::Tick`] is wanted: the end of a back-off, or the end of the grace period.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        if let Some(ending) = &self.ending {
            let waiting = |c: &Container| {
                matches!(c.state, State::Running { .. }) && c.signalled != Some(libc::SIGKILL)
            };
            return self
                .containers
                .iter()
                .any(waiting)
                .then_some(ending.kill_at);
        }
        let volumes = match self.volumes {
            Volumes::BackOff { until, .. } => Some(until),
            _ => None,
        };
        let sandbox = match self.sandbox {
            Sandbox::BackOff { until, .. } => Some(until),
            _ => None,
        };
        let containers = self.containers.iter().filter_map(|c| match c.state {
            State::BackOff { until, .. } => Some(until),
            _ => None,
        });
        containers.chain(volumes).chain(sandbox).min()
    }

    /// The actions that were ordered and not answered yet, signals aside: what a supervisor that takes the pod over
    /// has to carry out, or to find the answer to.
    #[must_use]
    pub fn outstanding(&self) -> Vec<Action> {
        let volumes = (self.volumes == Volumes::Making).then_some(Action::MakeVolumes);
        let sandbox = match self.sandbox {
            Sandbox::Starting => Some(Action::StartSandbox),
            Sandbox::Stopping => Some(Action::StopSandbox),
            _ => None,
        };
        let starts = self.containers.iter().enumerate().filter_map(|(i, c)| {
            (c.state == State::Creating).then_some(Action::Start {
                container: Index(i),
                restart: c.restart_count,
            })
        });
        volumes.into_iter().chain(sandbox).chain(starts).collect()
    }

    /// The pod is over: no process of it is left, nothing will ever happen to it again.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.terminal.is_some()
            && self.sandbox == Sandbox::Gone
            && self.volumes != Volumes::Making
            && !self.containers.iter().any(Container::alive)
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }

    /// In the order of [`PodSpec::containers`].
    #[must_use]
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// The volumes, all together.
    #[must_use]
    pub fn volumes(&self) -> Volumes {
        self.volumes
    }

    /// The pause process.
    #[must_use]
    pub fn sandbox(&self) -> Sandbox {
        self.sandbox
    }

    /// Why volumes or sandbox could not be made, last time; `None` once they were.
    #[must_use]
    pub fn setup_failure(&self) -> Option<&Failure> {
        self.setup_failure.as_ref()
    }

    /// `status.startTime`: when the pod was accepted.
    #[must_use]
    pub fn start_time(&self) -> Option<Time> {
        self.accepted
    }

    /// Since somebody asked for the pod's end, and as long as it is not over: when what still runs gets SIGKILL.
    #[must_use]
    pub fn stopping(&self) -> Option<Time> {
        let ending = self.ending.as_ref().filter(|_| !self.finished())?;
        (ending.cause == Cause::Stopped).then_some(ending.kill_at)
    }

    /// When it was made.
    #[must_use]
    pub fn created(&self) -> Time {
        self.transitions.created()
    }

    /// The time of the last event.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// The pod as it is when its supervisor has gone: `alive` says of every container's first process, `pause` of
    /// pause, whether it is still there. What is gone ended in a way that nobody saw, and nothing is ever started.
    #[must_use]
    pub fn unsupervised(mut self, pause: bool, alive: impl Fn(Index) -> bool) -> Self {
        if self.finished() {
            return self;
        }
        self.call_off();
        for (i, c) in self.containers.iter_mut().enumerate() {
            match c.state {
                State::Running { .. } if !alive(Index(i)) => {
                    let termination = Termination::unseen(c, self.now);
                    c.end(termination);
                }
                State::Creating => c.state = State::Pending,
                _ => {}
            }
        }
        if !pause {
            self.sandbox = Sandbox::Gone;
        }
        if !pause && !self.containers.iter().any(Container::alive) {
            self.terminal.get_or_insert(self.final_phase());
        }
        self.observe(self.now);
        self
    }

    /// Changes the state as the event says; `false` if it cannot happen in this state.
    fn happens(&mut self, event: &Event, now: Time) -> bool {
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
    fn end(&mut self, cause: Cause, kill_at: Time) {
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
    fn call_off(&mut self) {
        for c in &mut self.containers {
            if matches!(c.state, State::BackOff { .. }) {
                c.state = match c.last {
                    Some(_) => State::Terminated,
                    None => State::Pending,
                };
            }
        }
    }

    /// Nothing is left to run, or an init container failed for good.
    fn completed(&self) -> bool {
        let over = |(i, c): (usize, &Container)| {
            c.terminated()
                .is_some_and(|t| !restarts(self.kind(i), self.spec.restart_policy, t))
        };
        let mut all = self.containers.iter().enumerate();
        match self.next_init() {
            Some(i) => over((i, &self.containers[i])),
            None => all.all(over),
        }
    }

    /// The first init container that has not succeeded in this sandbox.
    pub(super) fn next_init(&self) -> Option<usize> {
        (0..self.containers.len())
            .find(|&i| self.kind(i) == Kind::Init && !self.containers[i].initialized())
    }

    pub(super) fn kind(&self, i: usize) -> Kind {
        self.spec.containers[i].kind
    }

    /// Ends every container, then the sandbox.
    fn wind_down(&mut self, now: Time, actions: &mut Vec<Action>) {
        let late = self.ending.as_ref().is_some_and(|e| now >= e.kill_at);
        let kill = late || self.sandbox == Sandbox::Lost;
        self.signal(if kill { libc::SIGKILL } else { libc::SIGTERM }, actions);
        if self.containers.iter().any(Container::alive) {
            return;
        }
        self.terminal.get_or_insert(self.final_phase());
        self.sandbox = match self.sandbox {
            Sandbox::Running { .. } => {
                actions.push(Action::StopSandbox);
                Sandbox::Stopping
            }
            Sandbox::Absent | Sandbox::BackOff { .. } | Sandbox::Lost | Sandbox::Gone => {
                Sandbox::Gone
            }
            // Its answer is waited for.
            Sandbox::Starting | Sandbox::Stopping => self.sandbox,
        };
    }

    /// Sends the signal to everything that runs and did not get it, or a stronger one, before.
    fn signal(&mut self, signal: i32, actions: &mut Vec<Action>) {
        for (i, c) in self.containers.iter_mut().enumerate() {
            let running = matches!(c.state, State::Running { .. });
            if running && c.signalled != Some(signal) && c.signalled != Some(libc::SIGKILL) {
                c.signalled = Some(signal);
                let container = Index(i);
                actions.push(Action::Signal { container, signal });
            }
        }
    }

    /// After pause died: kills what ran in its namespaces; then everything may begin again, unless the restart
    /// policy forbids it (the kubelet's `computePodActions`: `Never`, and a container was made before).
    fn clear_away(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.signal(libc::SIGKILL, actions);
        if self.containers.iter().any(Container::alive) {
            return;
        }
        let never = self.spec.restart_policy == RestartPolicy::Never;
        if never && self.containers.iter().any(Container::has_run) {
            self.end(Cause::SandboxLost, now);
            return;
        }
        self.sandbox = Sandbox::Absent;
        for i in 0..self.containers.len() {
            let app = self.kind(i) == Kind::App;
            let policy = self.spec.restart_policy;
            let c = &mut self.containers[i];
            // Under `OnFailure`, an app that has succeeded is not run again in the new sandbox.
            let over = c
                .terminated()
                .is_some_and(|t| app && !restarts(Kind::App, policy, t));
            if !over {
                c.state = State::Pending;
            }
        }
    }

    /// Volumes, sandbox, init containers one by one, apps: whatever can be started now.
    fn advance(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.accepted.is_none() {
            return;
        }
        if matches!(self.volumes, Volumes::Absent | Volumes::BackOff { .. }) {
            self.volumes = match self.volumes_backoff.wait(now) {
                Some((until, delay)) => Volumes::BackOff { until, delay },
                None => {
                    self.volumes_backoff.start(now);
                    actions.push(Action::MakeVolumes);
                    Volumes::Making
                }
            };
        }
        let absent = matches!(self.sandbox, Sandbox::Absent | Sandbox::BackOff { .. });
        if self.volumes == Volumes::Ready && absent {
            self.sandbox = match self.sandbox_backoff.wait(now) {
                Some((until, delay)) => Sandbox::BackOff { until, delay },
                None => {
                    self.sandbox_backoff.start(now);
                    actions.push(Action::StartSandbox);
                    Sandbox::Starting
                }
            };
        }
        if matches!(self.sandbox, Sandbox::Running { .. }) && self.start_requested {
            for i in self.turn() {
                self.start(i, now, actions);
            }
        }
    }

    /// Whose turn it is: one init container, or all apps.
    fn turn(&self) -> Range<usize> {
        let all = self.containers.len();
        match self.next_init() {
            Some(i) => i..i + 1,
            None => (0..all).find(|&i| self.kind(i) == Kind::App).unwrap_or(all)..all,
        }
    }

    /// Starts the container if it wants to be started and its back-off is over.
    fn start(&mut self, i: usize, now: Time, actions: &mut Vec<Action>) {
        let kind = self.kind(i);
        let c = &mut self.containers[i];
        let wanted = match c.state {
            State::Pending | State::BackOff { .. } => true,
            State::Terminated => c
                .terminated()
                .is_some_and(|t| restarts(kind, self.spec.restart_policy, t)),
            State::Creating | State::Running { .. } => false,
        };
        if !wanted {
            return;
        }
        if let Some((until, delay)) = c.backoff.wait(now) {
            c.state = State::BackOff { until, delay };
            return;
        }
        c.backoff.start(now);
        c.restart_count = c.ended;
        c.signalled = None;
        c.state = State::Creating;
        actions.push(Action::Start {
            container: Index(i),
            restart: c.restart_count,
        });
    }
}

impl Container {
    fn end(&mut self, termination: Termination) {
        self.backoff.end(termination.finished_at);
        self.ended += 1;
        self.failure = None;
        self.previous = self.last.replace(termination);
        self.state = State::Terminated;
    }
}
