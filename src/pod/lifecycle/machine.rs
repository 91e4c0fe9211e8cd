//! The machine: the state of a pod, and one step of it.

use super::{
    Action, BackOff, Container, Ephemeral, Event, Failure, Hook, Index, Kind, Phase, PodSpec,
    PostStart, Resize, Sandbox, State, Time, Volumes, again::Again, phase::Transitions,
};

/// The pod's life: what has happened to it so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub(super) spec: PodSpec,
    pub(super) containers: Vec<Container>,
    pub(super) ephemeral: Vec<Ephemeral>,
    pub(super) sandbox: Sandbox,
    pub(super) ending: Option<Ending>,
    /// Containers are being ended to be run again.
    pub(super) again: Option<Again>,
    /// A restart rule has once begun everything again.
    pub(super) restarted_all: bool,
    /// Succeeded or Failed, once that is decided: it never changes again.
    pub(super) terminal: Option<Phase>,
    pub(super) transitions: Transitions,
    pub(super) volumes: Volumes,
    pub(super) volumes_backoff: BackOff,
    pub(super) sandbox_backoff: BackOff,
    pub(super) setup_failure: Option<Failure>,
    pub(super) accepted: Option<Time>,
    pub(super) start_requested: bool,
    pub(super) now: Time,
}

/// The pod is coming to its end: nothing is started any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) cause: Cause,
    /// When the grace period is over.
    pub(super) kill_at: Time,
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
    /// It took longer than `activeDeadlineSeconds`.
    DeadlineExceeded,
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
            ephemeral: Vec::new(),
            sandbox: Sandbox::Absent,
            ending: None,
            again: None,
            restarted_all: false,
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
        if self.active_deadline().is_some_and(|end| now >= end) {
            self.fail(Cause::DeadlineExceeded, now.after(self.spec.grace));
        }
        self.end_late_inits(now);
        if self.ending.is_none() && self.again.is_none() && self.completed() {
            self.end(Cause::Completed, now.after(self.spec.grace));
        }
        if self.ending.is_none() && self.sandbox == Sandbox::Lost {
            self.clear_away(now, &mut actions);
        }
        if self.ending.is_some() {
            self.wind_down(now, &mut actions);
        } else if !self.clear_for_again(now, &mut actions) {
            self.advance(now, &mut actions);
        }
        self.observe(now);
        actions
    }

    /// When [`Event::Tick`] is wanted: the end of a back-off, of a grace period, or of the time that the pod has.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let running = self.containers.iter().filter(|c| c.running());
        let stops = running.filter_map(|c| c.run.stop.as_ref()?.next()).min();
        if self.ending.is_some() {
            return stops;
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
            // Later than that it waits for another container.
            State::BackOff { until, .. } if until > self.now => Some(until),
            _ => None,
        });
        let times = containers.chain(volumes).chain(sandbox).chain(stops);
        let late = (0..self.containers.len()).filter_map(|i| self.timeout(i));
        times.chain(late).chain(self.active_deadline()).min()
    }

    /// When an init container that runs has taken too long, unless it is being ended already.
    fn timeout(&self, i: usize) -> Option<Time> {
        let (spec, c) = (&self.spec.containers[i], &self.containers[i]);
        match c.state {
            State::Running { started_at, .. } if c.run.stop.is_none() => {
                Some(started_at.after(spec.timeout?))
            }
            _ => None,
        }
    }

    fn end_late_inits(&mut self, now: Time) {
        for i in 0..self.containers.len() {
            if self.timeout(i).is_some_and(|at| now >= at) {
                self.containers[i].run.late = true;
                self.stop(i, now.after(self.spec.grace), now);
            }
        }
    }

    /// When `activeDeadlineSeconds` are over, as long as that matters.
    fn active_deadline(&self) -> Option<Time> {
        let accepted = self.accepted.filter(|_| self.ending.is_none())?;
        Some(accepted.after(self.spec.active_deadline?))
    }

    /// What was ordered and is not done: what a supervisor that takes the pod over has to carry out, or to find the
    /// answer to. Signals are among it as long as their container runs: nobody knows whether they were sent.
    #[must_use]
    pub fn outstanding(&self) -> Vec<Action> {
        let volumes = (self.volumes == Volumes::Making).then_some(Action::MakeVolumes);
        let sandbox = match self.sandbox {
            Sandbox::Starting => Some(Action::StartSandbox),
            Sandbox::Stopping => Some(Action::StopSandbox),
            _ => None,
        };
        let resizes = self.containers.iter().enumerate().filter_map(|(i, c)| {
            let going = c.running() && c.run.stop.is_none() && c.run.resize == Resize::Running;
            let container = Index(i);
            going.then_some(Action::Resize { container })
        });
        let containers = self.containers.iter().enumerate().filter_map(|(i, c)| {
            let container = Index(i);
            let restart = c.restart_count;
            let signal = self.spec.containers[i].stop_signal.unwrap_or(libc::SIGTERM);
            match (&c.state, c.run.stop, c.run.post_start) {
                (State::Creating, ..) => Some(Action::Start { container, restart }),
                (State::Running { .. }, Some(stop), _) => stop.outstanding(container, signal),
                (State::Running { .. }, None, PostStart::Running) => {
                    let hook = Hook::PostStart;
                    Some(Action::RunHook { container, hook })
                }
                _ => None,
            }
        });
        let setup = volumes.into_iter().chain(sandbox);
        setup.chain(containers).chain(resizes).collect()
    }

    /// The pod is over: no process of it is left, nothing will ever happen to it again.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.terminal.is_some()
            && self.sandbox == Sandbox::Gone
            && self.volumes != Volumes::Making
            && !self.containers.iter().any(Container::alive)
    }

    /// Nothing is started any more.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
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

    /// Whether nothing but time has passed between the two.
    #[must_use]
    pub fn is_as(&self, before: &Self) -> bool {
        let now = self.now;
        *self
            == Self {
                now,
                ..before.clone()
            }
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
                    let termination = c.unseen(self.now);
                    c.end(termination);
                }
                State::Creating => c.state = State::Pending,
                _ => {}
            }
        }
        if !pause {
            self.sandbox = Sandbox::Gone;
            self.end_ephemeral(self.now);
        }
        if !pause && !self.containers.iter().any(Container::alive) {
            self.terminal.get_or_insert(self.final_phase());
        }
        self.observe(self.now);
        self
    }

    /// The first init container that has not succeeded in this sandbox, or sidecar that has not started in it.
    pub(super) fn next_init(&self) -> Option<usize> {
        (0..self.containers.len()).find(|&i| !self.is_initialized(i))
    }

    /// What comes after it need not wait for it.
    pub(super) fn is_initialized(&self, i: usize) -> bool {
        let c = &self.containers[i];
        match self.kind(i) {
            Kind::Init => c.initialized(),
            Kind::Sidecar => c.has_started,
            Kind::App => true,
        }
    }

    pub(super) fn kind(&self, i: usize) -> Kind {
        self.spec.containers[i].kind
    }
}
