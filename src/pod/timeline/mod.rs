//! The start and life of a pod on one time axis, computed from its replayed journal.
//!
//! [`Recorder`] sees the pod after each event and turns states into spans; [`text`] and [`svg`] draw the result.

mod axis;
pub mod svg;
pub mod text;

use std::time::Duration;

use super::lifecycle::{
    Event, Index, Kind, Phase, Pod, Sandbox, State, Termination, Time, Volumes,
};

pub use axis::duration;

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// The pod's name.
    pub name: String,
    /// `status.phase`.
    pub phase: Phase,
    /// When the pod was made.
    pub from: Time,
    /// When it was over, else now.
    pub to: Time,
    /// Volumes, sandbox, init containers in order, apps.
    pub rows: Vec<Row>,
}

/// The life of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub role: Role,
    /// `volumes`, `sandbox`, or the container's name.
    pub name: String,
    /// In order, without overlap.
    pub spans: Vec<Span>,
    /// In order.
    pub marks: Vec<Mark>,
    /// It was still going on at [`Timeline::to`].
    pub ongoing: bool,
    /// How it is at [`Timeline::to`], in a few words.
    pub outcome: String,
}

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Role {
    Volumes,
    Sandbox,
    Init,
    App,
}

/// A time in which one thing went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What.
    pub activity: Activity,
    /// Restart number of the container's run.
    pub run: u32,
    /// Beginning.
    pub from: Time,
    /// End.
    pub to: Time,
}

/// What goes on in a span; the most telling last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    /// Its turn has not come.
    Waiting,
    /// It waits for its next attempt.
    BackOff,
    /// It is being made.
    Creating,
    /// Its process runs.
    Running,
}

/// The end of a run, or of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: Time,
    /// It ended well.
    pub ok: bool,
    /// How: `exit 1`, `CreateContainerError`, ...
    pub note: String,
    /// Restart number of the container's run.
    pub run: u32,
}

impl Row {
    /// How long its last run took, or its making where nothing runs.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        let last = |activity| self.spans.iter().rfind(|s| s.activity == activity);
        let span = last(Activity::Running).or_else(|| last(Activity::Creating))?;
        Some(span.to.since(span.from))
    }
}

/// Watches a pod's life go by and takes down its spans.
#[derive(Debug)]
pub struct Recorder {
    from: Time,
    tracks: Vec<Track>,
}

/// A row being written.
#[derive(Debug)]
struct Track {
    source: Source,
    open: Option<Span>,
    spans: Vec<Span>,
    marks: Vec<Mark>,
    last: Option<Termination>,
}

/// Which part of the pod a track follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Volumes,
    Sandbox,
    Container(Index),
}

impl Recorder {
    /// Begins with a pod to which nothing has happened yet.
    #[must_use]
    pub fn new(pod: &Pod) -> Self {
        let containers = (0..pod.containers().len()).map(|i| Source::Container(Index(i)));
        let sources = [Source::Volumes, Source::Sandbox].into_iter();
        let mut recorder = Self {
            from: pod.now(),
            tracks: sources.chain(containers).map(Track::new).collect(),
        };
        for track in &mut recorder.tracks {
            track.observe(None, pod);
        }
        recorder
    }

    /// Sees the pod after it took `event`.
    pub fn observe(&mut self, event: &Event, pod: &Pod) {
        for track in &mut self.tracks {
            track.observe(Some(event), pod);
        }
    }

    /// The timeline up to `now`, or to the pod's end.
    #[must_use]
    pub fn finish(self, name: impl Into<String>, pod: &Pod, now: Time) -> Timeline {
        let to = if pod.finished() {
            pod.now()
        } else {
            now.max(pod.now())
        };
        Timeline {
            name: name.into(),
            phase: pod.phase(),
            from: self.from,
            to,
            rows: self.tracks.into_iter().map(|t| t.finish(pod, to)).collect(),
        }
    }
}

impl Track {
    fn new(source: Source) -> Self {
        Self {
            source,
            open: None,
            spans: Vec::new(),
            marks: Vec::new(),
            last: None,
        }
    }

