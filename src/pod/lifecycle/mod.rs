//! The life of a pod as a pure state machine: `(state, event, now) -> (state, actions)`.
//!
//! Order, retry, back-off, restart policies, phases, conditions and deadlines live here and nowhere else. The
//! supervisor carries the actions out and feeds back what happened; it decides nothing. Because the journal keeps
//! every event with its time, replaying it gives the same state again: status, timeline and diagnosis are
//! computed from it, long after the supervisor has gone.
//!
//! No clock, no I/O and no randomness here: time comes in as [`Time`].
//!
//! | file | what is decided there |
//! | --- | --- |
//! | `machine` | the state, and one step of it: [`Pod`] |
//! | `events` | what an event changes |
//! | `actions` | which actions follow |
//! | `stop` | how a running container comes to its end: preStop, its turn, signals |
//! | `again` | all containers from one on, run again in the same sandbox |
//! | `policy` | who is restarted, who is done, what an exit is called |
//! | `backoff` | when something that failed may be tried again |
//! | `phase` | phase, conditions, exit code: how the state is told |

mod actions;
mod again;
mod backoff;
mod events;
mod machine;
mod phase;
mod policy;
mod stop;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::backoff::{BackOff, BackOffLimits};
pub use self::machine::Pod;
pub use self::phase::{Condition, ConditionType};
pub use self::policy::STATUS_UNKNOWN;
pub use self::stop::{Stage, Stop};
pub use crate::sys::process::Exit;

/// Nanoseconds since the Unix epoch, monotone within one pod (the supervisor adds boot time to the wall clock that it
/// read once).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// This much later; the end of time if there is no such time.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339, in UTC, to the millisecond.
impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or_default();
        write!(f, "{time:.3}")
    }
}

/// `restartPolicy`, of a pod or of one container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Restart whatever the exit code.
    #[default]
    Always,
    /// Restart when the exit code is not zero.
    OnFailure,
    /// Never restart.
    Never,
}

/// What a container is for in its pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// One of `spec.initContainers`: runs to success before the next one starts.
    Init,
    /// One of `spec.initContainers` with `restartPolicy: Always` (KEP-753): the next one starts once it has started, and
    /// it is kept running until the apps are over.
    Sidecar,
    /// One of `spec.containers`: all are started together once every init container has succeeded.
    #[default]
    App,
}

/// What the lifecycle must know of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSpec {
    /// Its name, unique in the pod.
    pub name: String,
    /// Init, sidecar or app.
    pub kind: Kind,
    /// Its own `restartPolicy` (KEP-5307), instead of the pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Its `restartPolicyRules`: the first one that fits its exit code goes before its policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RestartRule>,
    /// It has a `postStart` hook.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub post_start: bool,
    /// It has a `preStop` hook.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pre_stop: bool,
    /// `lifecycle.stopSignal`, else SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<i32>,
    /// Its probes, one of a kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeSpec>,
}

impl ContainerSpec {
    /// A container that only runs.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            ..Self::default()
        }
    }

    fn probe(&self, kind: ProbeKind) -> Option<&ProbeSpec> {
        self.probes.iter().find(|probe| probe.kind == kind)
    }
}

/// One of `restartPolicyRules`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartRule {
    /// What to do if it fits.
    pub action: RuleAction,
    /// `exitCodes.operator: NotIn`, not `In`.
    pub negated: bool,
    /// `exitCodes.values`.
    pub exit_codes: Vec<i32>,
}

/// `restartPolicyRules[].action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleAction {
    /// Restart the container.
    Restart,
    /// Restart the whole pod in its sandbox, init containers first (KEP-5532).
    RestartAllContainers,
}

/// What the lifecycle must know of a probe; when it is run and when it counts is decided beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeSpec {
    /// What follows from its result.
    pub kind: ProbeKind,
    /// Its `terminationGracePeriodSeconds`, instead of the pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Duration>,
}

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeKind {
    /// Until it succeeds nothing else is asked; if it fails, the container is killed.
    Startup,
    /// If it fails, the container is killed.
    Liveness,
    /// Says whether the container is ready.
    Readiness,
}

impl ProbeKind {
    /// As Kubernetes' messages say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// `lifecycle.postStart` or `lifecycle.preStop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hook {
    /// Right after the container's program was executed, at the same time as it.
    PostStart,
    /// Before its stop signal.
    PreStop,
}

impl Hook {
    /// As the manifest says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PostStart => "postStart",
            Self::PreStop => "preStop",
        }
    }
}

