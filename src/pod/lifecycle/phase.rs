//! How the state is told: phase, conditions, reason, exit code. Kubernetes' rules are those of the kubelet's
//! `getPhase` and of `pkg/kubelet/status/generate.go`.

use super::{Container, Kind, Phase, Pod, Resize, Sandbox, Time, machine::Cause};

/// `status.conditions[].type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Kubernetes' own names
pub enum ConditionType {
    PodReadyToStartContainers,
    Initialized,
    Ready,
    ContainersReady,
    PodScheduled,
    AllContainersRestarting,
    PodResizeInProgress,
}

/// One of `status.conditions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Which.
    pub kind: ConditionType,
    /// `True` or `False`.
    pub status: bool,
    /// Why it is so, as one word.
    pub reason: Option<&'static str>,
    /// Why it is so.
    pub message: Option<String>,
    /// When `status` last changed.
    pub last_transition: Time,
}

/// Since when the conditions are what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transitions {
    created: Time,
    sandbox: (bool, Time),
    initialized: (bool, Time),
    ready: (bool, Time),
    restarting: (bool, Time),
    resizing: (bool, Time),
}

impl Transitions {
    pub(super) fn new(now: Time) -> Self {
        Self {
            created: now,
            sandbox: (false, now),
            initialized: (false, now),
            ready: (false, now),
            restarting: (false, now),
            resizing: (false, now),
        }
    }

    pub(super) fn created(&self) -> Time {
        self.created
    }
}

/// A condition without its time: status, reason, message.
type Verdict = (bool, Option<&'static str>, Option<String>);

impl Phase {
    /// As `status.phase` says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

impl ConditionType {
    /// As `status.conditions[].type` says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PodReadyToStartContainers => "PodReadyToStartContainers",
            Self::Initialized => "Initialized",
            Self::Ready => "Ready",
            Self::ContainersReady => "ContainersReady",
            Self::PodScheduled => "PodScheduled",
            Self::AllContainersRestarting => "AllContainersRestarting",
            Self::PodResizeInProgress => "PodResizeInProgress",
        }
    }
}

