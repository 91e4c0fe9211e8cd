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
//! | `spec` | what a pod is made from, as far as it matters here |
//! | `state` | what is known of its parts |
//! | `machine` | the state, and one step of it: [`Pod`] |
//! | `events` | what an event changes |
//! | `actions` | which actions follow |
//! | `stop` | how a running container comes to its end: preStop, its turn, signals |
//! | `again` | all containers from one on, run again in the same sandbox |
//! | `beside` | what is done to a pod from outside: resizes, ephemeral containers |
//! | `policy` | who is restarted, who is done, what an exit is called |
//! | `backoff` | when something that failed may be tried again |
//! | `phase` | phase, conditions, exit code: how the state is told |

mod actions;
mod again;
mod backoff;
mod beside;
mod events;
mod machine;
mod phase;
mod policy;
mod spec;
mod state;
mod stop;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::backoff::{BackOff, BackOffLimits};
pub use self::machine::Pod;
pub use self::phase::{Condition, ConditionType};
pub use self::policy::STATUS_UNKNOWN;
pub use self::spec::{
    ContainerSpec, EphemeralSpec, Hook, Index, Kind, PodSpec, ProbeKind, ProbeSpec, RestartPolicy,
    RestartRule, RuleAction,
};
pub use self::state::{
    Container, Ephemeral, Failure, Phase, PostStart, Resize, Run, Sandbox, State, Termination,
    Volumes,
};
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
    /// `pod resize`: the plan of this container has other limits now.
    ResizeRequested {
        /// Which.
        container: Index,
        /// Its `resizePolicy` wants it to be restarted for that.
        restart: bool,
    },
    /// The limits of a container that runs are what its plan says.
    Resized {
        /// Which.
        container: Index,
        /// Why they are not, if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// `pod debug --image`: somebody has started an ephemeral container.
    EphemeralStarted {
        /// What it is.
        container: EphemeralSpec,
        /// Its first process, in the initial pid namespace.
        pid: i32,
        /// OCI container id.
        id: String,
    },
    /// An ephemeral container ended.
    EphemeralEnded {
        /// Which.
        name: String,
        /// How.
        exit: Exit,
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
    /// Run a hook of a container that runs: answered by `HookEnded`, unless the container ends first.
    RunHook {
        /// Whose.
        container: Index,
        /// Which.
        hook: Hook,
    },
    /// Give a container that runs the limits that its plan has now: answered by `Resized`, unless it ends first.
    Resize {
        /// Which.
        container: Index,
    },
    /// Signal the container's first process (all of its processes for SIGKILL). A hook of it that still runs is given up.
    Signal {
        /// Which.
        container: Index,
        /// Signal number.
        signal: i32,
    },
}
