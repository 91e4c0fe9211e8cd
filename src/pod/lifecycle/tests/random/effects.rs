//! What an event does to the world, and what the machine orders.

use super::super::super::{
    Action, Event, Exit, Hook, Index, Kind, ProbeKind, RuleAction, StartFailure, State,
};
use super::World;

impl World {
    pub(super) fn take(&mut self, event: &Event) {
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
                self.ephemeral.values_mut().for_each(|runs| *runs = false);
                self.answered(Action::StopSandbox);
            }
            Event::Started { container, .. } => {
                self.start_answered(*container);
                let spec = &self.spec.containers[container.0];
                let started_up = !self.has_probe(container.0, ProbeKind::Startup);
                let hooked = !spec.post_start;
                let process = &mut self.processes[container.0];
                process.alive = true;
                process.began = Some(now);
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
                    (process.late, process.resized) = (false, false);
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
                    _ => code == 0 && !oom_killed && !self.processes[i].late,
                };
                self.processes[i].oom = *oom_killed;
                self.processes[i].end(now, Some(code), well);
                self.pending.retain(|a| !is_in(a, i));
                let all = !self.is_given_up(i)
                    && self.rule(i, code) == Some(RuleAction::RestartAllContainers);
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
                self.pending.retain(|a| !is_in(a, i));
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
            Event::ResizeRequested { container, restart } => {
                self.resize(container.0, *restart);
            }
            Event::Resized { container, .. } => {
                let container = *container;
                self.answered(Action::Resize { container });
            }
            Event::EphemeralStarted { container, .. } => {
                self.ephemeral.insert(container.name.clone(), true);
            }
            Event::EphemeralEnded { name, .. } => {
                self.ephemeral.insert(name.clone(), false);
            }
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

    fn resize(&mut self, i: usize, restart: bool) {
        let going = self.pending.contains(&Action::Resize {
            container: Index(i),
        });
        if !self.processes[i].alive || self.pod.containers()[i].run.stop.is_some() {
            return;
        }
        if restart {
            self.processes[i].resized = true;
            self.end_one(i, self.now.after(self.spec.grace));
        } else if !going {
            self.processes[i].resize_due = true;
        }
    }

    fn retry(&mut self) {
        self.making_volumes.attempts.clear();
        self.sandboxes.attempts.clear();
        for (c, process) in self.pod.containers().iter().zip(&mut self.processes) {
            let failed = c.state == State::Terminated && process.last_exit != Some(0);
            if failed || matches!(c.state, State::BackOff { .. }) {
                process.history.attempts.clear();
                process.forgiven = process.ended;
                process.fresh = true;
            }
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
                process.asked = None;
                process.killed = false;
                process.due = None;
                process.at_once = false;
                process.pre_stop_run = false;
                process.unhealthy = false;
                (process.resized, process.resize_due, process.late) = (false, false, false);
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
            Action::Resize { container } => {
                self.processes[container.0].resize_due = false;
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

/// Whether it goes on in this container, and ends with it.
fn is_in(action: &Action, i: usize) -> bool {
    match action {
        Action::RunHook { container, .. } | Action::Resize { container } => container.0 == i,
        _ => false,
    }
}
