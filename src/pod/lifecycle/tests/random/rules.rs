//! The rules that every life must keep.

use std::time::Duration;

use super::super::super::{
    Action, Container, Index, Kind, Phase, RestartPolicy, Sandbox, State, Time, Volumes,
};
use super::{Checked, History, Process, World};

impl World {
    /// Whether the action may be carried out in this world, in this moment.
    pub(super) fn legal(&self, action: Action) -> Checked {
        let busy = self.processes.iter().any(|p| p.alive || p.creating);
        let ended = self.stop.is_some() || self.terminal.is_some();
        let pending = self.pending.contains(&action);
        hold!(!pending, "{action:?} while it is being carried out");
        match action {
            Action::MakeVolumes => {
                hold!(self.accepted && !self.volumes, "volumes twice or too soon");
                hold!(!ended, "volumes after the end");
                self.making_volumes.legal(self.now)?;
            }
            Action::StartSandbox => {
                hold!(self.volumes, "a sandbox before the volumes");
                hold!(!self.sandbox && !busy, "a sandbox beside another");
                hold!(!ended, "a sandbox after the end");
                self.sandboxes.legal(self.now)?;
            }
            Action::StopSandbox => {
                hold!(
                    self.sandbox && !busy,
                    "stops a sandbox that is not up or in use"
                );
            }
            Action::Start { container, restart } => {
                self.start_is_legal(container, restart)?;
                hold!(!ended, "a start after the end");
            }
            Action::Signal { container, signal } => {
                let process = &self.processes[container.0];
                hold!(process.alive, "signals a container that does not run");
                let stronger = match process.signalled {
                    None => true,
                    Some(before) => before != signal && before != libc::SIGKILL,
                };
                hold!(stronger, "signals twice");
                hold!(self.lost || self.stop.is_some(), "a signal for no reason");
                let due = self.lost || self.stop.is_some_and(|at| self.now >= at);
                let expected = if due { libc::SIGKILL } else { libc::SIGTERM };
                hold!(signal == expected, "signal {signal}, not {expected}");
            }
        }
        Ok(())
    }

    pub(super) fn start_is_legal(&self, container: Index, restart: u32) -> Checked {
        let process = &self.processes[container.0];
        hold!(self.sandbox, "a start without a sandbox");
        hold!(
            self.start_requested,
            "a start that nobody asked for ({restart})"
        );
        hold!(
            !process.alive && !process.creating,
            "a start of what is there"
        );
        hold!(restart == process.ended, "restart {restart} is misnumbered");
        process.history.legal(self.now)?;
        let policy = self.spec.restart_policy;
        if policy == RestartPolicy::Never {
            hold!(process.last_exit.is_none(), "a restart under Never");
        }
        let app = self.spec.containers[container.0].kind == Kind::App;
        if app && policy == RestartPolicy::OnFailure {
            hold!(process.last_exit != Some(0), "a restart after a success");
        }
        for (i, p) in self.processes.iter().enumerate() {
            if self.spec.containers[i].kind == Kind::Init && i != container.0 {
                hold!(!p.alive && !p.creating, "{} beside init {i}", container.0);
                hold!(
                    p.succeeded || i > container.0,
                    "{} before init {i}",
                    container.0
                );
            }
        }
        hold!(app || !process.succeeded, "an init after its success");
        Ok(())
    }