impl Pod {
    /// `status.phase`. `Succeeded` and `Failed` are final.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if let Some(terminal) = self.terminal {
            return terminal;
        }
        let mut apps = self.of(Kind::App).peekable();
        if apps.peek().is_some() && apps.all(|(_, c)| c.ran) {
            Phase::Running
        } else {
            Phase::Pending
        }
    }

    /// The phase of a pod whose containers have all ended and none of which will be started again.
    pub(super) fn final_phase(&self) -> Phase {
        let succeeded = |c: &Container| c.last.as_ref().is_some_and(|t| t.exit_code == 0);
        if self.of(Kind::App).all(|(_, c)| succeeded(c)) && self.next_init().is_none() {
            Phase::Succeeded
        } else {
            Phase::Failed
        }
    }

    /// `status.reason` and `status.message`, where the phase alone does not say it.
    #[must_use]
    pub fn reason(&self) -> Option<(&'static str, &str)> {
        match &self.ending.as_ref()?.cause {
            Cause::Evicted { message } => Some(("Evicted", message)),
            Cause::DeadlineExceeded => Some((
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline",
            )),
            Cause::SandboxLost => Some((
                "SandboxChanged",
                "the pause process died, and restartPolicy Never forbids to make the sandbox again",
            )),
            Cause::Completed | Cause::Stopped => None,
        }
    }

    /// `status.conditions`, in the kubelet's order; `AllContainersRestarting` only once there was a reason for it,
    /// `PodResizeInProgress` as long as there is.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        use ConditionType as T;
        let at = &self.transitions;
        let sandbox = (self.sandbox_ready(), None, None);
        let ready = self.containers_ready();
        let restarting = (self.is_restarting_all(), None, None);
        let restarting = self.restarted_all.then(|| {
            let since = at.restarting.1;
            condition(T::AllContainersRestarting, restarting, since)
        });
        let usual = [
            condition(T::PodReadyToStartContainers, sandbox, at.sandbox.1),
            condition(T::Initialized, self.initialized(), at.initialized.1),
            condition(T::Ready, ready.clone(), at.ready.1),
            condition(T::ContainersReady, ready, at.ready.1),
            condition(T::PodScheduled, (true, None, None), at.created),
        ];
        let resizing = self.resizing();
        let resizing = resizing
            .0
            .then(|| condition(T::PodResizeInProgress, resizing, at.resizing.1));
        usual
            .into_iter()
            .chain(restarting)
            .chain(resizing)
            .collect()
    }

    /// The exit code of `pod run`: 0 if the pod succeeded, else that of the container that failed it first
    /// (128 + signal).
    ///
    /// A pod that was stopped is judged by how its containers took it, like any other; if none had run, it is
    /// 128 + the signal that they would have got. 1 as long as the pod is not over.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        if self.terminal == Some(Phase::Succeeded) {
            return 0;
        }
        if self.terminal.is_none() {
            return 1;
        }
        let failed = |kind| {
            self.of(kind)
                .filter_map(|(_, c)| c.last.as_ref())
                .filter(|t| t.exit_code != 0)
                .min_by_key(|t| t.finished_at)
        };
        let init = self.next_init().and_then(|_| failed(Kind::Init));
        if let Some(t) = init.or_else(|| failed(Kind::App)) {
            return t.exit_code;
        }
        match self.ending.as_ref().map(|e| &e.cause) {
            Some(Cause::Stopped) => 128 + libc::SIGTERM,
            Some(Cause::Evicted { .. } | Cause::DeadlineExceeded) => 128 + libc::SIGKILL,
            _ => 1,
        }
    }

    /// Notes when a condition changed.
    pub(super) fn observe(&mut self, now: Time) {
        let (sandbox, initialized, ready) = (
            self.sandbox_ready(),
            self.is_pod_initialized(),
            self.is_ready(),
        );
        let restarting = self.is_restarting_all();
        let resizing = self.resizing().0;
        let note = |at: &mut (bool, Time), is: bool| {
            if at.0 != is {
                *at = (is, now);
            }
        };
        note(&mut self.transitions.sandbox, sandbox);
        note(&mut self.transitions.initialized, initialized);
        note(&mut self.transitions.ready, ready);
        note(&mut self.transitions.restarting, restarting);
        note(&mut self.transitions.resizing, resizing);
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = (&str, &Container)> {
        self.spec
            .containers
            .iter()
            .zip(&self.containers)
            .filter(move |(spec, _)| spec.kind == kind)
            .map(|(spec, c)| (spec.name.as_str(), c))
    }

    fn sandbox_ready(&self) -> bool {
        matches!(self.sandbox, Sandbox::Running { .. })
    }

    /// Once a pod was initialized it stays so, also while its init containers run again.
    fn is_pod_initialized(&self) -> bool {
        self.transitions.initialized.0
            || self.terminal == Some(Phase::Succeeded)
            || self.next_init().is_none()
    }

    fn is_restarting_all(&self) -> bool {
        self.again.is_some()
    }

    /// The limits of some container are not what they should be.
    fn resizing(&self) -> Verdict {
        let running = self.containers.iter().filter(|c| c.running());
        let (mut going, mut failure) = (false, None);
        for c in running {
            match &c.run.resize {
                Resize::Done => {}
                Resize::Due | Resize::Running => going = true,
                Resize::Failed(why) => failure = Some(why.clone()),
            }
        }
        let reason = failure.is_some().then_some("Error");
        (going || failure.is_some(), reason, failure)
    }

    fn is_ready(&self) -> bool {
        self.terminal.is_none() && self.unready().next().is_none()
    }

    /// Sidecars and apps that are not ready.
    fn unready(&self) -> impl Iterator<Item = (&str, &Container)> {
        let waited_for = self.of(Kind::Sidecar).chain(self.of(Kind::App));
        waited_for.filter(|(_, c)| !c.ready())
    }

    fn initialized(&self) -> Verdict {
        if self.terminal == Some(Phase::Succeeded) {
            return (true, Some("PodCompleted"), None);
        }
        if self.is_pod_initialized() {
            return (true, None, None);
        }
        let all = self
            .spec
            .containers
            .iter()
            .zip(&self.containers)
            .enumerate();
        let incomplete = all.filter(|(i, _)| !self.is_initialized(*i));
        let incomplete = incomplete.map(|(_, (spec, c))| (spec.name.as_str(), c));
        let message = format!("containers with incomplete status: {}", list(incomplete));
        (false, Some("ContainersNotInitialized"), Some(message))
    }

    fn containers_ready(&self) -> Verdict {
        match self.terminal {
            Some(Phase::Succeeded) => return (false, Some("PodCompleted"), None),
            Some(_) => return (false, Some("PodFailed"), None),
            None if self.is_ready() => return (true, None, None),
            None => {}
        }
        let unready = list(self.unready());
        let message = format!("containers with unready status: {unready}");
        (false, Some("ContainersNotReady"), Some(message))
    }
}

/// As Go prints a slice of strings.
fn list<'a>(containers: impl Iterator<Item = (&'a str, &'a Container)>) -> String {
    let names: Vec<&str> = containers.map(|(name, _)| name).collect();
    format!("[{}]", names.join(" "))
}

fn condition(
    kind: ConditionType,
    (status, reason, message): Verdict,
    last_transition: Time,
) -> Condition {
    Condition {
        kind,
        status,
        reason,
        message,
        last_transition,
    }
}
