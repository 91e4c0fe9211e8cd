//! What can happen in the world, and what it does to it.

use std::time::Duration;

use super::super::super::{
    Action, Event, Exit, Hook, Index, Kind, ProbeKind, RuleAction, StartFailure, State, Time,
};
use super::World;

impl World {
    /// Something that can happen.
    pub(super) fn event(&mut self) -> Event {
        if !self.accepted && !self.rng.one_in(10) {
            return Event::Accepted;
        }
        if self.accepted && !self.start_requested && self.rng.one_in(2) {
            return Event::StartRequested;
        }
        match self.rng.below(40) {
            0 => Event::StopRequested {
                grace: self
                    .rng
                    .of(&[None, Some(0), Some(5), Some(100)])
                    .map(Duration::from_secs),
            },
            1 if self.rng.one_in(3) => Event::Evicted {
                message: String::new(),
            },
            1 if self.rng.one_in(2) => Event::RetryRequested,
            1 => Event::RerunRequested {
                from: Index(self.below_all()),
            },
            2..4 if self.sandbox => Event::SandboxExited,
            4..7 => Event::Tick,
            7..10 => self.out_of_the_blue(),
            30..36 => self.probe().unwrap_or(Event::Tick),
            10..18 => self.exit().or_else(|| self.answer()).unwrap_or(Event::Tick),
            _ => self.answer().or_else(|| self.exit()).unwrap_or(Event::Tick),
        }
    }

    /// The answer to one of the pending actions.
    pub(super) fn answer(&mut self) -> Option<Event> {
        if self.pending.is_empty() {
            return None;
        }
        let n = self.rng.below(self.pending.len() as u64) as usize;
        let message = String::new();
        let pid = 1 + self.rng.below(1000) as i32;
        let fails = self.rng.one_in(5);
        Some(match self.pending[n] {
            Action::MakeVolumes if fails => Event::VolumesFailed { message },
            Action::MakeVolumes => Event::VolumesReady,
            Action::StartSandbox if fails => Event::SandboxFailed { message },
            Action::StartSandbox => Event::SandboxStarted { pid },
            Action::StopSandbox => Event::SandboxExited,
            Action::Start { container, .. } if fails => Event::StartFailed {
                container,
                reason: self.rng.of(&[
                    StartFailure::CreateContainerConfigError,
                    StartFailure::CreateContainerError,
                    StartFailure::StartError,
                ]),
                message,
            },
            Action::Start { container, .. } => Event::Started {
                container,
                pid,
                id: String::new(),
            },
            Action::RunHook { container, hook } => Event::HookEnded {
                container,
                hook,
                failure: fails.then_some(message),
            },
            Action::Signal { .. } => unreachable!("signals are not answered"),
        })
    }

    /// The end of a container that runs.
    pub(super) fn exit(&mut self) -> Option<Event> {
        let n = self.processes.len() as u64;
        let container = Index(self.rng.below(n) as usize);
        let process = &self.processes[container.0];
        let told = match (process.killed, process.asked) {
            (true, _) => Some(libc::SIGKILL),
            (_, Some(_)) => Some(libc::SIGTERM),
            _ => None,
        };
        let signalled = told.filter(|_| !self.rng.one_in(3));
        let exit = match signalled {
            Some(signal) => Exit::Signal(signal as u8),
            None => Exit::Code(self.rng.of(&[0, 0, 0, 1, 255])),
        };
        process.alive.then(|| Event::Exited {
            container,
            exit,
            oom_killed: self.rng.one_in(20),
            message: None,
        })
    }

    /// Any event at all.
    pub(super) fn out_of_the_blue(&mut self) -> Event {
        let message = String::new();
        let n = self.processes.len() as u64 + 1;
        let container = Index(self.rng.below(n) as usize);
        match self.rng.below(16) {
            15 => Event::Vanished { container },
            0 => Event::Accepted,
            1 => Event::StartRequested,
            2 => Event::VolumesReady,
            3 => Event::VolumesFailed { message },
            4 => Event::SandboxStarted { pid: 7 },
            5 => Event::SandboxFailed { message },
            6 => Event::SandboxExited,
            7 => Event::Started {
                container,
                pid: 7,
                id: message,
            },
            8 => Event::StartFailed {
                container,
                reason: StartFailure::StartError,
                message,
            },
            9..11 => Event::HookEnded {
                container,
                hook: self.rng.of(&[Hook::PostStart, Hook::PreStop]),
                failure: None,
            },
            11..13 => Event::Probed {
                container,
                probe: self.any_probe(),
                healthy: self.rng.one_in(2),
                message,
            },
            13 => Event::Unhealthy {
                container,
                probe: self.any_probe(),
                message,
            },
            _ => Event::Exited {
                container,
                exit: Exit::Code(0),
                oom_killed: false,
                message: None,
            },
        }
    }

