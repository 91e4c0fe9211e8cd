//! When something that ended or failed may be tried again.
//!
//! The rule is the kubelet's (`doBackOff` in kuberuntime, client-go's flowcontrol `Backoff`): the first restart is
//! immediate, the next ones wait 10 s, 20 s, ... up to 300 s, measured from the end of the last run. Whoever ran for
//! more than ten minutes since it was last started begins anew.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Time;

/// The first delay: the kubelet's `backOffPeriod`.
const INITIAL: Duration = Duration::from_secs(10);
/// The longest delay: the kubelet's `MaxContainerBackOff`.
const MAX: Duration = Duration::from_secs(300);
/// A run that lasted longer than this was a good one, also where the longest delay is another (KEP-4603).
const FORGET: Duration = Duration::from_secs(600);

/// How long the back-off of a pod's containers may get: the kubelet's `crashLoopBackOff.maxContainerRestartPeriod`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackOffLimits {
    /// The longest delay; the first one is 10 s, or this if it is shorter.
    pub max: Duration,
}

impl Default for BackOffLimits {
    fn default() -> Self {
        Self { max: MAX }
    }
}

impl BackOffLimits {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The restart history of one container, of the sandbox, or of the volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackOff {
    /// The delay that the next restart has to keep, and when the last restart was.
    delay: Option<(Duration, Time)>,
    /// When it last ended or failed.
    ended: Option<Time>,
}

impl BackOff {
    /// It ended, or could not be started.
    pub(super) fn end(&mut self, now: Time) {
        self.ended = Some(now);
    }

    /// Until when it has to wait, and the delay that this comes from; `None` if it may start now.
    pub(super) fn wait(&self, now: Time) -> Option<(Time, Duration)> {
        let (ended, delay) = (self.ended?, self.current()?);
        let until = ended.after(delay);
        (now < until).then_some((until, delay))
    }

    /// It is started (for the first time, or again).
    pub(super) fn start(&mut self, limits: BackOffLimits, now: Time) {
        if self.ended.is_none() {
            return;
        }
        let next = self.current().map_or(INITIAL, |delay| delay * 2);
        self.delay = Some((limits.max.min(next), now));
    }

    /// The delay in force, unless the last run was long enough to forget it.
    fn current(&self) -> Option<Duration> {
        let (delay, started) = self.delay?;
        (self.ended?.since(started) <= FORGET).then_some(delay)
    }
}
