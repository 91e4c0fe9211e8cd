//! When a probe is run, and when its result counts: the kubelet's prober (`pkg/kubelet/prober/worker.go`), without its
//! clock.

use super::{Outcome, ProbePlan};
use crate::pod::lifecycle::{ProbeKind, Time};

/// One probe of one run of a container.
#[derive(Debug)]
pub struct Worker {
    /// When it is run next; `None` while it runs, and once it has said all that it has to.
    next: Option<Time>,
    last: Option<bool>,
    in_a_row: u32,
    /// What counts now; a startup probe begins with neither.
    result: Option<bool>,
    /// What the failures of this row have said so far.
    said: Vec<String>,
}

/// So many different complaints are told of one row of failures: some say something new every time.
const COMPLAINTS: usize = 10;

/// What is to be told after a probe.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing new.
    Nothing,
    /// It has begun to fail, or fails for another reason.
    Unhealthy(String),
    /// Another result counts now, and what the last probe said.
    Result(bool, String),
}

impl Worker {
    /// For a container that runs since `started`.
    #[must_use]
    pub fn new(plan: &ProbePlan, started: Time, now: Time) -> Self {
        Self {
            next: Some(started.after(plan.initial_delay).max(now)),
            last: None,
            in_a_row: 0,
            said: Vec::new(),
            result: match plan.kind {
                ProbeKind::Startup => None,
                ProbeKind::Liveness => Some(true),
                ProbeKind::Readiness => Some(false),
            },
        }
    }

    /// When it is to be run.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        self.next
    }

    /// It is run now.
    pub fn begin(&mut self) {
        self.next = None;
    }

    /// It began then and ended now. Another one does not begin before a period has passed since that one did.
    pub fn end(&mut self, plan: &ProbePlan, outcome: Outcome, began: Time, now: Time) -> Told {
        self.next = Some(began.after(plan.period).max(now));
        let (healthy, message) = match outcome {
            Outcome::Success => (true, String::new()),
            Outcome::Failure(message) => (false, message),
            // That says nothing about the container.
            Outcome::Unknown(message) => return self.complain(format!("errored: {message}")),
        };
        let first = self.last != Some(healthy);
        self.in_a_row = if first { 1 } else { self.in_a_row + 1 };
        self.last = Some(healthy);
        if first {
            self.said.clear();
        }
        let threshold = match healthy {
            true => plan.success_threshold,
            false => plan.failure_threshold,
        };
        if self.in_a_row >= threshold && self.result != Some(healthy) {
            self.result = Some(healthy);
            // The container is killed, or has started: either way nobody asks this probe again.
            if plan.kind == ProbeKind::Startup || (plan.kind == ProbeKind::Liveness && !healthy) {
                self.next = None;
            }
            return Told::Result(healthy, message);
        }
        match healthy {
            true => Told::Nothing,
            false => self.complain(message),
        }
    }

    fn complain(&mut self, message: String) -> Told {
        if self.said.len() >= COMPLAINTS || self.said.contains(&message) {
            return Told::Nothing;
        }
        self.said.push(message.clone());
        Told::Unhealthy(message)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Handler;
    use super::*;
    use std::time::Duration;

    fn plan(kind: ProbeKind) -> ProbePlan {
        ProbePlan {
            kind,
            handler: Handler::Exec(Vec::new()),
            initial_delay: Duration::from_secs(5),
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 3,
        }
    }

    fn at(seconds: u64) -> Time {
        Time(0).after(Duration::from_secs(seconds))
    }

    fn no() -> Outcome {
        Outcome::Failure("no".into())
    }

    #[test]
    fn the_first_comes_after_the_initial_delay_and_the_next_a_period_later() {
        let plan = plan(ProbeKind::Readiness);
        let mut worker = Worker::new(&plan, at(100), at(101));
        assert_eq!(worker.due(), Some(at(105)));
        worker.begin();
        assert_eq!(worker.due(), None, "not twice at once");
        worker.end(&plan, no(), at(105), at(106));
        assert_eq!(worker.due(), Some(at(115)));
        worker.begin();
        worker.end(&plan, no(), at(115), at(140));
        assert_eq!(worker.due(), Some(at(140)), "late, but none is made up for");
        let late = Worker::new(&plan, at(100), at(120));
        assert_eq!(late.due(), Some(at(120)), "a delay that has passed");
    }

    #[test]
    fn as_many_failures_in_a_row_as_it_takes_make_a_result() {
        let plan = plan(ProbeKind::Liveness);
        let mut worker = Worker::new(&plan, at(0), at(0));
        let mut end = |outcome| worker.end(&plan, outcome, at(0), at(0));
        assert_eq!(end(Outcome::Success), Told::Nothing, "alive from the start");
        assert_eq!(end(no()), Told::Unhealthy("no".into()));
        assert_eq!(end(no()), Told::Nothing);
        assert_eq!(end(Outcome::Success), Told::Nothing, "counted anew");
        assert_eq!(end(no()), Told::Unhealthy("no".into()));
        assert_eq!(
            end(Outcome::Unknown("?".into())),
            Told::Unhealthy("errored: ?".into()),
            "it does not count"
        );
        assert_eq!(end(no()), Told::Nothing);
        assert_eq!(end(no()), Told::Result(false, "no".into()));
        assert_eq!(worker.due(), None, "the container is being killed");
    }

    #[test]
    fn another_complaint_is_told_but_not_without_end() {
        let plan = plan(ProbeKind::Readiness);
        let mut worker = Worker::new(&plan, at(0), at(0));
        let mut end = |why: String| worker.end(&plan, Outcome::Failure(why), at(0), at(0));
        assert_eq!(end("refused".into()), Told::Unhealthy("refused".into()));
        assert_eq!(end("refused".into()), Told::Nothing);
        assert_eq!(end("500".into()), Told::Unhealthy("500".into()));
        assert_eq!(end("refused".into()), Told::Nothing);
        let told = (0..100).filter(|n| end(n.to_string()) != Told::Nothing);
        assert_eq!(told.count(), COMPLAINTS - 2);
    }

    #[test]
    fn readiness_comes_and_goes() {
        let mut plan = plan(ProbeKind::Readiness);
        plan.success_threshold = 2;
        plan.failure_threshold = 1;
        let mut worker = Worker::new(&plan, at(0), at(0));
        let mut end = |outcome| worker.end(&plan, outcome, at(0), at(0));
        assert_eq!(end(no()), Told::Unhealthy("no".into()), "unready as before");
        assert_eq!(end(Outcome::Success), Told::Nothing);
        assert_eq!(end(Outcome::Success), Told::Result(true, String::new()));
        assert_eq!(end(Outcome::Success), Told::Nothing);
        assert_eq!(end(no()), Told::Result(false, "no".into()));
    }

    #[test]
    fn a_startup_probe_says_one_thing_only() {
        let plan = plan(ProbeKind::Startup);
        let mut worker = Worker::new(&plan, at(0), at(0));
        let told = worker.end(&plan, Outcome::Success, at(0), at(0));
        assert_eq!(told, Told::Result(true, String::new()));
        assert_eq!(worker.due(), None);
    }
}