    pub(super) fn possible(&self, event: &Event) -> bool {
        let pending = |action| self.pending.contains(&action);
        let process = |c: &Index| self.processes.get(c.0);
        match event {
            _ if self.pod.finished() => false,
            Event::Accepted => !self.accepted,
            Event::StartRequested => !self.start_requested,
            Event::VolumesReady | Event::VolumesFailed { .. } => pending(Action::MakeVolumes),
            Event::SandboxStarted { .. } | Event::SandboxFailed { .. } => {
                pending(Action::StartSandbox)
            }
            Event::SandboxExited => self.sandbox,
            Event::Started { container, .. } | Event::StartFailed { container, .. } => {
                process(container).is_some_and(|p| p.creating)
            }
            Event::Exited { container, .. } | Event::Vanished { container } => {
                process(container).is_some_and(|p| p.alive)
            }
            Event::HookEnded {
                container, hook, ..
            } => {
                let (container, hook) = (*container, *hook);
                pending(Action::RunHook { container, hook })
            }
            Event::Probed {
                container, probe, ..
            }
            | Event::Unhealthy {
                container, probe, ..
            } => {
                let alive = process(container).is_some_and(|p| p.alive);
                alive && self.has_probe(container.0, *probe)
            }
            Event::RerunRequested { from } => {
                let free = self.stop.is_none() && self.again.is_none();
                self.accepted && free && from.0 < self.processes.len()
            }
            Event::RetryRequested => self.stop.is_none() && self.again.is_none(),
            Event::Evicted { .. } => self.terminal.is_none(),
            Event::StopRequested { .. } | Event::Tick => true,
        }
    }

    fn any_probe(&mut self) -> ProbeKind {
        self.rng.of(&[
            ProbeKind::Startup,
            ProbeKind::Liveness,
            ProbeKind::Readiness,
        ])
    }

    fn has_probe(&self, i: usize, kind: ProbeKind) -> bool {
        let mut probes = self.spec.containers[i].probes.iter();
        probes.any(|probe| probe.kind == kind)
    }

    /// A result of a probe that is there.
    fn probe(&mut self) -> Option<Event> {
        let n = self.processes.len() as u64;
        let container = Index(self.rng.below(n) as usize);
        let probe = self.any_probe();
        let possible = self.processes[container.0].alive && self.has_probe(container.0, probe);
        possible.then(|| Event::Probed {
            container,
            probe,
            healthy: !self.rng.one_in(3),
            message: String::new(),
        })
    }

    /// What the event does to the world, and what follows from it without anybody's doing.
    pub(super) fn happen(&mut self, event: &Event) {
        self.take(event);
        let now = self.now;
        let grace = now.after(self.spec.grace);
        if self.stop.is_none() && self.again.is_none() && self.completed() {
            self.stop_at(grace);
        }
        let accepted = self.pod.start_time().or(self.accepted.then_some(now));
        let deadline = accepted.zip(self.spec.active_deadline);
        if self.stop.is_none() && deadline.is_some_and(|(from, time)| now >= from.after(time)) {
            self.stop_at(grace);
            self.failed = true;
        }
        let dead = |from: usize, world: &Self| {
            let mut all = world.processes[from..].iter();
            all.all(|p| !p.alive && !p.creating)
        };
        if self.lost && self.stop.is_none() && dead(0, self) {
            self.again = None;
            self.lost = false;
            for (spec, process) in self.spec.containers.iter().zip(&mut self.processes) {
                process.fresh |= spec.kind != Kind::App;
                process.succeeded = false;
            }
        }
        if let Some((from, due)) = self.again.filter(|_| self.stop.is_none())
            && dead(from, self)
        {
            self.again = None;
            for process in &mut self.processes[from..] {
                process.fresh = true;
                process.succeeded = false;
                if due.is_some() {
                    process.history.attempts.clear();
                }
            }
        }
        if let Event::Started { container, .. } = event {
            let late = self.due(container.0).is_some_and(|due| due <= now);
            self.processes[container.0].at_once |= late;
        }
    }