/// What the lifecycle must know of the pod. Made from the pod plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// For apps; init containers are retried unless it is `Never`.
    pub restart_policy: RestartPolicy,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace: Duration,
    /// `spec.activeDeadlineSeconds`, from the moment when the pod was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline: Option<Duration>,
    /// How long the back-off of its containers may get.
    #[serde(default, skip_serializing_if = "BackOffLimits::is_default")]
    pub back_off: BackOffLimits,
    /// Init containers and sidecars in their order, then the apps in theirs.
    pub containers: Vec<ContainerSpec>,
}

/// A container's place in [`PodSpec::containers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Index(pub usize);

/// Why a container could not be started. The names are the reasons that Kubernetes shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFailure {
    /// What it needs is not there or not valid (an image without a user that is not root, ...).
    CreateContainerConfigError,
    /// The runtime could not make it.
    CreateContainerError,
    /// It was made, and its program could not be executed: exit code 128.
    StartError,
}

/// What has happened. Facts only: whatever follows from them is computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Event {
    /// The pod was accepted: volumes and sandbox may be made.
    Accepted,
    /// `pod start` (or `pod run`): containers may start once the sandbox is there.
    StartRequested,
    /// The volumes are in place.
    VolumesReady,
    /// A volume could not be made (reason FailedMount); it is tried again with back-off.
    VolumesFailed {
        /// What went wrong.
        message: String,
    },
    /// The pause process holds the pod's namespaces.
    SandboxStarted {
        /// Pid of pause in the initial pid namespace.
        pid: i32,
    },
    /// The sandbox could not be made; it is tried again with back-off.
    SandboxFailed {
        /// What went wrong.
        message: String,
    },
    /// The pause process is gone. Asked for at the end of a pod; otherwise everything is made again.
    SandboxExited,
    /// The container's program was executed.
    Started {
        /// Which.
        container: Index,
        /// Its first process, in the initial pid namespace.
        pid: i32,
        /// OCI container id, `<pod>.<container>`.
        id: String,
    },
    /// The container could not be started.
    StartFailed {
        /// Which.
        container: Index,
        /// In which step.
        reason: StartFailure,
        /// What went wrong and what to do.
        message: String,
    },
    /// The container's first process ended.
    Exited {
        /// Which.
        container: Index,
        /// How.
        exit: Exit,
        /// The kernel killed a process of its cgroup for want of memory during this run.
        oom_killed: bool,
        /// What it left in its `terminationMessagePath`, or what its policy takes instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The container's first process ended while nobody supervised the pod, and nobody knows how.
    Vanished {
        /// Which.
        container: Index,
    },
    /// A hook is over.
    HookEnded {
        /// Whose.
        container: Index,
        /// Which.
        hook: Hook,
        /// Why it failed, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// A probe's result is another than before: it failed, or succeeded, as often in a row as it takes.
    Probed {
        /// Whose.
        container: Index,
        /// Which.
        probe: ProbeKind,
        /// Its result now.
        healthy: bool,
        /// What the last attempt said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
    /// A probe has begun to fail; nothing follows from that yet.
    Unhealthy {
        /// Whose.
        container: Index,
        /// Which.
        probe: ProbeKind,
        /// What went wrong.
        message: String,
    },
    /// `pod restart`, `pod rerun --from`: this container and all after it are ended in order and run again.
    RerunRequested {
        /// The first of them.
        from: Index,
    },
    /// `pod rerun --only-failed`: what failed, or waits for its next try, is tried again now.
    RetryRequested,
    /// `pod stop`, Ctrl-C, or a deletion.
    StopRequested {
        /// Overrides `terminationGracePeriodSeconds`.
        grace: Option<Duration>,
    },
    /// The pod went beyond a limit that concerns it as a whole (`emptyDir.sizeLimit`).
    Evicted {
        /// Which limit, in Kubernetes' words.
        message: String,
    },
    /// Time has come to [`Pod::deadline`].
    Tick,
}

/// What the supervisor is to do now. Each is answered by an event, except signals, which need none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make the volumes: answered by `VolumesReady` or `VolumesFailed`.
    MakeVolumes,
    /// Make the sandbox: answered by `SandboxStarted` or `SandboxFailed`.
    StartSandbox,
    /// End the pause process: answered by `SandboxExited`.
    StopSandbox,
    /// Create and start the container, with a fresh root: answered by `Started` or `StartFailed`.
    Start {
        /// Which.
        container: Index,
        /// How often it has been restarted; numbers its log file.
        restart: u32,
    },
    /// Run a hook of a container that runs: answered by `HookEnded`, unless the container ends first.
    RunHook {
        /// Whose.
        container: Index,
        /// Which.
        hook: Hook,
    },
    /// Signal the container's first process (all of its processes for SIGKILL). A hook of it that still runs is given up.
    Signal {
        /// Which.
        container: Index,
        /// Signal number.
        signal: i32,
    },
}

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: &'static str,
    /// The exit code, 128 + signal for a signal.
    pub exit_code: i32,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// What went wrong, where the runtime knows it; else the termination message.
    pub message: Option<String>,
    /// It was ended because of a probe, and so it is restarted whatever its exit code.
    pub unhealthy: bool,
    /// When it was started; `None` if it never was.
    pub started_at: Option<Time>,
    /// When it ended; with [`STATUS_UNKNOWN`], when it was last known to run.
    pub finished_at: Time,
    /// OCI container id; empty if it was never made.
    pub id: String,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its turn has not come: init containers or the sandbox come first.
    Pending,
    /// The supervisor was told to start it.
    Creating,
    /// Its program runs.
    Running {
        /// Since when.
        started_at: Time,
        /// First process.
        pid: i32,
        /// OCI container id.
        id: String,
    },
    /// Ended (or not started), and to be tried again.
    BackOff {
        /// When.
        until: Time,
        /// The delay that `until` came from.
        delay: Duration,
    },
    /// Ended for good.
    Terminated,
}