    fn observe(&mut self, event: Option<&Event>, pod: &Pod) {
        let mark = event.and_then(|event| self.mark(event, pod));
        let now = self.source.activity(pod);
        let before = self.open.map(|s| (s.activity, s.run));
        if mark.is_some() || now != before {
            self.close(pod.now());
            self.open = now.map(|(activity, run)| Span {
                activity,
                run,
                from: pod.now(),
                to: pod.now(),
            });
        }
        self.marks.extend(mark);
    }

    fn close(&mut self, at: Time) {
        if let Some(span) = self.open.take().filter(|s| s.from < at) {
            self.spans.push(Span { to: at, ..span });
        }
    }

    /// The end that `event` was, if it was one that the pod took.
    fn mark(&mut self, event: &Event, pod: &Pod) -> Option<Mark> {
        let open = self.open.map(|s| s.activity);
        let creating = open == Some(Activity::Creating);
        let (ok, note) = match (self.source, event) {
            (Source::Volumes, Event::VolumesReady) if creating => (true, "ready".to_owned()),
            (Source::Volumes, Event::VolumesFailed { .. })
            | (Source::Sandbox, Event::SandboxFailed { .. })
                if creating =>
            {
                (false, pod.setup_failure()?.reason.to_owned())
            }
            (Source::Sandbox, Event::SandboxExited) if open == Some(Activity::Running) => {
                let stopped = pod.sandbox() == Sandbox::Gone;
                let note = if stopped { "stopped" } else { "pause died" };
                (stopped, note.to_owned())
            }
            (Source::Container(Index(i)), _) if pod.containers()[i].last != self.last => {
                self.last.clone_from(&pod.containers()[i].last);
                let end = self.last.as_ref()?;
                (end.exit_code == 0, how_it_ended(end))
            }
            (Source::Container(i), Event::StartFailed { container, .. })
                if i == *container && creating =>
            {
                (false, pod.containers()[i.0].failure.as_ref()?.reason.into())
            }
            _ => return None,
        };
        Some(Mark {
            at: pod.now(),
            ok,
            note,
            run: self.open.map_or(0, |s| s.run),
        })
    }

    fn finish(mut self, pod: &Pod, to: Time) -> Row {
        let ongoing = self.open.is_some();
        let activity = self.open.map(|s| s.activity);
        self.close(to);
        let (role, name, restarts) = match self.source {
            Source::Volumes => (Role::Volumes, "volumes", 0),
            Source::Sandbox => (Role::Sandbox, "sandbox", 0),
            Source::Container(Index(i)) => {
                let spec = &pod.spec().containers[i];
                let role = match spec.kind {
                    Kind::Init => Role::Init,
                    Kind::App => Role::App,
                };
                (role, spec.name.as_str(), pod.containers()[i].restart_count)
            }
        };
        Row {
            role,
            name: name.to_owned(),
            outcome: outcome(activity, self.marks.last(), restarts),
            spans: self.spans,
            marks: self.marks,
            ongoing,
        }
    }
}

impl Source {
    /// What goes on now, in which run; `None` before anything and after everything.
    fn activity(self, pod: &Pod) -> Option<(Activity, u32)> {
        let ending = pod.stopping().is_some()
            || pod.finished()
            || matches!(pod.phase(), Phase::Succeeded | Phase::Failed);
        let waiting = (!ending).then_some(Activity::Waiting);
        let activity = match self {
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
        };
        let run = match self {
            Self::Container(Index(i)) => pod.containers()[i].restart_count,
            _ => 0,
        };
        activity.map(|activity| (activity, run))
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

fn outcome(activity: Option<Activity>, last: Option<&Mark>, restarts: u32) -> String {
    let state = match (activity, last) {
        (Some(Activity::Waiting), _) => "waiting".to_owned(),
        (Some(Activity::Creating), _) => "creating".to_owned(),
        (Some(Activity::Running), _) => "running".to_owned(),
        (Some(Activity::BackOff), Some(mark)) => format!("back-off, {}", mark.note),
        (Some(Activity::BackOff), None) => "back-off".to_owned(),
        (None, Some(mark)) => mark.note.clone(),
        (None, None) => "not started".to_owned(),
    };
    match restarts {
        0 => state,
        1 => format!("{state}, 1 restart"),
        n => format!("{state}, {n} restarts"),
    }
}

#[cfg(test)]
mod tests;