    /// The pod ends; what has been told to end with less time keeps to that.
    fn stop_at(&mut self, at: Time) {
        let sooner = |i: usize| self.due(i).is_none_or(|due| at < due);
        let sooner: Vec<bool> = (0..self.processes.len()).map(sooner).collect();
        self.stop = Some(self.stop.map_or(at, |stop| stop.min(at)));
        // What it has told to end already keeps to its time.
        if let Some((from, Some(due))) = self.again.take() {
            let told = self.pod.containers().iter().zip(&mut self.processes);
            for (_, process) in told.skip(from).filter(|(c, _)| c.run.stop.is_some()) {
                process.due = Some(process.due.map_or(due, |own| own.min(due)));
            }
        }
        let at_once = at <= self.now;
        for (process, sooner) in self.processes.iter_mut().zip(sooner) {
            process.at_once |= at_once && sooner && process.alive;
        }
    }

    fn come_up(&mut self, i: usize) {
        let process = &mut self.processes[i];
        if self.spec.containers[i].kind == Kind::Sidecar && process.hooked && process.started_up {
            process.succeeded = true;
        }
    }

    fn end_one(&mut self, i: usize, at: Time) {
        let sooner = self.due(i).is_none_or(|due| at < due);
        let process = &mut self.processes[i];
        process.due = Some(process.due.map_or(at, |due| due.min(at)));
        process.at_once |= at <= self.now && sooner;
    }

    fn take(&mut self, event: &Event) {
        let now = self.now;
        match event {
            Event::Accepted => self.accepted = true,
            Event::StartRequested => self.start_requested = true,
            Event::VolumesReady => {
                self.volumes = true;
                self.answered(Action::MakeVolumes);
            }
            Event::VolumesFailed { .. } => {
                self.making_volumes.end(now);
                self.answered(Action::MakeVolumes);
            }
            Event::SandboxStarted { .. } => {
                self.sandbox = true;
                self.lost = false;
                self.answered(Action::StartSandbox);
            }
            Event::SandboxFailed { .. } => {
                self.sandboxes.end(now);
                self.answered(Action::StartSandbox);
            }
            Event::SandboxExited => {
                self.sandbox = false;
                self.sandboxes.end(now);
                self.lost = self.stop.is_none();
                self.answered(Action::StopSandbox);
            }
            Event::Started { container, .. } => {
                self.start_answered(*container);
                let spec = &self.spec.containers[container.0];
                let started_up = !self.has_probe(container.0, ProbeKind::Startup);
                let hooked = !spec.post_start;
                let process = &mut self.processes[container.0];
                process.alive = true;
                (process.hooked, process.started_up) = (hooked, started_up);
                self.come_up(container.0);
            }
            Event::StartFailed {
                container, reason, ..
            } => {
                self.start_answered(*container);
                let made = *reason == StartFailure::StartError;
                let sidecar = self.spec.containers[container.0].kind == Kind::Sidecar;
                let process = &mut self.processes[container.0];
                let started = sidecar && process.succeeded;
                if made {
                    (process.oom, process.unhealthy) = (false, false);
                }
                process.end(now, made.then_some(128), started);
            }
            Event::Exited {
                container,
                exit,
                oom_killed,
                ..
            } => {
                let code = match exit {
                    Exit::Code(code) => i32::from(*code),
                    Exit::Signal(signal) => 128 + i32::from(*signal),
                };
                let i = container.0;
                let well = match self.spec.containers[i].kind {
                    Kind::Sidecar => self.processes[i].succeeded,
                    _ => code == 0 && !oom_killed,
                };
                self.processes[i].oom = *oom_killed;
                self.processes[i].end(now, Some(code), well);
                self.pending
                    .retain(|a| !matches!(a, Action::RunHook { container: c, .. } if c.0 == i));
                let all = self.rule(i, code) == Some(RuleAction::RestartAllContainers);
                if all && self.stop.is_none() && !self.lost && self.again.is_none() {
                    self.again = Some((0, None));
                }
            }
            Event::Vanished { container } => {
                let i = container.0;
                let sidecar = self.spec.containers[i].kind == Kind::Sidecar;
                let well = sidecar && self.processes[i].succeeded;
                self.processes[i].oom = false;
                self.processes[i].end(now, Some(137), well);
                self.pending
                    .retain(|a| !matches!(a, Action::RunHook { container: c, .. } if c.0 == i));
            }
            other => self.take_wish(other),
        }
    }

