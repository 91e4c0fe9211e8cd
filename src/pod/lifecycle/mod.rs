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
//! | `policy` | who is restarted, who is done, what an exit is called |
//! | `backoff` | when something that failed may be tried again |
//! | `phase` | phase, conditions, exit code: how the state is told |

mod actions;
mod backoff;
mod events;
mod machine;
mod phase;
mod policy;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::backoff::BackOff;
pub use self::machine::Pod;
pub use self::phase::{Condition, ConditionType};
pub use self::policy::STATUS_UNKNOWN;
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

/// `spec.restartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Restart whatever the exit code.
    Always,
    /// Restart when the exit code is not zero.
    OnFailure,
    /// Never restart.
    Never,
}

/// What a container is for in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// One of `spec.initContainers`: runs to success before the next one starts.
    Init,
    /// One of `spec.containers`: all are started together once every init container has succeeded.
    App,
}

/// What the lifecycle must know of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its name, unique in the pod.
    pub name: String,
    /// Init or app.
    pub kind: Kind,
}

/// What the lifecycle must know of the pod. Made from the pod plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// For apps; init containers are retried unless it is `Never`.
    pub restart_policy: RestartPolicy,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace: Duration,
    /// Init containers in their order, then the apps in theirs.
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
    },
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
    /// Signal the container's first process (all of its processes for SIGKILL).
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
    /// What went wrong, where the runtime knows it.
    pub message: Option<String>,
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
    /// The strongest signal that was ordered for this run.
    pub signalled: Option<i32>,
    /// Runs that have ended, those included whose program could not be executed.
    ended: u32,
    backoff: BackOff,
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
