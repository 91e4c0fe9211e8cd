//! One part of a pod, followed through its life: which states it was in, and how its runs ended.

use super::{Activity, Mark, Role, Span};
use crate::pod::lifecycle::{
    Event, Index, Kind, Phase, Pod, PodSpec, Sandbox, State, Termination, Time, Volumes,
};

/// Follows one part of a pod.
#[derive(Debug)]
pub(in crate::pod) struct Track {
    pub(in crate::pod) source: Source,
    /// What goes on; its end is not known yet.
    pub(in crate::pod) open: Option<Span>,
    pub(super) spans: Vec<Span>,
    pub(in crate::pod) marks: Vec<Mark>,
    last: Option<Termination>,
}

/// A part of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pod) enum Source {
    Volumes,
    Sandbox,
    Container(Index),
}

/// What an event changed for one part of the pod.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pod) struct Change {
    /// A run or an attempt ended: that is the track's last mark.
    pub(in crate::pod) ended: bool,
    /// Something else goes on now: that is the track's open span.
    pub(in crate::pod) began: bool,
}

impl Track {
    /// One for each part of a pod to which nothing has happened yet.
    pub(in crate::pod) fn all(pod: &Pod) -> Vec<Self> {
        let containers = (0..pod.containers().len()).map(|i| Source::Container(Index(i)));
        [Source::Volumes, Source::Sandbox]
            .into_iter()
            .chain(containers)
            .map(|source| Self {
                source,
                open: source.open(pod),
                spans: Vec::new(),
                marks: Vec::new(),
                last: None,
            })
            .collect()
    }

    /// Sees the pod after it took `event`.
    pub(in crate::pod) fn observe(&mut self, event: &Event, pod: &Pod) -> Change {
        let mark = self.mark(event, pod);
        let ended = mark.is_some();
        let open = self.source.open(pod);
        let what = |span: Option<Span>| span.map(|s| (s.activity, s.run));
        let changed = ended || what(open) != what(self.open);
        if changed {
            self.close(pod.now());
            self.open = open;
        }
        self.marks.extend(mark);
        Change {
            ended,
            began: changed && open.is_some(),
        }
    }

    pub(super) fn close(&mut self, at: Time) {
        if let Some(span) = self.open.take().filter(|s| s.from < at) {
            self.spans.push(Span { to: at, ..span });
        }
    }

    /// The end that `event` was, if it was one that the pod took.
    fn mark(&mut self, event: &Event, pod: &Pod) -> Option<Mark> {
        let open = self.open.map(|s| s.activity);
        let creating = open == Some(Activity::Creating);
        let (ok, note, message) = match (self.source, event) {
            (Source::Volumes, Event::VolumesReady) if creating => (true, "ready".to_owned(), None),
            (Source::Volumes, Event::VolumesFailed { message })
            | (Source::Sandbox, Event::SandboxFailed { message })
                if creating =>
            {
                let reason = pod.setup_failure()?.reason.to_owned();
                (false, reason, Some(message.clone()))
            }
            (Source::Sandbox, Event::SandboxExited) if open == Some(Activity::Running) => {
                let stopped = pod.sandbox() == Sandbox::Gone;
                let note = if stopped { "stopped" } else { "pause died" };
                (stopped, note.to_owned(), None)
            }
            (Source::Container(Index(i)), _) if pod.containers()[i].last != self.last => {
                self.last.clone_from(&pod.containers()[i].last);
                let end = self.last.as_ref()?;
                (end.exit_code == 0, how_it_ended(end), end.message.clone())
            }
            (Source::Container(i), Event::StartFailed { container, .. })
                if i == *container && creating =>
            {
                let failure = pod.containers()[i.0].failure.clone()?;
                (false, failure.reason.to_owned(), Some(failure.message))
            }
            _ => return None,
        };
        let (since, run) = self.open.map_or((pod.now(), 0), |s| (s.from, s.run));
        Some(Mark {
            at: pod.now(),
            took: pod.now().since(since),
            ok,
            note,
            message,
            run,
        })
    }
}

impl Source {
    pub(in crate::pod) fn name(self, spec: &PodSpec) -> &str {
        match self {
            Self::Volumes => "volumes",
            Self::Sandbox => "sandbox",
            Self::Container(Index(i)) => &spec.containers[i].name,
        }
    }

    pub(in crate::pod) fn role(self, spec: &PodSpec) -> Role {
        match self {
            Self::Volumes => Role::Volumes,
            Self::Sandbox => Role::Sandbox,
            Self::Container(Index(i)) => match spec.containers[i].kind {
                Kind::Init => Role::Init,
                Kind::Sidecar => Role::Sidecar,
                Kind::App => Role::App,
            },
        }
    }

    /// The end of its back-off.
    pub(in crate::pod) fn until(self, pod: &Pod) -> Option<Time> {
        match self {
            Self::Volumes => match pod.volumes() {
                Volumes::BackOff { until, .. } => Some(until),
                _ => None,
            },
            Self::Sandbox => match pod.sandbox() {
                Sandbox::BackOff { until, .. } => Some(until),
                _ => None,
            },
            Self::Container(Index(i)) => match pod.containers()[i].state {
                State::BackOff { until, .. } => Some(until),
                _ => None,
            },
        }
    }

    /// What goes on, if it began now; `None` after everything.
    fn open(self, pod: &Pod) -> Option<Span> {
        let run = match self {
            Self::Container(Index(i)) => pod.containers()[i].restart_count,
            Self::Volumes | Self::Sandbox => 0,
        };
        self.activity(pod).map(|activity| Span {
            activity,
            run,
            from: pod.now(),
            to: pod.now(),
        })
    }

    fn activity(self, pod: &Pod) -> Option<Activity> {
        let ending = pod.stopping().is_some()
            || pod.finished()
            || matches!(pod.phase(), Phase::Succeeded | Phase::Failed);
        let waiting = (!ending).then_some(Activity::Waiting);
        match self {
            Self::Volumes => match pod.volumes() {
                Volumes::Absent => waiting,
                Volumes::Making => Some(Activity::Creating),
                Volumes::BackOff { .. } => waiting.and(Some(Activity::BackOff)),
                Volumes::Ready => None,
            },
            Self::Sandbox => match pod.sandbox() {
                Sandbox::Absent => waiting,
                Sandbox::Starting => Some(Activity::Creating),
                Sandbox::BackOff { .. } | Sandbox::Lost => Some(Activity::BackOff),
                Sandbox::Running { .. } | Sandbox::Stopping => Some(Activity::Running),
                Sandbox::Gone => None,
            },
            Self::Container(Index(i)) => match pod.containers()[i].state {
                State::Pending => waiting,
                State::Creating => Some(Activity::Creating),
                State::Running { .. } => Some(Activity::Running),
                State::BackOff { .. } => Some(Activity::BackOff),
                State::Terminated => None,
            },
        }
    }
}

/// `exit 1`, `exit 143, SIGTERM`, `exit 137, OOMKilled`.
fn how_it_ended(end: &Termination) -> String {
    let code = end.exit_code;
    let signal = end
        .signal
        .and_then(|n| nix::sys::signal::Signal::try_from(n).ok());
    match (end.reason, signal) {
        ("Completed" | "Error", None) => format!("exit {code}"),
        ("Completed" | "Error", Some(signal)) => format!("exit {code}, {signal}"),
        (reason, _) => format!("exit {code}, {reason}"),
    }
}
