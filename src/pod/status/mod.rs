//! The Kubernetes Pod with its `status` filled in, computed from the lifecycle; and the line that people read
//! ([`summary`]).

mod summary;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container as ManifestContainer, ContainerState, ContainerStateRunning,
    ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP, Pod as Manifest,
    PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as Timestamp;
use k8s_openapi::jiff;

pub use self::summary::{Summary, summary};
use super::lifecycle::{
    Condition, Container, Ephemeral, Failure, Index, Kind, Pod, Resize, STATUS_UNKNOWN, State,
    Termination, Time,
};
use super::plan::{Qos, qos};

/// What the machine says, just now, of the processes that the journal names (pid and start time, in this boot).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    /// Somebody carries the pod's actions out; the journal is the truth then.
    pub supervisor: bool,
    /// Pause.
    pub pause: bool,
    /// The first process of each container, in the order of the lifecycle's containers.
    pub containers: Vec<bool>,
}

/// The manifest with `status`, and what Kubernetes adds to `metadata`: `uid`, `creationTimestamp`, and
/// `deletionTimestamp` while the pod is being stopped.
///
/// The truth is told also when nobody supervises the pod any more.
#[must_use]
pub fn pod_with_status(mut pod: Manifest, uid: &str, life: &Pod, alive: &Liveness) -> Manifest {
    let unsupervised = !alive.supervisor && !life.finished();
    let container_alive = |i: Index| alive.containers.get(i.0).copied().unwrap_or(false);
    let life = if unsupervised {
        life.clone().unsupervised(alive.pause, container_alive)
    } else {
        life.clone()
    };
    let namespace = pod
        .metadata
        .namespace
        .get_or_insert_with(|| "default".to_owned())
        .clone();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let view = View {
        life: &life,
        full_name: format!("{name}_{namespace}({uid})"),
    };
    let (init_container_statuses, container_statuses) = match &pod.spec {
        Some(spec) => (
            view.statuses(true, spec.init_containers.as_deref().unwrap_or(&[])),
            view.statuses(false, &spec.containers),
        ),
        None => (Vec::new(), Vec::new()),
    };
    let ephemeral: Vec<_> = life.ephemeral().iter().map(ephemeral_status).collect();
    let (reason, message) = pod_reason(&life, unsupervised);
    pod.status = Some(PodStatus {
        conditions: Some(life.conditions().into_iter().map(condition).collect()),
        container_statuses: Some(container_statuses),
        ephemeral_container_statuses: Some(ephemeral).filter(|all| !all.is_empty()),
        init_container_statuses: Some(init_container_statuses).filter(|s| !s.is_empty()),
        message,
        phase: Some(life.phase().name().to_owned()),
        qos_class: pod.spec.as_ref().map(qos_class),
        reason,
        start_time: life.start_time().and_then(timestamp),
        ..PodStatus::default()
    });
    pod.metadata.uid = Some(uid.to_owned());
    pod.metadata.creation_timestamp = timestamp(life.created());
    pod.metadata.deletion_timestamp = life.stopping().and_then(timestamp);
    pod
}

/// Tells the addresses of a pod and of its machine, the first of each also by itself.
pub fn set_addresses(pod: &mut Manifest, own: &[IpAddr], node: &[IpAddr]) {
    let Some(status) = &mut pod.status else {
        return;
    };
    let texts =
        |addresses: &[IpAddr]| -> Vec<String> { addresses.iter().map(IpAddr::to_string).collect() };
    let (own, node) = (texts(own), texts(node));
    status.pod_ip = own.first().cloned();
    status.host_ip = node.first().cloned();
    let own = own.into_iter().map(|ip| PodIP { ip });
    let node = node.into_iter().map(|ip| HostIP { ip });
    status.pod_ips = Some(own.collect()).filter(|ips: &Vec<_>| !ips.is_empty());
    status.host_ips = Some(node.collect()).filter(|ips: &Vec<_>| !ips.is_empty());
}

/// Kubernetes has `NodeLost` for a node that nobody hears from; here it is the supervisor.
fn pod_reason(life: &Pod, unsupervised: bool) -> (Option<String>, Option<String>) {
    let lost = (
        "SupervisorLost",
        "the pod's supervisor is gone: what runs goes on, and nothing is started or restarted",
    );
    let reason = life.reason().or(unsupervised.then_some(lost));
    reason
        .map(|(reason, message)| (reason.to_owned(), message.to_owned()))
        .unzip()
}

/// What all containers of a pod have in common.
struct View<'a> {
    life: &'a Pod,
    /// As the kubelet's messages name it: `NAME_NAMESPACE(UID)`.
    full_name: String,
}

