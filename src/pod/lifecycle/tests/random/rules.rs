//! The rules that every life must keep.

use std::time::Duration;

use super::super::super::{
    Action, Container, Hook, Index, Kind, Phase, RestartPolicy, RuleAction, Sandbox, State, Time,
    Volumes,
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
            Action::RunHook { container, hook } => self.hook_is_legal(container, hook)?,
            Action::Resize { container } => {
                let process = &self.processes[container.0];
                hold!(process.alive, "resizes what does not run");
                hold!(process.resize_due, "resizes for no reason");
                hold!(!ended, "resizes after the end");
            }
            Action::Signal { container, signal } => self.signal_is_legal(container, signal)?,
        }
        Ok(())
    }

    fn hook_is_legal(&self, container: Index, hook: Hook) -> Checked {
        let process = &self.processes[container.0];
        let spec = &self.spec.containers[container.0];
        hold!(process.alive, "a hook of a container that does not run");
        let told = process.asked.is_some() || process.killed;
        hold!(!told, "a hook after a signal");
        match hook {
            Hook::PostStart => hold!(spec.post_start && !process.hooked, "postStart twice"),
            Hook::PreStop => {
                hold!(spec.pre_stop && !process.pre_stop_run, "preStop twice");
                let due = self.due(container.0);
                hold!(due.is_some(), "preStop for no reason");
                hold!(due > Some(self.now), "preStop without time for it");
                hold!(
                    !self.by_rule(container.0),
                    "preStop before a restart by rule"
                );
            }
        }
        Ok(())
    }

    /// TERM after the hook and in turn, or when time is over; KILL when there is no grace, or it is over.
    fn signal_is_legal(&self, container: Index, signal: i32) -> Checked {
        let i = container.0;
        let process = &self.processes[i];
        hold!(process.alive, "signals a container that does not run");
        hold!(!process.killed, "signals after SIGKILL");
        let due = self.due(i);
        let late = due.is_some_and(|at| self.now >= at);
        let swift = self.lost || self.by_rule(i);
        hold!(swift || due.is_some(), "a signal for no reason");
        if signal == libc::SIGKILL {
            hold!(swift || late, "SIGKILL too soon");
            hold!(
                swift || process.at_once || process.asked.is_some(),
                "not asked first"
            );
            return Ok(());
        }
        hold!(
            signal == libc::SIGTERM && process.asked.is_none(),
            "asked twice"
        );
        hold!(!process.at_once, "asked where there is no grace");
        let hook = Action::RunHook {
            container,
            hook: Hook::PreStop,
        };
        let hooked = !self.spec.containers[i].pre_stop || process.pre_stop_run;
        hold!(
            late || (hooked && !self.pending.contains(&hook)),
            "asked before preStop"
        );
        let whole_pod = self.stop.is_some() || self.again.is_some();
        if whole_pod && self.spec.containers[i].kind == Kind::Sidecar && !late {
            for (j, p) in self.processes.iter().enumerate() {
                let later = match self.spec.containers[j].kind {
                    Kind::App => true,
                    Kind::Sidecar => j > i,
                    Kind::Init => false,
                };
                hold!(!later || !(p.alive || p.creating), "sidecar {i} before {j}");
            }
        }
        Ok(())
    }

    /// When the grace of a container that is to end is over.
    pub(super) fn due(&self, i: usize) -> Option<Time> {
        let again = self.again.filter(|(from, _)| i >= *from).and_then(|a| a.1);
        let all = [self.stop, again, self.processes[i].due];
        all.into_iter().flatten().min()
    }

    fn by_rule(&self, i: usize) -> bool {
        self.again
            .is_some_and(|(from, due)| i >= from && due.is_none())
    }

    /// The restart policies, from their documentation.
    fn restarts(&self, i: usize) -> bool {
        let (spec, process) = (&self.spec.containers[i], &self.processes[i]);
        let code = process.last_exit.unwrap_or(0);
        let policy = spec.restart_policy.unwrap_or(self.spec.restart_policy);
        let good = code == 0 && !(spec.kind == Kind::Init && (process.oom || process.was_late));
        if self.is_given_up(i) {
            return false;
        }
        spec.kind == Kind::Sidecar
            || self.rule(i, code).is_some()
            || match policy {
                RestartPolicy::Always => spec.kind == Kind::App || !good,
                RestartPolicy::OnFailure => !good || process.was_unhealthy || process.was_resized,
                RestartPolicy::Never => false,
            }
    }

    pub(super) fn is_given_up(&self, i: usize) -> bool {
        let counted = self.processes[i].ended - self.processes[i].forgiven;
        let max = self.spec.containers[i].max_restarts;
        max.is_some_and(|max| counted > max)
    }

    pub(super) fn rule(&self, i: usize, code: i32) -> Option<RuleAction> {
        let spec = &self.spec.containers[i];
        let mut rules = spec.rules.iter().filter(|_| spec.restart_policy.is_some());
        let fits = rules.find(|r| r.exit_codes.contains(&code) ^ r.negated);
        fits.map(|r| r.action)
    }

    fn is_good(&self, i: usize) -> bool {
        let p = &self.processes[i];
        p.last_exit == Some(0) && !p.oom && !p.was_late
    }

    pub(super) fn is_over(&self, i: usize) -> bool {
        let p = &self.processes[i];
        let mut after = self.spec.containers[i].after.iter();
        let in_vain = after.any(|j| !self.processes[j.0].has_started && self.is_over(j.0));
        !p.alive && !p.creating && (in_vain || (!p.fresh && !self.restarts(i)))
    }

    /// Nothing is left to do but to end what serves it.
    pub(super) fn completed(&self) -> bool {
        let kind = |i: usize| self.spec.containers[i].kind;
        let mut all = 0..self.processes.len();
        let next = all.clone();
        match next
            .clone()
            .find(|&i| kind(i) != Kind::App && !self.processes[i].succeeded)
        {
            // One that ended well in a sandbox that is lost runs again in the next.
            // A sidecar is over only if it is restarted too often.
            Some(i) if kind(i) == Kind::Sidecar => self.is_over(i),
            Some(i) => self.is_over(i) && !self.is_good(i),
            None => all.all(|i| kind(i) != Kind::App || self.is_over(i)),
        }
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
        let n = container.0;
        hold!(
            process.fresh || self.restarts(n),
            "a restart against the policy"
        );
        hold!(
            self.again.is_none_or(|(from, _)| n < from),
            "a start of what is to begin again"
        );
        let kind = self.spec.containers[n].kind;
        let mut after = self.spec.containers[n].after.iter();
        hold!(
            after.all(|j| self.processes[j.0].has_started),
            "{n} before what it is to be started after"
        );
        if self.spec.kubelet_order && kind == Kind::App {
            for (i, p) in self.processes[..n].iter().enumerate() {
                let busy = p.creating || (p.alive && !p.hooked);
                let app = self.spec.containers[i].kind == Kind::App;
                hold!(!app || !busy, "{n} while {i} is being started");
            }
        }
        for (i, p) in self.processes.iter().enumerate() {
            let other = self.spec.containers[i].kind;
            let alive = p.alive || p.creating;
            if other != Kind::App && i < n {
                hold!(p.succeeded, "{n} before init {i}");
            }
            if kind == Kind::Init && i != n {
                let beside = i < n && other == Kind::Sidecar;
                hold!(!alive || beside, "init {n} beside {i}");
            }
        }
        hold!(
            kind != Kind::Init || !process.succeeded,
            "an init after its success"
        );
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
        if self.failed {
            hold!(phase == Phase::Failed, "it has failed, and says {phase:?}");
        }
        if let Volumes::BackOff { until, .. } = pod.volumes() {
            hold!(until == self.making_volumes.may_start(), "volumes wait");
        }
        if let Sandbox::BackOff { until, .. } = pod.sandbox() {
            hold!(until == self.sandboxes.may_start(), "the sandbox waits");
        }
        self.outstanding()?;
        for (i, (c, p)) in pod.containers().iter().zip(&self.processes).enumerate() {
            p.agrees(c).map_err(|e| format!("container {i}: {e}"))?;
            let due = self.due(i);
            let must = (due.is_some() || !self.sandbox || self.by_rule(i)) && p.alive;
            hold!(!must || c.run.stop.is_some(), "{i} does not end");
            hold!(must || c.run.stop.is_none(), "{i} ends for no reason");
            let waits = matches!(c.state, State::BackOff { .. });
            let may_wait = self.sandbox && self.stop.is_none();
            hold!(!waits || may_wait, "{i} waits for a start that never comes");
            let late = p.alive && due.is_some_and(|at| self.now >= at);
            hold!(!late || p.killed || p.asked.is_some(), "{i} lives on");
            let last = p.asked.map(|at| at.after(Duration::from_secs(2)));
            let over = late && last.is_some_and(|at| self.now >= at);
            hold!(!over || p.killed, "{i} lives on after its grace");
            let up = p.alive && p.hooked;
            hold!(c.is_up() == up, "{i} is up in one world only");
            hold!(
                c.started() == (up && p.started_up),
                "{i} has started in one world only"
            );
        }
        self.moves()
    }

    /// Who takes over finds what was ordered and is not done, and nothing else.
    fn outstanding(&self) -> Checked {
        let outstanding = self.pod.outstanding();
        for action in &self.pending {
            let given_up = match action {
                Action::RunHook { container, hook } => {
                    let stop = self.pod.containers()[container.0].run.stop;
                    *hook == Hook::PostStart && stop.is_some()
                }
                Action::Resize { container } => {
                    self.pod.containers()[container.0].run.stop.is_some()
                }
                _ => false,
            };
            let known = given_up || outstanding.contains(action);
            hold!(known, "forgets {action:?}");
        }
        for action in &outstanding {
            let ordered = match action {
                Action::Signal { container, signal } => {
                    let p = &self.processes[container.0];
                    match *signal {
                        libc::SIGKILL => p.alive && p.killed,
                        _ => p.alive && p.asked.is_some() && !p.killed,
                    }
                }
                action => self.pending.contains(action),
            };
            hold!(ordered, "invents {action:?}");
        }
        Ok(())
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
            n => last.1.after(self.max.min(Duration::from_secs(match n {
                1 => 10,
                2 => 20,
                3 => 40,
                4 => 80,
                5 => 160,
                _ => 300,
            }))),
        }
    }
}

impl Process {
    pub(super) fn end(&mut self, now: Time, exit: Option<i32>, well: bool) {
        self.alive = false;
        self.succeeded = well;
        self.history.end(now);
        if exit.is_some() {
            self.fresh = false;
            self.was_unhealthy = self.unhealthy;
            self.was_resized = self.resized;
            self.was_late = self.late;
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