    /// What must be true after every step.
    pub(super) fn check(&mut self) -> Checked {
        let pod = &self.pod;
        let phase = pod.phase();
        if let Some(terminal) = self.terminal {
            hold!(phase == terminal, "{terminal:?} became {phase:?}");
        }
        if matches!(phase, Phase::Succeeded | Phase::Failed) {
            self.terminal = Some(phase);
        }
        if self.evicted {
            hold!(phase == Phase::Failed, "evicted and not failed");
        }
        if let Volumes::BackOff { until, .. } = pod.volumes() {
            hold!(until == self.making_volumes.may_start(), "volumes wait");
        }
        if let Sandbox::BackOff { until, .. } = pod.sandbox() {
            hold!(until == self.sandboxes.may_start(), "the sandbox waits");
        }
        let outstanding = pod.outstanding();
        let signals = self
            .processes
            .iter()
            .filter(|p| p.alive && p.signalled.is_some());
        let same = outstanding.len() == self.pending.len() + signals.count()
            && self.pending.iter().all(|a| outstanding.contains(a));
        hold!(same, "waits for {outstanding:?}");
        for (i, (c, p)) in pod.containers().iter().zip(&self.processes).enumerate() {
            p.agrees(c).map_err(|e| format!("container {i}: {e}"))?;
            let must = (self.stop.is_some() || !self.sandbox) && p.alive;
            hold!(!must || p.signalled.is_some(), "{i} is not told to end");
            let waits = matches!(c.state, State::BackOff { .. });
            let may_wait = self.sandbox && self.stop.is_none();
            hold!(!waits || may_wait, "{i} waits for a start that never comes");
            let kill = p.alive && self.stop.is_some_and(|at| self.now >= at);
            hold!(!kill || p.signalled == Some(libc::SIGKILL), "{i} lives on");
        }
        self.moves()
    }

    /// The machine always waits for something that will come, or it is over and nothing is left.
    pub(super) fn moves(&self) -> Checked {
        let busy = self.processes.iter().any(|p| p.alive || p.creating);
        let deadline = self.pod.deadline();
        hold!(deadline.is_none_or(|at| at > self.now), "an old deadline");
        if self.pod.finished() {
            let left = busy || self.sandbox || !self.pending.is_empty() || deadline.is_some();
            hold!(!left, "finished, and something is left");
            hold!(self.terminal.is_some(), "finished without a phase");
            return Ok(());
        }
        let for_the_user = !self.accepted || (self.sandbox && !self.start_requested);
        hold!(
            for_the_user || busy || deadline.is_some() || !self.pending.is_empty(),
            "stands still"
        );
        Ok(())
    }
}

impl History {
    pub(super) fn end(&mut self, now: Time) {
        self.attempts.extend(self.started.take().map(|s| (s, now)));
    }

    pub(super) fn legal(&self, now: Time) -> Checked {
        hold!(now >= self.may_start(), "a start within the back-off");
        Ok(())
    }

    /// The documented back-off, computed from the whole history: immediately, then 10 s, 20 s, ... 300 s after the
    /// end; anew after more than ten minutes.
    pub(super) fn may_start(&self) -> Time {
        let good = |(start, end): &(Time, Time)| end.since(*start) > Duration::from_secs(600);
        let Some(last) = self.attempts.last() else {
            return Time(0);
        };
        let first = (1..self.attempts.len())
            .rev()
            .find(|&i| good(&self.attempts[i]));
        let restarts = self.attempts.len() - 1 - first.unwrap_or(0);
        match restarts {
            0 => last.1,
            n => last.1.after(Duration::from_secs(match n {
                1 => 10,
                2 => 20,
                3 => 40,
                4 => 80,
                5 => 160,
                _ => 300,
            })),
        }
    }
}

impl Process {
    pub(super) fn end(&mut self, now: Time, exit: Option<i32>, well: bool) {
        self.alive = false;
        self.succeeded = well;
        self.history.end(now);
        if exit.is_some() {
            self.ended += 1;
            self.last_exit = exit;
        }
    }

    /// The machine's idea of the container and the world's.
    pub(super) fn agrees(&self, container: &Container) -> Checked {
        let state = &container.state;
        let alive = matches!(state, State::Running { .. });
        hold!(alive == self.alive, "runs in one world only: {state:?}");
        hold!(
            (*state == State::Creating) == self.creating,
            "is created in one world only"
        );
        if let State::BackOff { until, .. } = state {
            hold!(*until == self.history.may_start(), "a wrong back-off");
        }
        let exit = container.last.as_ref().map(|t| t.exit_code);
        hold!(exit == self.last_exit, "a wrong exit code");
        Ok(())
    }
}
