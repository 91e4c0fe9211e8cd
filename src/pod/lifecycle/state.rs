//! What is known of the parts of a pod.

use std::time::Duration;

use super::{BackOff, EphemeralSpec, Stop, Time};

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`; `DeadlineExceeded` of an init container
    /// that took too long.
    pub reason: &'static str,
    /// The exit code, 128 + signal for a signal.
    pub exit_code: i32,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// What went wrong, where the runtime knows it; else the termination message.
    pub message: Option<String>,
    /// It was ended because of a probe, and so it is restarted whatever its exit code.
    pub unhealthy: bool,
    /// It was ended to get other limits, and so it is restarted whatever its exit code.
    pub resized: bool,
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
    pub(super) ended: u32,
    /// How many of them do not count against its cap: somebody has asked for another try since.
    pub(super) forgiven: u32,
    /// It has run since the pod, or all of its containers, began.
    pub(super) ran: bool,
    /// A sidecar has once started in this sandbox: what comes after it need not wait for it again.
    pub(super) has_started: bool,
    pub(super) backoff: BackOff,
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
    /// Where the change of its limits is.
    pub resize: Resize,
    pub(super) unhealthy: bool,
    /// It is ended to be started again with other limits.
    pub(super) resized: bool,
    /// It took longer than its timeout.
    pub(super) late: bool,
    /// Why its postStart hook failed.
    pub(super) failure: Option<Failure>,
}

/// Where a change of the limits of a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Resize {
    /// They are what they should be.
    #[default]
    Done,
    /// They are to be changed.
    Due,
    /// The supervisor was told to change them.
    Running,
    /// They could not be changed, and why.
    Failed(String),
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

/// An ephemeral container: somebody who looks on. Nothing of the pod depends on it, and it is never started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ephemeral {
    /// What it is.
    pub spec: EphemeralSpec,
    /// First process.
    pub pid: i32,
    /// OCI container id.
    pub id: String,
    /// Since when it runs, or ran.
    pub started_at: Time,
    /// How it ended, if it has.
    pub ended: Option<Termination>,
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