impl View<'_> {
    /// In the manifest's order, which is the lifecycle's.
    fn statuses(&self, init: bool, manifest: &[ManifestContainer]) -> Vec<ContainerStatus> {
        let specs = &self.life.spec().containers;
        let of_kind = specs.iter().zip(self.life.containers());
        of_kind
            .filter(|(spec, _)| (spec.kind != Kind::App) == init)
            .zip(manifest)
            .map(|((spec, container), manifest)| ContainerStatus {
                image: manifest.image.clone().unwrap_or_default(),
                ready: match spec.kind {
                    Kind::Init => container.initialized(),
                    Kind::Sidecar | Kind::App => container.ready(),
                },
                ..self.resourced(manifest, container, &spec.name)
            })
            .collect()
    }

    /// With what it asks for and has, as long as that is the same.
    fn resourced(
        &self,
        manifest: &ManifestContainer,
        container: &Container,
        name: &str,
    ) -> ContainerStatus {
        let resources = manifest.resources.as_ref();
        let has = container.running() && container.run.resize == Resize::Done;
        ContainerStatus {
            allocated_resources: resources.and_then(|r| r.requests.clone()),
            resources: resources.filter(|_| has).cloned(),
            ..self.status(name, container)
        }
    }

    fn status(&self, name: &str, container: &Container) -> ContainerStatus {
        let last = container.last.as_ref();
        let previous = container.previous.as_ref();
        let (state, last_state) = match (&container.state, last) {
            (State::Running { started_at, .. }, _) if container.is_up() => {
                (running(*started_at), last)
            }
            (State::BackOff { delay, .. }, _) => {
                let failure = container.failure.clone();
                let crash = || self.crash_loop(name, *delay);
                (waiting(failure.unwrap_or_else(crash)), last)
            }
            (State::Creating, _) => (waiting(self.not_yet()), last),
            (State::Running { .. }, _) => {
                let failure = container.run.failure().cloned();
                (waiting(failure.unwrap_or_else(|| self.not_yet())), last)
            }
            (State::Terminated, Some(end)) => (terminated(end), previous),
            (State::Pending | State::Terminated, _) => match (&container.failure, last) {
                (Some(failure), _) => (waiting(failure.clone()), last),
                // It waits for another sandbox, or for ever.
                (None, Some(end)) => (terminated(end), previous),
                (None, None) => (waiting(self.not_yet()), None),
            },
        };
        let id = match &container.state {
            State::Running { id, .. } => Some(id),
            _ => last.map(|t| &t.id),
        };
        ContainerStatus {
            container_id: container_id(id),
            last_state: Some(last_state.map(terminated).unwrap_or_default()),
            name: name.to_owned(),
            restart_count: i32::try_from(container.restart_count).unwrap_or(i32::MAX),
            started: Some(container.started()),
            state: Some(state),
            ..ContainerStatus::default()
        }
    }

    /// Why a container that has never been made is not there.
    fn not_yet(&self) -> Failure {
        if let Some(failure) = self.life.setup_failure() {
            return failure.clone();
        }
        let mut containers = self.life.spec().containers.iter();
        let reason = if containers.any(|c| c.kind != Kind::App) {
            "PodInitializing"
        } else {
            "ContainerCreating"
        };
        Failure {
            reason,
            message: String::new(),
        }
    }

    fn crash_loop(&self, name: &str, delay: Duration) -> Failure {
        let message = format!(
            "back-off {} restarting failed container={name} pod={}",
            go_duration(delay),
            self.full_name
        );
        Failure {
            reason: "CrashLoopBackOff",
            message,
        }
    }
}

fn ephemeral_status(ephemeral: &Ephemeral) -> ContainerStatus {
    ContainerStatus {
        container_id: container_id(Some(&ephemeral.id)),
        image: ephemeral.spec.image.clone(),
        name: ephemeral.spec.name.clone(),
        state: Some(match &ephemeral.ended {
            Some(end) => terminated(end),
            None => running(ephemeral.started_at),
        }),
        ..ContainerStatus::default()
    }
}

fn running(started_at: Time) -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning {
            started_at: timestamp(started_at),
        }),
        ..ContainerState::default()
    }
}

fn waiting(why: Failure) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(why.reason.to_owned()),
            message: Some(why.message).filter(|m| !m.is_empty()),
        }),
        ..ContainerState::default()
    }
}

fn terminated(end: &Termination) -> ContainerState {
    let seen = end.reason != STATUS_UNKNOWN;
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: container_id(Some(&end.id)),
            exit_code: end.exit_code,
            finished_at: seen.then(|| timestamp(end.finished_at)).flatten(),
            message: end.message.clone(),
            reason: Some(end.reason.to_owned()),
            signal: end.signal,
            started_at: end.started_at.and_then(timestamp),
        }),
        ..ContainerState::default()
    }
}

fn container_id(id: Option<&String>) -> Option<String> {
    let id = id.filter(|id| !id.is_empty())?;
    Some(format!("runp://{id}"))
}

fn condition(condition: Condition) -> PodCondition {
    PodCondition {
        last_transition_time: timestamp(condition.last_transition),
        message: condition.message,
        reason: condition.reason.map(str::to_owned),
        status: if condition.status { "True" } else { "False" }.to_owned(),
        type_: condition.kind.name().to_owned(),
        ..PodCondition::default()
    }
}

fn qos_class(spec: &PodSpec) -> String {
    match qos(spec) {
        Qos::Guaranteed => "Guaranteed",
        Qos::Burstable => "Burstable",
        Qos::BestEffort => "BestEffort",
    }
    .to_owned()
}

fn timestamp(time: Time) -> Option<Timestamp> {
    let time = jiff::Timestamp::from_nanosecond(i128::from(time.0)).ok()?;
    Some(Timestamp(time))
}

/// A whole number of seconds as Go prints it: `10s`, `1m20s`, `5m0s`.
fn go_duration(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ ..60 => format!("{seconds}s"),
        seconds => format!("{}m{}s", seconds / 60, seconds % 60),
    }
}
