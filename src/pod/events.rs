//! What has happened to a pod, as Kubernetes tells it: the events of `kubectl describe`, from the journal.

use serde_json::{Value, json};

use super::journal::{Entry, Record};
use super::lifecycle::{
    Action, Event, Hook, Index, Kind, Pod, ProbeKind, Sandbox, StartFailure, State, Time,
};
use super::timeline::duration;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When.
    pub time: Time,
    /// `Warning`, not `Normal`.
    pub warning: bool,
    /// Kubernetes' word for it.
    pub reason: &'static str,
    /// Which container, if it is about one.
    pub container: Option<Index>,
    /// What happened.
    pub message: String,
}

/// All events, oldest first.
#[must_use]
pub fn events(record: &Record) -> Vec<Told> {
    let mut teller = Teller {
        life: Pod::new(record.pod.spec.clone(), record.created),
        told: Vec::new(),
        supervised: false,
    };
    for (time, entry) in &record.entries {
        match entry {
            Entry::Event(event) => teller.tell(*time, event),
            Entry::Supervisor(supervisor) => {
                if std::mem::replace(&mut teller.supervised, true) {
                    let message = format!("process {} supervises the pod now", supervisor.pid);
                    teller.put(*time, true, "SupervisorChanged", None, message);
                }
            }
        }
    }
    teller.told
}

struct Teller {
    life: Pod,
    told: Vec<Told>,
    supervised: bool,
}

impl Teller {
    fn put(
        &mut self,
        time: Time,
        warning: bool,
        reason: &'static str,
        container: Option<Index>,
        message: String,
    ) {
        self.told.push(Told {
            time,
            warning,
            reason,
            container,
            message,
        });
    }

    fn tell(&mut self, time: Time, event: &Event) {
        let before = self.life.clone();
        let actions = self.life.step(event, time);
        let took_place = !self.life.is_as(&before) || !actions.is_empty();
        if (took_place || matches!(event, Event::Unhealthy { .. }))
            && let Some((warning, reason, container, message)) = self.of_event(event)
        {
            self.put(time, warning, reason, container, message);
        }
        if before.reason() != self.life.reason()
            && let Some((reason @ "DeadlineExceeded", message)) = self.life.reason()
        {
            let message = message.to_owned();
            self.put(time, true, reason, None, message);
        }
        for action in actions {
            if let Action::Signal { container, signal } = action {
                let name = self.name(container);
                let message = match signal {
                    libc::SIGKILL => format!("Killing container {name}"),
                    _ => format!("Stopping container {name}"),
                };
                self.put(time, false, "Killing", Some(container), message);
            }
        }
        let containers = before.containers().iter().zip(self.life.containers());
        let back_offs: Vec<_> = containers
            .enumerate()
            .filter_map(|(i, (before, now))| match now.state {
                State::BackOff { delay, .. } if before.state != now.state => Some((i, delay)),
                _ => None,
            })
            .collect();
        for (i, delay) in back_offs {
            let name = self.name(Index(i));
            let message = format!("Back-off {} restarting container {name}", duration(delay));
            self.put(time, true, "BackOff", Some(Index(i)), message);
        }
    }

    fn name(&self, container: Index) -> String {
        let containers = &self.life.spec().containers;
        containers
            .get(container.0)
            .map_or_else(String::new, |c| c.name.clone())
    }

    fn of_event(&self, event: &Event) -> Option<(bool, &'static str, Option<Index>, String)> {
        let name = |container: &Index| self.name(*container);
        Some(match event {
            Event::Accepted | Event::StartRequested | Event::Tick => return None,
            Event::VolumesReady => (false, "VolumesReady", None, "Volumes are in place".into()),
            Event::VolumesFailed { message } => (true, "FailedMount", None, message.clone()),
            Event::SandboxStarted { pid } => {
                let message = format!("Process {pid} holds the pod's namespaces");
                (false, "SandboxStarted", None, message)
            }
            Event::SandboxFailed { message } => {
                (true, "FailedCreatePodSandBox", None, message.clone())
            }
            Event::SandboxExited if self.life.sandbox() == Sandbox::Gone => {
                (false, "SandboxStopped", None, "Pod sandbox is gone".into())
            }
            Event::SandboxExited => {
                let message = "Pod sandbox changed, it will be killed and re-created.";
                (true, "SandboxChanged", None, message.into())
            }
            Event::Started { container, pid, .. } => {
                let message = format!("Started container {}, process {pid}", name(container));
                (false, "Started", Some(*container), message)
            }
            Event::StartFailed {
                container,
                reason,
                message,
            } => {
                let reason = match reason {
                    StartFailure::StartError => "Failed",
                    other => other.reason(),
                };
                (true, reason, Some(*container), format!("Error: {message}"))
            }
            Event::Exited { container, .. } | Event::Vanished { container } => {
                self.ended(*container)?
            }
            Event::HookEnded {
                container,
                hook,
                failure,
            } => {
                let failure = failure.clone()?;
                let reason = match hook {
                    Hook::PostStart => "FailedPostStartHook",
                    Hook::PreStop => "FailedPreStopHook",
                };
                (
                    true,
                    reason,
                    Some(*container),
                    format!("{} hook failed: {failure}", hook.name()),
                )
            }
            Event::Probed {
                container,
                probe,
                healthy,
                message,
            } => self.probed(*container, *probe, *healthy, message),
            Event::Unhealthy {
                container,
                probe,
                message,
            } => {
                let message = format!("{} probe failed: {message}", probe.name());
                (true, "Unhealthy", Some(*container), message)
            }
            Event::RerunRequested { from } => {
                let message = format!("Container {} and all after it run again", name(from));
                (false, "Rerun", None, message)
            }
            Event::ResizeRequested { container, .. } => {
                let message = format!("Container {} gets other limits", name(container));
                (false, "ResizeRequested", Some(*container), message)
            }
            Event::Resized { container, failure } => match failure {
                None => {
                    let message = format!("Container {} has its new limits", name(container));
                    (false, "Resized", Some(*container), message)
                }
                Some(why) => (true, "ResizeError", Some(*container), why.clone()),
            },
            Event::EphemeralStarted { container, pid, .. } => {
                let name = &container.name;
                let message = format!("Started ephemeral container {name}, process {pid}");
                (false, "Started", None, message)
            }
            Event::EphemeralEnded { name, exit } => {
                let message = format!("Ephemeral container {name} exited with {}", exit.code());
                (false, "EphemeralEnded", None, message)
            }
            Event::RetryRequested => (false, "Retry", None, "What failed is tried again".into()),
            Event::StopRequested { .. } => (false, "StopRequested", None, "Pod is stopped".into()),
            Event::Evicted { message } => (true, "Evicted", None, message.clone()),
        })
    }

