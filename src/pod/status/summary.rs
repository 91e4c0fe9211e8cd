//! READY, STATUS, RESTARTS and AGE, as `kubectl get pods` prints them: the rules are those of `printPod` in
//! kubernetes' `pkg/printers/internalversion/printers.go`, computed from the Pod object alone.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus,
};
use k8s_openapi::jiff::Timestamp;

use crate::pod::lifecycle::Time;

/// One pod's line in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// `1/2`: ready apps of all apps.
    pub ready: String,
    /// `Init:0/2`, `Running`, `CrashLoopBackOff`, ...
    pub status: String,
    /// `3 (10s ago)`.
    pub restarts: String,
    /// `5m`; `<unknown>` without a creation time.
    pub age: String,
}

/// Sums a pod up in one line.
#[must_use]
pub fn summary(pod: &Pod, now: Time) -> Summary {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let inits = status.init_container_statuses.as_deref().unwrap_or(&[]);
    let apps = status.container_statuses.as_deref().unwrap_or(&[]);
    let current = inits.iter().position(|c| !is_done(c));
    let initializing = current.map(|i| format!("Init:{}", init_reason(pod, inits, i)));
    // While a new sandbox runs the init containers again, the pod still counts as initialized.
    let (counted, apps_count) = match current {
        Some(i) if !condition(status, "Initialized") => (&inits[..=i], false),
        _ => (apps, true),
    };
    let ready = apps.iter().filter(|c| apps_count && is_ready(c)).count();
    let total = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    Summary {
        ready: format!("{ready}/{total}"),
        status: word(
            pod,
            status,
            initializing,
            if apps_count { apps } else { &[] },
        ),
        restarts: restarts(counted, now),
        age: ago(pod.metadata.creation_timestamp.as_ref().map(|t| &t.0), now),
    }
}

/// The STATUS column: the most telling of the containers' reasons, the pod's own reason, or the phase.
fn word(
    pod: &Pod,
    status: &PodStatus,
    initializing: Option<String>,
    apps: &[ContainerStatus],
) -> String {
    let phase = status.phase.as_deref().unwrap_or_default();
    let own = status.reason.as_deref().filter(|reason| !reason.is_empty());
    let mut word = initializing.unwrap_or_else(|| own.unwrap_or(phase).to_owned());
    // The first container in the manifest that has something to say wins.
    if let Some(said) = apps.iter().find_map(app_reason) {
        word = said;
    }
    if word == "Completed" && apps.iter().any(is_ready) {
        let ready = condition(status, "Ready");
        word = if ready { "Running" } else { "NotReady" }.to_owned();
    }
    let terminal = matches!(phase, "Succeeded" | "Failed");
    if pod.metadata.deletion_timestamp.is_some() && !terminal {
        word = "Terminating".to_owned();
    }
    word
}

fn is_done(init: &ContainerStatus) -> bool {
    terminated(init).is_some_and(|t| t.exit_code == 0)
}

/// What is to be said of the init container that is not done.
fn init_reason(pod: &Pod, inits: &[ContainerStatus], current: usize) -> String {
    match (terminated(&inits[current]), waiting(&inits[current])) {
        (Some(end), _) => ended(end),
        (None, Some(reason)) if reason != "PodInitializing" => reason.to_owned(),
        _ => {
            let spec = pod.spec.as_ref();
            let inits = spec.and_then(|s| s.init_containers.as_ref());
            format!("{current}/{}", inits.map_or(0, Vec::len))
        }
    }
}

fn app_reason(container: &ContainerStatus) -> Option<String> {
    match waiting(container) {
        Some(reason) => Some(reason.to_owned()),
        None => terminated(container).map(ended),
    }
}

fn ended(end: &ContainerStateTerminated) -> String {
    match (end.reason.as_deref(), end.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", end.exit_code),
    }
}

fn restarts(containers: &[ContainerStatus], now: Time) -> String {
    let count: i32 = containers.iter().map(|c| c.restart_count).sum();
    let ends = containers
        .iter()
        .filter_map(|c| c.last_state.as_ref()?.terminated.as_ref());
    match ends.filter_map(|t| t.finished_at.as_ref()).max() {
        Some(last) if count != 0 => format!("{count} ({} ago)", ago(Some(&last.0), now)),
        _ => count.to_string(),
    }
}

fn is_ready(container: &ContainerStatus) -> bool {
    container.ready && state(container).is_some_and(|s| s.running.is_some())
}

fn terminated(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    state(container)?.terminated.as_ref()
}

/// Why it waits, if it does and says so.
fn waiting(container: &ContainerStatus) -> Option<&str> {
    let reason = state(container)?.waiting.as_ref()?.reason.as_deref();
    reason.filter(|reason| !reason.is_empty())
}

fn state(container: &ContainerStatus) -> Option<&ContainerState> {
    container.state.as_ref()
}

fn condition(status: &PodStatus, kind: &str) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|c| c.type_ == kind && c.status == "True")
}

fn ago(then: Option<&Timestamp>, now: Time) -> String {
    match then {
        Some(then) => {
            let nanos = i128::from(now.0) - then.as_nanosecond();
            human_duration(i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX))
        }
        None => "<unknown>".to_owned(),
    }
}

/// Two or three significant figures: apimachinery's `duration.HumanDuration`.
fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, unit: &str, small: i64, fine: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{fine}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}
