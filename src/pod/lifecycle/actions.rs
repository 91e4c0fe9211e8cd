//! Which actions follow. They follow from the state alone, not from the event that led to it: in whatever order
//! facts arrive, the same facts lead to the same actions.

use std::ops::Range;

use super::{
    Action, Container, Index, Kind, Pod, RestartPolicy, Sandbox, State, Time, Volumes,
    machine::Cause, policy::restarts,
};

impl Pod {
    /// Nothing is left to run, or an init container failed for good.
    pub(super) fn completed(&self) -> bool {
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

    /// Ends every container, then the sandbox.
    pub(super) fn wind_down(&mut self, now: Time, actions: &mut Vec<Action>) {
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
    pub(super) fn clear_away(&mut self, now: Time, actions: &mut Vec<Action>) {
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
    pub(super) fn advance(&mut self, now: Time, actions: &mut Vec<Action>) {
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