    /// What concerns hooks and probes, and what somebody wants.
    fn take_wish(&mut self, event: &Event) {
        let now = self.now;
        match event {
            Event::HookEnded {
                container,
                hook,
                failure,
            } => {
                let (container, hook) = (*container, *hook);
                self.answered(Action::RunHook { container, hook });
                if hook == Hook::PostStart {
                    match failure {
                        None => self.processes[container.0].hooked = true,
                        Some(_) => self.end_one(container.0, now.after(self.spec.grace)),
                    }
                    self.come_up(container.0);
                }
            }
            Event::Probed {
                container,
                probe,
                healthy,
                ..
            } => self.probed(container.0, *probe, *healthy),
            Event::RerunRequested { from } => {
                let due = now.after(self.spec.grace);
                self.again = Some((from.0, Some(due)));
                for i in from.0..self.processes.len() {
                    let process = &mut self.processes[i];
                    let sooner = process.due.is_none_or(|own| due < own);
                    process.at_once |= due <= now && sooner && process.alive;
                }
            }
            Event::RetryRequested => self.retry(),
            Event::StopRequested { grace } => {
                self.stop_at(now.after(grace.unwrap_or(self.spec.grace)));
            }
            Event::Evicted { .. } => {
                self.stop_at(now);
                self.failed = true;
            }
            _ => {}
        }
    }

    fn probed(&mut self, i: usize, probe: ProbeKind, healthy: bool) {
        match (probe, healthy) {
            (ProbeKind::Startup, true) => {
                self.processes[i].started_up = true;
                self.come_up(i);
            }
            (ProbeKind::Startup | ProbeKind::Liveness, false) => {
                let mut probes = self.spec.containers[i].probes.iter();
                let own = probes.find(|p| p.kind == probe).and_then(|p| p.grace);
                self.processes[i].unhealthy = true;
                self.end_one(i, self.now.after(own.unwrap_or(self.spec.grace)));
            }
            _ => {}
        }
    }

    fn retry(&mut self) {
        self.making_volumes.attempts.clear();
        self.sandboxes.attempts.clear();
        for (c, process) in self.pod.containers().iter().zip(&mut self.processes) {
            let failed = c.state == State::Terminated && process.last_exit != Some(0);
            if failed || matches!(c.state, State::BackOff { .. }) {
                process.history.attempts.clear();
                process.fresh = true;
            }
        }
    }

    fn below_all(&mut self) -> usize {
        let n = self.processes.len() as u64;
        self.rng.below(n) as usize
    }

    pub(super) fn answered(&mut self, action: Action) {
        self.pending.retain(|a| *a != action);
    }

    pub(super) fn start_answered(&mut self, index: Index) {
        self.pending
            .retain(|a| !matches!(a, Action::Start { container, .. } if *container == index));
        self.processes[index.0].creating = false;
    }

    pub(super) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start { container, .. } => {
                let process = &mut self.processes[container.0];
                process.creating = true;
                process.asked = None;
                process.killed = false;
                process.due = None;
                process.at_once = false;
                process.pre_stop_run = false;
                process.unhealthy = false;
                process.history.started = Some(self.now);
                self.pending.push(action);
            }
            Action::Signal { container, signal } => {
                let process = &mut self.processes[container.0];
                match signal {
                    libc::SIGKILL => process.killed = true,
                    _ => process.asked = Some(self.now),
                }
                self.pending.retain(
                    |a| !matches!(a, Action::RunHook { container: c, .. } if *c == container),
                );
            }
            Action::RunHook { container, hook } => {
                self.processes[container.0].pre_stop_run |= hook == Hook::PreStop;
                self.pending.push(action);
            }
            Action::MakeVolumes => {
                self.making_volumes.started = Some(self.now);
                self.pending.push(action);
            }
            Action::StartSandbox => {
                self.sandboxes.started = Some(self.now);
                self.pending.push(action);
            }
            Action::StopSandbox => self.pending.push(action),
        }
    }
}
