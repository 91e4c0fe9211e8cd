//! What a pod is made from, as far as its life depends on it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BackOffLimits;

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
    /// Of an app: the apps that must have started before it. Not Kubernetes'.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Index>,
    /// How often it may be started again before that is given up. Not Kubernetes'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<u32>,
    /// How long a run of an init container may take before it is ended, as a failure. Not Kubernetes'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
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

    pub(super) fn probe(&self, kind: ProbeKind) -> Option<&ProbeSpec> {
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
    /// Apps are started as the kubelet does it: one by one, each once the one before has been made and its postStart
    /// hook is over. Otherwise they are started together.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kubelet_order: bool,
    /// Init containers and sidecars in their order, then the apps in theirs.
    pub containers: Vec<ContainerSpec>,
}

/// A container's place in [`PodSpec::containers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Index(pub usize);

/// What is known of an ephemeral container when it is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EphemeralSpec {
    /// Unique in the pod.
    pub name: String,
    /// As it was asked for.
    pub image: String,
    /// Whose processes it sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}
