//! What is done to a pod from outside while it lives: other limits for a container, and ephemeral containers.

use super::{
    Action, Ephemeral, EphemeralSpec, Exit, Index, Pod, Resize, Sandbox, State, Termination, Time,
};

impl Pod {
    /// The plan of a container has other limits: one that runs gets them, or is started again with them; one that does
    /// not will have them anyhow, and so will one that is just about to.
    pub(super) fn resize(&mut self, container: Index, restart: bool, now: Time) -> bool {
        let kill_at = now.after(self.spec.grace);
        if self.ending.is_some() {
            return false;
        }
        let Some(c) = self.containers.get_mut(container.0) else {
            return false;
        };
        if !c.running() || c.run.stop.is_some() {
            return true;
        }
        if restart {
            c.run.resized = true;
            self.stop(container.0, kill_at, now);
        } else if c.run.resize != Resize::Running {
            c.run.resize = Resize::Due;
        }
        true
    }

    pub(super) fn resized(&mut self, container: Index, failure: Option<&str>) -> bool {
        let c = self.in_state(container, |s| matches!(s, State::Running { .. }));
        let Some(c) = c.filter(|c| c.run.resize == Resize::Running) else {
            return false;
        };
        c.run.resize = match failure {
            None => Resize::Done,
            Some(why) => Resize::Failed(why.to_owned()),
        };
        true
    }

    /// Changes what is to be changed, unless it comes to its end anyhow.
    pub(super) fn go_on_resizing(&mut self, actions: &mut Vec<Action>) {
        for (i, c) in self.containers.iter_mut().enumerate() {
            if c.running() && c.run.stop.is_none() && c.run.resize == Resize::Due {
                c.run.resize = Resize::Running;
                let container = Index(i);
                actions.push(Action::Resize { container });
            }
        }
    }

    /// The ephemeral containers that there were, in the order of their starts.
    #[must_use]
    pub fn ephemeral(&self) -> &[Ephemeral] {
        &self.ephemeral
    }

    pub(super) fn ephemeral_started(
        &mut self,
        spec: &EphemeralSpec,
        pid: i32,
        id: &str,
        now: Time,
    ) -> bool {
        let up = matches!(self.sandbox, Sandbox::Running { .. }) && self.ending.is_none();
        let own = self.spec.containers.iter().any(|c| c.name == spec.name);
        let other = self.ephemeral.iter().any(|e| e.spec.name == spec.name);
        if !up || own || other {
            return false;
        }
        self.ephemeral.push(Ephemeral {
            spec: spec.clone(),
            pid,
            id: id.to_owned(),
            started_at: now,
            ended: None,
        });
        true
    }

    pub(super) fn ephemeral_ended(&mut self, name: &str, exit: Exit, now: Time) -> bool {
        let mut all = self.ephemeral.iter_mut();
        let Some(e) = all.find(|e| e.spec.name == name && e.ended.is_none()) else {
            return false;
        };
        e.ended = Some(Termination::exited(
            Some((e.started_at, &e.id)),
            exit,
            false,
            now,
        ));
        true
    }

    /// They end with the sandbox that they are in.
    pub(super) fn end_ephemeral(&mut self, now: Time) {
        for e in self.ephemeral.iter_mut().filter(|e| e.ended.is_none()) {
            e.ended = Some(Termination::unseen(Some((e.started_at, &e.id)), now));
        }
    }
}