/// One container of the pod, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Where it is in its life.
    pub state: State,
    /// How its last run ended; `None` as long as none did.
    pub last: Option<Termination>,
    /// How the run before `last` ended: the `lastState` of a container that is itself terminated.
    pub previous: Option<Termination>,
    /// How often it has been started again.
    pub restart_count: u32,
    /// Why it could not even be made, last time; `None` once it was.
    pub failure: Option<Failure>,
    /// What is known of the run that goes on.
    pub run: Run,
    /// Runs that have ended, those included whose program could not be executed.
    ended: u32,
    /// It has run since the pod, or all of its containers, began.
    ran: bool,
    /// A sidecar has once started in this sandbox: what comes after it need not wait for it again.
    has_started: bool,
    backoff: BackOff,
}

/// What is known of a run of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// Where its postStart hook is.
    pub post_start: PostStart,
    /// Its startup probe has succeeded, or it has none.
    pub started_up: bool,
    /// Its readiness probe says so, or it has none.
    pub ready: bool,
    /// It comes to its end.
    pub stop: Option<Stop>,
    unhealthy: bool,
    /// Why its postStart hook failed.
    failure: Option<Failure>,
}

/// Where a postStart hook is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PostStart {
    /// It is to be run.
    #[default]
    Due,
    /// The supervisor was told to run it.
    Running,
    /// It is over, or there is none.
    Done,
}

/// A start that failed before there was anything that could exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The reason that Kubernetes shows, or its event's name for volumes and sandbox.
    pub reason: &'static str,
    /// What went wrong and what to do.
    pub message: String,
}

/// The pod's volumes, all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volumes {
    /// The pod has not been accepted.
    Absent,
    /// The supervisor was told to make them.
    Making,
    /// They could not be made and will be tried again.
    BackOff {
        /// When.
        until: Time,
        /// The delay that `until` came from.
        delay: Duration,
    },
    /// In place; they stay when the sandbox is made again.
    Ready,
}

/// The pause process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// Volumes come first.
    Absent,
    /// The supervisor was told to make it.
    Starting,
    /// It could not be made, or died, and will be made again.
    BackOff {
        /// When.
        until: Time,
        /// The delay that `until` came from.
        delay: Duration,
    },
    /// It holds the pod's namespaces.
    Running {
        /// Since when.
        started_at: Time,
        /// Pid of pause.
        pid: i32,
    },
    /// It died unasked, and what ran in it is being killed before it is made again.
    Lost,
    /// The supervisor was told to end it.
    Stopping,
    /// Ended for good, or never to be made.
    Gone,
}

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Accepted, and an init container or the sandbox is not done.
    Pending,
    /// At least one app has been started.
    Running,
    /// All apps ended with 0 and none will be restarted.
    Succeeded,
    /// All apps ended, at least one of them badly, or an init container failed for good.
    Failed,
}
