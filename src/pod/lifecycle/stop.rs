//! How a container that runs comes to its end: preStop hook, its turn, stop signal, SIGKILL.
//!
//! The rules are the kubelet's (`killContainer` in kuberuntime, `terminationOrder`): the grace period begins before the
//! hook; when a pod ends, a sidecar waits until all apps and all later sidecars have ended; what is left of the grace
//! period then, but at least two seconds, lies between stop signal and SIGKILL. A grace period of zero means SIGKILL at
//! once, without a hook.

use std::time::Duration;

use super::{Action, Container, Hook, Index, Kind, Pod, State, Time};

/// The kubelet's `minimumGracePeriodInSeconds`.
const MINIMUM: Duration = Duration::from_secs(2);

/// A container's way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// When its grace period is over.
    pub deadline: Time,
    /// Without any grace.
    at_once: bool,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a container has come on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its preStop hook is to be run.
    HookDue,
    /// Its preStop hook runs.
    Hook,
    /// Others have to end first.
    Turn,
    /// It got its stop signal.
    Asked {
        /// When it gets SIGKILL.
        kill_at: Time,
    },
    /// It got SIGKILL.
    Killed,
}

impl Pod {
    /// Begins to end the container, if it runs; a second time can only hurry it up.
    pub(super) fn stop(&mut self, i: usize, deadline: Time, now: Time) {
        let pre_stop = self.spec.containers[i].pre_stop;
        let c = &mut self.containers[i];
        if !c.running() {
            return;
        }
        match &mut c.run.stop {
            None => {
                let stage = match pre_stop {
                    true => Stage::HookDue,
                    false => Stage::Turn,
                };
                c.run.stop = Some(Stop {
                    deadline,
                    at_once: deadline <= now,
                    stage,
                });
            }
            Some(stop) if deadline < stop.deadline => {
                stop.deadline = deadline;
                stop.at_once = deadline <= now;
                if let Stage::Asked { kill_at } = &mut stop.stage {
                    *kill_at = deadline.min(*kill_at);
                }
            }
            Some(_) => {}
        }
    }

    /// The next step of every container that comes to its end.
    pub(super) fn go_on_stopping(&mut self, now: Time, actions: &mut Vec<Action>) {
        for i in 0..self.containers.len() {
            let its_turn = self.is_its_turn(i);
            let container = Index(i);
            let signal = self.spec.containers[i].stop_signal.unwrap_or(libc::SIGTERM);
            let c = &mut self.containers[i];
            let Some(stop) = c.run.stop.as_mut().filter(|_| is_running(&c.state)) else {
                continue;
            };
            let late = now >= stop.deadline;
            if stop.stage == Stage::HookDue && !late {
                stop.stage = Stage::Hook;
                let hook = Hook::PreStop;
                actions.push(Action::RunHook { container, hook });
            }
            if matches!(stop.stage, Stage::HookDue | Stage::Hook) && late {
                stop.stage = Stage::Turn;
            }
            if stop.stage == Stage::Turn && (its_turn || late) && !stop.at_once {
                let kill_at = stop.deadline.max(now.after(MINIMUM));
                stop.stage = Stage::Asked { kill_at };
                actions.push(Action::Signal { container, signal });
            }
            let over = matches!(stop.stage, Stage::Asked { kill_at } if now >= kill_at);
            if (over || stop.at_once) && stop.stage != Stage::Killed {
                stop.kill(container, actions);
            }
        }
    }

    /// Kills the container, if it runs.
    pub(super) fn kill(&mut self, i: usize, now: Time, actions: &mut Vec<Action>) {
        let c = &mut self.containers[i];
        if !c.running() {
            return;
        }
        let stop = c.run.stop.get_or_insert(Stop {
            deadline: now,
            at_once: true,
            stage: Stage::Turn,
        });
        if stop.stage != Stage::Killed {
            stop.kill(Index(i), actions);
        }
    }

    /// Sidecars serve the apps and what was started after them: they go last, in reverse order.
    fn is_its_turn(&self, i: usize) -> bool {
        let whole_pod = self.ending.is_some() || self.again.is_some();
        if self.kind(i) != Kind::Sidecar || !whole_pod {
            return true;
        }
        let waits_for = |&j: &usize| match self.kind(j) {
            Kind::App => true,
            Kind::Sidecar => j > i,
            Kind::Init => false,
        };
        let mut before = (0..self.containers.len()).filter(waits_for);
        !before.any(|j| self.containers[j].alive())
    }
}

impl Stop {
    /// When something is to be done for it without anything having happened.
    pub(super) fn next(&self) -> Option<Time> {
        match self.stage {
            Stage::HookDue | Stage::Hook | Stage::Turn => Some(self.deadline),
            Stage::Asked { kill_at } => Some(kill_at),
            Stage::Killed => None,
        }
    }

    /// What was ordered last, if the container has not ended since.
    pub(super) fn outstanding(&self, container: Index, signal: i32) -> Option<Action> {
        match self.stage {
            Stage::HookDue | Stage::Turn => None,
            Stage::Hook => {
                let hook = Hook::PreStop;
                Some(Action::RunHook { container, hook })
            }
            Stage::Asked { .. } => Some(Action::Signal { container, signal }),
            Stage::Killed => Some(Action::Signal {
                container,
                signal: libc::SIGKILL,
            }),
        }
    }

    fn kill(&mut self, container: Index, actions: &mut Vec<Action>) {
        self.stage = Stage::Killed;
        actions.push(Action::Signal {
            container,
            signal: libc::SIGKILL,
        });
    }
}

fn is_running(state: &State) -> bool {
    matches!(state, State::Running { .. })
}

impl Container {
    /// Its process runs.
    #[must_use]
    pub fn running(&self) -> bool {
        is_running(&self.state)
    }
}