    fn ended(&self, container: Index) -> Option<(bool, &'static str, Option<Index>, String)> {
        let ended = self.life.containers().get(container.0)?.last.as_ref()?;
        let ran = ended
            .started_at
            .map(|from| duration(ended.finished_at.since(from)));
        let after = ran.map_or_else(String::new, |ran| format!(" after {ran}"));
        let name = self.name(container);
        let message = format!("Container {name} exited with {}{after}", ended.exit_code);
        Some((ended.exit_code != 0, ended.reason, Some(container), message))
    }

    fn probed(
        &self,
        container: Index,
        probe: ProbeKind,
        healthy: bool,
        message: &str,
    ) -> (bool, &'static str, Option<Index>, String) {
        let what = probe.name();
        let (warning, reason, message) = match (healthy, probe) {
            (true, _) => (false, "Healthy", format!("{what} probe succeeded")),
            (false, ProbeKind::Readiness) => {
                (true, "Unhealthy", format!("{what} probe failed: {message}"))
            }
            (false, _) => {
                let name = self.name(container);
                let what_failed = what.to_lowercase();
                let message = format!(
                    "{what} probe failed: {message}; container {name} failed {what_failed} probe, and is ended"
                );
                (true, "Unhealthy", message)
            }
        };
        (warning, reason, Some(container), message)
    }
}

impl Told {
    /// `Warning` or `Normal`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.warning {
            true => "Warning",
            false => "Normal",
        }
    }

    /// `pod`, or the container's name.
    #[must_use]
    pub fn object(&self, record: &Record) -> String {
        let containers = &record.pod.spec.containers;
        let container = self.container.and_then(|i| containers.get(i.0));
        container.map_or_else(|| "pod".to_owned(), |c| c.name.clone())
    }

    /// As a Kubernetes Event, as far as it has a meaning here.
    #[must_use]
    pub fn json(&self, record: &Record) -> Value {
        let pod = &record.pod;
        let container = self.container.and_then(|i| pod.spec.containers.get(i.0));
        let field = container.map(|c| match c.kind {
            Kind::App => format!("spec.containers{{{}}}", c.name),
            _ => format!("spec.initContainers{{{}}}", c.name),
        });
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": pod.uid,
        });
        if let Some(field) = field {
            object["fieldPath"] = json!(field);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "type": self.kind(),
            "reason": self.reason,
            "message": self.message,
            "firstTimestamp": self.time.to_string(),
            "lastTimestamp": self.time.to_string(),
            "involvedObject": object,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::journal::{self, Description};
    use super::super::lifecycle::{ContainerSpec, Exit, PodSpec};
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_life_is_told_in_kubernetes_words() {
        let container = Index(0);
        let started = Event::Started {
            container,
            pid: 3,
            id: "p.a".into(),
        };
        let exited = Event::Exited {
            container,
            exit: Exit::Code(3),
            oom_killed: false,
            message: None,
        };
        let life = [
            Event::StartRequested,
            Event::Accepted,
            Event::VolumesReady,
            Event::SandboxStarted { pid: 2 },
            started.clone(),
            exited.clone(),
            started,
            exited.clone(),
            exited,
            Event::StopRequested { grace: None },
            Event::SandboxExited,
        ];
        let entries = (0..).zip(life).map(|(n, event)| {
            let time = Time(0).after(Duration::from_secs(n));
            (time, Entry::Event(event))
        });
        let record = journal::Record {
            pod: Description {
                name: "p".into(),
                namespace: "default".into(),
                uid: "u".into(),
                boot_id: "b".into(),
                spec: PodSpec {
                    containers: vec![ContainerSpec::new("a", Kind::App)],
                    ..PodSpec::default()
                },
            },
            created: Time(0),
            entries: entries.collect(),
            torn: None,
        };
        let told = events(&record);
        let lines: Vec<String> = told
            .iter()
            .map(|t| {
                format!(
                    "{} {} {}: {}",
                    t.kind(),
                    t.reason,
                    t.object(&record),
                    t.message
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "Normal VolumesReady pod: Volumes are in place",
                "Normal SandboxStarted pod: Process 2 holds the pod's namespaces",
                "Normal Started a: Started container a, process 3",
                "Warning Error a: Container a exited with 3 after 1 s",
                "Normal Started a: Started container a, process 3",
                "Warning Error a: Container a exited with 3 after 1 s",
                "Warning BackOff a: Back-off 10 s restarting container a",
                "Normal StopRequested pod: Pod is stopped",
                "Normal SandboxStopped pod: Pod sandbox is gone",
            ]
        );
        let json = told[2].json(&record);
        assert_eq!(json["involvedObject"]["fieldPath"], "spec.containers{a}");
    }
}
