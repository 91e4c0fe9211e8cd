//! Small decisions about one container: what an exit is called, who is done, who is restarted.

use super::{
    Container, ContainerSpec, Exit, Kind, Pod, PostStart, RestartPolicy, RuleAction, Run,
    StartFailure, State, Termination, Time,
};

/// What the container runtimes report for a program that could not be executed.
const START_ERROR_EXIT_CODE: i32 = 128;

/// The reason of an init container's end that took longer than it may.
const TOO_LATE: &str = "DeadlineExceeded";

/// The reason of an end that nobody saw; when it was is not known either.
pub const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";

impl StartFailure {
    /// The name that Kubernetes shows.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::CreateContainerConfigError => "CreateContainerConfigError",
            Self::CreateContainerError => "CreateContainerError",
            Self::StartError => "StartError",
        }
    }
}

/// Since when a run was, and its OCI container id.
type Began<'a> = Option<(Time, &'a String)>;

impl Termination {
    /// A run that the kernel ended.
    pub(super) fn exited(run: Began<'_>, exit: Exit, oom_killed: bool, now: Time) -> Self {
        let exit_code = exit.code();
        let signal = match exit {
            Exit::Code(_) => None,
            Exit::Signal(signal) => Some(i32::from(signal)),
        };
        let reason = match exit_code {
            _ if oom_killed => "OOMKilled",
            0 => "Completed",
            _ => "Error",
        };
        Self {
            reason,
            exit_code,
            signal,
            ..Self::unseen(run, now)
        }
    }

    /// A run whose end nobody saw, some time after `now`: the kubelet says 137 then too.
    pub(super) fn unseen(run: Began<'_>, now: Time) -> Self {
        Self {
            reason: STATUS_UNKNOWN,
            exit_code: 128 + libc::SIGKILL,
            signal: None,
            message: None,
            unhealthy: false,
            resized: false,
            started_at: run.map(|(from, _)| from),
            finished_at: now,
            id: run.map_or_else(String::new, |(_, id)| id.clone()),
        }
    }

    /// A run whose program could not be executed.
    pub(super) fn not_executed(message: &str, now: Time) -> Self {
        Self {
            reason: StartFailure::StartError.reason(),
            exit_code: START_ERROR_EXIT_CODE,
            signal: None,
            message: Some(message.to_owned()),
            ..Self::unseen(None, now)
        }
    }

    /// Whether an init container that ended so has done its work: being killed for want of memory is a failure
    /// even where the exit code hides it (the kubelet's `isInitContainerFailed`), and so is taking too long.
    fn initialized(&self) -> bool {
        self.exit_code == 0 && self.reason != "OOMKilled" && self.reason != TOO_LATE
    }
}

impl Container {
    pub(super) fn new() -> Self {
        Self {
            state: State::Pending,
            last: None,
            previous: None,
            restart_count: 0,
            failure: None,
            run: Run::default(),
            ended: 0,
            forgiven: 0,
            ran: false,
            has_started: false,
            backoff: super::BackOff::default(),
        }
    }

    fn began(&self) -> Began<'_> {
        match &self.state {
            State::Running { started_at, id, .. } => Some((*started_at, id)),
            _ => None,
        }
    }

    /// The end of its run.
    pub(super) fn exited(&self, exit: Exit, oom_killed: bool, now: Time) -> Termination {
        let end = Termination::exited(self.began(), exit, oom_killed, now);
        Termination {
            reason: match self.run.late && !oom_killed {
                true => TOO_LATE,
                false => end.reason,
            },
            unhealthy: self.run.unhealthy,
            resized: self.run.resized,
            ..end
        }
    }

    /// The end of its run that nobody saw, some time after `now`.
    pub(super) fn unseen(&self, now: Time) -> Termination {
        Termination {
            unhealthy: self.run.unhealthy,
            resized: self.run.resized,
            ..Termination::unseen(self.began(), now)
        }
    }

    /// How it ended, if it is not going on in any way.
    pub(super) fn terminated(&self) -> Option<&Termination> {
        self.last
            .as_ref()
            .filter(|_| self.state == State::Terminated)
    }

    /// There may be a process of it.
    #[must_use]
    pub fn alive(&self) -> bool {
        matches!(self.state, State::Creating | State::Running { .. })
    }

    /// It runs, or has run, or its program could at least have been executed.
    pub(super) fn has_run(&self) -> bool {
        self.last.is_some() || self.running()
    }

    /// It runs and its postStart hook is over: only now Kubernetes calls it running.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.running() && self.run.post_start == PostStart::Done && self.run.failure.is_none()
    }

    /// It is being made, or its postStart hook is not over: the kubelet does nothing else meanwhile.
    pub(super) fn comes_up(&self) -> bool {
        self.state == State::Creating || (self.running() && !self.is_up())
    }

    /// `started`: its startup probe has succeeded, too.
    #[must_use]
    pub fn started(&self) -> bool {
        self.is_up() && self.run.started_up
    }

    /// `ready` of an app or sidecar.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.started() && self.run.ready
    }

    /// An init container that ran to success in this sandbox.
    #[must_use]
    pub fn initialized(&self) -> bool {
        self.terminated().is_some_and(Termination::initialized)
    }
}

impl ContainerSpec {
    /// What its rules say to this exit code: the first that fits. They count only with a policy of its own.
    pub(super) fn rule(&self, exit_code: i32) -> Option<RuleAction> {
        self.restart_policy?;
        let fits = |codes: &[i32], negated| codes.contains(&exit_code) != negated;
        let mut rules = self.rules.iter();
        let rule = rules.find(|rule| fits(&rule.exit_codes, rule.negated));
        rule.map(|rule| rule.action)
    }
}

impl Pod {
    /// Whether a container that ended so is to be started again: its rules, its own policy, the pod's. Init containers
    /// under `Always` are retried as under `OnFailure`; sidecars always are (the kubelet's `ContainerShouldRestart`).
    pub(super) fn restarts(&self, i: usize, ended: &Termination) -> bool {
        let spec = &self.spec.containers[i];
        if self.is_given_up(i) {
            return false;
        }
        if spec.kind == Kind::Sidecar || spec.rule(ended.exit_code).is_some() {
            return true;
        }
        let policy = spec.restart_policy.unwrap_or(self.spec.restart_policy);
        match (spec.kind, policy) {
            (_, RestartPolicy::Never) => false,
            (Kind::Init, _) => !ended.initialized(),
            (_, RestartPolicy::OnFailure) => {
                ended.exit_code != 0 || ended.unhealthy || ended.resized
            }
            (_, RestartPolicy::Always) => true,
        }
    }

    /// It has ended more often than it may.
    pub(super) fn is_given_up(&self, i: usize) -> bool {
        let c = &self.containers[i];
        let max = self.spec.containers[i].max_restarts;
        max.is_some_and(|max| c.ended - c.forgiven > max)
    }
}
