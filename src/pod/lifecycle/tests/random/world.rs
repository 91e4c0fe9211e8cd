//! What can happen in the world, and what it does to it.

use std::time::Duration;

use super::super::super::{
    Action, EphemeralSpec, Event, Exit, Hook, Index, Kind, ProbeKind, StartFailure, Time,
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
            36 => self.wish(),
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
            Action::Resize { container } => Event::Resized {
                container,
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

    /// What somebody does to a pod that lives.
    fn wish(&mut self) -> Event {
        let n = self.processes.len() as u64 + 1;
        let container = Index(self.rng.below(n) as usize);
        let name = format!("e{}", self.rng.below(3));
        match self.rng.below(3) {
            0 => Event::ResizeRequested {
                container,
                restart: self.rng.one_in(2),
            },
            1 => Event::EphemeralStarted {
                container: EphemeralSpec {
                    name,
                    image: String::new(),
                    target: None,
                },
                pid: 7,
                id: String::new(),
            },
            _ => Event::EphemeralEnded {
                name,
                exit: Exit::Code(1),
            },
        }
    }

    /// Any event at all.
    pub(super) fn out_of_the_blue(&mut self) -> Event {
        let message = String::new();
        let n = self.processes.len() as u64 + 1;
        let container = Index(self.rng.below(n) as usize);
        match self.rng.below(17) {
            16 => Event::Resized {
                container,
                failure: None,
            },
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
            Event::ResizeRequested { container, .. } => {
                self.stop.is_none() && container.0 < self.processes.len()
            }
            Event::Resized { container, .. } => pending(Action::Resize {
                container: *container,
            }),
            Event::EphemeralStarted { container, .. } => {
                let known = self.ephemeral.contains_key(&container.name);
                self.sandbox && self.stop.is_none() && !known
            }
            Event::EphemeralEnded { name, .. } => self.ephemeral.get(name) == Some(&true),
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

    pub(super) fn has_probe(&self, i: usize, kind: ProbeKind) -> bool {
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
        for i in 0..self.processes.len() {
            let process = &self.processes[i];
            let told = self.pod.containers()[i].run.stop.is_some() || process.due.is_some();
            let timeout = self.spec.containers[i].timeout;
            let due = process.began.zip(timeout).map(|(at, time)| at.after(time));
            if process.alive && !told && due.is_some_and(|due| now >= due) {
                self.processes[i].late = true;
                self.end_one(i, grace);
            }
        }
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
            for i in 0..self.processes.len() {
                let app = self.spec.containers[i].kind == Kind::App;
                let over = app && self.is_over(i);
                let process = &mut self.processes[i];
                process.has_started &= over;
                process.fresh |= !app;
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
                process.has_started = false;
                if due.is_some() {
                    process.forgiven = process.ended;
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
    pub(super) fn stop_at(&mut self, at: Time) {
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

    pub(super) fn come_up(&mut self, i: usize) {
        let process = &mut self.processes[i];
        if process.hooked && process.started_up {
            process.has_started = true;
            process.succeeded |= self.spec.containers[i].kind == Kind::Sidecar;
        }
    }

    pub(super) fn end_one(&mut self, i: usize, at: Time) {
        let sooner = self.due(i).is_none_or(|due| at < due);
        let process = &mut self.processes[i];
        process.due = Some(process.due.map_or(at, |due| due.min(at)));
        process.at_once |= at <= self.now && sooner;
    }

    fn below_all(&mut self) -> usize {
        let n = self.processes.len() as u64;
        self.rng.below(n) as usize
    }
}
