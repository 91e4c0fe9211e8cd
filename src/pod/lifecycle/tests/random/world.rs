//! What can happen in the world, and what it does to it.

use std::time::Duration;

use super::super::super::{Action, Event, Exit, Index, StartFailure};
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
            2..4 if self.sandbox => Event::SandboxExited,
            4..7 => Event::Tick,
            7..10 => self.out_of_the_blue(),
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
            Action::Signal { .. } => unreachable!("signals are not answered"),
        })
    }

    /// The end of a container that runs.
    pub(super) fn exit(&mut self) -> Option<Event> {
        let n = self.processes.len() as u64;
        let container = Index(self.rng.below(n) as usize);
        let process = &self.processes[container.0];
        let signalled = process.signalled.filter(|_| !self.rng.one_in(3));
        let exit = match signalled {
            Some(signal) => Exit::Signal(signal as u8),
            None => Exit::Code(self.rng.of(&[0, 0, 0, 1, 255])),
        };
        process.alive.then(|| Event::Exited {
            container,
            exit,
            oom_killed: self.rng.one_in(20),
        })
    }

    /// Any event at all.
    pub(super) fn out_of_the_blue(&mut self) -> Event {
        let message = String::new();
        let n = self.processes.len() as u64 + 1;
        let container = Index(self.rng.below(n) as usize);
        match self.rng.below(10) {
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
            _ => Event::Exited {
                container,
                exit: Exit::Code(0),
                oom_killed: false,
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
            Event::Exited { container, .. } => process(container).is_some_and(|p| p.alive),
            Event::Evicted { .. } => self.terminal.is_none(),
            Event::StopRequested { .. } | Event::Tick => true,
        }
    }

    /// What the event does to the world.
    pub(super) fn happen(&mut self, event: &Event) {
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
                self.lost = self.stop.is_none() && self.terminal.is_none();
                self.answered(Action::StopSandbox);
                for process in &mut self.processes {
                    process.succeeded = false;
                }
            }
            Event::Started { container, .. } => {
                self.start_answered(*container);
                self.processes[container.0].alive = true;
            }
            Event::StartFailed {
                container, reason, ..
            } => {
                self.start_answered(*container);
                let made = *reason == StartFailure::StartError;
                self.processes[container.0].end(now, made.then_some(128), false);
            }
            Event::Exited {
                container,
                exit,
                oom_killed,
            } => {
                let code = match exit {
                    Exit::Code(code) => i32::from(*code),
                    Exit::Signal(signal) => 128 + i32::from(*signal),
                };
                let well = code == 0 && !oom_killed && self.sandbox;
                self.processes[container.0].end(now, Some(code), well);
            }
            Event::StopRequested { grace } => {
                let at = now.after(grace.unwrap_or(self.spec.grace));
                self.stop = Some(self.stop.map_or(at, |stop| stop.min(at)));
            }
            Event::Evicted { .. } => {
                self.stop = Some(now);
                self.evicted = true;
            }
            Event::Tick => {}
        }
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
                process.signalled = None;
                process.history.started = Some(self.now);
                self.pending.push(action);
            }
            Action::Signal { container, signal } => {
                self.processes[container.0].signalled = Some(signal);
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
