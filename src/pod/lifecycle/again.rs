//! All containers from one on, run again in the same sandbox: `RestartAllContainers` (KEP-5532), `pod restart`,
//! `pod rerun`.

use super::{Action, BackOff, Container, Index, Pod, Sandbox, State, Time, Volumes};

/// What is to be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Again {
    /// The first container, in the order of the specification.
    from: usize,
    /// Until when they may take their time; `None`: they are killed without preStop and grace, as KEP-5532 has it.
    deadline: Option<Time>,
}

impl Pod {
    /// A restart rule of one of its containers wants all of them to begin again.
    pub(super) fn restart_all(&mut self) {
        self.again = Some(Again {
            from: 0,
            deadline: None,
        });
        self.restarted_all = true;
        self.put_off();
    }

    /// Somebody wants this container and all after it to begin again.
    pub(super) fn rerun(&mut self, from: Index, now: Time) -> bool {
        let possible = from.0 < self.containers.len() && self.accepted.is_some();
        if !possible || self.ending.is_some() || self.again.is_some() {
            return false;
        }
        self.again = Some(Again {
            from: from.0,
            deadline: Some(now.after(self.spec.grace)),
        });
        self.put_off();
        true
    }

    /// Nothing is started until that is done; what waits for its next start goes on waiting then.
    fn put_off(&mut self) {
        for c in &mut self.containers {
            if matches!(c.state, State::BackOff { .. }) {
                c.state = State::Pending;
            }
        }
    }

    /// Somebody wants no time to be lost with what failed.
    pub(super) fn retry(&mut self) -> bool {
        if self.ending.is_some() || self.again.is_some() {
            return false;
        }
        self.volumes_backoff = BackOff::default();
        if let Volumes::BackOff { .. } = self.volumes {
            self.volumes = Volumes::Absent;
        }
        self.sandbox_backoff = BackOff::default();
        if let Sandbox::BackOff { .. } = self.sandbox {
            self.sandbox = Sandbox::Absent;
        }
        for c in &mut self.containers {
            let failed = c.terminated().is_some_and(|t| t.exit_code != 0);
            if failed || matches!(c.state, State::BackOff { .. }) {
                c.backoff = BackOff::default();
                c.forgiven = c.ended;
                c.state = State::Pending;
            }
        }
        true
    }

    /// Ends what is to be run again; once it has ended it may begin. `true` as long as it has not.
    pub(super) fn clear_for_again(&mut self, now: Time, actions: &mut Vec<Action>) -> bool {
        let Some(Again { from, deadline }) = self.again else {
            return false;
        };
        for i in from..self.containers.len() {
            match deadline {
                Some(deadline) => self.stop(i, deadline, now),
                None => self.kill(i, now, actions),
            }
        }
        self.go_on_stopping(now, actions);
        let concerned = &mut self.containers[from..];
        if concerned.iter().any(Container::alive) {
            return true;
        }
        for c in concerned {
            c.state = State::Pending;
            c.ran = false;
            c.has_started = false;
            if deadline.is_some() {
                c.backoff = BackOff::default();
                c.forgiven = c.ended;
            }
        }
        self.again = None;
        false
    }
}
