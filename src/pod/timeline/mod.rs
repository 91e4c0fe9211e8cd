//! The start and life of a pod on one time axis, computed from its replayed journal.
//!
//! A track sees the pod after each event and turns states into spans; [`text`], [`svg`] and [`html`] draw the result,
//! [`trace`] gives it to others.

mod axis;
pub mod html;
pub mod svg;
pub mod text;
pub mod trace;
pub(super) mod track;

use std::time::Duration;

use super::journal::Record;
use super::lifecycle::{Index, Phase, Pod, Time};
use track::{Source, Track};

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
    Sidecar,
    App,
}

impl Role {
    /// The group that a row is shown in.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Volumes | Self::Sandbox => "pod",
            Self::Init => "init",
            Self::Sidecar => "side",
            Self::App => "app",
        }
    }
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
    /// How long the run, or the attempt, took.
    pub took: Duration,
    /// It ended well.
    pub ok: bool,
    /// How: `exit 1`, `CreateContainerError`, ...
    pub note: String,
    /// What went wrong and what to do, where the runtime knows it.
    pub message: Option<String>,
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

impl Timeline {
    /// Replays a pod's journal up to `now`, or to the pod's end.
    #[must_use]
    pub fn of(record: &Record, now: Time) -> Self {
        let mut tracks = Track::all(&Pod::new(record.pod.spec.clone(), record.created));
        let pod = record.visit(|_, event, pod, _| {
            for track in &mut tracks {
                track.observe(event, pod);
            }
        });
        let to = if pod.finished() {
            pod.now()
        } else {
            now.max(pod.now())
        };
        Self {
            name: record.pod.name.clone(),
            phase: pod.phase(),
            from: record.created,
            to,
            rows: tracks.into_iter().map(|t| row(t, &pod, to)).collect(),
        }
    }
}

fn row(mut track: Track, pod: &Pod, to: Time) -> Row {
    let activity = track.open.map(|s| s.activity);
    track.close(to);
    let restarts = match track.source {
        Source::Container(Index(i)) => pod.containers()[i].restart_count,
        Source::Volumes | Source::Sandbox => 0,
    };
    Row {
        role: track.source.role(pod.spec()),
        name: track.source.name(pod.spec()).to_owned(),
        outcome: outcome(activity, track.marks.last(), restarts),
        spans: track.spans,
        marks: track.marks,
        ongoing: activity.is_some(),
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
