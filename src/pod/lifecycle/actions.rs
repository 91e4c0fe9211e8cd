//! Which actions follow. They follow from the state alone, not from the event that led to it: in whatever order
//! facts arrive, the same facts lead to the same actions.

use super::{
    Action, BackOffLimits, Container, Hook, Index, Kind, Pod, PostStart, RestartPolicy, Run,
    Sandbox, State, Time, Volumes, machine::Cause,
};

impl Pod {
    /// No app is left to run, or an init container failed for good. Sidecars do not count.
    pub(super) fn completed(&self) -> bool {
        match self.next_init() {
            Some(i) => self.is_over(i),
            None => (0..self.containers.len())
                .filter(|&i| self.kind(i) == Kind::App)
                .all(|i| self.is_over(i)),
        }
    }

    /// It ended, and is not restarted; or it will never be started.
    fn is_over(&self, i: usize) -> bool {
        let ended = self.containers[i].terminated();
        ended.is_some_and(|t| !self.restarts(i, t)) || self.waits_in_vain(i)
    }

    /// What it is to be started after is over without ever having started.
    fn waits_in_vain(&self, i: usize) -> bool {
        let mut after = self.spec.containers[i].after.iter();
        !self.containers[i].alive()
            && after.any(|j| !self.containers[j.0].has_started && self.is_over(j.0))
    }

    /// Whether nothing but init containers has to come before this app.
    fn is_its_turn_to_start(&self, i: usize) -> bool {
        let mut after = self.spec.containers[i].after.iter();
        let comes_up = |j: usize| self.kind(j) == Kind::App && self.containers[j].comes_up();
        let free = !self.spec.kubelet_order || !(0..i).any(comes_up);
        free && after.all(|j| self.containers[j.0].has_started)
    }

    /// Ends every container, then the sandbox.
    pub(super) fn wind_down(&mut self, now: Time, actions: &mut Vec<Action>) {
        let kill_at = self.ending.as_ref().map_or(now, |e| e.kill_at);
        for i in 0..self.containers.len() {
            match self.sandbox {
                Sandbox::Lost => self.kill(i, now, actions),
                _ => self.stop(i, kill_at, now),
            }
        }
        self.go_on_stopping(now, actions);
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

    /// After pause died: kills what ran in its namespaces; then everything may begin again, unless the restart
    /// policy forbids it (the kubelet's `computePodActions`: `Never`, and a container was made before).
    pub(super) fn clear_away(&mut self, now: Time, actions: &mut Vec<Action>) {
        for i in 0..self.containers.len() {
            self.kill(i, now, actions);
        }
        if self.containers.iter().any(Container::alive) {
            return;
        }
        let never = self.spec.restart_policy == RestartPolicy::Never;
        if never && self.containers.iter().any(Container::has_run) {
            self.end(Cause::SandboxLost, now);
            return;
        }
        self.sandbox = Sandbox::Absent;
        self.again = None;
        for i in 0..self.containers.len() {
            // Under `OnFailure`, an app that has succeeded is not run again in the new sandbox.
            if self.kind(i) != Kind::App || !self.is_over(i) {
                self.containers[i].state = State::Pending;
                self.containers[i].has_started = false;
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
                    self.volumes_backoff.start(BackOffLimits::default(), now);
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
                    self.sandbox_backoff.start(BackOffLimits::default(), now);
                    actions.push(Action::StartSandbox);
                    Sandbox::Starting
                }
            };
        }
        if matches!(self.sandbox, Sandbox::Running { .. }) && self.start_requested {
            let next = self.next_init();
            for i in 0..self.containers.len() {
                let its_turn = match self.kind(i) {
                    Kind::Init => next == Some(i),
                    Kind::Sidecar => next.is_none_or(|next| i <= next),
                    Kind::App => next.is_none() && self.is_its_turn_to_start(i),
                };
                if its_turn {
                    self.start(i, now, actions);
                }
            }
        }
        self.run_hooks(actions);
        self.go_on_resizing(actions);
        self.go_on_stopping(now, actions);
    }

    /// Runs what is to be run right after a start.
    fn run_hooks(&mut self, actions: &mut Vec<Action>) {
        for (i, c) in self.containers.iter_mut().enumerate() {
            if c.running() && c.run.stop.is_none() && c.run.post_start == PostStart::Due {
                c.run.post_start = PostStart::Running;
                let (container, hook) = (Index(i), Hook::PostStart);
                actions.push(Action::RunHook { container, hook });
            }
        }
    }

    /// Starts the container if it wants to be started and its back-off is over.
    fn start(&mut self, i: usize, now: Time, actions: &mut Vec<Action>) {
        let wanted = match self.containers[i].state {
            State::Pending | State::BackOff { .. } => true,
            State::Terminated => !self.is_over(i),
            State::Creating | State::Running { .. } => false,
        };
        if !wanted {
            return;
        }
        let limits = self.spec.back_off;
        let c = &mut self.containers[i];
        if let Some((until, delay)) = c.backoff.wait(now) {
            c.state = State::BackOff { until, delay };
            return;
        }
        c.backoff.start(limits, now);
        c.restart_count = c.ended;
        c.run = Run::default();
        c.state = State::Creating;
        actions.push(Action::Start {
            container: Index(i),
            restart: c.restart_count,
        });
    }
}
